//! Services are kept apart: what a layer doesn't grant, a service can't see, whoever it runs as.
//! Seen from inside, by a program that looks (`vm-tests/layers/test-isolation`).

use vm_tests::BOOT;
use vm_tests::images::{Change, Image};
use vm_tests::machine::Machine;

#[test]
fn the_servers_data_is_nowhere_in_another_services_namespace() {
    let vm = Machine::direct(&Image::with_layers(&["test-look", "test-isolation"])).start();
    for (name, is_granted) in [
        ("looks-as-another", false),
        ("looks-as-the-server", false),
        ("looks-as-root", false),
        ("looks-with-a-grant", true),
    ] {
        let answers = vm.answers(name, BOOT);
        let of = |what: &str| answers.get(what).map_or("(no answer)", String::as_str);
        let nothing_but_a_grant = |granted| if is_granted { granted } else { "nothing" };
        let no_file = "No such file or directory";
        for (what, expected) in [
            ("/var/lib/prosody", nothing_but_a_grant("self-signed.crt self-signed.key")),
            ("/etc/prosody", "nothing"),
            ("/etc/prose", "nothing"),
            ("/run", "net"),
            ("/run/stele", no_file),
            ("/run/prosody", no_file),
            ("/sys", "nothing"),
            ("/dev", "fd full null random shm stderr stdin stdout urandom zero"),
            ("processes", "1"),
            ("kernel", "nothing"),
            ("signals reach", "itself"),
            ("read the key", if is_granted { "done" } else { no_file }),
            ("read the configuration", no_file),
            ("read the operator's secret", no_file),
            ("reach the admin console", "connection refused"),
            ("write there", "Read-only file system"),
            ("read init's memory", no_file),
            ("open the disk", no_file),
            ("keep something in /tmp", no_file),
            ("write in /tmp", "done"),
        ] {
            // What the Server itself has made there by then is its own affair.
            let found = of(what).replace("prose%2elocal ", "");
            assert_eq!(found, expected, "{name}: {what}");
        }
    }
    // Who lives there is not impressed.
    vm.stream_reply("prose.local", BOOT);
    assert!(vm.lines_with("service prosody: ended").is_empty());
}

/// Whoever takes over the Pod API has its user, its namespace and its grants. This one does nothing but
/// look.
#[test]
fn a_pod_api_that_was_taken_over_reaches_nothing_of_the_servers() {
    let change = Change {
        layer: "pod-api",
        file: "layer.toml",
        from: "run = [\"/usr/bin/pod-api\"]",
        to: "run = [\"/usr/bin/lua5.4\", \"/usr/share/stele-test/look.lua\"]",
    };
    let image = Image::pod("api-probe", &["test-look", "test-api-probe"], &[change]);
    let vm = Machine::direct(&image).start();
    let answers = vm.answers("pod-api", BOOT);
    let no_file = "No such file or directory";
    for (what, expected) in [
        ("/var/lib/prosody", "nothing"),
        ("/etc/prosody", "nothing"),
        ("/etc/prose", "nothing"),
        ("/run", "credentials net pod-api stele"),
        ("/run/stele", "control.sock"),
        ("/run/prosody", no_file),
        ("/sys", "nothing"),
        ("processes", "1"),
        ("signals reach", "itself"),
        ("read the key", no_file),
        ("read the configuration", no_file),
        ("read the operator's secret", no_file),
        ("reach the admin socket", no_file),
        ("reach the admin console", "connection refused"),
        ("write there", "Read-only file system"),
        ("read init's memory", no_file),
        ("open the disk", no_file),
    ] {
        assert_eq!(answers.get(what).map(String::as_str), Some(expected), "{what}: {answers:?}");
    }
    // Of init it may have what a Pod API needs, and no more.
    for name in ["api-asks-state", "api-asks-logs", "api-asks-restart", "api-asks-power-off"] {
        let asked = vm.wait_for(&format!("{name}: "), BOOT);
        vm.wait_for_next(&asked, "\"refused\": \"forbidden\"", BOOT);
    }
    assert!(vm.lines_with("gate: open").is_empty());
}
