//! A system that can't be loaded ends in a reset, which uses one of its tries: never in the
//! firmware's shell, a menu or a boot from the network.

use std::time::Duration;

use vm_tests::disk::Kept;
use vm_tests::images::Image;
use vm_tests::machine::{DISK, Machine};
use vm_tests::uki::make_unloadable;
use vm_tests::vm::Vm;
use vm_tests::{BOOT, esp};

/// What firmware says before it goes on: to the network, for a minute, and then to its shell.
const GOES_ON: &str = "BdsDxe: failed to start";
/// What `stele-loader` says in its place.
const OTHER_STARTS: &str = "stele-loader: this system can't be started; the other is";
/// The same, when there is no other.
const RESETS: &str = "stele-loader: nothing was started; the machine resets";
const FALLBACK: &str = "EFI/BOOT/BOOTX64.EFI";
const SYSTEMD_BOOT: &str = "EFI/systemd/sd.efi";
const LOADER_CONF: &str = "loader/loader.conf";
const GOOD: &str = "EFI/Linux/p1.efi";
/// The run that no system is in, and its name as a trial, and as a system that was blessed.
const OTHER: &str = "EFI/Linux/SLOTB.OFF";
const TRIAL: &str = "EFI/Linux/p2+3-0.efi";
const NEWEST: &str = "EFI/Linux/p2.efi";
const KERNEL_RUNS: &str = "stele-init: initrd: starts";
/// A line of systemd-boot's menu.
const MENU: &str = "  Prosody 1.0.0";
/// Bytes that a line picks up, and none that firmware takes for its own (as it does ESC).
const NOISE: &[u8] = b"\r e\x00q~d\xff\n?";

/// One that firmware refuses to load.
fn broken(mut uki: Vec<u8>) -> Vec<u8> {
    make_unloadable(&mut uki);
    uki
}

/// A machine that firmware boots, from the network if all else fails, and that may reset.
fn start(image: &Image, disk: &Kept) -> Vm {
    let machine = Machine::firmware(image).on(disk).network_boot().reboots();
    machine.deadline(4 * BOOT).start()
}

#[test]
fn without_a_system_that_can_be_loaded_the_machine_resets() {
    let image = Image::server();
    let disk = Kept::of(&image, DISK);
    let only_broken = broken(esp::read(&disk, GOOD));
    esp::overwrite(&disk, GOOD, &only_broken);
    let none = disk.fork();
    esp::rename(&none, GOOD, "EFI/Linux/SLOTA.OFF");
    for disk in [&disk, &none] {
        let vm = start(&image, disk);
        vm.wait_for_resets(1, BOOT);
        assert_eq!(vm.lines_with(RESETS).len(), 1);
        assert!(vm.lines_with(GOES_ON).is_empty());
    }
    // With systemd-boot in its place, firmware does go on.
    let loader = esp::read(&disk, SYSTEMD_BOOT);
    esp::rename(&disk, FALLBACK, "EFI/BOOT/OURS.OFF");
    esp::rename(&disk, SYSTEMD_BOOT, FALLBACK);
    assert_eq!(esp::read(&disk, FALLBACK), loader);
    let vm = start(&image, &disk);
    vm.wait_for(GOES_ON, BOOT);
    assert!(vm.lines_with(RESETS).is_empty());
}

#[test]
fn a_trial_that_cannot_be_loaded_uses_its_tries_and_the_old_system_starts() {
    let image = Image::server();
    let disk = Kept::of(&image, DISK);
    esp::overwrite(&disk, OTHER, &broken(esp::read(&disk, GOOD)));
    esp::rename(&disk, OTHER, TRIAL);
    let vm = start(&image, &disk);
    let last = vm.wait_for_resets(3, 3 * BOOT);
    let started = vm.wait_for(KERNEL_RUNS, BOOT);
    println!("3 resets in {last:?}, the old system after {:?}", started.at);
    assert_eq!(vm.lines_with(RESETS).len(), 3);
    vm.cut_power();
    assert_eq!(esp::names(&disk, esp::LINUX), ["p1.efi", "p2+0-3.efi"]);
}

/// The newest was blessed, and rots; or it is on trial, and firmware refuses to count that. Each start
/// would be the same as the one before.
#[test]
fn where_no_try_is_taken_off_what_cannot_be_loaded_the_other_system_starts() {
    let image = Image::server();
    let rotten = Kept::of(&image, DISK);
    esp::overwrite(&rotten, OTHER, &broken(esp::read(&rotten, GOOD)));
    let uncounted = rotten.fork();
    esp::rename(&rotten, OTHER, NEWEST);
    esp::rename(&uncounted, OTHER, TRIAL);
    esp::undate(&uncounted);
    for (disk, newest) in [(&rotten, "p2.efi"), (&uncounted, "p2+3-0.efi")] {
        // Nothing is remembered: the second start is like the first.
        for _ in 0..2 {
            let vm = start(&image, disk);
            let started = vm.wait_for(KERNEL_RUNS, BOOT);
            println!("{newest} can't be loaded: the old system after {:?}", started.at);
            assert_eq!(vm.lines_with(OTHER_STARTS).len(), 1);
            assert!(vm.lines_with(RESETS).is_empty());
            vm.cut_power();
            assert_eq!(esp::names(disk, esp::LINUX), ["p1.efi", newest]);
        }
    }
    // Nor does the other one start: then the machine resets.
    let good = esp::read(&rotten, GOOD);
    esp::overwrite(&rotten, GOOD, &broken(good));
    let vm = start(&image, &rotten);
    vm.wait_for_resets(1, BOOT);
    assert_eq!((vm.lines_with(OTHER_STARTS).len(), vm.lines_with(RESETS).len()), (1, 1));
    assert!(vm.lines_with(GOES_ON).is_empty());
}

#[test]
fn noise_on_the_serial_line_stops_no_boot() {
    let image = Image::server();
    let disk = Kept::of(&image, DISK);
    let vm = start(&image, &disk);
    noise_until(&vm, KERNEL_RUNS);
    vm.cut_power();
    // Where a menu may open, this noise opens it.
    let conf = String::from_utf8(esp::read(&disk, LOADER_CONF)).unwrap();
    let conf = conf.replace("menu-disabled", "0            ");
    esp::overwrite(&disk, LOADER_CONF, conf.as_bytes());
    noise_until(&start(&image, &disk), MENU);
}

/// Makes noise until the console shows `text`.
fn noise_until(vm: &Vm, text: &str) {
    while vm.lines_with(text).is_empty() && vm.age().0 < BOOT {
        vm.type_in(NOISE);
        vm.must_live_for(Duration::from_millis(50));
    }
    vm.wait_for(text, Duration::ZERO);
}
