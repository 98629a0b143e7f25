//! What is no reason to go back: a network that is unplugged, names that nobody resolves, a clock
//! that is wrong by decades, and power that goes at any moment. The control group of the mutants.

use std::time::Duration;

use vm_tests::cuts::Random;
use vm_tests::disk::Kept;
use vm_tests::machine::{DISK, Machine};
use vm_tests::peer::Peer;
use vm_tests::peer::dhcp::Lease;
use vm_tests::releases::Release;
use vm_tests::vm::Vm;
use vm_tests::{BOOT, esp, is_long};

const OLD: &str = "1.0.0";
const NEW: &str = "1.1.0";
const BLESSED: &str = "in slot b is blessed";
const BLESSED_WITHIN: Duration = Duration::from_secs(300);
const LIFE: Duration = Duration::from_secs(900);
/// Services have been up for so long, and a little more: the boot was good.
const PROVED: Duration = Duration::from_secs(40);
/// The power goes by then, mostly.
const CUT_BY: u64 = 45;
/// So many cuts in a row, at most, without a boot that was good: after a dozen the other system
/// would get a try, which is as it should be.
const CUTS_IN_A_ROW: u64 = 8;
/// The new system was blessed, and so was the old one before.
const BOTH: [&str; 2] = ["p1.efi", "p2.efi"];

/// A disk with both systems, of which the new one is to be tried.
fn armed() -> (Release, Kept) {
    let (old, new) = (Release::of(OLD, &[]), Release::of(NEW, &[]));
    let disk = Kept::of(&old.image, DISK);
    let vm = Machine::firmware(&old.image).on(&disk).deadline(LIFE).start();
    vm.pod_serves();
    vm.make_admin();
    vm.install(&new.bundle);
    vm.order_reboot();
    vm.wait_for_end(BOOT);
    drop(vm);
    (old, disk)
}

/// This boot is the new system's, and good.
fn is_good(vm: &Vm) {
    vm.wait_for(" 1.1.0 starts", BOOT);
    vm.wait_for("stele-init: gate: open", BOOT);
    vm.must_live_for(PROVED);
    assert!(vm.lines_with("was good and isn't").is_empty());
}

#[test]
fn no_network_no_names_and_no_idea_of_the_date_are_no_reason_to_go_back() {
    let (old, disk) = armed();
    let machine = || Machine::firmware(&old.image).on(&disk).deadline(LIFE);
    // A trial whose cable is out, and whose clock has stopped.
    let vm = machine().clock("1970-01-01T00:00:00").start();
    vm.set_link(false);
    vm.wait_for(BLESSED, BLESSED_WITHIN);
    vm.power_off(BOOT);
    let names = || {
        let mut names = esp::names(&disk, esp::LINUX);
        names.sort();
        names
    };
    assert_eq!(names(), BOTH);
    for machine in [
        machine().clock("1970-01-01T00:00:00"),
        machine().clock("2099-01-01T00:00:00"),
        machine().without_network(),
        // A neighbour that gives addresses and times, and resolves nothing.
        machine().peer(Peer::lends(Lease::default())),
    ] {
        let vm = machine.start();
        is_good(&vm);
        vm.cut_power();
        assert_eq!(names(), BOTH);
    }
    let vm = machine().start();
    vm.serves(NEW);
}

#[test]
fn power_that_goes_at_any_moment_is_no_reason_to_go_back() {
    let (old, disk) = armed();
    let machine = || Machine::firmware(&old.image).on(&disk).deadline(LIFE);
    // A try that is cut counts as one: two of three, and the third is blessed.
    let mut random = Random(7);
    for _ in 0..2 {
        let vm = machine().start();
        vm.wait_for("is on trial", BOOT);
        vm.must_live_for(Duration::from_secs(random.draw() % 20));
        vm.cut_power();
    }
    let vm = machine().start();
    vm.wait_for(BLESSED, BLESSED_WITHIN);
    vm.cut_power();
    let cycles = if is_long() { 50 } else { 8 };
    for cycle in 1..=cycles {
        let vm = machine().start();
        let moment = Duration::from_millis(random.draw() % (CUT_BY * 1000));
        match cycle % CUTS_IN_A_ROW {
            0 => is_good(&vm),
            _ => vm.must_live_for(moment),
        }
        println!("power cut {cycle} of {cycles} after {:.1} s", vm.age().0.as_secs_f64());
        vm.cut_power();
        let mut names = esp::names(&disk, esp::LINUX);
        names.sort();
        assert_eq!(names, BOTH, "after power cut {cycle}");
    }
    let vm = machine().start();
    vm.serves(NEW);
}
