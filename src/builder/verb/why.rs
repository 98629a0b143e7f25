//! `stele why`: who put a path into an image.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::Serialize;
use strsim::damerau_levenshtein;

use crate::inspect::Image;
use crate::inspect::root::{Kind, Root};
use crate::links::{self, Walk};
use crate::provenance::Provenance;

/// How many names an error offers.
const HINTS: usize = 3;

/// Why a path is in an image.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Outcome {
    /// What was asked for.
    pub path: String,
    /// Links on the way, and who put each there.
    pub links: Vec<Link>,
    /// The path that is really there; none, when it is a link to what is only made at boot.
    pub found: Option<String>,
    /// Is that a directory?
    pub is_directory: bool,
    /// Who put it there; for a directory, who put something below it, most paths first.
    pub origins: Vec<Origin>,
}

/// A symbolic link.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Link {
    /// Where it is.
    pub path: String,
    /// Where it leads, as it says itself.
    pub target: String,
    /// Who put it there.
    pub origin: Option<Origin>,
}

/// Somebody who put paths into an image.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Origin {
    /// `package NAME`, `layer NAME` or `builder`.
    pub name: String,
    /// A package's version.
    pub version: Option<String>,
    /// Who asked for it, from the nearest up to a layer.
    pub asked_by: Vec<String>,
    /// How many of the paths are theirs.
    pub paths: usize,
}

/// Asks the root of `image` that the loader would boot.
pub fn why(image: &Path, path: &str) -> Result<Outcome> {
    let image = Image::open(image)?;
    let root = image.root(&image.first_uki()?.pin()?.root)?;
    explain(&root, &root.provenance()?, path)
        .with_context(|| format!("cannot find {path} in {}", image.path.display()))
}

fn explain(root: &Root, provenance: &Provenance, asked: &str) -> Result<Outcome> {
    let path = links::join("/", asked);
    let walk = root.follow(&path);
    let is_link = ends_with_a_link(&path, &walk);
    let found = match walk.end {
        Ok(found) => Some(found),
        Err(_) if is_link => None,
        Err(missing) => bail!("{missing} is not in its root{}", hint(root, &missing)),
    };
    let is_directory = found
        .as_deref()
        .is_some_and(|found| found == "/" || matches!(root.get(found), Some(Kind::Directory)));
    let origins = match &found {
        Some(found) if is_directory => below(provenance, found),
        Some(found) => origin_of(provenance, found).into_iter().collect(),
        None => vec![],
    };
    let links = walk.links.into_iter().map(|(path, _)| {
        let target = match root.get(&path) {
            Some(Kind::Link(target)) => target.clone(),
            _ => String::new(),
        };
        Link { origin: origin_of(provenance, &path), path, target }
    });
    Ok(Outcome { path: asked.to_owned(), links: links.collect(), found, is_directory, origins })
}

/// Is the last link the very path that was looked for, and not a directory on the way to it?
fn ends_with_a_link(path: &str, walk: &Walk) -> bool {
    let Some(((last, _), before)) = walk.links.split_last() else { return false };
    before.last().map_or(path, |(_, to)| to) == last
}

fn origin_of(provenance: &Provenance, path: &str) -> Option<Origin> {
    provenance.origin(path).map(|name| Origin::new(provenance, name, 1))
}

fn below(provenance: &Provenance, directory: &str) -> Vec<Origin> {
    let prefix = format!("{}/", directory.trim_end_matches('/'));
    let counts: BTreeMap<&str, usize> = provenance
        .paths
        .iter()
        .map(|(name, paths)| (&**name, paths.iter().filter(|p| p.starts_with(&prefix)).count()))
        .filter(|(_, count)| *count > 0)
        .collect();
    let new = |(name, count)| Origin::new(provenance, name, count);
    let mut origins: Vec<Origin> = counts.into_iter().map(new).collect();
    origins.sort_by_key(|origin| std::cmp::Reverse(origin.paths));
    origins
}

