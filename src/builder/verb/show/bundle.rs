//! What is in a bundle, and whether it is what it says.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use appliance::bundle::CHUNK;
use appliance::hash::{Digest, RootHash};
use serde::Serialize;
use signing::PublicKey;

use crate::inspect::bundle::Bundle;
use crate::quantity::{Name, Size, Version};
use crate::trust;

/// What is in a bundle.
#[derive(Debug, Serialize)]
pub struct BundleOutcome {
    /// What it upgrades.
    pub product: Name,
    /// To what.
    pub version: Version,
    /// Debian's name of the architecture.
    pub architecture: Name,
    /// The oldest version that it may follow.
    pub follows: Option<Version>,
    /// No version before this one is taken after it.
    pub floor: Option<Version>,
    /// The number of the format in which it keeps data.
    pub data_format: u32,
    /// Length of the file.
    pub bytes: u64,
    /// Length of its manifest.
    pub manifest_bytes: usize,
    /// Length of its UKI.
    pub uki_bytes: u64,
    /// The UKI's digest.
    pub uki_sha256: Digest,
    /// Length of its root's hash tree.
    pub tree_bytes: u64,
    /// Length of its root.
    pub root_bytes: u64,
    /// The root's name.
    pub root_hash: RootHash,
    /// How many digests cover all of it.
    pub chunks: usize,
    /// The key that is said to have signed it.
    pub key: String,
    /// The file of the trusted key that has signed it.
    pub verified_with: Option<PathBuf>,
    /// Why none of the keys that were given is taken for the one that signed it.
    pub untrusted: Option<String>,
    /// What is wrong with what the manifest describes; nothing, when all of it is as it says.
    pub fault: Option<String>,
}

impl BundleOutcome {
    /// Looks into the bundle at `path`, all of it.
    pub fn of(path: &Path, trust: &[PathBuf]) -> Result<BundleOutcome> {
        let keys: Vec<PublicKey> =
            trust.iter().map(|path| trust::read(path)).collect::<Result<_>>()?;
        let bundle = Bundle::open(path)?;
        let verdict = signing::verify(&keys, &bundle.head, &bundle.signed);
        let named = keys.iter().position(|key| key.id() == bundle.head.key);
        let fault =
            bundle.fault().with_context(|| format!("cannot look into {}", path.display()))?;
        let Bundle { head, manifest, signed, bytes, .. } = bundle;
        let root_bytes = manifest.root.tree_offset();
        Ok(BundleOutcome {
            bytes,
            manifest_bytes: signed.len(),
            uki_bytes: manifest.uki.size,
            uki_sha256: manifest.uki.sha256,
            tree_bytes: manifest.root.slot_bytes() - root_bytes,
            root_bytes,
            root_hash: manifest.root.root_hash,
            chunks: manifest.chunks.len(),
            product: manifest.product,
            version: manifest.version,
            architecture: manifest.architecture,
            follows: manifest.follows,
            floor: manifest.floor,
            data_format: manifest.data,
            key: head.key.to_string(),
            verified_with: verdict.is_ok().then(|| named.map(|at| trust[at].clone())).flatten(),
            untrusted: verdict.err().filter(|_| !keys.is_empty()).map(|why| why.to_string()),
            fault,
        })
    }

    /// What a person reads.
    pub fn print(&self) {
        println!("bundle        {} {} ({})", self.product, self.version, self.architecture);
        match &self.follows {
            Some(oldest) => println!("follows       {oldest}, or any later version"),
            None => println!("follows       any version"),
        }
        match &self.floor {
            Some(floor) => println!("floor         {floor}: nothing older is taken after it"),
            None => println!("floor         none"),
        }
        println!("data format   {}", self.data_format);
        println!(
            "size          {}: manifest {}, UKI {}, hash tree {}, root {}",
            Size(self.bytes),
            Size(self.manifest_bytes as u64),
            Size(self.uki_bytes),
            Size(self.tree_bytes),
            Size(self.root_bytes)
        );
        println!("root hash     {}", self.root_hash);
        println!("chunks        {} of {}", self.chunks, Size(CHUNK as u64));
        println!("signature     of key {}, {}", self.key, self.signature());
        match &self.fault {
            None => println!("content       verified: every byte is what the manifest says"),
            Some(fault) => println!("content       NOT SOUND: {fault}"),
        }
    }

    fn signature(&self) -> String {
        match (&self.verified_with, &self.untrusted) {
            (Some(path), _) => format!("verified with {}", path.display()),
            (None, Some(why)) => format!("NOT TRUSTED: {why}"),
            (None, None) => "not verified: --trust FILE.pub does that".to_owned(),
        }
    }

    /// Refuses what isn't what it says, or isn't signed by a key that is trusted.
    pub fn must_be_sound(&self, file: &Path) -> Result<()> {
        match self.untrusted.as_ref().or(self.fault.as_ref()) {
            Some(why) => bail!("cannot trust {}: {why}", file.display()),
            None => Ok(()),
        }
    }
}
