//! dm-verity: the hash tree over a file system, as Linux checks it.
//!
//! The format is the kernel's hash type 1 without a superblock: SHA-256 with a salt put before the
//! data, 4096-byte data and hash blocks. In a slot the data comes first, then the tree, **its top
//! block first**, so that the slot of a root hash is found by reading one block (see [`Geometry`]).
//! Specification: `Documentation/admin-guide/device-mapper/verity.rst` in the kernel.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::hash::{RootHash, Salt};

/// Bytes in a data block and in a hash block.
pub const BLOCK: usize = 4096;
/// Digests in one hash block.
const FAN_OUT: u64 = (BLOCK / 32) as u64;

/// What one must know beforehand to check a slot: which root it holds, and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Geometry {
    /// The hash that names the root file system.
    pub root_hash: RootHash,
    /// Put before every block that is hashed.
    pub salt: Salt,
    /// Length of the file system, in blocks of [`BLOCK`] bytes.
    pub data_blocks: u64,
}

impl Geometry {
    /// Where the tree, and so its top block, starts: bytes from the slot's start.
    pub fn tree_offset(&self) -> u64 {
        self.data_blocks * BLOCK as u64
    }

    /// Data and tree together, in bytes.
    pub fn slot_bytes(&self) -> u64 {
        (self.data_blocks + tree_blocks(self.data_blocks)) * BLOCK as u64
    }

    /// Does a slot whose block at [`Self::tree_offset`] is `top` hold this root?
    pub fn is_topped_by(&self, top: &[u8]) -> bool {
        top.len() == BLOCK && RootHash(block_hash(&self.salt, top)) == self.root_hash
    }

    /// The device-mapper table for a slot at `device`, which holds data and tree.
    ///
    /// A block that doesn't match restarts the machine: an appliance that reads what nobody
    /// signed must not go on, and a boot that fails is what the loader counts.
    pub fn table(&self, device: &str) -> String {
        format!(
            "1 {device} {device} {BLOCK} {BLOCK} {blocks} {blocks} sha256 {root} {salt} \
             2 restart_on_corruption restart_on_error",
            blocks = self.data_blocks,
            root = self.root_hash,
            salt = self.salt,
        )
    }
}

/// A file system's hash tree, top block first, and the hash of that block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree {
    /// Whole blocks, top level first, leaves last.
    pub blocks: Vec<u8>,
    /// Names the data under the tree.
    pub root_hash: RootHash,
}

/// The hash tree over `data`.
///
/// # Panics
/// When `data` is empty or not whole blocks.
pub fn tree(data: &[u8], salt: &Salt) -> Tree {
    assert!(!data.is_empty() && data.len().is_multiple_of(BLOCK), "verity hashes whole blocks");
    let mut levels = vec![level_above(data, salt)];
    while let Some(top) = levels.last()
        && top.len() > BLOCK
    {
        levels.push(level_above(top, salt));
    }
    levels.reverse();
    let root_hash = RootHash(block_hash(salt, &levels[0]));
    Tree { blocks: levels.concat(), root_hash }
}

/// How many blocks the tree over `data_blocks` blocks takes.
pub fn tree_blocks(data_blocks: u64) -> u64 {
    let mut level = data_blocks.div_ceil(FAN_OUT);
    let mut sum = level;
    while level > 1 {
        level = level.div_ceil(FAN_OUT);
        sum += level;
    }
    sum
}

/// The digests of a level's blocks, themselves packed into whole blocks.
fn level_above(level: &[u8], salt: &Salt) -> Vec<u8> {
    let mut above: Vec<u8> =
        level.chunks(BLOCK).flat_map(|block| block_hash(salt, block)).collect();
    above.resize(above.len().next_multiple_of(BLOCK), 0);
    above
}

/// What stands for a block in the level above, or names the root if the block is the top one.
pub fn block_hash(salt: &Salt, block: &[u8]) -> [u8; 32] {
    Sha256::new().chain_update(salt.0).chain_update(block).finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SALT: Salt = Salt([7; 32]);

    fn data(blocks: usize) -> Vec<u8> {
        (0..blocks * BLOCK).map(|i| (i / BLOCK + i) as u8).collect()
    }

    #[test]
    fn a_tree_has_the_size_it_is_said_to_have() {
        for (blocks, expected) in [(1, 1), (2, 1), (128, 1), (129, 3), (128 * 128, 129)] {
            assert_eq!(tree_blocks(blocks), expected, "{blocks} blocks");
            assert_eq!(
                tree(&data(blocks as usize), &SALT).blocks.len() as u64,
                expected * BLOCK as u64
            );
        }
        assert_eq!(tree_blocks(128 * 128 + 1), 129 + 2 + 1);
    }

    #[test]
    fn the_slot_of_a_root_is_known_by_its_top_block() {
        let tree = tree(&data(300), &SALT);
        let geometry = Geometry { root_hash: tree.root_hash, salt: SALT, data_blocks: 300 };
        assert!(geometry.is_topped_by(&tree.blocks[..BLOCK]));
        assert!(!geometry.is_topped_by(&tree.blocks[BLOCK..2 * BLOCK]));
        assert!(!geometry.is_topped_by(&tree.blocks[..BLOCK - 1]));
        assert_eq!(geometry.slot_bytes(), (300 + 3 + 1) * BLOCK as u64);
    }

    #[test]
    fn one_flipped_bit_gives_another_root() {
        let mut bytes = data(130);
        let before = tree(&bytes, &SALT).root_hash;
        bytes[129 * BLOCK + 5] ^= 1;
        assert_ne!(before, tree(&bytes, &SALT).root_hash);
    }
}
