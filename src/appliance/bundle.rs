//! Bundles: one signed file that upgrades an appliance.
//!
//! ```text
//! MAGIC │ length of the manifest │ key id │ signature │ manifest │ UKI │ hash tree │ root
//!   8            4 (LE)              8         64        JSON     ╰── chunks of 1 MiB ──╯
//! ```
//!
//! The manifest comes first and is signed, so whoever takes a bundle as a stream knows who made it
//! and what comes before the first byte of that comes, and checks each chunk before it is used.
//! Nothing here signs or verifies: only who must knows of Ed25519.

use std::fmt;
use std::ops::Range;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::hash::Digest;
use crate::name::Name;
use crate::verity::{BLOCK, Geometry};
use crate::version::Version;

/// How a bundle begins. The end of a line and of a text in it don't survive being taken for text.
pub const MAGIC: [u8; 8] = *b"STELE\r\n\x1a";
/// What is understood here.
pub const FORMAT: u32 = 1;
/// Bytes of a chunk; the last one may be shorter.
pub const CHUNK: usize = 1 << 20;
/// The most bytes of a manifest: enough for the digests of 15 GiB.
pub const LONGEST_MANIFEST: usize = 1 << 20;
/// What is signed begins so: a signature over a bundle is one over nothing else.
const DOMAIN: &[u8] = b"stele bundle 1\n";
/// No UKI or root is larger, so that no sum of sizes overflows.
const MOST_BYTES: u64 = 1 << 40;

/// What a bundle isn't.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It begins otherwise.
    #[error("it doesn't begin as a bundle does")]
    NotABundle,
    /// Of a length that none has.
    #[error("a manifest of {0} bytes, where one has 1 to {LONGEST_MANIFEST}")]
    Length(usize),
    /// A newer one, or none at all.
    #[error("it is of format {0}; format {FORMAT} is known here")]
    Format(u64),
    /// Not what was written.
    #[error("its manifest can't be understood: {0}")]
    Json(String),
    /// It says the right things in another way than the one.
    #[error("its manifest isn't written the way manifests are")]
    NotCanonical,
    /// No UKI, or no root, has this size.
    #[error("a {0} of {1} {2}")]
    Size(&'static str, u64, &'static str),
    /// Too few digests, or too many.
    #[error("{found} digests of chunks, where {expected} are needed")]
    Chunks {
        /// What there are.
        found: u64,
        /// What the sizes ask for.
        expected: u64,
    },
    /// It couldn't follow itself.
    #[error("version {version} has a `{bound}` of {limit}, which is newer")]
    Newer {
        /// What it is.
        version: Version,
        /// Which of the bounds.
        bound: &'static str,
        /// What that says.
        limit: Version,
    },
}

/// What a key is called: the first eight bytes of the SHA-256 of the public key, written as 16
/// hexadecimal digits. It finds a key; it proves nothing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(pub [u8; 8]);

impl KeyId {
    /// The one of this Ed25519 public key.
    pub fn of(public: &[u8; 32]) -> KeyId {
        let mut id = [0; 8];
        id.copy_from_slice(&Digest::of(public).0[..8]);
        KeyId(id)
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({self})")
    }
}

/// What stands before the manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Bytes of the manifest: 1 to [`LONGEST_MANIFEST`].
    pub manifest_length: usize,
    /// Which key is said to have signed.
    pub key: KeyId,
    /// Over [`message`].
    pub signature: [u8; 64],
}

impl Head {
    /// Its length.
    pub const BYTES: usize = 84;

    /// Reads what a bundle begins with.
    pub fn parse(bytes: &[u8; Head::BYTES]) -> Result<Head, Error> {
        if !bytes.starts_with(&MAGIC) {
            return Err(Error::NotABundle);
        }
        let (mut length, mut key, mut signature) = ([0; 4], [0; 8], [0; 64]);
        length.copy_from_slice(&bytes[8..12]);
        key.copy_from_slice(&bytes[12..20]);
        signature.copy_from_slice(&bytes[20..]);
        let manifest_length = u32::from_le_bytes(length) as usize;
        check_length(manifest_length)?;
        Ok(Head { manifest_length, key: KeyId(key), signature })
    }

    /// What [`Self::parse`] reads.
    pub fn to_bytes(&self) -> [u8; Head::BYTES] {
        let mut bytes = [0; Head::BYTES];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&(self.manifest_length as u32).to_le_bytes());
        bytes[12..20].copy_from_slice(&self.key.0);
        bytes[20..].copy_from_slice(&self.signature);
        bytes
    }
}

fn check_length(length: usize) -> Result<(), Error> {
    match (1..=LONGEST_MANIFEST).contains(&length) {
        true => Ok(()),
        false => Err(Error::Length(length)),
    }
}

/// What is signed, of the manifest's bytes.
pub fn message(manifest: &[u8]) -> Vec<u8> {
    [DOMAIN, manifest].concat()
}

/// What a bundle holds. Written in one way only: compact JSON, the fields in this order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`FORMAT`].
    pub format: u32,
    /// The recipe's name: it upgrades no other.
    pub product: Name,
    /// The recipe's version.
    pub version: Version,
    /// The architecture, as Debian calls it.
    pub architecture: Name,
    /// The oldest version that it may follow; none: any.
    pub follows: Option<Version>,
    /// Once it has proved itself, no version before this one is taken; none: any is.
    pub floor: Option<Version>,
    /// The number of the format in which it keeps data.
    pub data: u32,
    /// Kernel, initrd and command line.
    pub uki: Part,
    /// The root, and so its hash tree.
    pub root: Geometry,
    /// Of the UKI, hash tree and root behind one another, [`CHUNK`] bytes each.
    pub chunks: Vec<Digest>,
}

