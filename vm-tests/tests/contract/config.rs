//! The Server's configuration: each setting, each group, and what a running Prosody and those who are
//! connected to it notice.

use serde_json::{Value, json};
use vm_tests::host::{ADMIN, Pod, each, wait_for};

const PATH: &str = "/v1/server/config";
/// Each setting: where it is, its default, another value, and its canonical form.
pub fn settings() -> [(&'static str, Value, Value, Value); 10] {
    let same = |path, default: Value, other: Value| (path, default, other.clone(), other);
    [
        same("message-archive-enabled", json!(true), json!(false)),
        same("message-archive-retention", json!("infinite"), json!("P1Y")),
        same("file-upload-allowed", json!(true), json!(false)),
        ("file-storage-retention", json!("infinite"), json!("P2W"), json!("P14D")),
        same("push-notification-with-body", json!(true), json!(false)),
        same("push-notification-with-sender", json!(true), json!(false)),
        same("tls-profile", json!("modern"), json!("intermediate")),
        same("federation-enabled", json!(false), json!(true)),
        same("federation-whitelist-enabled", json!(false), json!(true)),
        same("federation-friendly-servers", json!([]), json!(["b.example", "a.example"])),
    ]
}

/// Each group, and what is in it.
const GROUPS: [(&str, &[&str]); 5] = [
    ("messaging", &["message-archive-enabled", "message-archive-retention"]),
    ("files", &["file-upload-allowed", "file-storage-retention"]),
    ("push-notifications", &["push-notification-with-body", "push-notification-with-sender"]),
    ("network-encryption", &["tls-profile"]),
    (
        "server-federation",
        &["federation-enabled", "federation-whitelist-enabled", "federation-friendly-servers"],
    ),
];

fn put(pod: &Pod, admin: &str, setting: &str, value: Value) {
    let answer = pod.put(&format!("{PATH}/{setting}"), admin, value.clone());
    assert_eq!((answer.status, &answer.body), (200, &value), "{setting}");
}

/// Names of modules at a host; none, if there is no such host.
fn modules(pod: &Pod, host: &str) -> Vec<String> {
    let answer = pod.server().call("modules", "{}");
    let names = answer.body["modules"][host].as_array().cloned().unwrap_or_default();
    names.iter().map(|name| name.as_str().unwrap().to_owned()).collect()
}

#[test]
fn each_setting_is_chosen_read_and_reset_while_a_client_stays() {
    each(|pod| {
        let admin = pod.make_admin();
        let mut alice = pod.session(ADMIN);
        for (setting, default, other, canonical) in settings() {
            let path = format!("{PATH}/{setting}");
            assert_eq!(pod.get(&path, &admin).body, default, "{setting}");
            let chosen = pod.put(&path, &admin, other);
            assert_eq!((chosen.status, &chosen.body), (200, &canonical), "{setting}");
            alice.ping();
            let key = setting.replace('-', "_");
            assert_eq!(pod.get(PATH, &admin).body[&key], canonical, "{setting}");
            assert_eq!(pod.get(&path, &admin).body, canonical, "{setting}");
            let reset = pod.delete(&path, &admin);
            assert_eq!((reset.status, &reset.body), (200, &default), "{setting}");
            alice.ping();
        }
        // The first stream of all is still that one.
        alice.message("alice@example.org", "still here");
        alice.wait_for("message", "still here").unwrap();
    });
}

#[test]
fn c17_a_group_is_reset_as_a_whole() {
    each(|pod| {
        let admin = pod.make_admin();
        for (group, members) in GROUPS {
            for (setting, _, other, _) in settings() {
                assert_eq!(pod.put(&format!("{PATH}/{setting}"), &admin, other).status, 200);
            }
            let reset = pod.delete(&format!("{PATH}/{group}"), &admin);
            assert_eq!((reset.status, reset.header("content-location")), (200, Some(PATH)));
            assert_eq!(reset.body, pod.get(PATH, &admin).body, "{group}");
            for (setting, default, _, canonical) in settings() {
                let expected = if members.contains(&setting) { default } else { canonical };
                assert_eq!(reset.body[setting.replace('-', "_")], expected, "{group} {setting}");
            }
        }
    });
}

#[test]
fn c18_the_same_again_reloads_nothing() {
    each(|pod| {
        let admin = pod.make_admin();
        for (setting, default, other, _) in settings() {
            let path = format!("{PATH}/{setting}");
            let counts = [&default, &default, &other, &other].map(|value| {
                let before = pod.init.submissions();
                assert_eq!(pod.put(&path, &admin, value.clone()).status, 200, "{setting}");
                pod.init.submissions() - before
            });
            assert_eq!(counts, [0, 0, 1, 0], "{setting}");
            assert_eq!(pod.delete(&path, &admin).status, 200);
            let before = pod.init.submissions();
            assert_eq!(pod.delete(&path, &admin).body, default);
            assert_eq!(pod.init.submissions(), before, "{setting}");
        }
    });
}

#[test]
fn uploads_that_are_switched_off_are_gone_for_clients() {
    each(|pod| {
        let admin = pod.make_admin();
        let mut alice = pod.session(ADMIN);
        let items = "<query xmlns='http://jabber.org/protocol/disco#items'/>";
        let mut is_offered = || {
            let items = alice.iq("get", "example.org", items).unwrap();
            items.contains("upload.example.org")
        };
        assert!(is_offered());
        for (value, expected) in [(false, false), (true, true)] {
            put(&pod, &admin, "file-upload-allowed", json!(value));
            wait_for("its effect", || (is_offered() == expected).then_some(()));
        }
        // One that had asked before is refused a place, or gets one again.
        let slot = "<request xmlns='urn:xmpp:http:upload:0' filename='a.txt' size='3'/>";
        alice.iq("get", "upload.example.org", slot).unwrap();
        put(&pod, &admin, "file-upload-allowed", json!(false));
        wait_for("its end", || modules(&pod, "upload.example.org").is_empty().then_some(()));
        alice.iq("get", "upload.example.org", slot).unwrap_err();
    });
}

#[test]
fn an_archive_that_is_switched_off_takes_and_gives_nothing() {
    each(|pod| {
        let admin = pod.make_admin();
        let mut alice = pod.session(ADMIN);
        let mut say = |body: &str| {
            alice.message("alice@example.org", body);
            alice.wait_for("message", body).unwrap();
        };
        say("kept");
        put(&pod, &admin, "message-archive-enabled", json!(false));
        let has_archive = || modules(&pod, "example.org").contains(&"mam".to_owned());
        wait_for("the end of the archive", || (!has_archive()).then_some(()));
        say("not kept");
        let archive = "<query xmlns='urn:xmpp:mam:2' queryid='q'/>";
        alice.iq("set", "", archive).unwrap_err();
        put(&pod, &admin, "message-archive-enabled", json!(true));
        wait_for("an archive", || has_archive().then_some(()));
        let archive = alice.archive().unwrap();
        assert!(archive.contains(&"kept".into()) && !archive.contains(&"not kept".into()));
    });
}

#[test]
fn federation_begins_and_ends_with_its_setting() {
    each(|pod| {
        let admin = pod.make_admin();
        let mut alice = pod.session(ADMIN);
        let is_federated = || modules(&pod, "example.org").contains(&"s2s".to_owned());
        assert!(!is_federated());
        // In the Dashboard's order: the list first, while there is no federation.
        put(&pod, &admin, "federation-friendly-servers", json!(["friend.example"]));
        put(&pod, &admin, "federation-enabled", json!(true));
        wait_for("federation", || is_federated().then_some(()));
        for (method, setting) in
            [("DELETE", "federation-friendly-servers"), ("DELETE", "federation-enabled")]
        {
            assert_eq!(pod.bare(method, &format!("{PATH}/{setting}"), &admin).status, 200);
        }
        wait_for("its end", || (!is_federated()).then_some(()));
        alice.ping();
    });
}

#[test]
fn what_is_no_value_is_refused_and_changes_nothing() {
    each(|pod| {
        let admin = pod.make_admin();
        let before = (pod.get(PATH, &admin).body, pod.init.submissions());
        for (setting, value) in [
            ("message-archive-enabled", json!("yes")),
            ("message-archive-enabled", json!(null)),
            ("message-archive-retention", json!("PT5S")),
            ("message-archive-retention", json!("P0D")),
            ("message-archive-retention", json!("P1Y6M")),
            ("message-archive-retention", json!("forever")),
            ("file-storage-retention", json!(14)),
            ("tls-profile", json!("ancient")),
            ("federation-friendly-servers", json!("a.example")),
            ("federation-friendly-servers", json!(["a.example", "a.example"])),
            ("federation-friendly-servers", json!(["]] os.exit() --"])),
        ] {
            let answer = pod.put(&format!("{PATH}/{setting}"), &admin, value.clone());
            assert_eq!((answer.status, answer.error()), (422, "unknown"), "{setting} {value}");
        }
        let scheme = format!("{PATH}/file-storage-encryption-scheme");
        let answer = pod.put(&scheme, &admin, json!("AES-256"));
        assert_eq!((answer.status, answer.error()), (501, "not_implemented"));
        assert_eq!(before, (pod.get(PATH, &admin).body, pod.init.submissions()));
    });
}
