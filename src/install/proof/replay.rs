//! The power goes at any moment: of what wasn't flushed, any part may have been kept. An oracle
//! that shares nothing with the installer says what boots then.

use appliance::esp::testing;
use sha2::{Digest as _, Sha256};

use super::*;

/// Subsets of unflushed writes that are tried at each moment, if there are more.
const MOST_SUBSETS: usize = 256;
/// Ways to tear a write that are tried.
const MOST_TORN: usize = 100;

/// What boots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Boots {
    Old,
    New,
    Broken,
}

/// What a disk has kept, and what it may still forget.
struct Disk<'a> {
    sample: &'a Sample,
    esp: Vec<u8>,
    slot: Vec<u8>,
    pending: Vec<Op>,
    states: usize,
    seen: Vec<Boots>,
}

impl<'a> Disk<'a> {
    fn new(sample: &'a Sample) -> Disk<'a> {
        let (esp, slot) = (sample.esp(), vec![0xaa; SLOT]);
        Disk { sample, esp, slot, pending: vec![], states: 0, seen: vec![] }
    }

    /// What boots, at the worst, if the power goes anywhere in this log.
    fn replay(mut self, log: &[Op]) -> (usize, Vec<Boots>) {
        let mut random = fastrand::Rng::with_seed(6);
        self.look();
        for op in log {
            match op {
                Op::Write { .. } => {
                    self.pending.push(op.clone());
                    self.try_subsets(&mut random);
                    self.try_torn(&mut random);
                }
                Op::Flush(flushed) => self.settle(*flushed),
            }
        }
        (self.states, self.seen)
    }

    fn settle(&mut self, flushed: Place) {
        let is_of = |op: &Op| matches!(op, Op::Write { place, .. } if *place == flushed);
        let (kept, pending) = self.pending.drain(..).partition(|op| is_of(op));
        self.pending = pending;
        let kept: Vec<Op> = kept;
        kept.iter().for_each(|op| drop(self.apply(op)));
        self.look();
    }

    fn try_subsets(&mut self, random: &mut fastrand::Rng) {
        let count = self.pending.len();
        let all = 1u64 << count.min(63);
        let chosen: Vec<u64> = match all as usize <= MOST_SUBSETS {
            true => (0..all).collect(),
            false => {
                let singles = (0..count).flat_map(|bit| [1 << bit, (all - 1) ^ 1 << bit]);
                let some = (0..MOST_SUBSETS).map(|_| random.u64(0..all));
                [0, all - 1].into_iter().chain(singles).chain(some).collect()
            }
        };
        for subset in chosen {
            let ops: Vec<Op> = (0..count)
                .filter(|bit| subset >> bit & 1 == 1)
                .map(|bit| self.pending[bit].clone())
                .collect();
            self.try_with(&ops);
        }
    }

    /// The last write from some sector to some other, and any of those before; a sector itself is
    /// whole.
    fn try_torn(&mut self, random: &mut fastrand::Rng) {
        let Some((Op::Write { place, offset, bytes }, before)) = self.pending.split_last() else {
            return;
        };
        let sectors = bytes.len() / SECTOR;
        let torn = (0..(sectors * sectors).min(MOST_TORN)).map(|_| {
            let end = random.usize(..=sectors);
            let (start, end) = (random.usize(..=end) * SECTOR, end * SECTOR);
            let (offset, bytes) = (offset + start as u64, bytes[start..end].to_vec());
            let kept = before.iter().filter(|_| random.bool()).cloned();
            kept.chain([Op::Write { place: *place, offset, bytes }]).collect()
        });
        let torn: Vec<Vec<Op>> = torn.collect();
        torn.iter().for_each(|ops| self.try_with(ops));
    }

    fn try_with(&mut self, ops: &[Op]) {
        let undo: Vec<Op> = ops.iter().map(|op| self.apply(op)).collect();
        self.look();
        undo.iter().rev().for_each(|op| drop(self.apply(op)));
    }

    /// Returns what undoes it.
    fn apply(&mut self, op: &Op) -> Op {
        let Op::Write { place, offset, bytes } = op else { return op.clone() };
        let disk = if *place == Place::Esp { &mut self.esp } else { &mut self.slot };
        let there = &mut disk[*offset as usize..][..bytes.len()];
        let before = there.to_vec();
        there.copy_from_slice(bytes);
        Op::Write { place: *place, offset: *offset, bytes: before }
    }

    fn look(&mut self) {
        self.states += 1;
        let found = self.boots();
        if !self.seen.contains(&found) {
            self.seen.push(found);
        }
    }

    /// The loader's choice, and whether all of that system is there.
    fn boots(&self) -> Boots {
        let sector = &self.esp[testing::directory()..][..SECTOR];
        let mut listed: Vec<(bool, u32, bool, usize)> = vec![];
        for slot in 2..16 {
            let entry = &sector[slot * 32..][..32];
            if entry[0] == 0 {
                break;
            }
            if entry[0] == 0xe5 || entry[11] == 0x0f {
                continue;
            }
            let name = name(sector, slot);
            let cluster = usize::from(entry[26]) + 256 * usize::from(entry[27]);
            if let Some(stem) = name.to_lowercase().strip_suffix(".efi") {
                let (id, tries) = stem.split_once('+').map_or((stem, None), |(a, b)| (a, Some(b)));
                let number = id.trim_start_matches('p').parse().unwrap_or(u32::MAX);
                let is_bad = tries.is_some_and(|tries| tries.starts_with("0-"));
                listed.push((!is_bad, number, tries.is_some(), cluster));
            }
        }
        listed.sort();
        let good = (true, 1, false, testing::FIRST as usize);
        let Some(&(_, _, counted, cluster)) = listed.last() else { return Boots::Broken };
        if !listed.contains(&good) {
            return Boots::Broken;
        }
        let is_old = cluster == testing::FIRST as usize;
        match (is_old, counted) {
            (true, _) if self.has_old() => Boots::Old,
            (false, true) if self.has_new() => Boots::New,
            _ => Boots::Broken,
        }
    }

    fn has_old(&self) -> bool {
        self.esp[testing::run(Side::A, CLUSTERS)..].starts_with(&self.sample.old_uki)
    }

    fn has_new(&self) -> bool {
        let Sample { manifest, geometry, .. } = self.sample;
        let uki = &self.esp[testing::run(Side::B, CLUSTERS)..][..manifest.uki.size as usize];
        if Sha256::digest(uki)[..] != manifest.uki.sha256.0 {
            return false;
        }
        let (root, rest) = self.slot.split_at(geometry.tree_offset() as usize);
        let tree = verity::tree(root, &geometry.salt);
        tree.root_hash == geometry.root_hash && rest.starts_with(&tree.blocks)
    }
}

/// A file's name: the long one, if its checksum is that of the short one.
fn name(sector: &[u8], slot: usize) -> String {
    let (long, short) = (&sector[(slot - 1) * 32..][..32], &sector[slot * 32..][..11]);
    let sum = short.iter().fold(0u8, |sum, byte| sum.rotate_right(1).wrapping_add(*byte));
    if long[0] == 0x41 && long[11] == 0x0f && long[13] == sum {
        let bytes: Vec<u8> = (1..11).chain(14..26).chain(28..32).map(|at| long[at]).collect();
        let low = bytes.chunks(2).map(|pair| pair[0]);
        return low.take_while(|&byte| byte != 0 && byte != 0xff).map(char::from).collect();
    }
    let text = String::from_utf8_lossy(short).into_owned();
    format!("{}.{}", text[..8].trim_end(), text[8..].trim_end())
}

fn recorded(sample: &Sample) -> Vec<Op> {
    let mut machine = Machine::new(sample);
    machine.install(sample, &sample.bundle).unwrap();
    machine.log.take()
}

#[test]
fn a_power_cut_at_any_moment_leaves_the_old_system_or_the_whole_new_one() {
    let sample = Sample::new();
    let (states, seen) = Disk::new(&sample).replay(&recorded(&sample));
    assert_eq!(seen, [Boots::Old, Boots::New]);
    println!("{states} states");
    assert!(states >= 1000, "only {states} states");
}

#[test]
fn the_oracle_catches_who_flushes_in_the_wrong_order() {
    let sample = Sample::new();
    let log = recorded(&sample);
    let last = log.len() - 1;
    // The commit before the flush of what it commits.
    let mut swapped = log.clone();
    swapped.swap(last - 2, last - 1);
    // The commit first.
    let mut early = log.clone();
    let commit: Vec<Op> = early.drain(last - 1..).collect();
    early.splice(2..2, commit);
    // No flush but the last.
    let mut unflushed = log.clone();
    let mut left = log.len();
    unflushed.retain(|op| {
        left -= 1;
        left == 0 || !matches!(op, Op::Flush(_))
    });
    // The old name is taken away before the new one is there, as who renames files does.
    let mut renamed = log.clone();
    let place = Place::Esp;
    let (at, gone) = (testing::directory() as u64, vec![0xe5; 64]);
    renamed.splice(last - 1..last - 1, [Op::Write { place, offset: at + 64, bytes: gone }]);
    for (what, log) in
        [("swapped", swapped), ("early", early), ("unflushed", unflushed), ("renamed", renamed)]
    {
        let (_, seen) = Disk::new(&sample).replay(&log);
        assert!(seen.contains(&Boots::Broken), "{what}: {seen:?}");
    }
}
