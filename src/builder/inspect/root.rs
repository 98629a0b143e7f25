//! The root file system of an image: its paths, and the documents in it that say what it is.

use std::collections::BTreeMap;
use std::io::{BufReader, Read as _};

use anyhow::{Context, Result};
use appliance::boot::{APPLIANCE_FILE, Appliance};
use backhand::{FilesystemReader, InnerNode, SquashfsFileReader};
use serde::de::DeserializeOwned;

use crate::inspect::part::Part;
use crate::links::{self, Place, Walk};
use crate::provenance::{self, Provenance};

/// A root that can be read.
pub struct Root {
    reader: FilesystemReader<'static>,
    paths: BTreeMap<String, Kind>,
}

/// What stands at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Directory,
    /// A symbolic link.
    Link(String),
    /// A file.
    File(SquashfsFileReader),
    /// Nothing that the builder puts into a root.
    Other,
}

impl Root {
    /// Opens the file system at the start of a slot.
    pub fn open(slot: Part) -> Result<Root> {
        let reader = FilesystemReader::from_reader(BufReader::new(slot))?;
        let paths = reader.files().map(|node| {
            let kind = match &node.inner {
                InnerNode::Dir(_) => Kind::Directory,
                InnerNode::Symlink(link) => Kind::Link(link.link.to_string_lossy().into_owned()),
                InnerNode::File(file) => Kind::File(file.clone()),
                _ => Kind::Other,
            };
            (node.fullpath.to_string_lossy().into_owned(), kind)
        });
        let paths = paths.collect();
        Ok(Root { reader, paths })
    }

    /// All paths, in order.
    pub fn paths(&self) -> impl Iterator<Item = (&str, &Kind)> {
        self.paths.iter().map(|(path, kind)| (path.as_str(), kind))
    }

    /// What stands at exactly this path.
    pub fn get(&self, path: &str) -> Option<&Kind> {
        self.paths.get(path)
    }

    /// Where `path` leads.
    pub fn follow(&self, path: &str) -> Walk {
        links::follow(path, |path| match self.paths.get(path) {
            None => Place::Nothing,
            Some(Kind::Link(target)) => Place::Link(target),
            Some(_) => Place::Other,
        })
    }

    /// What this appliance is.
    pub fn appliance(&self) -> Result<Appliance> {
        self.document(APPLIANCE_FILE)
    }

    /// Where everything in it comes from.
    pub fn provenance(&self) -> Result<Provenance> {
        self.document(provenance::FILE)
    }

    /// The content of a file.
    pub fn read(&self, path: &str) -> Result<Vec<u8>> {
        let context = || format!("cannot read {path} in the root");
        let Some(Kind::File(file)) = self.paths.get(path) else {
            return Err(anyhow::anyhow!("there is no such file")).with_context(context);
        };
        let mut bytes = Vec::new();
        self.reader.file(file).reader().read_to_end(&mut bytes).with_context(context)?;
        Ok(bytes)
    }

    fn document<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        let bytes = self.read(path)?;
        serde_json::from_slice(&bytes)
            .with_context(|| format!("cannot understand {path} in the root"))
    }
}
