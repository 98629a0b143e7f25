//! `stele key`: the keys that sign bundles.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::Serialize;
use signing::SecretKey;
use zeroize::Zeroizing;

/// A new key.
#[derive(Debug, Serialize)]
pub struct Outcome {
    /// What it is called.
    pub key: String,
    /// The file that signs.
    pub secret: PathBuf,
    /// The file that recipes name.
    pub public: PathBuf,
}

/// Makes a key: `NAME.key`, its owner's alone, and `NAME.pub`. What stands there stays.
pub fn new(name: &Path) -> Result<Outcome> {
    let mut seed = Zeroizing::new([0; 32]);
    getrandom::fill(&mut *seed).context("cannot make a key: there is no randomness")?;
    let key = SecretKey::of_seed(&seed);
    let [secret, public] = [".key", ".pub"].map(|ending| {
        let mut path = name.as_os_str().to_owned();
        path.push(ending);
        PathBuf::from(path)
    });
    for path in [&secret, &public] {
        if path.symlink_metadata().is_ok() {
            bail!("cannot make {}: it is there already\nhint: another name", path.display());
        }
    }
    // The secret one first: if the power goes between the two, nobody has seen the public one yet.
    write(&secret, 0o600, key.to_file().as_bytes())?;
    write(&public, 0o644, key.public().to_file().as_bytes())?;
    Ok(Outcome { key: key.public().id().to_string(), secret, public })
}

impl Outcome {
    /// What a person reads.
    pub fn print(&self) {
        println!("key {}", self.key);
        println!("  {}  signs bundles: keep it secret, and keep it", self.secret.display());
        println!("  {}  for `keys` under [upgrade] in recipes", self.public.display());
    }
}

/// A new file, whole or not at all.
fn write(path: &Path, mode: u32, bytes: &[u8]) -> Result<()> {
    let context = || format!("cannot make {}", path.display());
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let mut file = tempfile::Builder::new()
        .permissions(PermissionsExt::from_mode(mode))
        .tempfile_in(folder.unwrap_or(Path::new(".")))
        .with_context(context)?;
    file.write_all(bytes).and_then(|()| file.as_file().sync_all()).with_context(context)?;
    file.persist_noclobber(path).map_err(|error| error.error).with_context(context)?;
    Ok(())
}
