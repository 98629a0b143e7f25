//! What layers say of the data partition: who makes its file system, and which of the operator's
//! files belong on it.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use appliance::boot::{Data, Import, Volume};
use appliance::seed;
use appliance::service::User;

use crate::layer::{LayerFolder, SeedEntry};
use crate::plan::owner_ids;

/// The one layer's programs; none: the appliance keeps its volumes in memory.
pub fn programs(layers: &[LayerFolder]) -> Result<Option<Data>> {
    let mut all = layers.iter().filter_map(|folder| folder.layer.data.as_ref());
    match (all.next(), all.next()) {
        (None, _) => Ok(None),
        (Some(one), None) => {
            Ok(Some(Data { make: one.make.to_string(), check: one.check.to_string() }))
        }
        (Some(_), Some(_)) => bail!("cannot keep data: two layers have a [data]"),
    }
}

/// What is taken over from the seed partition, by name. Each file's place must be on a volume.
pub fn imports(
    layers: &[LayerFolder],
    users: &BTreeMap<String, User>,
    volumes: &[Volume],
) -> Result<Vec<Import>> {
    let mut imports = BTreeMap::new();
    for folder in layers {
        for (from, entry) in &folder.layer.seed {
            let context = || format!("cannot use layer {}: seed file {from}", folder.name);
            check(from, entry, volumes).with_context(context)?;
            let (uid, gid) = owner_ids(&entry.owner, users).with_context(context)?;
            let (from, to, mode) = (from.clone(), entry.to.clone(), entry.mode.0.into());
            // As a FAT compares names.
            let key = from.to_ascii_lowercase();
            if imports.insert(key, Import { from, to, mode, uid, gid }).is_some() {
                bail!("{}: an earlier layer or line declares it too", context());
            }
        }
    }
    Ok(imports.into_values().collect())
}

fn check(from: &str, entry: &SeedEntry, volumes: &[Volume]) -> Result<()> {
    let name = from.strip_suffix('/').unwrap_or(from);
    if name.is_empty() || name.starts_with('.') || !seed::is_plain(name) {
        bail!("a name has letters, digits, `.`, `_` and `-`, and doesn't start with a dot");
    }
    let to = &entry.to;
    if from.ends_with('/') != to.ends_with('/') {
        bail!("a folder's name and its place both end in a slash, a file's don't");
    }
    if to.split('/').any(|part| part == "." || part == "..") || to.contains("//") {
        bail!("`{to}` is no plain path");
    }
    let is_inside = |volume: &Volume| {
        to.strip_prefix(&volume.path).is_some_and(|rest| rest.starts_with('/') && rest.len() > 1)
    };
    if !volumes.iter().any(is_inside) {
        bail!("`{to}` is on no volume of this appliance");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quantity::{Mode, Owner};

    #[test]
    fn a_seed_file_goes_onto_a_volume() {
        let volumes = [Volume {
            path: "/etc/prosody".into(),
            mode: 0o750,
            uid: 0,
            gid: 0,
            immutable: vec![],
        }];
        for (from, to, is_fine) in [
            ("Prose.toml", "/etc/prosody/Prose.toml", true),
            ("certs/", "/etc/prosody/certs/", true),
            ("certs/", "/etc/prosody/certs", false),
            ("certs", "/etc/prosody/certs/", false),
            ("env", "/etc/prosody", false),
            ("env", "/etc/prosodyx/env", false),
            ("env", "/etc/prosody/../passwd", false),
            ("../env", "/etc/prosody/env", false),
            (".env", "/etc/prosody/env", false),
            ("", "/etc/prosody/env", false),
        ] {
            let entry = SeedEntry { to: to.into(), owner: Owner::root(), mode: Mode(0o600) };
            assert_eq!(check(from, &entry, &volumes).is_ok(), is_fine, "{from} -> {to}");
        }
    }
}
