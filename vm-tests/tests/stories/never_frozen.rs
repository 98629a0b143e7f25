//! PID 1 doesn't freeze: a bug in it restarts the machine within seconds, a hang is ended by the
//! watchdog, and the next boot knows why. Shown with a mutant that fails when it is told to.

use std::time::Duration;

use vm_tests::disk::Kept;
use vm_tests::images::{Change, Image};
use vm_tests::machine::{DISK, Machine};
use vm_tests::mutant::Edit;
use vm_tests::{BOOT, SOON};

/// The loop fails a moment after it has begun, as the kernel's command line says; the watchdogs are
/// quicker than those that are shipped, so that this is over soon.
const EDITS: [Edit; 5] = [
    Edit {
        file: "src/init/event_loop.rs",
        from: "        if now >= self.feed_at {\n",
        to: "        if now >= self.feed_at && self.feed_at != Moment::ZERO {\n            \
             let told = std::fs::read_to_string(\"/proc/cmdline\").unwrap_or_default();\n            \
             match told.trim_end().rsplit(' ').next() {\n                \
             Some(\"panics\") => panic!(\"a mutant\"),\n                \
             Some(\"faults\") => drop(nix::sys::signal::raise(nix::sys::signal::SIGSEGV)),\n                \
             Some(\"aborts\") => std::process::abort(),\n                \
             Some(\"hangs\") => loop { std::hint::spin_loop() },\n                \
             _ => {}\n            }\n        }\n        \
             if now >= self.feed_at {\n",
    },
    Edit {
        file: "src/init/end.rs",
        from: "fn restart(mode: RebootMode) -> ! {\n",
        to: "fn restart(mode: RebootMode) -> ! {\n    \
             let told = std::fs::read_to_string(\"/proc/cmdline\").unwrap_or_default();\n    \
             while told.trim_end().ends_with(\" hangs-at-the-end\") { std::hint::spin_loop() }\n",
    },
    Edit {
        file: "src/init/root.rs",
        from: "    watchdog::take_over();\n",
        to: "    watchdog::take_over();\n    \
             let told = std::fs::read_to_string(\"/proc/cmdline\").unwrap_or_default();\n    \
             while told.trim_end().ends_with(\" hangs-in-setup\") { std::hint::spin_loop() }\n",
    },
    Edit {
        file: "src/init/watchdog.rs",
        from: "pub const LONG: Duration = Duration::from_secs(60);",
        to: "pub const LONG: Duration = Duration::from_secs(20);",
    },
    Edit {
        file: "src/init/watchdog.rs",
        from: "pub const SHORT: Duration = Duration::from_secs(30);",
        to: "pub const SHORT: Duration = Duration::from_secs(10);",
    },
];

/// The kernel of the cloud has no watchdog for QEMU's hardware, but one of its own.
fn image() -> Image {
    let change = Change {
        layer: "kernel-cloud",
        file: "layer.toml",
        from: "initrd = [\"i6300esb?\"",
        to: "initrd = [\"softdog\", \"i6300esb?\"",
    };
    Image::mutant("never-frozen", &[], &[change], &EDITS)
}

#[test]
fn a_bug_in_pid_1_restarts_the_machine_and_its_reason_is_kept() {
    let image = image();
    let told = "stele-init: root: the last boot failed";
    for (fault, trouble, reason) in [
        ("panics", "internal error:", "(phase running): internal error: "),
        ("faults", "fatal signal", "fatal signal: segmentation fault"),
        ("aborts", "fatal signal", "fatal signal: abort"),
    ] {
        let disk = Kept::of(&image, DISK);
        let vm = Machine::direct(&image).on(&disk).say(fault).expect(trouble).start();
        let seen = vm.wait_for(trouble, BOOT);
        assert_eq!(vm.wait_for_end(SOON), "guest-reset", "{fault}");
        assert!(vm.age().0 - seen.at < Duration::from_secs(10), "{fault}");
        drop(vm);

        let vm = Machine::direct(&image).on(&disk).expect(trouble).start();
        let line = vm.wait_for(told, BOOT);
        assert!(line.text.contains(reason), "{line}");
        if fault != "panics" {
            continue;
        }
        // It is no reason not to serve; and it is told once.
        vm.wait_for("stele-init: service prosody: ready", BOOT);
        vm.power_off(SOON);
        let vm = Machine::direct(&image).on(&disk).start();
        vm.wait_for("stele-init: root: starts", BOOT);
        assert!(vm.lines_with(told).is_empty());
    }
}

#[test]
fn a_hang_anywhere_is_ended_by_the_watchdog() {
    let image = image();
    for fault in ["hangs-in-setup", "hangs", "hangs-at-the-end"] {
        let vm = Machine::direct(&image).say(fault).start();
        vm.wait_for("stele-init: initrd: watchdog Software Watchdog armed", BOOT);
        if fault == "hangs-at-the-end" {
            vm.wait_for("stele-init: root: starts", BOOT);
            vm.press_power_button();
            vm.wait_for("stele-init: system: powers off", SOON);
        }
        // Not `guest-shutdown`, even if that is what it hung in.
        assert_eq!(vm.wait_for_end(BOOT), "guest-reset", "{fault}");
    }
    // The control: who doesn't hang isn't bitten, neither while the loop runs nor at the end.
    let vm = Machine::direct(&image).start();
    vm.wait_for("stele-init: service prosody: ready", BOOT);
    vm.must_live_for(Duration::from_secs(15));
    vm.power_off(SOON);
}
