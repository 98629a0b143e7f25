//! Services that fail are started again, ever later, and harm nobody else.

use std::time::Duration;

use vm_tests::console::Line;
use vm_tests::images::{Change, Image};
use vm_tests::machine::Machine;
use vm_tests::vm::Vm;
use vm_tests::{BOOT, SOON};

/// Follows a service through `count` failures after the line `from`: the backoff doubles from half
/// a second on, and it isn't started before that is over.
fn follow_backoff(vm: &Vm, service: &str, from: &Line, count: u32) -> Line {
    (0..count).fold(from.clone(), |last, failure| follow_one(vm, service, &last, failure))
}

/// Follows a service through its failure of this number, from 0, after the line `from`.
fn follow_one(vm: &Vm, service: &str, from: &Line, failure: u32) -> Line {
    let seconds = 0.5 * f64::from(1 << failure);
    let text = format!("service {service}: backoff {seconds:.1} s");
    let backoff = vm.wait_for_next(from, &text, SOON);
    let start = vm.wait_for_next(&backoff, &format!("service {service}: starting"), SOON);
    let waited = start.stamp().unwrap() - backoff.stamp().unwrap();
    // The stamps are taken a little after the timer is set.
    assert!(waited.as_secs_f64() > seconds - 0.1, "{service} was started after {waited:?}");
    start
}

/// The Server undoes itself in these ways, one a start; it is asked often whether it is alive, and
/// has only so much memory that a leak is over soon.
fn image_with(name: &str, faults: &str) -> Image {
    let change = |file, from, to| Change { layer: "prosody-alone", file, from, to };
    let host = "\nVirtualHost \"prose.local\"\n";
    let module = format!(
        "{host}  modules_enabled = {{ \"test_faults\" }}\n  test_faults = {{ {faults} }}\n"
    );
    let (first, every) = ("daemonize = false\n", "every = \"60s\", within = \"30s\"");
    let paths = format!("plugin_paths = {{ \"/usr/share/stele-test\" }}\n{first}");
    let changes = [
        change("prosody.cfg.lua", first, &paths),
        change("prosody.cfg.lua", host, &module),
        change("layer.toml", every, "every = \"2s\", within = \"5s\""),
        change("layer.toml", "memory = \"60%\"", "memory = \"96 MiB\""),
    ];
    Image::changed(name, &["test-faults"], &changes)
}

/// The bystander goes on, and was never disturbed.
fn bystander_must_be_well(vm: &Vm) {
    let last = vm.lines_with("bystander: undisturbed").last().expect("it says so").clone();
    vm.wait_for_next(&last, "bystander: undisturbed", SOON);
    assert_eq!(vm.lines_with("service bystander: ").len(), 2, "it starts, it is ready");
    // Whatever happened, it has never waited long for the processor.
    let stamps = vm.lines_with("bystander: undisturbed");
    let stamps: Vec<Duration> = stamps.iter().filter_map(Line::stamp).collect();
    let longest = stamps.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default();
    assert!(longest < Duration::from_secs(5), "it was silent for {longest:?}");
}

#[test]
fn a_server_that_is_killed_suspended_or_leaks_is_started_again() {
    let image = image_with("faults-1", "\"killed\", \"suspended\", \"leaking\"");
    // The kernel's own account of a process that it kills has one.
    let vm = Machine::direct(&image).expect("Call Trace:").deadline(3 * BOOT).start();
    let fault = vm.wait_for("fault: killed", BOOT);
    let ended = vm.wait_for_next(&fault, "service prosody: ended: signal 9", SOON);
    let start = follow_one(&vm, "prosody", &ended, 0);

    let fault = vm.wait_for_next(&start, "fault: suspended", BOOT);
    let seen = vm.wait_for_next(&fault, "service prosody: suspended by a signal", SOON);
    let ended = vm.wait_for_next(&seen, "service prosody: ended: signal 9", SOON);
    let start = follow_one(&vm, "prosody", &ended, 1);

    let fault = vm.wait_for_next(&start, "fault: leaking", BOOT);
    let seen = "service prosody: killed: out of the memory it may take";
    let seen = vm.wait_for_next(&fault, seen, SOON);
    let start = follow_one(&vm, "prosody", &seen, 2);

    vm.wait_for_next(&start, "service prosody: ready", BOOT);
    vm.stream_reply("prose.local", BOOT);
    bystander_must_be_well(&vm);
}

#[test]
fn a_server_that_loops_or_forks_without_end_is_killed_whole_and_started_again() {
    let image = image_with("faults-2", "\"looping\", \"forking\"");
    let vm = Machine::direct(&image).deadline(3 * BOOT).start();
    let fault = vm.wait_for("fault: looping", BOOT);
    let seen = vm.wait_for_next(&fault, "service prosody: gives no answer", SOON);
    let ended = vm.wait_for_next(&seen, "service prosody: ended: signal 9", SOON);
    let start = follow_one(&vm, "prosody", &ended, 0);

    let fault = vm.wait_for_next(&start, "fault: forking", BOOT);
    let seen = vm.wait_for_next(&fault, "service prosody: gives no answer", BOOT);
    let seen = vm.wait_for_next(&seen, "service prosody: met its limit of 32 processes", SOON);
    let start = follow_one(&vm, "prosody", &seen, 1);

    vm.wait_for_next(&start, "service prosody: ready", BOOT);
    vm.stream_reply("prose.local", BOOT);
    bystander_must_be_well(&vm);
}

#[test]
fn services_that_fail_are_named_and_harm_nobody() {
    let image = Image::with_layers(&["test-failing"]);
    let vm = Machine::direct(&image).expect("cannot exec").start();

    let first = vm.wait_for("stele-init: service exits: starting", BOOT);
    vm.wait_for_next(&first, "exits: about to fail", SOON);
    vm.wait_for_next(&first, "stele-init: service exits: ended: exit status 3", SOON);
    let fifth = follow_backoff(&vm, "exits", &first, 4);
    vm.wait_for_next(&fifth, "service exits: crash-loop, tried again in 60 s", SOON);

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
    vm.power_off(SOON);
}
