//! The tree of a file system: every path once, with owner, mode, content, and who put it there.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Bound;
use std::sync::Arc;

use anyhow::{Result, bail};

use crate::glob::Glob;
use crate::links::{self, Place};

/// Top-level directories that are links into `/usr` (merged `/usr`, as Debian has it).
const MERGED: [&str; 5] = ["bin", "sbin", "lib", "lib64", "lib32"];

/// One path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What is there.
    pub kind: Kind,
    /// Permission bits.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Who put it there.
    pub origin: Origin,
}

/// What stands at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Directory,
    /// A file.
    File(Arc<[u8]>),
    /// A symbolic link.
    Link(String),
}

/// Who put a path into the tree.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// A package, by name.
    Package(String),
    /// A layer, by name.
    Layer(String),
    /// The builder itself.
    Builder,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Package(name) => write!(f, "package {name}"),
            Origin::Layer(name) => write!(f, "layer {name}"),
            Origin::Builder => f.write_str("the builder"),
        }
    }
}

/// Paths in order. All are absolute and lie behind no link of [`MERGED`].
#[derive(Debug, Clone, Default)]
pub struct Tree {
    entries: BTreeMap<String, Entry>,
}

/// A path's place in a tree with a merged `/usr`: `/bin/sh` → `/usr/bin/sh`.
pub fn merged(path: &str) -> String {
    let first = path[1..].split('/').next().unwrap_or_default();
    match MERGED.contains(&first) {
        true => format!("/usr{path}"),
        false => path.to_owned(),
    }
}

impl Tree {
    /// All paths, parents before children.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.entries.iter().map(|(path, entry)| (path.as_str(), entry))
    }

    /// The entry at exactly this path.
    pub fn get(&self, path: &str) -> Option<&Entry> {
        self.entries.get(path)
    }

    /// Adds `entry`. A second claim of a path is refused unless it is the same claim, or both are
    /// directories: then the first one's owner and mode stay.
    pub fn add(&mut self, path: &str, entry: Entry) -> Result<()> {
        self.add_unmerged(&merged(path), entry)
    }

    /// [`Tree::add`] at exactly this path: for the links of a merged `/usr` themselves.
    pub fn add_unmerged(&mut self, path: &str, entry: Entry) -> Result<()> {
        let path = path.to_owned();
        self.make_parents(&path)?;
        match self.entries.get(&path) {
            None => _ = self.entries.insert(path, entry),
            Some(old) if old.kind == Kind::Directory && entry.kind == Kind::Directory => {}
            Some(old) if same(old, &entry) => {}
            Some(old) => bail!(
                "cannot add {path}: {} and {} disagree about it\nhint: a layer may say `replaces = \
                 true`, or a slice may leave the path out",
                old.origin,
                entry.origin
            ),
        }
        Ok(())
    }

    /// Puts `entry` where something else (or nothing) was. A directory isn't replaced by a file.
    pub fn replace(&mut self, path: &str, entry: Entry) -> Result<()> {
        let path = merged(path);
        self.make_parents(&path)?;
        if entry.kind != Kind::Directory && self.children(&path).next().is_some() {
            bail!("cannot replace {path}: it is a directory with something in it");
        }
        self.entries.insert(path, entry);
        Ok(())
    }

    /// Removes and returns what matches.
    pub fn take_matching(&mut self, glob: &Glob) -> Vec<(String, Entry)> {
        self.entries.extract_if(.., |path, _| glob.matches(path)).collect()
    }

    /// Removes directories that were made only on the way to something that has left.
    pub fn prune(&mut self, below: &str) {
        let paths: Vec<String> = self.children(below).map(|(path, _)| path.to_owned()).collect();
        for path in paths.into_iter().rev().chain([below.to_owned()]) {
            let empty = self.children(&path).next().is_none();
            if empty && self.entries.get(&path).is_some_and(|e| e.kind == Kind::Directory) {
                self.entries.remove(&path);
            }
        }
    }

    /// Everything below a directory.
    pub fn children<'a>(&'a self, path: &'a str) -> impl Iterator<Item = (&'a str, &'a Entry)> {
        let prefix = format!("{}/", path.trim_end_matches('/'));
        let from = Bound::Excluded(prefix.clone());
        self.entries
            .range((from, Bound::Unbounded))
            .take_while(move |(path, _)| path.starts_with(&prefix))
            .map(|(path, entry)| (path.as_str(), entry))
    }

    /// Follows links from `path`: the path that is really there, or the last that was looked for.
    pub fn resolve(&self, path: &str) -> Result<&str, String> {
        let found = links::follow(path, |path| self.place(path)).end?;
        Ok(self.entries.get_key_value(&found).map_or("/", |(known, _)| known))
    }

    fn place(&self, path: &str) -> Place<'_> {
        match self.entries.get(path) {
            None => Place::Nothing,
            Some(Entry { kind: Kind::Link(target), .. }) => Place::Link(target),
            Some(_) => Place::Other,
        }
    }

    fn make_parents(&mut self, path: &str) -> Result<()> {
        let slashes = path.match_indices('/').map(|(at, _)| at).filter(|&at| at > 0);
        for at in slashes.collect::<Vec<_>>() {
            let parent = &path[..at];
            match self.entries.get(parent) {
                Some(entry) if entry.kind == Kind::Directory => {}
                Some(entry) => {
                    bail!("cannot add {path}: {parent} is no directory ({})", entry.origin)
                }
                None => {
                    let (kind, origin) = (Kind::Directory, Origin::Builder);
                    let made = Entry { kind, mode: 0o755, uid: 0, gid: 0, origin };
                    self.entries.insert(parent.to_owned(), made);
                }
            }
        }
        Ok(())
    }
}

