//! A plan: recipe and layers with every name resolved, and nothing fetched yet.
//!
//! Whatever can be wrong without looking into a package is found here.

mod services;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use appliance::boot::{self, Data, Import, Volume};
use appliance::hash::Digest;
use appliance::service::{Service, User};
use appliance::upgrade::Trust;
use serde::Serialize;

use crate::data;
use crate::glob::Glob;
use crate::layer::{Content, Kernel, LayerFolder, VolumeEntry};
use crate::programs::Program;
use crate::quantity::{Name, Owner};
use crate::recipe::{Recipe, RecipeFile};
use crate::slice::Slice;
use crate::trust;

/// What is to be built, before any package has been looked at.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The recipe and its place.
    pub file: RecipeFile,
    /// Each layer after those that it needs.
    pub layers: Vec<LayerFolder>,
    /// Packages asked for by name, and the layers that ask.
    pub roots: BTreeMap<String, BTreeSet<Name>>,
    /// What is taken from which packages.
    pub wants: Vec<Want>,
    /// Who owns things and runs services, by name.
    pub users: BTreeMap<String, User>,
    /// What runs, in start order.
    pub services: Vec<Service>,
    /// What outlives a boot, by path.
    pub volumes: Vec<Volume>,
    /// What makes the file system that these are on.
    pub data: Option<Data>,
    /// What is taken over from the seed partition.
    pub seed: Vec<Import>,
    /// The one layer's kernel.
    pub kernel: Kernel,
    /// Whose bundles it takes.
    pub trust: Option<Trust>,
}

/// A layer's wish: these paths of the packages of this name.
#[derive(Debug, Clone)]
pub struct Want {
    /// Who wishes.
    pub layer: Name,
    /// The name, perhaps with `*`.
    pub package: Glob,
    /// The slices wanted, in the order of their names in the layer.
    pub slices: Vec<Slice>,
}

impl Plan {
    /// Resolves every name of `file` and of the layers that it wants.
    pub fn new(file: RecipeFile) -> Result<Plan> {
        let recipe = &file.recipe;
        let folders: Vec<PathBuf> =
            recipe.layers_from.iter().map(|folder| file.beside(folder)).collect();
        let layers = load_layers(&recipe.layers, &folders)?;
        let wants = resolve_wants(recipe, &layers)?;
        let users = resolve_users(&layers)?;
        check_owners(&layers, &users)?;
        let volumes = resolve_volumes(&layers, &users)?;
        Ok(Plan {
            roots: resolve_roots(recipe, &layers),
            services: services::resolve(&layers, &users, &volumes)?,
            data: data::programs(&layers)?,
            seed: data::imports(&layers, &users, &volumes)?,
            volumes,
            kernel: the_kernel(&layers)?,
            trust: trust::of(&file)?,
            wants,
            users,
            layers,
            file,
        })
    }

    /// The recipe.
    pub fn recipe(&self) -> &Recipe {
        &self.file.recipe
    }

    /// The guest programs that layers place.
    pub fn programs(&self) -> BTreeSet<Program> {
        let files = self.layers.iter().flat_map(|layer| layer.layer.files.values());
        let program = |content: &Content| match content {
            Content::Program(program) => Some(*program),
            _ => None,
        };
        files.filter_map(|file| program(&file.content)).collect()
    }

    /// Digest of all that decides which packages are locked. A lock made from other inputs is
    /// stale; a changed configuration file or slice doesn't make it so.
    pub fn lock_inputs(&self) -> Digest {
        #[derive(Serialize)]
        struct Inputs<'a> {
            suite: &'a Name,
            #[serde(skip_serializing_if = "Vec::is_empty")]
            from: Vec<(&'a Name, Vec<&'a str>)>,
            architecture: &'a str,
            repositories: Vec<(&'a Name, &'a str, &'a str, &'a [String])>,
            roots: &'a BTreeMap<String, BTreeSet<Name>>,
            taken: BTreeSet<&'a str>,
            scripts: Vec<(&'a str, &'a str, &'a [Digest])>,
        }
        let recipe = self.recipe();
        let notes = self.layers.iter().flat_map(|layer| &layer.layer.scripts);
        let from = recipe.debian.from.iter();
        let inputs = Inputs {
            suite: &recipe.debian.suite,
            from: from
                .map(|(suite, names)| (suite, names.iter().map(Glob::as_str).collect()))
                .collect(),
            architecture: recipe.debian.architecture.debian(),
            repositories: recipe
                .repositories
                .iter()
                .map(|r| (&r.name, r.url.as_str(), r.suite.as_str(), r.components.as_slice()))
                .collect(),
            roots: &self.roots,
            taken: self.wants.iter().map(|want| want.package.as_str()).collect(),
            scripts: notes
                .map(|note| (note.package.as_str(), note.script.as_str(), note.sha256.as_slice()))
                .collect(),
        };
        Digest::of(&serde_json::to_vec(&inputs).unwrap_or_else(|_| unreachable!("plain data")))
    }

