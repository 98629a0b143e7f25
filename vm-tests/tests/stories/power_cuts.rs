//! The power goes at any write of a first boot, and of one that finds its disk grown: every state of
//! the disk is replayed from a log of the writes, judged, and a sample of them booted.

use std::collections::BTreeMap;
use std::fs;
use std::time::Instant;

use anyhow::{Context, Result};
use vm_tests::cuts::{Cuts, Effort, Random, State, after};
use vm_tests::disk::Kept;
use vm_tests::images::Image;
use vm_tests::machine::{DISK, Machine};
use vm_tests::oracle::{Oracle, Stage};
use vm_tests::table::Table;
use vm_tests::writes::{Entry, SECTOR};
use vm_tests::{BOOT, SOON, disk, is_long};

const READY: &str = "service prosody: ready";
const MOUNTED: &str = "data: vda5 mounted";
/// The sectors that the tests of the oracle swap and drop writes to.
const HEADER: u64 = 1;
const OTHER_BANK: u64 = 34;
const MARK: u64 = 66;

/// A boot whose writes were logged.
struct Logged {
    /// The disk before it.
    base: Kept,
    log: Vec<Entry>,
}

impl Logged {
    /// Boots `disk` until it serves, and turns it off in order.
    fn boot(image: &Image, disk: &Kept, shows: &str) -> Logged {
        let base = disk.fork();
        let vm = Machine::direct(image).on(disk).log_writes().start();
        vm.wait_for(shows, BOOT);
        vm.wait_for(READY, BOOT);
        vm.power_off(SOON);
        Logged { base, log: disk.writes() }
    }

    fn first(image: &Image) -> Logged {
        Logged::boot(image, &Kept::of(image, DISK), "machine id made")
    }

    /// Where the data begins.
    fn data(&self) -> u64 {
        let whole = after(self.base.path(), &self.log).unwrap();
        let table = Table::at(HEADER, u64::MAX, |first, sectors| whole.read(first, sectors));
        *table.unwrap().place("data").unwrap().start()
    }

    fn oracle(&self) -> Result<Oracle> {
        let disk = fs::metadata(self.base.path())?.len() / SECTOR as u64;
        let (before, after) = (after(self.base.path(), &[])?, after(self.base.path(), &self.log)?);
        Oracle::new(disk, &before, &after)
    }

    /// Judges all states that a cut of `log` may leave.
    fn judge<'a>(&self, oracle: &mut Oracle, log: &'a [Entry]) -> Result<Judged<'a>> {
        oracle.must_spare(log)?;
        let started = Instant::now();
        let mut judged = Judged { states: 0, stages: BTreeMap::new() };
        let mut random = Random(2);
        for state in Cuts::of(self.base.path(), log, effort())? {
            let stage = oracle.judge(&state).with_context(|| state.to_string())?;
            judged.states += 1;
            let (count, sample) = judged.stages.entry(stage).or_insert((0, state.clone()));
            *count += 1;
            if random.draw().is_multiple_of(*count) {
                *sample = state;
            }
        }
        let (file_systems, tables) = oracle.counts();
        let counts = judged.stages.iter().map(|(stage, (count, _))| format!("{stage:?} {count}"));
        println!(
            "{} states judged in {:.1} s ({file_systems} file systems, {tables} tables): {}",
            judged.states,
            started.elapsed().as_secs_f64(),
            counts.collect::<Vec<_>>().join(", ")
        );
        Ok(judged)
    }
}

/// What came of all states of a log.
struct Judged<'a> {
    states: u64,
    /// How many there were, and one of them.
    stages: BTreeMap<Stage, (u64, State<'a>)>,
}

impl Judged<'_> {
    fn has(&self, stages: &[Stage]) {
        let seen: Vec<&Stage> = self.stages.keys().collect();
        assert_eq!(seen, stages.iter().collect::<Vec<_>>());
    }

    /// Boots one state of each stage.
    fn boot(&self, image: &Image, base: &Kept) {
        for (stage, (_, state)) in &self.stages {
            println!("booted as {stage:?}: {state}");
            let disk = base.fork();
            state.write_to(&disk).unwrap();
            let vm = Machine::direct(image).on(&disk).start();
            vm.wait_for(MOUNTED, BOOT);
        }
    }
}

