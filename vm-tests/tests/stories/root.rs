//! The root can't be written, services have no rights, and what they say is heard. Seen from inside,
//! by a probe that the layer `test-probe` runs as a service's user and as root.

use vm_tests::images::Image;
use vm_tests::machine::Machine;
use vm_tests::{BOOT, SOON};

#[test]
fn the_root_is_read_only_and_services_have_no_rights() {
    let vm = Machine::direct(&Image::with_layers(&["test-probe"])).start();
    for (name, ids) in [("probe", "901 901 901 901"), ("probe-root", "0 0 0 0")] {
        let answers = vm.answers(name, BOOT);
        let of = |what: &str| answers.get(what).map_or("(no answer)", String::as_str);

        let writes: Vec<_> =
            answers.iter().filter(|(what, _)| what.starts_with("write ")).collect();
        assert_eq!(writes.len(), 10, "{answers:#?}");
        for (what, answer) in writes {
            let expected =
                if what.starts_with("write /tmp/") { "done" } else { "Read-only file system" };
            assert_eq!(answer, expected, "{name}: {what}");
        }
        let root = of("mount /");
        assert!(root.starts_with("/dev/dm-0 squashfs ro,"), "{name}: {root}");
        assert!(root.contains("nosuid") && root.contains("nodev"), "{name}: {root}");
        for place in ["/tmp", "/run", "/dev/shm"] {
            let mount = of(&format!("mount {place}"));
            assert!(mount.contains("nosuid") && mount.contains("noexec"), "{name}: {mount}");
        }

        assert_eq!((of("Uid"), of("Gid")), (ids, ids), "{name}");
        assert_eq!(of("Groups"), "none", "{name}");
        assert_eq!(of("NoNewPrivs"), "1", "{name}");
        assert_eq!(of("Umask"), "0027", "{name}");
        for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            assert_eq!(of(set), "0000000000000000", "{name}: {set}");
        }
    }
}

/// A line that is held back until the next one comes would never be seen when a machine hangs.
#[test]
fn what_is_said_last_is_on_the_console() {
    let vm = Machine::direct(&Image::with_layers(&["test-probe"])).start();
    vm.stream_reply("prose.local", BOOT);
    vm.wait_for("last-word: the last word", SOON);
}
