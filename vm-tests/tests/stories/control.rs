//! What may be asked of PID 1, by whom; and how the machine ends when it is asked to, at any moment.

use vm_tests::data::Data;
use vm_tests::disk::Kept;
use vm_tests::images::Image;
use vm_tests::machine::{DISK, Machine};
use vm_tests::{BOOT, SOON};

/// How often a machine restarts, and by how many bytes stele-init's memory may differ.
const REBOOTS: usize = 30;
const NOISE: u64 = 256 << 10;

#[test]
fn who_is_granted_a_verb_may_use_it_and_nobody_else() {
    let vm = Machine::direct(&Image::with_layers(&["test-control"])).start();
    vm.wait_for("service asks-logs: done", BOOT);
    let said = |service: &str| -> String {
        let prefix = format!("] {service}: ");
        let lines = vm.lines_with(&prefix);
        let texts: Vec<&str> = lines.iter().filter_map(|line| line.rest_after(&prefix)).collect();
        texts.join("")
    };
    let state = said("asks-state");
    for part in [
        "\"version\": \"1.0.0\"",
        "\"phase\": \"",
        "\"address\": \"10.0.2.15/24\"",
        "\"name\": \"prosody\"",
        "\"state\": \"ready\"",
        "\"restarts\": 0",
        "\"last_failure\": null",
    ] {
        assert!(state.contains(part), "no {part} in {state}");
    }
    assert!(said("asks-logs").contains("\"logs\": ["), "{}", said("asks-logs"));

    vm.wait_for("asks-too-much:   \"refused\": \"forbidden\"", SOON);
    vm.wait_for("talks-nonsense:   \"refused\": {", SOON);
    vm.wait_for("talks-nonsense:     \"malformed\": \"unknown variant `format`", SOON);
    vm.wait_for("stranger: cannot ask at /run/stele/control.sock: ENOENT", SOON);

    // What was granted was also done, in order; and the Server serves again.
    let restart = vm.wait_for("service prosody: restart (control)", BOOT);
    let ended = vm.wait_for_next(&restart, "service prosody: ended: exit status 0", SOON);
    vm.wait_for_next(&ended, "service prosody: ready", BOOT);
    vm.stream_reply("prose.local", BOOT);
    vm.power_off(SOON);
}

#[test]
fn the_power_button_ends_it_in_order_at_any_moment() {
    let image = Image::release();
    for moment in [
        "stele-init: data: file system of",
        "stele-init: service certificate: starting",
        "stele-init: network: ready",
        "stele-init: service prosody: starting",
    ] {
        let disk = Kept::of(&image, DISK);
        let vm = Machine::direct(&image).on(&disk).start();
        vm.wait_for(moment, BOOT);
        // The second press, as from somebody impatient, changes nothing.
        vm.press_power_button();
        vm.press_power_button();
        assert_eq!(vm.wait_for_end(SOON), "guest-shutdown", "{moment}");
        vm.wait_for("stele-init: system: power off (power button)", SOON);
        drop(vm);
        assert!(Data::is_clean(&disk), "{moment}: the data was not unmounted");
    }
}

#[test]
fn ctrl_alt_del_restarts_in_order() {
    let image = Image::release();
    let disk = Kept::of(&image, DISK);
    let vm = Machine::direct(&image).on(&disk).start();
    vm.wait_for("stele-init: service prosody: ready", BOOT);
    vm.qmp().monitor("sendkey ctrl-alt-delete").unwrap();
    vm.wait_for("stele-init: system: reboot (Ctrl-Alt-Del)", SOON);
    vm.wait_for("stele-init: service prosody: ended: exit status 0", SOON);
    assert_eq!(vm.wait_for_end(SOON), "guest-reset");
    drop(vm);
    assert!(Data::is_clean(&disk));
}

#[test]
fn thirty_reboots_leave_pid_1_as_it_was() {
    let image = Image::with_layers(&["test-rebooter"]);
    let disk = Kept::of(&image, DISK);
    let mut taken: Vec<u64> = vec![];
    for reboot in 1..=REBOOTS {
        let vm = Machine::direct(&image).on(&disk).start();
        assert_eq!(vm.wait_for_end(BOOT), "guest-reset", "at {reboot}");
        vm.wait_for("stele-init: system: reboots", SOON);
        assert!(vm.lines_with("the last boot failed").is_empty(), "at {reboot}");
        let made = vm.lines_with("stele-init: data: file system of").len();
        assert_eq!(made, usize::from(reboot == 1));
        let lines = vm.lines_with("\"init\": ");
        let bytes = lines.iter().find_map(|line| line.rest_after("\"init\": "));
        taken.extend(bytes.and_then(|bytes| bytes.trim_end_matches(',').parse::<u64>().ok()));
    }
    assert_eq!(taken.len(), REBOOTS, "{taken:?}");
    let (least, most) = (taken.iter().min().unwrap(), taken.iter().max().unwrap());
    assert!(most - least <= NOISE, "{taken:?}");
    assert!(*most < 8 << 20, "{taken:?}");
}
