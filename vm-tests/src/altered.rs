//! Bundles with something wrong in them, though rightly signed: a release taken apart, changed, and
//! put together again. What is changed so costs no build.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use appliance::boot::{INITRD_FILE, Initrd};
use appliance::bundle::{Head, Kind, Manifest, Part, digests};
use appliance::hash::{Digest, Salt};
use appliance::verity::{self, BLOCK, Geometry};

use crate::cpio::Archive;
use crate::releases::{self, Release};
use crate::scratch;
use crate::uki::{section, with_initrd};

/// Weak and fast.
const LEVEL: i32 = 3;

/// What a Pod may be upgraded by.
#[derive(Debug, Clone)]
pub struct Bundle {
    /// The file.
    pub path: PathBuf,
    /// Which root is in it.
    pub root_hash: String,
}

impl Bundle {
    /// The release, as it is.
    pub fn of(release: &Release) -> Bundle {
        Bundle { path: release.bundle.clone(), root_hash: release.root_hash().to_owned() }
    }

    /// The release as this version and with another salt (so with a root hash that nobody has judged
    /// yet), changed.
    #[track_caller]
    pub fn altered(release: &Release, version: &str, changes: &Changes) -> Bundle {
        let made = altered(release, version, changes);
        made.unwrap_or_else(|error| panic!("cannot make the bundle {version}: {error:#}"))
    }
}

/// What is another in a bundle; in this order.
#[derive(Debug, Clone, Copy)]
pub struct Changes {
    /// The root, whose hash tree follows from it.
    pub root: fn(&mut Vec<u8>),
    /// What the initrd is told: of what is in the slot, it is the truth.
    pub pin: fn(&mut Initrd),
    /// The initrd.
    pub initrd: fn(&mut Archive) -> Result<()>,
    /// The UKI.
    pub uki: fn(&mut Vec<u8>),
}

impl Changes {
    /// Nothing is another.
    pub const NONE: Changes =
        Changes { root: |_| {}, pin: |_| {}, initrd: |_| Ok(()), uki: |_| {} };
}

/// A bundle's UKI and root.
fn parts(bundle: &Path) -> Result<(Manifest, Vec<u8>, Vec<u8>)> {
    let bytes = fs::read(bundle)?;
    let (head, rest) = bytes.split_first_chunk::<{ Head::BYTES }>().context("it has no head")?;
    let (manifest, payload) = rest.split_at(Head::parse(head)?.manifest_length);
    let manifest = Manifest::parse(manifest)?;
    let (mut uki, mut root, mut at) = (vec![], vec![], 0);
    for piece in manifest.chunks().flat_map(|(_, pieces)| pieces) {
        let bytes = payload.get(at..at + piece.bytes.len()).context("it is cut short")?;
        at += bytes.len();
        match piece.kind {
            Kind::Uki => uki.extend(bytes),
            Kind::Tree => {}
            Kind::Root => root.extend(bytes),
        }
    }
    Ok((manifest, uki, root))
}

fn altered(release: &Release, version: &str, changes: &Changes) -> Result<Bundle> {
    let (old, uki, mut root) = parts(&release.bundle)?;
    (changes.root)(&mut root);
    let salt = Salt(Digest::of(version.as_bytes()).0);
    let tree = verity::tree(&root, &salt);
    let data_blocks = (root.len() / BLOCK) as u64;
    let geometry = Geometry { root_hash: tree.root_hash, salt, data_blocks };
    let initrd = section(&uki, ".initrd").context("its UKI has no initrd")?;
    let mut archive = Archive::parse(&zstd::decode_all(initrd)?)?;
    let told = archive.file(INITRD_FILE.trim_start_matches('/'))?;
    let mut pin = Initrd { root: geometry.clone(), ..serde_json::from_slice(told)? };
    (changes.pin)(&mut pin);
    *told = serde_json::to_vec(&pin)?;
    (changes.initrd)(&mut archive)?;
    let initrd = zstd::encode_all(archive.to_bytes().as_slice(), LEVEL)?;
    let mut uki = with_initrd(&uki, &initrd)?;
    (changes.uki)(&mut uki);
    let manifest = Manifest {
        version: version.to_owned().try_into()?,
        uki: Part { size: uki.len() as u64, sha256: Digest::of(&uki) },
        root: geometry,
        chunks: digests([&uki, &tree.blocks, &root]),
        ..old
    };
    let signed = manifest.to_bytes()?;
    let head = signing::read_secret(&releases::key()?.with_extension("key"))?.sign(&signed);
    let path = scratch::folder("vm-images/altered")?.join(format!("{version}.bundle"));
    fs::write(&path, [&head.to_bytes()[..], &signed, &uki, &tree.blocks, &root].concat())?;
    Ok(Bundle { path, root_hash: manifest.root.root_hash.to_string() })
}
