//! The factory reset, and backups: with the very program that writes and reads them. What becomes of
//! them when the power goes is in `tests/stories/backup.rs`.

use serde_json::{Value, json};
use vm_tests::host::{ADMIN, PASSWORD, Pod, each, jid, wait_for};
use vm_tests::server::{Answer, Asked};

const PATH: &str = "/v1/backups";
const PASSPHRASE: &str = "a passphrase that is nowhere else";
const NEEDLE: &str = "a message that outlives its Pod";
const UPLOADED: &str = "/v1/backups/kept.tar.zst.age";
const SETTING: &str = "/v1/server/config/message-archive-retention";

fn reset(pod: &Pod, token: &str, body: &Value) -> Answer {
    pod.send("DELETE", "/", token, body.clone())
}

/// Both steps; returns when the Pod serves again.
fn factory_reset(pod: &Pod, admin: &str) -> Value {
    let offered = reset(pod, admin, &json!({"password": PASSWORD}));
    assert_eq!(offered.status, 202, "{offered:?}");
    let done = reset(pod, admin, &offered.body);
    assert_eq!((done.status, done.body), (205, json!("")));
    pod.wait_until_healthy();
    offered.body
}

#[test]
fn c28_a_factory_reset_takes_ones_password_and_then_its_code() {
    each(|pod| {
        let admin = pod.make_admin();
        let bob = pod.make_member("bob");
        assert_eq!(pod.put(SETTING, &admin, json!("P1Y")).status, 200);
        let password = |text: &str| json!({"password": text});
        let code = |text: &str| json!({"confirmation": text});
        let refuses = |token: &str, body: Value, status: u16, error: &str| {
            let answer = reset(&pod, token, &body);
            assert_eq!((answer.status, answer.error()), (status, error), "{body}");
        };
        refuses("", password(PASSWORD), 401, "unauthorized");
        refuses(&bob, password(PASSWORD), 403, "forbidden");
        refuses(&admin, password("not the right one"), 401, "invalid_credentials");
        refuses(&admin, json!({}), 422, "unknown");
        refuses(&admin, code("0123456789abcdef"), 400, "invalid_confirmation_code");
        let offered = reset(&pod, &admin, &password(PASSWORD));
        assert_eq!(offered.status, 202, "{offered:?}");
        assert_eq!(offered.body["confirmation"].as_str().map(str::len), Some(16));
        refuses(&admin, code("0123456789abcdef"), 400, "invalid_confirmation_code");
        refuses(&admin, code("0123"), 422, "unknown");
        refuses(&bob, offered.body.clone(), 403, "forbidden");
        assert_eq!(pod.get("/v1/members", &admin).status, 200, "nothing has happened yet");

        let done = reset(&pod, &admin, &offered.body);
        assert_eq!((done.status, done.body), (205, json!("")));
        pod.wait_until_healthy();
        assert_eq!(pod.head("/v1/init/first-account", "").status, 204);
        let exists = Asked::new("HEAD", "/api/v1/workspace", "").with("If-Match: *");
        assert_eq!(pod.ask(&exists).status, 412);
        assert_eq!(pod.get("/v1/members", &admin).status, 401);
        for name in [ADMIN, "bob"] {
            assert_eq!(pod.try_log_in(&jid(name), PASSWORD).status, 401, "{name}");
        }
        // Everybody may begin anew, and finds what the operator wrote.
        let admin = pod.make_admin();
        refuses(&admin, offered.body, 400, "invalid_confirmation_code");
        assert_eq!(pod.get(SETTING, &admin).body, "infinite");
        let members = pod.get("/v1/members", &admin);
        assert_eq!(members.header("pagination-item-count"), Some("1"));
        pod.session(ADMIN).ping();
    });
}

/// Makes one; returns its name and its bytes.
fn back_up(pod: &Pod, admin: &str) -> (String, Vec<u8>) {
    let wish = json!({"description": "Before it all ends", "passphrase": PASSPHRASE});
    let made = pod.send("POST", PATH, admin, wish);
    assert_eq!((made.status, &made.body["is_intact"]), (201, &json!(true)), "{made:?}");
    let id = made.body["id"].as_str().unwrap().to_owned();
    let offered = pod.get(&format!("{PATH}/{id}/download"), admin);
    let place = offered.header("location").unwrap_or_else(|| panic!("{offered:?}"));
    let place = place.strip_prefix("../../").unwrap_or_else(|| panic!("{offered:?}"));
    let (status, bytes) = Asked::get(&format!("/api/v1/{place}")).fetch(pod.address()).unwrap();
    assert_eq!((offered.status, status), (303, 200));
    assert_eq!(made.body["size_bytes"], bytes.len());
    (id, bytes)
}