    /// Is anything (at least the copyright file) taken from the package of this name?
    pub fn takes_from(&self, package: &str) -> bool {
        self.wants.iter().any(|want| want.package.matches(package))
    }
}

fn load_layers(names: &[Name], folders: &[PathBuf]) -> Result<Vec<LayerFolder>> {
    let mut ordered = Vec::new();
    for name in names {
        load_layer(name, folders, &mut Vec::new(), &mut ordered)?;
    }
    Ok(ordered)
}

/// Puts a layer behind all that it needs. `path` holds those that are being looked at, outermost
/// first.
fn load_layer(
    name: &Name,
    folders: &[PathBuf],
    path: &mut Vec<Name>,
    ordered: &mut Vec<LayerFolder>,
) -> Result<()> {
    if ordered.iter().any(|layer| layer.name == *name) {
        return Ok(());
    }
    if path.contains(name) {
        let circle: Vec<&str> = path.iter().map(Name::as_str).collect();
        bail!("cannot order layers: {} needs {name}, which needs it again", circle.join(" needs "));
    }
    let layer = LayerFolder::load(name, folders)?.with_context(|| {
        let shown: Vec<String> = folders.iter().map(|f| f.display().to_string()).collect();
        format!("cannot find layer {name}: no {name}/layer.toml in {}", shown.join(" or "))
    })?;
    path.push(name.clone());
    for need in &layer.layer.needs {
        load_layer(need, folders, path, ordered)?;
    }
    path.pop();
    ordered.push(layer);
    Ok(())
}

/// `{arch}` in a package's name stands for Debian's name of the architecture.
fn package_name(recipe: &Recipe, name: &str) -> String {
    name.replace("{arch}", recipe.debian.architecture.debian())
}

fn resolve_roots(recipe: &Recipe, layers: &[LayerFolder]) -> BTreeMap<String, BTreeSet<Name>> {
    let mut roots: BTreeMap<String, BTreeSet<Name>> = BTreeMap::new();
    for layer in layers {
        for name in layer.layer.packages.keys() {
            let name = package_name(recipe, name);
            if Glob::is_plain(&name) {
                roots.entry(name).or_default().insert(layer.name.clone());
            }
        }
    }
    roots
}

fn resolve_wants(recipe: &Recipe, layers: &[LayerFolder]) -> Result<Vec<Want>> {
    let mut wants = Vec::new();
    for (position, folder) in layers.iter().enumerate() {
        for (package, slices) in &folder.layer.packages {
            // A slice of an earlier layer may be taken by a later one, but not the other way round.
            let find = |slice: &String| {
                let paths = layers[..=position].iter().rev().find_map(|candidate| {
                    candidate.layer.slices.get(package).and_then(|slices| slices.get(slice))
                });
                let paths = paths.with_context(|| {
                    format!(
                        "cannot use layer {}: it takes slice `{slice}` of {package}, which neither \
                         it nor an earlier layer defines",
                        folder.name
                    )
                })?;
                Slice::new(slice, paths)
                    .with_context(|| format!("cannot use layer {}", folder.name))
            };
            let slices = slices.iter().map(find).collect::<Result<_>>()?;
            let package = Glob::try_from(package_name(recipe, package))
                .map_err(|cause| anyhow::anyhow!("cannot use layer {}: {cause}", folder.name))?;
            wants.push(Want { layer: folder.name.clone(), package, slices });
        }
    }
    Ok(wants)
}

