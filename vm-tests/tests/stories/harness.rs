//! The harness notices what goes wrong, says so, and keeps what shows it. (What it calls trouble,
//! and how it waits, is proved beside that code.)

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use vm_tests::images::Image;
use vm_tests::machine::Machine;
use vm_tests::{BOOT, disk, scratch};

/// The message of a story that waits for what never comes, and the folder that it leaves.
fn failed_story(machine: Machine) -> (String, PathBuf) {
    let mut left = PathBuf::new();
    let story = catch_unwind(AssertUnwindSafe(|| {
        let vm = machine.start();
        left = vm.folder().to_owned();
        vm.wait_for("what no machine says", BOOT);
    }));
    let message = story.expect_err("the story went well");
    (message.downcast_ref().cloned().unwrap_or_default(), left)
}

#[test]
fn a_story_that_fails_says_why_and_leaves_evidence() {
    let image = Image::release();
    let slot = disk::partition(&image.disk, "slot-a").unwrap();
    let table = [
        ("killed after its 2s", Machine::direct(&image).deadline(Duration::from_secs(2))),
        ("is corrupted`", Machine::direct(&image).flip(slot.offset())),
    ];
    for (cause, machine) in table {
        let (message, left) = failed_story(machine);
        assert!(message.contains("cannot see `what no machine says`"), "{message}");
        assert!(message.contains(cause), "{message}");
        for file in ["console.log", "qmp.log", "replay.sh", "disk0.img", "qemu-errors.txt"] {
            assert!(left.join(file).is_file(), "{file} is missing in {}", left.display());
        }
        scratch::forget(&left);
    }
}

#[test]
fn a_machine_is_gone_when_its_story_is_over() {
    let vm = Machine::direct(&Image::release()).start();
    let (process, folder) = (PathBuf::from(format!("/proc/{}", vm.pid())), vm.folder().to_owned());
    assert!(process.exists() && folder.exists());
    drop(vm);
    assert!(!process.exists(), "QEMU still runs");
    assert!(!Path::new(&folder).exists(), "a story that went well left {}", folder.display());
}
