//! The shipped image boots to a Server that answers.

use vm_tests::images::Image;
use vm_tests::machine::Machine;
use vm_tests::{BOOT, SOON};

const DOMAIN: &str = "prose.local";

#[test]
fn boots_directly_to_a_stream_reply() {
    let vm = Machine::direct(&Image::release()).start();
    vm.wait_for("stele-init: initrd: slot found on vda3", BOOT);
    let reply = vm.stream_reply(DOMAIN, BOOT);
    assert!(reply.text.contains("from='prose.local'"), "{}", reply.text);
    // No password without encryption.
    assert!(reply.text.contains("<starttls"), "{}", reply.text);
    assert!(!reply.text.contains("<mechanisms"), "{}", reply.text);
}

#[test]
fn boots_by_firmware_to_a_stream_reply() {
    let vm = Machine::firmware(&Image::release()).start();
    // QEMU knows no kernel here: the firmware takes the loader from the disk, and that the UKI.
    vm.wait_for("BdsDxe: starting Boot", BOOT);
    let reply = vm.stream_reply(DOMAIN, BOOT);
    assert!(reply.text.contains("from='prose.local'"), "{}", reply.text);
}

#[test]
fn the_power_button_stops_the_services_and_turns_the_machine_off() {
    let vm = Machine::direct(&Image::release()).start();
    vm.stream_reply(DOMAIN, BOOT);
    vm.press_power_button();
    vm.wait_for("stele-init: system: power off (power button)", SOON);
    vm.wait_for("stele-init: service prosody: stopping", SOON);
    // It stopped by itself, in time: nobody had to kill it.
    vm.wait_for("stele-init: service prosody: ended: exit status 0", SOON);
    vm.wait_for("stele-init: service prosody: stopped", SOON);
    vm.wait_for("stele-init: system: services stopped", SOON);
    assert_eq!(vm.wait_for_end(SOON), "guest-shutdown");
    vm.wait_for("stele-init: system: powers off", SOON);
}