fn resolve_users(layers: &[LayerFolder]) -> Result<BTreeMap<String, User>> {
    let mut users = BTreeMap::<String, User>::new();
    for folder in layers {
        for (name, account) in &folder.layer.users {
            let taken = users.values().find(|user| user.name == *name || user.uid == account.uid);
            if boot::OWN_USERS.contains(&account.uid) {
                bail!(
                    "cannot use layer {}: uid {} of user `{name}` is stele-init's own",
                    folder.name,
                    account.uid
                );
            }
            if let Some(other) = taken {
                bail!(
                    "cannot use layer {}: user `{name}` with uid {} clashes with user `{}` with \
                     uid {} of an earlier layer",
                    folder.name,
                    account.uid,
                    other.name,
                    other.uid
                );
            }
            let user = User {
                name: name.clone(),
                uid: account.uid,
                gid: account.uid,
                home: account.home.to_string(),
            };
            users.insert(name.clone(), user);
        }
    }
    Ok(users)
}

fn check_owners(layers: &[LayerFolder], users: &BTreeMap<String, User>) -> Result<()> {
    for folder in layers {
        for (path, file) in &folder.layer.files {
            owner_ids(&file.owner, users)
                .with_context(|| format!("cannot use layer {}: file {path}", folder.name))?;
        }
    }
    Ok(())
}

/// The numbers of an owner.
pub fn owner_ids(owner: &Owner, users: &BTreeMap<String, User>) -> Result<(u32, u32)> {
    let id = |name: &str| {
        users.get(name).with_context(|| format!("no layer declares user or group `{name}`"))
    };
    Ok((id(&owner.user)?.uid, id(&owner.group)?.gid))
}

fn resolve_volumes(layers: &[LayerFolder], users: &BTreeMap<String, User>) -> Result<Vec<Volume>> {
    let mut volumes = BTreeMap::new();
    for folder in layers {
        for (path, entry) in &folder.layer.volumes {
            let context = || format!("cannot use layer {}: volume {path}", folder.name);
            let (uid, gid) = owner_ids(&entry.owner, users).with_context(context)?;
            let immutable = immutable_of(entry).with_context(context)?;
            let (path_text, mode) = (path.to_string(), entry.mode.0.into());
            let volume = Volume { path: path_text, mode, uid, gid, immutable };
            if volumes.insert(path, volume).is_some() {
                bail!("{}: an earlier layer declares it too", context());
            }
        }
    }
    Ok(volumes.into_values().collect())
}

/// Plain paths within the volume; `*` is the one sign that PID 1 knows.
fn immutable_of(entry: &VolumeEntry) -> Result<Vec<String>> {
    for pattern in &entry.immutable {
        let is_name = |part: &str| !["", ".", "..", "**"].contains(&part);
        if !pattern.split('/').all(is_name) || pattern.contains(['?', '[', '{', '\\']) {
            bail!("`{pattern}` is no path within it, or has other signs than `*`");
        }
    }
    Ok(entry.immutable.clone())
}

fn the_kernel(layers: &[LayerFolder]) -> Result<Kernel> {
    let mut kernels = layers.iter().filter_map(|folder| folder.layer.kernel.as_ref());
    match (kernels.next(), kernels.next()) {
        (Some(kernel), None) => Ok(kernel.clone()),
        (None, _) => bail!("cannot boot: no layer has a [kernel]"),
        (Some(_), Some(_)) => bail!("cannot boot: two layers have a [kernel]"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quantity::Mode;

    #[test]
    fn what_is_immutable_lies_within_its_volume() {
        for (pattern, is_fine) in [
            ("*/http_file_share/*.bin", true),
            ("*", true),
            ("/a", false),
            ("a/", false),
            ("a/../../b", false),
            ("", false),
            ("**/a", false),
            ("a?", false),
            ("{a,b}", false),
        ] {
            let immutable = vec![pattern.to_owned()];
            let entry = VolumeEntry { owner: Owner::root(), mode: Mode(0o750), immutable };
            assert_eq!(immutable_of(&entry).is_ok(), is_fine, "{pattern}");
        }
    }
}