/// Names that are much like one that isn't there.
fn hint(root: &Root, missing: &str) -> String {
    let wanted = file_name(missing);
    let mut near: Vec<(usize, usize, &str)> = root
        .paths()
        .map(|(path, _)| {
            let by_name = damerau_levenshtein(wanted, file_name(path));
            (by_name, damerau_levenshtein(missing, path), path)
        })
        .filter(|(distance, ..)| *distance <= 1 + wanted.len() / 4)
        .collect();
    near.sort_unstable();
    let names: Vec<&str> = near.into_iter().take(HINTS).map(|(.., path)| path).collect();
    match names.is_empty() {
        true => String::new(),
        false => format!("\nhint: there is {}", names.join(", ")),
    }
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

impl Origin {
    fn new(provenance: &Provenance, name: &str, paths: usize) -> Origin {
        let mut origin = Origin { name: name.to_owned(), version: None, asked_by: vec![], paths };
        if let Some(package) = name.strip_prefix("package ") {
            origin.version = provenance.packages.get(package).map(|note| note.version.clone());
            let askers = provenance.chain(package).into_iter().rev().skip(1);
            origin.asked_by = askers.collect();
        }
        origin
    }

    /// `package zlib1g 1:1.3 ← libssl3t64 ← prosody ← layer prosody`
    fn in_words(&self) -> String {
        let name = if self.name == "builder" { "the builder" } else { &self.name };
        let version = self.version.iter().map(|version| format!(" {version}"));
        let askers = self.asked_by.iter();
        let askers =
            askers.map(|asker| format!(" ← {}", asker.strip_prefix("package ").unwrap_or(asker)));
        version.chain(askers).fold(name.to_owned(), |words, more| words + &more)
    }
}

impl Outcome {
    /// What a person reads.
    pub fn print(&self) {
        print!("{}", self.in_words());
    }

    fn in_words(&self) -> String {
        let mut text = String::new();
        for Link { path, target, origin } in &self.links {
            let by = origin.as_ref().map(Origin::in_words).unwrap_or_default();
            text += &format!("{path} → {target}\n  {by}\n");
        }
        match &self.found {
            None => text += "  which is made when the appliance runs\n",
            Some(found) if self.is_directory && self.origins.is_empty() => {
                text += &format!("{found}\n  an empty directory\n");
            }
            Some(found) => text += &format!("{found}\n"),
        }
        for origin in &self.origins {
            let count = match self.is_directory {
                true => format!("{:>5}  ", origin.paths),
                false => String::new(),
            };
            text += &format!("  {count}{}\n", origin.in_words());
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::image::squashfs;
    use crate::inspect::part::Part;
    use crate::provenance::PackageNote;
    use crate::tree::{self, Entry, Tree};

    fn root(tree: &Tree) -> Root {
        let bytes = squashfs::write(tree, 0).unwrap();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&bytes).unwrap();
        Root::open(Part::new(file, 0, bytes.len() as u64)).unwrap()
    }

    fn tree() -> Tree {
        let mut tree = Tree::default();
        let entry = |kind| {
            let origin = tree::Origin::Builder;
            Entry { kind, mode: 0o644, uid: 0, gid: 0, origin }
        };
        let link = |to: &str| entry(tree::Kind::Link(to.into()));
        tree.add("/usr/lib/libz.so.1.3", entry(tree::Kind::File(b"z"[..].into()))).unwrap();
        tree.add("/usr/lib/libz.so.1", link("libz.so.1.3")).unwrap();
        tree.add("/etc/hosts", link("/run/hosts")).unwrap();
        tree.add("/run", entry(tree::Kind::Directory)).unwrap();
        tree.add_unmerged("/lib", link("usr/lib")).unwrap();
        tree
    }

    fn provenance() -> Provenance {
        let note = |version: &str, why: &str| PackageNote {
            version: version.into(),
            why: vec![why.into()],
        };
        let paths = |paths: &[&str]| paths.iter().map(|&path| path.into()).collect();
        Provenance {
            packages: BTreeMap::from([
                ("zlib1g".into(), note("1:1.3", "libssl3")),
                ("libssl3".into(), note("3", "layer server")),
            ]),
            paths: BTreeMap::from([
                ("package zlib1g".into(), paths(&["/usr/lib/libz.so.1", "/usr/lib/libz.so.1.3"])),
                ("layer base".into(), paths(&["/etc/hosts"])),
                ("builder".into(), paths(&["/lib"])),
            ]),
        }
    }

    #[test]
    fn a_path_is_explained_or_refused() {
        let root = root(&tree());
        let zlib = "package zlib1g 1:1.3 ← libssl3 ← layer server";
        let rows = [
            ("/usr/lib/libz.so.1.3", format!("/usr/lib/libz.so.1.3\n  {zlib}\n")),
            (
                "lib/../lib/libz.so.1",
                format!(
                    "/lib → usr/lib\n  the builder\n\
                     /usr/lib/libz.so.1 → libz.so.1.3\n  {zlib}\n\
                     /usr/lib/libz.so.1.3\n  {zlib}\n"
                ),
            ),
            (
                "/etc/hosts",
                "/etc/hosts → /run/hosts\n  layer base\n  which is made when the appliance runs\n"
                    .into(),
            ),
            ("/run", "/run\n  an empty directory\n".into()),
            ("/", format!("/\n      2  {zlib}\n      1  the builder\n      1  layer base\n")),
            (
                "/lib/libz.so",
                "/usr/lib/libz.so is not in its root\nhint: there is /usr/lib/libz.so.1".into(),
            ),
            ("/lib/nothing/like/it", "/usr/lib/nothing/like/it is not in its root".into()),
        ];
        for (path, expected) in rows {
            let said = match explain(&root, &provenance(), path) {
                Ok(outcome) => outcome.in_words(),
                Err(error) => error.to_string(),
            };
            assert_eq!(said, expected, "{path}");
        }
    }
}
