//! Where everything in a root comes from. The root carries this itself, so that any image can be
//! asked why a path is in it.

use std::collections::BTreeMap;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::lock::Lock;
use crate::tree::{Kind, Origin, Tree};

/// Where the document lies in the root.
pub const FILE: &str = "/usr/share/stele/provenance.json";

/// Who put what into a root, and what asked for them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provenance {
    /// Packages by name.
    pub packages: BTreeMap<String, PackageNote>,
    /// Origin (`package NAME`, `layer NAME`, `builder`) → paths, without directories.
    pub paths: BTreeMap<String, Vec<String>>,
}

/// A package of the root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackageNote {
    /// Its version.
    pub version: String,
    /// Layers (`layer NAME`) and packages that asked for it.
    pub why: Vec<String>,
}

impl Provenance {
    /// What is known of `tree`.
    pub fn of(tree: &Tree, lock: &Lock) -> Provenance {
        let mut paths: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (path, entry) in tree.iter() {
            if entry.kind != Kind::Directory {
                paths.entry(key(&entry.origin)).or_default().push(path.to_owned());
            }
        }
        paths.entry(key(&Origin::Builder)).or_default().push(FILE.to_owned());
        let taken = lock.packages.iter().map(|p| (&p.name, &p.version, &p.why));
        // Nothing is taken from these, but they may be why another is there.
        let omitted = lock.omitted.iter().map(|p| (&p.name, &p.version, &p.why));
        let packages = taken
            .chain(omitted)
            .map(|(name, version, why)| {
                (name.clone(), PackageNote { version: version.clone(), why: why.clone() })
            })
            .collect();
        Provenance { packages, paths }
    }

    /// The document.
    pub fn to_text(&self) -> Result<String> {
        Ok(serde_json::to_string(self)? + "\n")
    }

    /// Who put `path` there.
    pub fn origin(&self, path: &str) -> Option<&str> {
        self.paths
            .iter()
            .find(|(_, paths)| paths.iter().any(|known| known == path))
            .map(|(origin, _)| origin.as_str())
    }

    /// The chain from a package up to a layer that asked for it by name: shortest first.
    pub fn chain(&self, package: &str) -> Vec<String> {
        let mut came_from: BTreeMap<&str, &str> = BTreeMap::new();
        let mut queue = std::collections::VecDeque::from([package]);
        while let Some(name) = queue.pop_front() {
            let why = self.packages.get(name).map(|note| note.why.as_slice()).unwrap_or_default();
            if let Some(layer) = why.iter().find(|asker| asker.starts_with("layer ")) {
                let mut chain = vec![layer.clone()];
                let mut at = Some(name);
                while let Some(name) = at {
                    chain.push(format!("package {name}"));
                    at = came_from.get(name).copied().filter(|_| name != package);
                }
                return chain;
            }
            for asker in why {
                if asker != package && !came_from.contains_key(asker.as_str()) {
                    came_from.insert(asker, name);
                    queue.push_back(asker);
                }
            }
        }
        vec![format!("package {package}")]
    }
}

fn key(origin: &Origin) -> String {
    match origin {
        Origin::Builder => "builder".to_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shortest_chain_to_a_layer_is_found() {
        let note = |why: &[&str]| PackageNote {
            version: "1".into(),
            why: why.iter().map(|&w| w.into()).collect(),
        };
        let packages = BTreeMap::from([
            ("libz".to_owned(), note(&["libssl"])),
            ("libssl".to_owned(), note(&["libz", "prosody"])),
            ("prosody".to_owned(), note(&["layer server"])),
            ("stray".to_owned(), note(&[])),
        ]);
        let provenance = Provenance { packages, paths: BTreeMap::new() };
        assert_eq!(
            provenance.chain("libz"),
            ["layer server", "package prosody", "package libssl", "package libz"]
        );
        assert_eq!(provenance.chain("stray"), ["package stray"]);
    }
}
