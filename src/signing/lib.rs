//! Ed25519 keys and the signatures of bundles, for who makes them and for who takes them.
//!
//! A crate of its own, so that what must not know of keys (`stele-init`) doesn't.

#![forbid(unsafe_code)]

mod file;

use std::fmt;
use std::str::FromStr;

use appliance::bundle::{Head, KeyId, message};
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use zeroize::Zeroizing;

pub use file::{read_public, read_secret};

/// What is wrong with a key.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Its file can't be read.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// Group or others may do something with a secret key's file.
    #[error("others than its owner may use it (mode {0:04o})\nhint: chmod 600 makes it private")]
    Exposed(u32),
    /// It isn't what [`PublicKey::to_file`] writes.
    #[error("it is no public key of Stele's\nhint: `stele key new NAME` makes NAME.pub")]
    NoPublicKey,
    /// It isn't what [`SecretKey::to_file`] writes.
    #[error("it is no secret key of Stele's\nhint: `stele key new NAME` makes NAME.key")]
    NoSecretKey,
    /// A secret key where a public one is wanted: it would have been shipped.
    #[error("it is a secret key, where a public one is wanted\nhint: name the .pub beside it")]
    Secret,
    /// A public key where a secret one is wanted.
    #[error("it is a public key, where a secret one is wanted\nhint: name the .key beside it")]
    Public,
    /// One for which anybody can make signatures, or no point of the curve at all.
    #[error("it is a public key that nobody can have made")]
    Weak,
}

/// Why a bundle isn't believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Untrusted {
    /// None of the keys is the one that it names.
    #[error("it is signed by key {0}, which is not one that is believed")]
    UnknownKey(KeyId),
    /// The key is known; the signature isn't its own.
    #[error("its signature is not one of key {0} over this manifest")]
    Signature(KeyId),
}

/// Verifies bundles.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey(VerifyingKey);

impl PublicKey {
    /// What it is called.
    pub fn id(&self) -> KeyId {
        KeyId::of(self.0.as_bytes())
    }

    /// Is this its own signature? Strictly: neither the key nor the signature has another form that
    /// would do as well (RFC 8032, and no points of small order).
    fn verifies(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        self.0.verify_strict(message, &Signature::from_bytes(signature)).is_ok()
    }
}

/// 64 hexadecimal digits.
impl FromStr for PublicKey {
    type Err = Error;

    fn from_str(text: &str) -> Result<PublicKey, Error> {
        let bytes = file::from_hex(text).ok_or(Error::NoPublicKey)?;
        let key = VerifyingKey::from_bytes(&bytes).map_err(|_| Error::Weak)?;
        match key.is_weak() {
            true => Err(Error::Weak),
            false => Ok(PublicKey(key)),
        }
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_bytes().iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

/// Signs bundles. Its memory is wiped when it is dropped, and it shows nowhere.
pub struct SecretKey(SigningKey);

impl SecretKey {
    /// The key of 32 bytes that nobody else knows.
    pub fn of_seed(seed: &Zeroizing<[u8; 32]>) -> SecretKey {
        SecretKey(SigningKey::from_bytes(seed))
    }

    /// What others verify with.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key())
    }

    /// What stands before these bytes of a manifest in a bundle. The same bytes get the same.
    pub fn sign(&self, manifest: &[u8]) -> Head {
        Head {
            manifest_length: manifest.len(),
            key: self.public().id(),
            signature: self.0.sign(&message(manifest)).to_bytes(),
        }
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey({})", self.public().id())
    }
}

/// Was the manifest signed by one of the keys? Then it was meant; if it makes sense is another
/// question.
pub fn verify(keys: &[PublicKey], head: &Head, manifest: &[u8]) -> Result<(), Untrusted> {
    let mut named = keys.iter().filter(|key| key.id() == head.key).peekable();
    if named.peek().is_none() {
        return Err(Untrusted::UnknownKey(head.key));
    }
    let message = message(manifest);
    match named.any(|key| key.verifies(&message, &head.signature)) {
        true => Ok(()),
        false => Err(Untrusted::Signature(head.key)),
    }
}

#[cfg(test)]
mod tests;
