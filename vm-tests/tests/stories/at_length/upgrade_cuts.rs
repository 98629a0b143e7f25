//! The power goes at any write of an upgrade, from the old system's start until the new one is
//! trusted and turned off: states of the disk are replayed from a log of all writes, firmware's among
//! them, and judged. And a system that is trusted writes nothing to the ESP.
//!
//! | | CI | long lane |
//! |---|---|---|
//! | after each write, all before it there | all | all |
//! | what isn't flushed, in any combination: of so many writes | all of 3, more: a sample | of 10 |
//! | a torn write: of so many of its sectors that are new | all of 3, more: a sample | of 10 |
//! | states judged, at least | 1,000 | 10,000 |
//! | of them booted, at least one for each system that is next | 3 | 21 |
//!
//! So every state of the directory that the loader reads is tried: each write of it is one sector, or
//! firmware's, of which three are new and beside which there is none. The samples are the same each
//! time, for the same log.
//!
//! Not tried here: a sector that is itself torn (`src/appliance/esp/tests.rs` does), and writes that
//! QEMU noted before a flush although they came during it.

use vm_tests::disk::{self, Kept};
use vm_tests::machine::{DISK, Machine};
use vm_tests::oracle::upgrade::Boots;
use vm_tests::releases::Release;
use vm_tests::writes::Entry;
use vm_tests::{BOOT, SOON, is_long};

use super::upgrade::{BLESSED_WITHIN, LIFE};

mod replay;

use replay::{Recorded, system, touches};

/// The record of how boots ended: see `appliance::boot_record`.
const BOOT_RECORD: [u64; 2] = [72, 80];

/// The old release, and the new one.
struct Pair([Release; 2]);

impl Pair {
    fn new() -> Pair {
        Pair([Release::of("1.0.0", &[]), Release::of("1.1.0", &[])])
    }

    fn machine(&self, disk: &Kept) -> Machine {
        Machine::firmware(&self.0[0].image).on(disk).deadline(LIFE)
    }

    /// A Pod of the old release, turned off.
    fn begun(&self) -> Kept {
        let disk = Kept::of(&self.0[0].image, DISK);
        let vm = self.machine(&disk).start();
        vm.pod_serves();
        vm.make_admin();
        vm.power_off(SOON);
        disk
    }

    /// Upgrades it. What the old system wrote until the reboot, and the new one until it was
    /// trusted and turned off.
    fn upgrade(&self, disk: &Kept) -> [Vec<Entry>; 2] {
        let vm = self.machine(disk).log_writes().start();
        vm.pod_serves();
        wrote_only_data(disk, &disk.writes());
        vm.install(&self.0[1].bundle);
        vm.order_reboot();
        vm.wait_for_end(BOOT);
        drop(vm);
        let old = disk.writes();
        let vm = self.machine(disk).log_writes().start();
        vm.wait_for("in slot b is blessed", BLESSED_WITHIN);
        vm.power_off(SOON);
        [old, disk.writes()]
    }
}

/// Nothing but the data and the record of boots was written.
fn wrote_only_data(disk: &Kept, log: &[Entry]) {
    let data = disk::partition(disk.path(), "data").unwrap().sectors;
    for (number, entry) in log.iter().enumerate() {
        match entry {
            Entry::Flush | Entry::Mark => {}
            Entry::Write { sector, .. } if BOOT_RECORD.contains(sector) => {}
            Entry::Write { sector, .. } | Entry::Discard { sector, .. } => {
                let is_of_the_data = touches(entry, &data) && data.contains(sector);
                assert!(is_of_the_data, "entry {number} is of sector {sector}");
            }
        }
    }
    assert!(log.iter().any(|entry| touches(entry, &data)), "nothing was logged");
}

#[test]
fn an_upgrade_cut_at_any_write_boots_the_old_or_the_new() {
    let pair = Pair::new();
    let disk = pair.begun();
    let base = disk.fork();
    let [mut log, trial] = pair.upgrade(&disk);
    let vm = pair.machine(&disk).log_writes().start();
    vm.serves("1.1.0");
    vm.power_off(SOON);
    wrote_only_data(&disk, &disk.writes());

    let olds = log.len();
    log.extend(trial);
    let systems = pair.0.each_ref().map(|release| system(&release.bundle).unwrap());
    let recorded = Recorded { base: base.path().to_owned(), systems, log, olds };
    println!("{}", recorded.tally());
    recorded.worse_installers_are_found().unwrap_or_else(|error| panic!("{error:#}"));
    let kept = if is_long() { 7 } else { 1 };
    let judged = recorded.judge(kept).unwrap_or_else(|error| panic!("{error:#}"));
    let enough = if is_long() { 10_000 } else { 1_000 };
    assert!(judged.states >= enough, "only {} states", judged.states);
    let few = judged.of_boots.iter().any(|states| *states < enough / 4);
    assert!(!few, "only {:?} states of the two boots", judged.of_boots);
    let seen: Vec<Boots> = judged.counts.keys().copied().collect();
    assert_eq!(seen, [Boots::Old, Boots::Trial, Boots::New]);
    for (boots, state) in &judged.samples {
        println!("booted, as {boots:?}: {state}");
        let disk = base.fork();
        state.write_to(&disk).unwrap();
        let vm = pair.machine(&disk).start();
        vm.serves(if *boots == Boots::Old { "1.0.0" } else { "1.1.0" });
    }
}
