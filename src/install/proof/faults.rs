//! Streams that break and disks that do: what runs is as it was, and nothing is armed.

use appliance::bundle::{CHUNK, Head};

use super::*;
use disk::Fault;

/// Only what the new system consists of was written, each byte where it belongs.
fn only_the_bundle_was_written(machine: &Machine, sample: &Sample) {
    let tree = verity::tree(&sample.root, &sample.geometry.salt);
    let slot = [&sample.root[..], &tree.blocks].concat();
    let run = appliance::esp::testing::run(Side::B, CLUSTERS);
    for op in machine.log.borrow().iter() {
        let Op::Write { place, offset, bytes } = op else { continue };
        let offset = *offset as usize;
        let expected = match place {
            Place::Slot => slot.get(offset..offset + bytes.len()),
            Place::Esp => {
                offset.checked_sub(run).and_then(|at| sample.uki.get(at..at + bytes.len()))
            }
        };
        let is_directory = offset == appliance::esp::testing::directory();
        let is_zero = bytes.iter().all(|&byte| byte == 0);
        assert!(is_directory || is_zero || expected == Some(bytes), "{place:?} at {offset}");
    }
}

#[test]
fn a_stream_that_breaks_anywhere_leaves_what_runs() {
    let sample = Sample::new();
    let payload = sample.bundle.len() - sample.manifest.payload() as usize;
    let mut random = fastrand::Rng::with_seed(6);
    let boundaries = (payload..sample.bundle.len()).step_by(CHUNK);
    let edges = boundaries.flat_map(|at| [at - 1, at, at + 1]);
    let cuts = edges.chain((0..40).map(|_| random.usize(..sample.bundle.len())));
    for cut in cuts.chain([0, 1, Head::BYTES, sample.bundle.len() - 1]) {
        let mut machine = Machine::new(&sample);
        let refused = machine.install(&sample, &sample.bundle[..cut]).unwrap_err();
        assert_eq!(refused.code, Code::Truncated, "cut at {cut}");
        assert!(machine.is_as_it_was(&sample), "cut at {cut}");
        // Nothing is written before the first chunk is there.
        assert_eq!(machine.writes() == 0, cut < payload + CHUNK, "cut at {cut}");
        only_the_bundle_was_written(&machine, &sample);
    }
}

#[test]
fn a_flipped_bit_anywhere_is_found_before_its_chunk_is_written() {
    let sample = Sample::new();
    let payload = sample.bundle.len() - sample.manifest.payload() as usize;
    let mut random = fastrand::Rng::with_seed(7);
    let early = (0..60).map(|round| round * payload / 60);
    let late: Vec<usize> = (0..60).map(|_| random.usize(payload..sample.bundle.len())).collect();
    for at in early.chain(late) {
        let mut bundle = sample.bundle.clone();
        bundle[at] ^= 1 << random.u8(0..8);
        let mut machine = Machine::new(&sample);
        let refused = machine.install(&sample, &bundle).unwrap_err();
        assert!(machine.is_as_it_was(&sample), "flipped at {at}");
        only_the_bundle_was_written(&machine, &sample);
        assert_eq!(machine.writes() == 0, at < payload + CHUNK, "flipped at {at}");
        assert!(at < payload || refused.code == Code::Chunk, "flipped at {at}");
    }
}

#[test]
fn a_disk_that_keeps_something_else_is_not_trusted() {
    let sample = Sample::new();
    let mut good = Machine::new(&sample);
    good.install(&sample, &sample.bundle).unwrap();
    let operations = good.log.borrow().len();
    let directory = appliance::esp::testing::directory() as u64;
    let run = appliance::esp::testing::run(Side::B, CLUSTERS) as u64;
    let tree = sample.geometry.tree_offset();
    let end = sample.uki.len() as u64;
    for (what, place, after, offset) in [
        ("the cleared directory", Place::Esp, 1, directory + 4 * 32),
        ("the UKI", Place::Esp, 0, run + 5000),
        ("the UKI's end", Place::Esp, 0, run + end - 1),
        ("the padding", Place::Esp, 0, run + end + 10),
        ("the root", Place::Slot, 0, 4096 * 500 + 1),
        ("the root's end", Place::Slot, 0, tree - 1),
        ("the tree", Place::Slot, 0, tree + 4096 * 3),
        ("the tree's top", Place::Slot, 0, tree + 1),
        ("the commit", Place::Esp, operations, directory + 4 * 32 + 3),
    ] {
        let mut machine = Machine::new(&sample);
        let fault = Some(Fault::Lies { after, offset });
        match place {
            Place::Esp => machine.esp.fault = fault,
            Place::Slot => machine.slot.fault = fault,
        }
        let refused = machine.install(&sample, &sample.bundle).unwrap_err();
        assert!(matches!(refused.code, Code::ReadBack | Code::Disk), "{what}: {refused:?}");
        assert!(machine.is_as_it_was(&sample), "{what}");
    }
}

#[test]
fn a_disk_that_takes_no_more_leaves_what_runs() {
    let sample = Sample::new();
    let run = appliance::esp::testing::run(Side::B, CLUSTERS) as u64;
    let directory = appliance::esp::testing::directory() as u64;
    for (place, offset) in [
        (Place::Esp, directory),
        (Place::Esp, run + 1_000_000),
        (Place::Slot, 2_000_000),
        (Place::Slot, sample.geometry.tree_offset()),
    ] {
        let mut machine = Machine::new(&sample);
        let fault = Some(Fault::Fails { offset });
        match place {
            Place::Esp => machine.esp.fault = fault,
            Place::Slot => machine.slot.fault = fault,
        }
        let refused = machine.install(&sample, &sample.bundle).unwrap_err();
        assert_eq!(refused.code, Code::Disk, "{}", refused.message);
        assert!(machine.is_as_it_was(&sample));
    }
}