#[test]
fn a_backup_brings_back_what_was_given_up() {
    each(|pod| {
        let before = pod.make_admin();
        let mut alice = pod.session(ADMIN);
        alice.message("alice@example.org", NEEDLE);
        alice.wait_for("message", NEEDLE).unwrap();
        assert_eq!(pod.put(SETTING, &before, json!("P1Y")).status, 200);
        let (id, bytes) = back_up(&pod, &before);
        alice.ping();
        for plain in [NEEDLE, ADMIN, "example.org", PASSPHRASE] {
            assert!(!bytes.windows(plain.len()).any(|it| it == plain.as_bytes()), "{plain}");
        }
        factory_reset(&pod, &before);
        let admin = pod.make_admin();
        // It is there still, and the one that was taken away is taken in again.
        let all = pod.get(PATH, &admin);
        assert_eq!(all.body[0]["id"], id, "{all:?}");
        let upload = Asked::new("PUT", &format!("/api{UPLOADED}"), &bytes).bearer(&admin);
        let upload = upload.with("Content-Type: application/octet-stream");
        assert_eq!(pod.ask(&upload).status, 201);
        let restore = |body: &Value| pod.put(&format!("{UPLOADED}/restore"), &admin, body.clone());
        for (body, status, error) in [
            (json!({"passphrase": "not the right one"}), 400, "invalid_backup_key"),
            (json!({"confirmation": "0123456789abcdef"}), 400, "invalid_confirmation_code"),
            (json!({"confirmation": "0123"}), 422, "unknown"),
        ] {
            let answer = restore(&body);
            assert_eq!((answer.status, answer.error()), (status, error), "{body}");
        }
        let offered = restore(&json!({"passphrase": PASSPHRASE}));
        assert_eq!(offered.status, 202, "{offered:?}");
        assert_eq!(pod.get(SETTING, &admin).body, "infinite", "nothing has happened yet");
        let done = restore(&offered.body);
        assert_eq!((done.status, done.body), (205, json!("")));
        pod.wait_until_healthy();
        // All as it was: even who was logged in.
        assert_eq!(pod.get("/v1/members", &admin).status, 401);
        assert_eq!(pod.get(SETTING, &before).body, "P1Y");
        let mut alice = pod.session(ADMIN);
        wait_for("the old messages", || {
            let archive = alice.archive().unwrap_or_default();
            archive.contains(&NEEDLE.into()).then_some(())
        });
        assert_eq!(pod.get(PATH, &before).body.as_array().map(Vec::len), Some(2));
    });
}

#[test]
fn backups_are_described_and_deleted_and_what_is_none_is_refused() {
    each(|pod| {
        let admin = pod.make_admin();
        let (id, bytes) = back_up(&pod, &admin);
        let one = format!("{PATH}/{id}");
        let described = pod.send("PATCH", &one, &admin, json!({"description": "Another"}));
        assert_eq!((described.status, &described.body["description"]), (200, &json!("Another")));
        assert_eq!(pod.get(&one, &admin).body, described.body);
        let put = |name: &str, bytes: &[u8]| {
            let asked = Asked::new("PUT", &format!("/api{PATH}/{name}"), bytes).bearer(&admin);
            pod.ask(&asked.with("Content-Type: application/octet-stream"))
        };
        for (name, bytes, error) in [
            ("x.tar.zst.age", &b"no backup"[..], "backup_damaged"),
            (&id, &bytes, "unknown"),
            ("x.tar", &bytes, "unknown"),
        ] {
            let answer = put(name, bytes);
            assert_eq!((answer.status, answer.error()), (422, error), "{name}");
        }
        // One that breaks off is no backup, however it begins.
        let torn = put("torn.tar.zst.age", &bytes[..bytes.len() - 1]);
        assert_eq!(torn.status, 201, "{torn:?}");
        let wish = json!({"passphrase": PASSPHRASE});
        let answer = pod.put(&format!("{PATH}/torn.tar.zst.age/restore"), &admin, wish);
        assert_eq!((answer.status, answer.error()), (422, "backup_damaged"));
        let both = format!("{PATH}?ids={id}&ids=nothing.tar.zst.age");
        assert_eq!(pod.delete(&both, &admin).error(), "backup_not_found");
        assert_eq!(pod.get(&one, &admin).status, 200, "all of them, or none");
        assert_eq!(pod.delete(&one, &admin).status, 204);
        assert_eq!(pod.get(&one, &admin).error(), "backup_not_found");
        for (token, status) in [("", 401), (pod.make_member("bob").as_str(), 403)] {
            assert_eq!(pod.get(PATH, token).status, status);
            assert_eq!(pod.send("POST", PATH, token, json!("anything")).status, status);
        }
    });
}
