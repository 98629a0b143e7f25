//! Keys as files: comments, and one line that says what it holds.
//!
//! ```text
//! # Stele: public key 6a2c…
//! stele-public-ed25519 3b6a27bc…
//! ```

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use zeroize::Zeroizing;

use crate::{Error, PublicKey, SecretKey};

/// What stands before a public key.
const PUBLIC: &str = "stele-public-ed25519";
/// What stands before a secret one.
const SECRET: &str = "stele-secret-ed25519";
/// No key's file is longer, in bytes.
const LONGEST: usize = 4096;
/// What group and others may do with a file.
const NOT_OWNER: u32 = 0o077;

/// Reads a public key's file.
pub fn read_public(path: &Path) -> Result<PublicKey, Error> {
    match line(&text(File::open(path)?, Error::NoPublicKey)?) {
        Some((PUBLIC, hex)) => hex.parse(),
        Some((SECRET, _)) => Err(Error::Secret),
        _ => Err(Error::NoPublicKey),
    }
}

/// Reads a secret key's file, which must be its owner's alone.
pub fn read_secret(path: &Path) -> Result<SecretKey, Error> {
    let file = File::open(path)?;
    let mode = file.metadata()?.mode() & 0o7777;
    match line(&text(file, Error::NoSecretKey)?) {
        Some((SECRET, _)) if mode & NOT_OWNER != 0 => Err(Error::Exposed(mode)),
        Some((SECRET, hex)) => {
            from_hex(hex).map(|seed| SecretKey::of_seed(&seed)).ok_or(Error::NoSecretKey)
        }
        Some((PUBLIC, _)) => Err(Error::Public),
        _ => Err(Error::NoSecretKey),
    }
}

impl PublicKey {
    /// What [`read_public`] reads.
    pub fn to_file(&self) -> String {
        format!(
            "# Stele: public key {}. Recipes name it under [upgrade]; bundles are verified with it.\n\
             {PUBLIC} {self}\n",
            self.id()
        )
    }
}

impl SecretKey {
    /// What [`read_secret`] reads.
    pub fn to_file(&self) -> Zeroizing<String> {
        let seed = Zeroizing::new(self.0.to_bytes());
        // All of it is allocated at once: text that is moved would leave a copy behind.
        let mut text = Zeroizing::new(String::with_capacity(LONGEST));
        text.push_str(&format!(
            "# Stele: secret key {}. Who has it can replace whole systems: keep it to yourself.\n\
             {SECRET} ",
            self.public().id()
        ));
        for byte in seed.iter() {
            let digit = |value: u8| char::from_digit(value.into(), 16).unwrap_or_default();
            text.extend([digit(byte >> 4), digit(byte & 0xf)]);
        }
        text.push('\n');
        text
    }
}

/// A whole file that is text and no longer than keys are.
fn text(file: File, no_key: Error) -> Result<Zeroizing<String>, Error> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(LONGEST + 1));
    file.take(LONGEST as u64 + 1).read_to_end(&mut bytes)?;
    match str::from_utf8(&bytes) {
        Ok(text) if text.len() <= LONGEST => Ok(Zeroizing::new(text.to_owned())),
        _ => Err(no_key),
    }
}

/// The one line that is neither empty nor a comment: its first word, and the rest.
fn line(text: &str) -> Option<(&str, &str)> {
    let mut lines =
        text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let line = lines.next().filter(|_| lines.next().is_none())?;
    line.split_once(' ').map(|(word, rest)| (word, rest.trim_start()))
}

/// 64 hexadecimal digits.
pub(crate) fn from_hex(text: &str) -> Option<Zeroizing<[u8; 32]>> {
    let mut bytes = Zeroizing::new([0; 32]);
    if text.len() != 2 * bytes.len() {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
        let digit = |digit: u8| char::from(digit).to_digit(16);
        *byte = (digit(pair[0])? << 4 | digit(pair[1])?) as u8;
    }
    Some(bytes)
}
