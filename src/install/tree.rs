//! The hash tree over a root that is read once, from its start, in a few blocks of memory.

use appliance::hash::{RootHash, Salt};
use appliance::verity::{BLOCK, block_hash, tree_blocks};

/// Digests in a block.
const FAN_OUT: u64 = (BLOCK / 32) as u64;

/// A tree that grows, a block of data after the other.
#[derive(Debug)]
pub struct Growing {
    salt: Salt,
    /// The leaves first.
    levels: Vec<Level>,
    /// Of the top block, once it is complete.
    top: Option<[u8; 32]>,
}

#[derive(Debug)]
struct Level {
    /// Where its next block stands: blocks from the tree's start.
    next: u64,
    block: Vec<u8>,
}

/// A block of the tree, complete.
#[derive(Debug, PartialEq, Eq)]
pub struct Grown {
    /// Where it belongs: blocks from the tree's start. The top is 0.
    pub number: u64,
    /// Of [`BLOCK`] bytes.
    pub bytes: Vec<u8>,
}

impl Growing {
    /// The tree over so many blocks.
    pub fn new(data_blocks: u64, salt: Salt) -> Growing {
        let mut levels = vec![];
        let mut end = tree_blocks(data_blocks);
        let mut blocks = data_blocks;
        while levels.is_empty() || blocks > 1 {
            blocks = blocks.div_ceil(FAN_OUT);
            end -= blocks;
            levels.push(Level { next: end, block: Vec::with_capacity(BLOCK) });
        }
        Growing { salt, levels, top: None }
    }

    /// Takes the next block of data; `each` gets the blocks of the tree that it completes.
    pub fn push(&mut self, data: &[u8], each: &mut dyn FnMut(Grown)) {
        let mut hash = block_hash(&self.salt, data);
        for level in &mut self.levels {
            level.block.extend(hash);
            if level.block.len() < BLOCK {
                return;
            }
            hash = level.complete(&self.salt, each);
        }
        self.top = Some(hash);
    }

    /// All data was taken: `each` gets the blocks that aren't full, the top last. What comes back
    /// is the hash that names the root.
    pub fn finish(mut self, each: &mut dyn FnMut(Grown)) -> Option<RootHash> {
        let mut hash = None;
        for level in &mut self.levels {
            level.block.extend(hash.take().into_iter().flatten());
            if !level.block.is_empty() {
                hash = Some(level.complete(&self.salt, each));
            }
        }
        hash.or(self.top).map(RootHash)
    }
}

impl Level {
    /// Hands the block over and begins the next; its hash belongs to the level above.
    fn complete(&mut self, salt: &Salt, each: &mut dyn FnMut(Grown)) -> [u8; 32] {
        let mut bytes = std::mem::replace(&mut self.block, Vec::with_capacity(BLOCK));
        bytes.resize(BLOCK, 0);
        let hash = block_hash(salt, &bytes);
        each(Grown { number: self.next, bytes });
        self.next += 1;
        hash
    }
}

#[cfg(test)]
mod tests {
    use appliance::verity;

    use super::*;

    #[test]
    fn a_tree_grows_to_be_the_one_that_is_built_at_once() {
        let salt = Salt([7; 32]);
        for blocks in [1, 2, 127, 128, 129, 256, 128 * 128, 128 * 128 + 1] {
            let data: Vec<u8> = (0..blocks * BLOCK).map(|at| (at / BLOCK + at) as u8).collect();
            let expected = verity::tree(&data, &salt);
            let mut tree = vec![0xaa; expected.blocks.len()];
            let mut last = u64::MAX;
            let mut put = |Grown { number, bytes }| {
                tree[number as usize * BLOCK..][..BLOCK].copy_from_slice(&bytes);
                last = number;
            };
            let mut growing = Growing::new(blocks as u64, salt);
            data.chunks(BLOCK).for_each(|block| growing.push(block, &mut put));
            assert_eq!(growing.finish(&mut put), Some(expected.root_hash), "{blocks} blocks");
            assert_eq!(last, 0);
            assert!(tree == expected.blocks, "{blocks} blocks");
        }
    }
}
