//! A recipe: what one appliance is made of.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Result;
use serde::Deserialize;

use crate::architecture::Architecture;
use crate::document;
use crate::glob::Glob;
use crate::quantity::{Name, Size, Version};

/// The document `recipes/NAME.toml`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Recipe {
    /// What the appliance is called, in file names too.
    pub name: Name,
    /// Its own version.
    pub version: Version,
    /// What a person calls it.
    pub title: String,
    /// Names of layers; each finds its own needs.
    pub layers: Vec<Name>,
    /// Folders of layers, relative to the recipe; the first that has a layer gives it.
    #[serde(default = "layers_beside_recipes")]
    pub layers_from: Vec<PathBuf>,
    /// Where packages come from.
    pub debian: Debian,
    /// Further apt repositories.
    #[serde(default, rename = "repository")]
    pub repositories: Vec<Repository>,
    /// The disk.
    pub image: ImageSizes,
    /// The kernel's start.
    #[serde(default)]
    pub boot: Boot,
    /// To be raised when what is in the volumes can't be read any more by the versions before: to
    /// those there is no way back then.
    #[serde(default = "first_format")]
    pub data_format: u32,
    /// Whose bundles it takes.
    #[serde(default)]
    pub upgrade: Upgrade,
}

fn first_format() -> u32 {
    1
}

fn layers_beside_recipes() -> Vec<PathBuf> {
    vec!["../layers".into()]
}

/// Which Debian.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Debian {
    /// `bookworm`, `trixie`, `sid` …: a stable suite brings its updates and security.
    pub suite: Name,
    /// As Debian calls it: `amd64`, `arm64`.
    pub architecture: Architecture,
    /// Base address of the archive; else `--mirror`, else the host's apt sources.
    pub mirror: Option<String>,
    /// Base address of the security archive.
    pub security_mirror: Option<String>,
    /// An armored OpenPGP key beside the recipe, in place of Debian's own: for a mirror that signs
    /// its own selection.
    pub key: Option<PathBuf>,
    /// Another suite → names of packages, perhaps with `*`, that are taken from it and its updates
    /// and security, and from nowhere else.
    #[serde(default)]
    pub from: BTreeMap<Name, Vec<Glob>>,
}

impl Debian {
    /// All suites: the usual one, then those that some packages are taken from.
    pub fn suites(&self) -> impl Iterator<Item = &Name> {
        std::iter::once(&self.suite).chain(self.from.keys())
    }

    /// The suite that a package of this name is taken from.
    pub fn suite_of(&self, package: &str) -> &Name {
        let names = |globs: &[Glob]| globs.iter().any(|glob| glob.matches(package));
        let other = self.from.iter().find(|(_, globs)| names(globs));
        other.map_or(&self.suite, |(suite, _)| suite)
    }
}

/// A further apt repository, with its own key.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Repository {
    /// What the lock calls it.
    pub name: Name,
    /// Base address.
    pub url: String,
    /// Its suite.
    pub suite: String,
    /// Its components.
    pub components: Vec<String>,
    /// An armored OpenPGP key, beside the recipe.
    pub key: PathBuf,
}

/// How much room the disk gives to what, fixed for the life of an appliance.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageSizes {
    /// The EFI system partition: the loader and two UKIs.
    pub esp: Size,
    /// One slot: a root and its hash tree.
    pub slot: Size,
    /// The seed partition, where an operator drops the configuration.
    pub seed: Size,
}

/// What the kernel is told.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Boot {
    /// Added to the command line, after what the layers say.
    #[serde(default)]
    pub cmdline: Vec<String>,
}

/// How appliances of this recipe follow one another.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Upgrade {
    /// Public keys, beside the recipe: the one in use, and the next. An appliance takes bundles that
    /// one of them signed; without any, it takes none.
    #[serde(default)]
    pub keys: Vec<PathBuf>,
    /// The oldest version that this one may follow; else any.
    pub follows: Option<Version>,
    /// No version before this one is taken by an appliance of this one; else any is.
    pub floor: Option<Version>,
}

/// A recipe and where it stands: its lock is beside it.
#[derive(Debug, Clone)]
pub struct RecipeFile {
    /// The document's path, as the user wrote it.
    pub path: PathBuf,
    /// What it says.
    pub recipe: Recipe,
}

impl RecipeFile {
    /// Reads the recipe at `path`.
    pub fn load(path: &Path) -> Result<RecipeFile> {
        Ok(RecipeFile { path: path.to_owned(), recipe: document::load(path)? })
    }

    /// `NAME.lock`, beside the recipe.
    pub fn lock_path(&self) -> PathBuf {
        self.path.with_extension("lock")
    }

    /// A path that the recipe names, which is relative to the recipe.
    pub fn beside(&self, name: &Path) -> PathBuf {
        self.folder().join(name)
    }

    fn folder(&self) -> &Path {
        match self.path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_are_taken_from_the_suite_that_names_them() {
        let text = "suite = \"bookworm\"\narchitecture = \"amd64\"\n[from]\n\
                    trixie = [\"linux-*\", \"systemd-boot-efi\"]\n";
        let debian: Debian = document::parse("recipe.toml", text).unwrap();
        let suites: Vec<&str> = debian.suites().map(Name::as_str).collect();
        assert_eq!(suites, ["bookworm", "trixie"]);
        for (package, suite) in [
            ("linux-image-cloud-amd64", "trixie"),
            ("systemd-boot-efi", "trixie"),
            ("systemd-boot", "bookworm"),
            ("prosody", "bookworm"),
        ] {
            assert_eq!(debian.suite_of(package).as_str(), suite, "{package}");
        }
    }
}