/// The same thing, whoever claims it.
fn same(a: &Entry, b: &Entry) -> bool {
    (&a.kind, a.mode, a.uid, a.gid) == (&b.kind, b.mode, b.uid, b.gid)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(kind: Kind) -> Entry {
        Entry { kind, mode: 0o644, uid: 0, gid: 0, origin: Origin::Layer("l".into()) }
    }

    fn file(text: &str) -> Entry {
        entry(Kind::File(text.as_bytes().into()))
    }

    fn link(target: &str) -> Entry {
        entry(Kind::Link(target.into()))
    }

    #[test]
    fn a_path_is_claimed_once() {
        let mut tree = Tree::default();
        tree.add("/etc/a", file("1")).unwrap();
        tree.add("/etc/a", file("1")).unwrap();
        let error = tree.add("/etc/a", file("2")).unwrap_err().to_string();
        assert!(error.starts_with("cannot add /etc/a: layer l and layer l disagree"), "{error}");
        assert!(tree.add("/etc/a/b", file("x")).is_err());
        tree.replace("/etc/a", file("2")).unwrap();
        assert!(tree.replace("/etc", file("x")).is_err());
        assert_eq!(tree.get("/etc").unwrap().kind, Kind::Directory);
    }

    #[test]
    fn paths_are_merged_into_usr() {
        let mut tree = Tree::default();
        tree.add("/bin/sh", file("sh")).unwrap();
        assert!(tree.get("/usr/bin/sh").is_some() && tree.get("/bin").is_none());
        assert_eq!(merged("/library"), "/library");
        assert_eq!(merged("/lib64/ld.so"), "/usr/lib64/ld.so");
    }

    #[test]
    fn links_are_followed() {
        let mut tree = Tree::default();
        tree.add("/usr/lib/x/a.so.1.0", file("a")).unwrap();
        tree.add("/usr/lib/x/a.so.1", link("a.so.1.0")).unwrap();
        tree.add("/usr/lib/y", link("../lib/x")).unwrap();
        tree.add("/abs", link("/usr/lib/y/a.so.1")).unwrap();
        tree.add("/gone", link("/usr/lib/y/none")).unwrap();
        tree.add("/loop", link("loop")).unwrap();
        assert_eq!(tree.resolve("/abs"), Ok("/usr/lib/x/a.so.1.0"));
        assert_eq!(tree.resolve("/gone"), Err("/usr/lib/x/none".into()));
        assert!(tree.resolve("/loop").is_err());
    }

    #[test]
    fn what_is_left_empty_is_pruned() {
        let mut tree = Tree::default();
        tree.add("/usr/lib/modules/6/kernel/a.ko", file("a")).unwrap();
        tree.add("/usr/lib/keep", file("k")).unwrap();
        let glob = Glob::try_from("/usr/lib/modules/**".to_owned()).unwrap();
        let taken: Vec<String> = tree.take_matching(&glob).into_iter().map(|(p, _)| p).collect();
        assert!(taken.contains(&"/usr/lib/modules/6/kernel/a.ko".to_owned()));
        tree.prune("/usr/lib/modules");
        let left: Vec<&str> = tree.iter().map(|(path, _)| path).collect();
        assert_eq!(left, ["/usr", "/usr/lib", "/usr/lib/keep"]);
    }
}
