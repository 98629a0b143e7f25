//! Whom an appliance believes when it is given a successor: the keys that its recipe names.

use std::path::Path;

use anyhow::{Context, Result, bail};
use appliance::upgrade::Trust;
use signing::PublicKey;

use crate::recipe::{Recipe, RecipeFile};

/// The key in use, and the next.
const MOST_KEYS: usize = 2;

/// What `file` says of upgrades; nothing, when it names no key.
pub fn of(file: &RecipeFile) -> Result<Option<Trust>> {
    let recipe = &file.recipe;
    check_bounds(recipe)?;
    let mut keys: Vec<PublicKey> = Vec::new();
    for path in &recipe.upgrade.keys {
        let key = read(&file.beside(path))?;
        if keys.contains(&key) {
            bail!("cannot use recipe {}: it names key {} twice", recipe.name, key.id());
        }
        keys.push(key);
    }
    if keys.len() > MOST_KEYS {
        bail!(
            "cannot use recipe {}: it names {} keys, where an appliance believes {MOST_KEYS}: the \
             one in use, and the next",
            recipe.name,
            keys.len()
        );
    }
    Ok((!keys.is_empty()).then(|| Trust {
        product: recipe.name.to_string(),
        architecture: recipe.debian.architecture.debian().to_owned(),
        keys: keys.iter().map(PublicKey::to_string).collect(),
        floor: recipe.upgrade.floor.clone(),
    }))
}

/// The public key at `path`.
pub fn read(path: &Path) -> Result<PublicKey> {
    signing::read_public(path).with_context(|| format!("cannot use key {}", path.display()))
}

fn check_bounds(recipe: &Recipe) -> Result<()> {
    let upgrade = &recipe.upgrade;
    for (name, bound) in [("follows", &upgrade.follows), ("floor", &upgrade.floor)] {
        if let Some(bound) = bound
            && *bound > recipe.version
        {
            bail!(
                "cannot use recipe {}: `{name}` under [upgrade] is {bound}, newer than the recipe's \
                 own version {}",
                recipe.name,
                recipe.version
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use signing::SecretKey;

    use super::*;
    use crate::document;

    fn recipe(folder: &Path, upgrade: &str) -> RecipeFile {
        let text = format!(
            "name = \"pod\"\nversion = \"1.2\"\ntitle = \"\"\nlayers = []\n\
             debian = {{ suite = \"sid\", architecture = \"arm64\" }}\n\
             image = {{ esp = \"48 MiB\", slot = \"64 MiB\", seed = \"8 MiB\" }}\n\
             [upgrade]\n{upgrade}"
        );
        let path: PathBuf = folder.join("pod.toml");
        RecipeFile { path, recipe: document::parse("pod.toml", &text).unwrap() }
    }

    #[test]
    fn an_appliance_believes_the_keys_of_its_recipe() {
        let folder = tempfile::tempdir().unwrap();
        let keys = [1, 2, 3].map(|seed| SecretKey::of_seed(&[seed; 32].into()).public());
        for (key, name) in keys.iter().zip(["a.pub", "b.pub", "c.pub"]) {
            fs::write(folder.path().join(name), key.to_file()).unwrap();
        }
        let of = |upgrade: &str| of(&recipe(folder.path(), upgrade));
        let trust = of("keys = [\"b.pub\", \"a.pub\"]\nfloor = \"1.00\"").unwrap().unwrap();
        assert_eq!(trust.keys, [keys[1].to_string(), keys[0].to_string()]);
        assert_eq!((trust.product.as_str(), trust.architecture.as_str()), ("pod", "arm64"));
        assert_eq!(trust.floor.unwrap().to_string(), "1.00");
        assert_eq!(of("").unwrap(), None);
        assert_eq!(of("follows = \"1.2\"").unwrap(), None);
        fs::write(folder.path().join("bad.pub"), "no key").unwrap();
        for (upgrade, expected) in [
            ("keys = [\"a.pub\", \"./a.pub\"]", "pod: it names key 34750f98bd59fcfc twice"),
            ("keys = [\"a.pub\", \"b.pub\", \"c.pub\"]", "pod: it names 3 keys, where"),
            ("keys = [\"none.pub\"]", "none.pub: No such file"),
            ("keys = [\"bad.pub\"]", "bad.pub: it is no public key of Stele's\nhint: "),
            ("floor = \"1.2.1\"", "`floor` under [upgrade] is 1.2.1, newer than the recipe's own"),
            ("follows = \"2\"", "`follows` under [upgrade] is 2, newer than"),
        ] {
            let error = format!("{:#}", of(upgrade).unwrap_err());
            assert!(error.starts_with("cannot use ") && error.contains(expected), "{error}");
        }
    }
}
