//! A bundle, and the machine that it is for.

use appliance::bundle::{CHUNK, FORMAT, Manifest, Part};
use appliance::esp::testing;
use appliance::hash::{Digest, RootHash, Salt};
use appliance::upgrade::{Order, Side, Space, Trust};
use appliance::verity::{self, BLOCK, Geometry};
use signing::SecretKey;
use zeroize::Zeroizing;

/// Clusters in a run.
pub const CLUSTERS: u32 = 400;
/// Bytes of a slot.
pub const SLOT: usize = 5 << 20;
const BLOCKS: usize = 1000;

/// All that is needed to install it.
pub struct Sample {
    pub order: Order,
    pub old_uki: Vec<u8>,
    pub uki: Vec<u8>,
    pub root: Vec<u8>,
    pub geometry: Geometry,
    pub manifest: Manifest,
    pub bundle: Vec<u8>,
}

pub fn key(seed: u8) -> SecretKey {
    SecretKey::of_seed(&Zeroizing::new([seed; 32]))
}

fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut bytes = vec![0; length];
    random.fill(&mut bytes);
    bytes
}

impl Sample {
    /// Of a UKI that doesn't end at a sector's end.
    pub fn new() -> Sample {
        Sample::of(noise(1, 1_500_123), noise(2, BLOCKS * BLOCK))
    }

    pub fn of(uki: Vec<u8>, root: Vec<u8>) -> Sample {
        let salt = Salt([3; 32]);
        let tree = verity::tree(&root, &salt);
        let data_blocks = (root.len() / BLOCK) as u64;
        let geometry = Geometry { root_hash: tree.root_hash, salt, data_blocks };
        let payload = [&uki[..], &tree.blocks, &root].concat();
        let manifest = Manifest {
            format: FORMAT,
            product: String::from("pod").try_into().unwrap(),
            version: version("2.0.0"),
            architecture: String::from("amd64").try_into().unwrap(),
            follows: Some(version("1.0.0")),
            floor: None,
            data: 1,
            uki: Part { size: uki.len() as u64, sha256: Digest::of(&uki) },
            root: geometry.clone(),
            chunks: payload.chunks(CHUNK).map(Digest::of).collect(),
        };
        let bundle = sealed(&manifest.to_bytes().unwrap(), &payload);
        let old_uki = noise(4, 900_000);
        Sample { order: order(), old_uki, uki, root, geometry, manifest, bundle }
    }

    /// The machine's ESP.
    pub fn esp(&self) -> Vec<u8> {
        testing::image(&self.old_uki, CLUSTERS)
    }

    /// The bundle with another manifest, signed as well.
    pub fn with(&self, change: impl FnOnce(&mut Manifest)) -> Vec<u8> {
        let mut manifest = self.manifest.clone();
        change(&mut manifest);
        self.with_text(&manifest.to_bytes().unwrap())
    }

    /// One byte of the payload is another.
    pub fn damage(&mut self, at: usize) {
        let payload = self.bundle.len() - self.manifest.payload() as usize;
        self.bundle[payload + at] ^= 1;
    }

    /// The bundle with another text for a manifest, signed as well.
    pub fn with_text(&self, manifest: &[u8]) -> Vec<u8> {
        let payload = self.bundle.len() - self.manifest.payload() as usize;
        sealed(manifest, &self.bundle[payload..])
    }
}

pub fn version(text: &str) -> appliance::version::Version {
    text.to_owned().try_into().unwrap()
}

fn sealed(manifest: &[u8], payload: &[u8]) -> Vec<u8> {
    [&key(1).sign(manifest).to_bytes()[..], manifest, payload].concat()
}

fn order() -> Order {
    let keys = vec![key(9).public().to_string(), key(1).public().to_string()];
    let (product, architecture) = ("pod".into(), "amd64".into());
    Order {
        side: Side::B,
        announced: None,
        trust: Trust { product, architecture, keys, floor: None },
        version: "1.0.0".into(),
        running: Geometry { root_hash: RootHash([1; 32]), salt: Salt([1; 32]), data_blocks: 100 },
        floor: None,
        bad: vec![RootHash([2; 32])],
        data_format: 1,
        space: Space { free: 1000, needed: 1000 },
    }
}
