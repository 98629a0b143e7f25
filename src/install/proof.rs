//! What installing does to disks in memory: whatever the bundle, the stream, the disks or the power
//! do, the old system boots, or the whole new one.

mod disk;
mod faults;
mod refusals;
mod replay;
mod sample;

use appliance::esp::{Directory, Entry, Esp, SECTOR};
use appliance::upgrade::{Code, Line, Refused, Side};
use appliance::verity;

use crate::install::{Disks, install};
use crate::stream::{Cut, Source};
use disk::{Log, Memory, Op, Place};
use sample::{CLUSTERS, SLOT, Sample};

/// A stream of these bytes, which is cut after them.
struct Feed<'a>(&'a [u8]);

impl Source for Feed<'_> {
    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), Cut> {
        let (now, rest) = self.0.split_at_checked(bytes.len()).ok_or(Cut::Ended)?;
        bytes.copy_from_slice(now);
        self.0 = rest;
        Ok(())
    }
}

/// A machine whose side A runs and whose side B is free.
struct Machine {
    esp: Memory,
    slot: Memory,
    log: Log,
    lines: Vec<Line>,
}

impl Machine {
    fn new(sample: &Sample) -> Machine {
        let log = Log::default();
        let esp = Memory::new(Place::Esp, sample.esp(), &log);
        let slot = Memory::new(Place::Slot, vec![0xaa; SLOT], &log);
        Machine { esp, slot, log, lines: vec![] }
    }

    fn install(&mut self, sample: &Sample, bundle: &[u8]) -> Result<(), Refused> {
        let disks = Disks { esp: &mut self.esp, slot: &mut self.slot };
        let lines = &mut self.lines;
        install(&sample.order, disks, &mut Feed(bundle), &mut |line| lines.push(line.clone()))
    }

    fn directory(&self) -> Directory {
        let read = |offset, length| Ok(self.esp.bytes[offset as usize..][..length].to_vec());
        let esp = Esp::locate(read).unwrap();
        let sector = &self.esp.bytes[esp.directory as usize..][..SECTOR];
        esp.read_directory(sector.try_into().unwrap()).unwrap()
    }

    /// A side's run of the ESP.
    fn run(&self, side: Side) -> &[u8] {
        let start = appliance::esp::testing::run(side, CLUSTERS);
        &self.esp.bytes[start..][..CLUSTERS as usize * 4096]
    }

    /// The old system boots, and nothing else does.
    fn is_as_it_was(&self, sample: &Sample) -> bool {
        let old = (Side::A, Entry::Blessed { number: 1 });
        self.directory().boots() == [old] && self.run(Side::A).starts_with(&sample.old_uki)
    }

    fn writes(&self) -> usize {
        self.log.borrow().iter().filter(|op| matches!(op, Op::Write { .. })).count()
    }
}

#[test]
fn a_bundle_is_written_and_armed() {
    let sample = Sample::new();
    let mut machine = Machine::new(&sample);
    machine.install(&sample, &sample.bundle).unwrap();
    let armed = (Side::B, Entry::Counted { number: 2, left: 3, done: 0 });
    let old = (Side::A, Entry::Blessed { number: 1 });
    assert_eq!(machine.directory().boots(), [armed, old]);
    assert!(machine.run(Side::A).starts_with(&sample.old_uki));
    let (uki, padding) = machine.run(Side::B).split_at(sample.uki.len());
    assert!(uki == sample.uki && padding.iter().all(|&byte| byte == 0));
    let tree = verity::tree(&sample.root, &sample.geometry.salt);
    let (root, rest) = machine.slot.bytes.split_at(sample.root.len());
    assert!(root == sample.root && rest.starts_with(&tree.blocks));
    assert!(rest[tree.blocks.len()..].iter().all(|&byte| byte == 0xaa));
    let total = sample.bundle.len() as u64;
    let version = "2.0.0".to_owned();
    let root_hash = sample.geometry.root_hash;
    let first = Line::Begun { version: version.clone(), root_hash, total };
    assert_eq!(machine.lines.first(), Some(&first));
    assert_eq!(machine.lines.last(), Some(&Line::Armed { version, root_hash }));
    assert_eq!(machine.lines[machine.lines.len() - 2], Line::Progress { done: total });
}

#[test]
fn the_commit_is_the_last_write_and_one_sector() {
    let sample = Sample::new();
    let mut machine = Machine::new(&sample);
    machine.install(&sample, &sample.bundle).unwrap();
    let log = machine.log.borrow();
    let at = appliance::esp::testing::directory() as u64;
    let [.., crown, Op::Flush(Place::Slot), commit, Op::Flush(Place::Esp)] = &log[..] else {
        panic!("the last writes are not each flushed");
    };
    let Op::Write { place: Place::Esp, offset, bytes } = commit else { panic!("{commit:?}") };
    assert_eq!((*offset, bytes.len()), (at, SECTOR));
    let Op::Write { place: Place::Slot, offset, .. } = crown else { panic!("{crown:?}") };
    assert_eq!(*offset, sample.geometry.tree_offset());
}

#[test]
fn a_second_bundle_takes_the_place_of_one_that_failed() {
    let sample = Sample::new();
    let mut machine = Machine::new(&sample);
    machine.install(&sample, &sample.bundle).unwrap();
    machine.install(&sample, &sample.bundle).unwrap();
    assert_eq!(machine.directory().boots().len(), 2);
    let cut = machine.install(&sample, &sample.bundle[..sample.bundle.len() - 1]).unwrap_err();
    assert_eq!(cut.code, Code::Truncated);
    assert!(machine.is_as_it_was(&sample), "what was armed before is taken back first");
}
