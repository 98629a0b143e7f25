//! Has anything changed since the last build? A build is known by the content of its inputs; its
//! outputs by their size and time, since hashing them again would take longer than it saves.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use appliance::hash::Digest;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tracing::debug;

use crate::archive::store::Store;
use crate::layer::Content;
use crate::plan::Plan;
use crate::programs::Programs;

/// The digest of everything that a build of `plan` depends on: recipe, lock, public keys,
/// layers and their files, the guest programs, and this very builder.
pub fn key(plan: &Plan, programs: &Programs) -> Result<Digest> {
    let mut files = vec![plan.file.path.clone(), plan.file.lock_path()];
    files.extend(plan.recipe().upgrade.keys.iter().map(|key| plan.file.beside(key)));
    for layer in &plan.layers {
        files.push(layer.beside(Path::new("layer.toml")));
        for file in layer.layer.files.values() {
            if let Content::From(path) = &file.content {
                files.push(layer.beside(path));
            }
        }
    }
    files.push(std::env::current_exe().context("cannot find the builder itself")?);
    let mut hash = Sha256::new();
    for path in files {
        let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        hash.update(Digest::of(&bytes).0);
    }
    for digest in programs.digests().values() {
        hash.update(digest.0);
    }
    Ok(Digest(hash.finalize().into()))
}

/// The outputs of a build.
#[derive(Debug)]
pub struct Made {
    /// See [`key`].
    pub key: Digest,
    /// What it writes.
    pub files: Vec<PathBuf>,
}

/// How an output looked when it had been written.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Seen {
    key: Digest,
    files: Vec<(PathBuf, u64, i64, i64)>,
}

impl Made {
    /// Do the outputs still stand as this key's build left them?
    pub fn is_fresh(&self, store: &Store) -> bool {
        let known = fs::read(self.note(store)).ok();
        let known = known.and_then(|bytes| serde_json::from_slice::<Seen>(&bytes).ok());
        let seen = self.seen().ok();
        debug!(?known, ?seen, "comparing with the last build");
        known.is_some() && known == seen
    }

    /// Remembers how the outputs look now.
    pub fn remember(&self, store: &Store) -> Result<()> {
        let note = self.note(store);
        if let Some(folder) = note.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(&note, serde_json::to_vec(&self.seen()?)?)
            .with_context(|| format!("cannot write {}", note.display()))
    }

    /// One note an output place: a later build of other inputs replaces it.
    fn note(&self, store: &Store) -> PathBuf {
        let places: Vec<String> =
            self.absolute().iter().map(|path| path.display().to_string()).collect();
        store.notes("builds").join(format!("{}.json", Digest::of(places.join("\n").as_bytes())))
    }

    fn seen(&self) -> Result<Seen> {
        let files = self.absolute().into_iter().map(|path| {
            let meta = fs::metadata(&path)?;
            Ok((path, meta.len(), meta.mtime(), meta.mtime_nsec()))
        });
        Ok(Seen { key: self.key, files: files.collect::<Result<_>>()? })
    }

    fn absolute(&self) -> Vec<PathBuf> {
        self.files
            .iter()
            .map(|path| std::path::absolute(path).unwrap_or_else(|_| path.clone()))
            .collect()
    }
}
