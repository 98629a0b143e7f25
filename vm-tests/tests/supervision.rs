//! Services that fail are started again, ever later, and harm nobody else.

use vm_tests::console::Line;
use vm_tests::images::Image;
use vm_tests::machine::Machine;
use vm_tests::vm::Vm;
use vm_tests::{BOOT, SOON};

/// Follows a service through `count` failures after the line `from`: the backoff doubles from half
/// a second on, and it isn't started before that is over.
fn follow_backoff(vm: &Vm, service: &str, from: &Line, count: u32) -> Line {
    let mut last = from.clone();
    for failure in 0..count {
        let seconds = 0.5 * f64::from(1 << failure);
        let text = format!("service {service}: backoff {seconds:.1} s");
        let backoff = vm.wait_for_next(&last, &text, SOON);
        last = vm.wait_for_next(&backoff, &format!("service {service}: starting"), SOON);
        let waited = last.stamp().unwrap() - backoff.stamp().unwrap();
        // The stamps are taken a little after the timer is set.
        assert!(waited.as_secs_f64() > seconds - 0.1, "{service} was started after {waited:?}");
    }
    last
}

#[test]
fn a_killed_server_is_started_again() {
    let vm = Machine::direct(&Image::with_layers(&["test-killer"])).start();
    let kills = vm.wait_for("killer: kills ", BOOT);
    let ended = vm.wait_for_next(&kills, "service prosody: ended: signal 9", SOON);
    let again = follow_backoff(&vm, "prosody", &ended, 1);
    vm.wait_for_next(&again, "service prosody: ready", BOOT);
    vm.stream_reply("prose.local", BOOT);
    // The killer was a task, and succeeded: it isn't repeated.
    assert_eq!(vm.lines_with("killer: kills ").len(), 1);
    assert_eq!(vm.lines_with("service killer: done").len(), 1);
}

#[test]
fn services_that_fail_are_named_and_harm_nobody() {
    let image = Image::with_layers(&["test-failing"]);
    let vm = Machine::direct(&image).expect("cannot exec").start();

    let first = vm.wait_for("stele-init: service exits: starting", BOOT);
    vm.wait_for_next(&first, "exits: about to fail", SOON);
    vm.wait_for_next(&first, "stele-init: service exits: ended: exit status 3", SOON);
    follow_backoff(&vm, "exits", &first, 3);

    for (service, errno) in [("no-interpreter", "ENOENT"), ("no-program", "ENOEXEC")] {
        let failure = format!(
            "stele-init: service {service}: cannot exec /usr/share/stele-test/{service}: {errno}"
        );
        vm.wait_for(&failure, SOON);
        let first = &vm.lines_with(&format!("service {service}: starting"))[0];
        follow_backoff(&vm, service, first, 2);
    }

    let late = vm.wait_for("stele-init: service never-ready: not ready in time", SOON);
    let ended = vm.wait_for_next(&late, "stele-init: service never-ready: ended: signal 9", SOON);
    vm.wait_for_next(&ended, "stele-init: service never-ready: backoff", SOON);

    vm.stream_reply("prose.local", BOOT);
    assert!(vm.lines_with("waits-for-failing: must not run").is_empty());
    assert!(vm.lines_with("service prosody: ended").is_empty());
    vm.wait_for("stele-init: service plain: ready", SOON);
    assert!(vm.lines_with("service plain: ended").is_empty());

    // And they don't keep the machine from ending well.
    vm.press_power_button();
    assert_eq!(vm.wait_for_end(SOON), "guest-shutdown");
}
