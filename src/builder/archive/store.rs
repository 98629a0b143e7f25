//! The store: every byte once fetched, under its digest, outside the checkout.

use std::env;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use appliance::hash::Digest;

/// A folder of files that are named by what is in them.
#[derive(Debug, Clone)]
pub struct Store {
    folder: PathBuf,
}

impl Store {
    /// The store at `folder`, else at `$XDG_CACHE_HOME/stele`, else at `~/.cache/stele`.
    pub fn open(folder: Option<&Path>) -> Result<Store> {
        let folder = match folder {
            Some(folder) => folder.to_owned(),
            None => cache_home()
                .context(
                    "cannot find a place for the store: HOME is not set\nhint: say --store DIR",
                )?
                .join("stele"),
        };
        fs::create_dir_all(&folder)
            .with_context(|| format!("cannot make store {}", folder.display()))?;
        Ok(Store { folder })
    }

    /// Where what isn't named by its content may be kept: build keys, probe verdicts.
    pub fn notes(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Is the file there?
    pub fn has(&self, digest: &Digest) -> bool {
        self.path(digest).is_file()
    }

    /// The file's bytes, checked again: a disk may have lost some.
    pub fn read(&self, digest: &Digest) -> Result<Vec<u8>> {
        let path = self.path(digest);
        let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        if Digest::of(&bytes) != *digest {
            bail!(
                "cannot use {}: its content has changed\nhint: remove it and lock or build again",
                path.display()
            );
        }
        Ok(bytes)
    }

    /// A file to be filled and then [kept](Store::keep), on the same file system as the store.
    pub fn new_file(&self) -> io::Result<tempfile::NamedTempFile> {
        tempfile::Builder::new()
            .prefix("partial-")
            .permissions(PermissionsExt::from_mode(0o644))
            .tempfile_in(&self.folder)
    }

    /// Takes a filled file over; the caller has hashed what went into it.
    pub fn keep(&self, file: tempfile::NamedTempFile, digest: &Digest) -> Result<()> {
        let path = self.path(digest);
        let context = || format!("cannot keep {}", path.display());
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).with_context(context)?;
        }
        file.persist(&path).map_err(|error| error.error).with_context(context)?;
        Ok(())
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        let name = digest.to_string();
        self.folder.join("sha256").join(&name[..2]).join(name)
    }
}

fn cache_home() -> Option<PathBuf> {
    let set = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("XDG_CACHE_HOME").or_else(|| set("HOME").map(|home| home.join(".cache")))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn what_is_put_in_comes_out_and_damage_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(Some(folder.path())).unwrap();
        let digest = Digest::of(b"bytes");
        let mut file = store.new_file().unwrap();
        file.write_all(b"bytes").unwrap();
        store.keep(file, &digest).unwrap();
        assert!(store.has(&digest) && !store.has(&Digest::of(b"other")));
        assert_eq!(store.read(&digest).unwrap(), b"bytes");
        fs::write(store.path(&digest), b"bites").unwrap();
        assert!(store.read(&digest).unwrap_err().to_string().contains("has changed"));
    }
}