fn effort() -> Effort {
    match is_long() {
        true => Effort { all_of: 10, picks: 64, tears: 64 },
        false => Effort { all_of: 6, picks: 32, tears: 24 },
    }
}

#[test]
fn a_first_boot_cut_at_any_write_is_taken_up_by_the_next() {
    let image = Image::server();
    let logged = Logged::first(&image);
    let mut oracle = logged.oracle().unwrap();
    let judged = logged.judge(&mut oracle, &logged.log).unwrap_or_else(|error| panic!("{error:#}"));
    assert!(judged.states >= 400, "only {} states", judged.states);
    use Stage::*;
    judged.has(&[Blank, Marked, HalfMade, Made, Backup, Entries, Committed, Torn, InUse]);
    let settled = oracle.settled();
    assert!(settled.machine_id.is_some() && settled.has_seed && settled.clock.is_some());
    judged.boot(&image, &logged.base);
}

/// The number of the first write that begins at this sector, from the entry `from` on.
fn write_to(log: &[Entry], from: usize, place: u64) -> usize {
    let begins = |entry: &Entry| matches!(entry, Entry::Write { sector, .. } if *sector == place);
    from + log[from..].iter().position(begins).expect("it was never written")
}

fn drop_flush(log: &mut Vec<Entry>, number: usize) {
    assert_eq!(log.remove(number), Entry::Flush);
}

#[test]
fn writes_in_a_wrong_order_are_found() {
    let image = Image::server();
    let logged = Logged::first(&image);
    let place = |name| disk::partition(image.disk.as_path(), name).unwrap();
    let slot_a = *place("slot-a").sectors.start();
    let data = logged.data();
    type Change<'a> = &'a dyn Fn(&mut Vec<Entry>);
    let faults: [(&str, Change); 6] = [
        ("the table at sector 1 has entries with a wrong checksum", &|log| {
            let (entries, header) = (write_to(log, 0, OTHER_BANK), write_to(log, 0, HEADER));
            log.swap(entries, header);
        }),
        ("the table at sector 1 has entries with a wrong checksum", &|log| {
            drop_flush(log, write_to(log, 0, OTHER_BANK) + 1);
        }),
        ("a half-made file system and no mark", &|log| {
            log.remove(write_to(log, 0, MARK));
        }),
        ("a half-made file system and no mark", &|log| {
            drop_flush(log, write_to(log, 0, MARK) + 1);
        }),
        ("the file system would be adopted: ", &|log| {
            let first = write_to(log, 0, data);
            drop_flush(log, write_to(log, first + 1, data) - 1);
        }),
        ("changes slot-a", &|log| {
            log.push(Entry::Write { sector: slot_a + 8, bytes: vec![1; SECTOR], lasts: false });
        }),
    ];
    for (complaint, change) in faults {
        let mut log = logged.log.clone();
        change(&mut log);
        let judged = logged.judge(&mut logged.oracle().unwrap(), &log);
        let said = format!("{:#}", judged.err().expect(complaint));
        println!("found: {said}");
        assert!(said.contains(complaint), "{said}");
    }
}

#[test]
fn a_grown_disk_cut_at_any_write_keeps_its_data() {
    let image = Image::server();
    let disk = Kept::of(&image, DISK / 2);
    let vm = Machine::direct(&image).on(&disk).start();
    vm.wait_for(READY, BOOT);
    vm.power_off(SOON);
    disk.grow(DISK).unwrap();
    let logged = Logged::boot(&image, &disk, "data: grown from");
    let mut oracle = logged.oracle().unwrap();
    let judged = logged.judge(&mut oracle, &logged.log).unwrap_or_else(|error| panic!("{error:#}"));
    judged.has(&[Stage::Torn, Stage::Outgrown, Stage::InUse]);
    judged.boot(&image, &logged.base);
}