/// A run of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// Its length.
    pub size: u64,
    /// Its SHA-256.
    pub sha256: Digest,
}

/// Which part of a bundle a byte belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The UKI.
    Uki,
    /// The root's hash tree, its top block first.
    Tree,
    /// The root.
    Root,
}

/// A piece of a chunk that lies in one part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Which part.
    pub kind: Kind,
    /// Where in that part it begins.
    pub offset: u64,
    /// Which bytes of the chunk it is.
    pub bytes: Range<usize>,
}

impl Manifest {
    /// Reads a manifest. What comes back is a possible one: sizes are bounded and whole, there are
    /// as many chunks as they ask for, and it would be written with the very same bytes.
    pub fn parse(bytes: &[u8]) -> Result<Manifest, Error> {
        check_length(bytes.len())?;
        let json = |error: serde_json::Error| Error::Json(error.to_string());
        let Format { format } = serde_json::from_slice(bytes).map_err(json)?;
        if format != u64::from(FORMAT) {
            return Err(Error::Format(format));
        }
        let manifest: Manifest = serde_json::from_slice(bytes).map_err(json)?;
        match manifest.to_bytes()? == bytes {
            true => Ok(manifest),
            false => Err(Error::NotCanonical),
        }
    }

    /// What [`Self::parse`] reads; an impossible one isn't written.
    pub fn to_bytes(&self) -> Result<Vec<u8>, Error> {
        self.check()?;
        let bytes = serde_json::to_vec(self).map_err(|error| Error::Json(error.to_string()))?;
        check_length(bytes.len())?;
        Ok(bytes)
    }

    /// Bytes of UKI, hash tree and root.
    pub fn payload(&self) -> u64 {
        self.uki.size + self.root.slot_bytes()
    }

    /// Bytes of the whole bundle with a manifest of `length` bytes.
    pub fn total(&self, length: usize) -> u64 {
        Head::BYTES as u64 + length as u64 + self.payload()
    }

    /// Each chunk's digest, and the pieces that it has. Sizes are those of a possible manifest.
    pub fn chunks(&self) -> impl Iterator<Item = (Digest, Vec<Piece>)> {
        (0..).map_while(|number| self.chunk(number))
    }

    /// The chunk of this number.
    pub fn chunk(&self, number: usize) -> Option<(Digest, Vec<Piece>)> {
        let digest = self.chunks.get(number)?;
        Some((*digest, self.pieces(number as u64 * CHUNK as u64)))
    }

    /// The pieces of the chunk that starts at this byte of the payload.
    fn pieces(&self, start: u64) -> Vec<Piece> {
        let end = (start + CHUNK as u64).min(self.payload());
        let tree = self.uki.size;
        let root = tree + self.root.slot_bytes() - self.root.tree_offset();
        let parts =
            [(Kind::Uki, 0..tree), (Kind::Tree, tree..root), (Kind::Root, root..self.payload())];
        let piece = |(kind, part): (Kind, Range<u64>)| {
            let (from, to) = (part.start.max(start), part.end.min(end));
            let bytes = from.checked_sub(start)? as usize..to.checked_sub(start)? as usize;
            (from < to).then_some(Piece { kind, offset: from - part.start, bytes })
        };
        parts.into_iter().filter_map(piece).collect()
    }

    fn check(&self) -> Result<(), Error> {
        if self.format != FORMAT {
            return Err(Error::Format(self.format.into()));
        }
        if !(1..=MOST_BYTES).contains(&self.uki.size) {
            return Err(Error::Size("UKI", self.uki.size, "bytes"));
        }
        if !(1..=MOST_BYTES / BLOCK as u64).contains(&self.root.data_blocks) {
            return Err(Error::Size("root", self.root.data_blocks, "blocks"));
        }
        let (found, expected) = (self.chunks.len() as u64, self.payload().div_ceil(CHUNK as u64));
        if found != expected {
            return Err(Error::Chunks { found, expected });
        }
        for (bound, limit) in [("follows", &self.follows), ("floor", &self.floor)] {
            if let Some(limit) = limit
                && *limit > self.version
            {
                let (version, limit) = (self.version.clone(), limit.clone());
                return Err(Error::Newer { version, bound, limit });
            }
        }
        Ok(())
    }
}

/// All that is read of a manifest of another format.
#[derive(Deserialize)]
struct Format {
    format: u64,
}

/// The digests of the chunks of these parts behind one another.
pub fn digests(parts: [&[u8]; 3]) -> Vec<Digest> {
    let mut digests = Vec::new();
    let (mut hash, mut room) = (Sha256::new(), CHUNK);
    for mut part in parts {
        while !part.is_empty() {
            let (now, rest) = part.split_at(room.min(part.len()));
            hash.update(now);
            (part, room) = (rest, room - now.len());
            if room == 0 {
                digests.push(Digest(hash.finalize_reset().into()));
                room = CHUNK;
            }
        }
    }
    if room < CHUNK {
        digests.push(Digest(hash.finalize().into()));
    }
    digests
}

#[cfg(test)]
mod tests;
