//! Who may not, what is wrong, what is hostile, and what dies.

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use vm_tests::host::{ADMIN, PASSWORD, Pod, each, jid, wait_for};
use vm_tests::server::Asked;

use crate::config::settings;

/// What only admins may, with a body that would be wrong.
fn admin_routes() -> Vec<(String, String)> {
    let mut routes: Vec<(String, String)> = [
        "PUT /v1/members/bob@example.org/role",
        "DELETE /v1/members/bob@example.org",
        "PATCH /v1/workspace",
        "PUT /v1/workspace/name",
        "PUT /v1/workspace/accent-color",
        "PUT /v1/workspace/icon",
        "GET /v1/network/dns/records",
        "GET /v1/network/checks",
        "GET /v1/network/checks/dns",
        "GET /v1/network/checks/ip",
        "GET /v1/network/checks/ports",
        "PUT /v1/server/config/file-storage-encryption-scheme",
        "GET /v1/pod/config",
        "GET /v1/pod/config/address",
        "GET /v1/dashboard/config",
        "GET /v1/dashboard/config/url",
        "DELETE /v1/server/config/files",
        "DELETE /v1/server/config/messaging",
        "DELETE /v1/server/config/push-notifications",
        "DELETE /v1/server/config/network-encryption",
        "DELETE /v1/server/config/server-federation",
    ]
    .iter()
    .map(|route| route.split_once(' ').unwrap())
    .map(|(method, path)| (method.to_owned(), path.to_owned()))
    .collect();
    for (setting, ..) in settings() {
        for method in ["GET", "PUT", "DELETE"] {
            routes.push((method.to_owned(), format!("/v1/server/config/{setting}")));
        }
    }
    routes
}

#[test]
fn c19_who_is_no_admin_is_refused_before_anything_is_read() {
    each(|pod| {
        pod.make_admin();
        let bob = pod.make_member("bob");
        for (method, path) in admin_routes() {
            for (token, status, error) in
                [(bob.as_str(), 403, "forbidden"), ("null", 401, "unauthorized")]
            {
                // Neither JSON nor declared to be.
                let asked = Asked::new(&method, &format!("/api{path}"), "{nonsense");
                let answer = pod.ask(&asked.bearer(token));
                assert_eq!((answer.status, answer.error()), (status, error), "{method} {path}");
                assert!(answer.body["message"].is_string(), "{answer:?}");
            }
        }
    });
}

#[test]
fn c31_each_way_of_being_wrong_has_its_status() {
    each(|pod| {
        let admin = pod.make_admin();
        let json = "application/json";
        let more = r#"{"username":"bob","password":"short","nickname":"B","more":[1]}"#;
        for (method, path, kind, body, status) in [
            ("PATCH", "/v1/workspace", json, "{\"name\":\"Acme\",\"unknown\":{}}", 200),
            ("PUT", "/v1/workspace/name", "application/vnd.x+json", "\"Acme\"", 200),
            ("PUT", "/v1/workspace/name", "application/json; charset=utf-8", "\"Acme\"", 200),
            ("PUT", "/v1/init/first-account", json, more, 400),
            ("PATCH", "/v1/workspace", json, "{\"name\":", 400),
            ("PUT", "/v1/workspace/name", json, "Acme", 400),
            ("PUT", "/v1/workspace/name", json, "", 400),
            ("PUT", "/v1/workspace/name", json, "\"\u{1}\"", 400),
            ("PUT", "/v1/workspace/name", "text/plain", "\"Acme\"", 415),
            ("PUT", "/v1/workspace/name", "", "\"Acme\"", 415),
            ("PUT", "/v1/init/first-account", "text/plain", more, 415),
            ("PATCH", "/v1/workspace", json, "[]", 422),
            ("PUT", "/v1/workspace/name", json, "[1]", 422),
            ("PUT", "/v1/server/config/tls-profile", json, "\"none\"", 422),
            ("PUT", "/v1/init/first-account", json, "{}", 422),
        ] {
            let asked = Asked::new(method, &format!("/api{path}"), body).bearer(&admin);
            let asked = match kind {
                "" => asked,
                kind => asked.with(&format!("Content-Type: {kind}")),
            };
            let answer = pod.ask(&asked);
            assert_eq!(answer.status, status, "{method} {path} {body:?}: {answer:?}");
            if status != 200 {
                assert_eq!(answer.header("content-type"), Some(json), "{answer:?}");
                assert!(answer.body["message"].is_string(), "{answer:?}");
            }
        }
        let long = "x".repeat(100_000);
        let answer = pod.put("/v1/workspace/name", &admin, json!(long));
        assert_eq!((answer.status, answer.error()), (413, "unknown"));
        for (method, path, status) in [
            ("GET", "/v1/nothing", 404),
            ("GET", "/v1/members/", 404),
            ("POST", "/v1/members", 405),
            ("GET", "/v1/login", 405),
        ] {
            let answer = pod.bare(method, path, &admin);
            assert_eq!((answer.status, answer.body), (status, json!("")), "{method} {path}");
        }
    });
}

/// What may mean something to a shell, to Lua, to XML, to SQL or to a terminal.
const HOSTILE: [&str; 9] = [
    "a\"]]--\\",
    "';DROP TABLE token;--",
    "]]>&lt;<x/>",
    "\" .. os.exit() .. \"",
    "]==] os.exit() --",
    "\\34;os.exit()",
    "$(id)`id`%s%n",
    "\u{202e}\u{fffd}ä😀",
    "{\"__hash\":[1]}",
];

#[test]
fn c32_hostile_texts_are_data_and_nothing_else() {
    each(|pod| {
        let admin = pod.make_admin();
        let started = pod.server().call("version", "{}").body["started"].clone();
        for text in HOSTILE {
            let nickname = pod.put("/v1/members/alice@example.org/nickname", &admin, json!(text));
            assert_eq!(nickname.status, 204, "{text}");
            let shown = &pod.get("/v1/members/alice@example.org", &admin).body["nickname"];
            assert_eq!(shown, text);
            let named = pod.put("/v1/workspace/name", &admin, json!(text));
            assert_eq!((named.status, named.body), (200, json!(text)));
            // As a name of an account, for which it is none or somebody else's.
            let path =
                |text: &str| text.bytes().map(|byte| format!("%{byte:02X}")).collect::<String>();
            let whom = format!("/v1/members/{}@example.org", path(text));
            for answer in [
                pod.get(&whom, &admin),
                pod.put(&format!("{whom}/role"), &admin, json!("ADMIN")),
                pod.delete(&whom, &admin),
                pod.try_log_in(&jid(text), text),
            ] {
                assert!((200..500).contains(&answer.status), "{text}: {answer:?}");
                assert!(!answer.body.to_string().contains("mod_stele"), "{answer:?}");
            }
            let role = pod.put("/v1/members/alice@example.org/role", &admin, json!(text));
            assert_eq!(role.status, 422);
        }
        // As a password, it is one; but signs that SASLprep has none of aren't.
        let is_known = |text: &&&str| text.is_ascii();
        for (number, text) in HOSTILE.iter().filter(is_known).enumerate() {
            let (name, password) = (format!("user{number}"), format!("{text} {PASSWORD}"));
            pod.make_account(&name, &password, "prosody:member");
            wait_for("a login", || {
                let status = pod.try_log_in(&jid(&name), &password).status;
                (status == 200).then_some(())
            });
            assert_eq!(pod.try_log_in(&jid(&name), PASSWORD).status, 401);
        }
        for text in ["a\nb", "a\0b", "a\rb", "a\u{7f}b"] {
            let nickname = pod.put("/v1/members/alice@example.org/nickname", &admin, json!(text));
            assert_eq!(nickname.status, 422, "{text:?}");
            assert_eq!(pod.put("/v1/workspace/name", &admin, json!(text)).status, 422, "{text:?}");
            assert_eq!(pod.try_log_in(&jid(ADMIN), text).status, 401, "{text:?}");
        }
        let now = pod.server().call("version", "{}").body["started"].clone();
        assert_eq!(now, started, "it is the same Prosody");
    });
}

#[test]
fn c29_whatever_is_restarted_it_recovers() {
    each(|pod| {
        let admin = pod.make_admin();
        let members = |pod: &Pod| -> Value {
            wait_for("the members", || {
                let answer = pod.get("/v1/members", &admin);
                (answer.status == 200).then_some(answer.body)
            })
        };
        let before = members(&pod);
        pod.restart_api();
        assert_eq!(members(&pod), before, "the API alone");
        pod.restart_server();
        assert_eq!(members(&pod), before, "Prosody alone");
        pod.server().stop();
        pod.api().kill();
        pod.restart_server();
        pod.restart_api();
        assert_eq!(members(&pod), before, "both");
        for bootstrap in ["another secret to begin with", "and yet another one"] {
            pod.reboot(bootstrap);
            assert_eq!(members(&pod), before, "both, with another secret to begin with");
            assert!(pod.init.is_open());
            assert_eq!(pod.server().call_with(bootstrap, "version", "{}").status, 401);
        }
        pod.session(ADMIN).ping();
    });
}

#[test]
fn c30_a_database_that_cannot_be_used_is_named_and_kept() {
    const DAMAGED: &[u8] = b"this was a database once";
    each(|pod| {
        let admin = pod.make_admin();
        let file = pod.data().join("pod.sqlite");
        pod.api().kill();
        let good = fs::read(&file).unwrap();
        let journals = ["pod.sqlite-wal", "pod.sqlite-shm"].map(|name| pod.data().join(name));
        let journals = journals.map(|path| (fs::read(&path).unwrap_or_default(), path));
        let lack = |file: &Path| {
            fs::remove_file(file).unwrap();
            fs::create_dir(file).unwrap();
        };
        let damage = |file: &Path| fs::write(file, DAMAGED.repeat(1000)).unwrap();
        for (spoil, is_folder) in [(&damage as &dyn Fn(&Path), false), (&lack, true)] {
            journals.iter().for_each(|(_, path)| drop(fs::remove_file(path)));
            spoil(&file);
            pod.api().restart().unwrap();
            let end = pod.api().end(Duration::from_secs(30)).unwrap();
            let log = pod.api().log();
            assert!(!end.success() && log.contains("error: cannot "), "{end}: {log}");
            assert!(log.contains("pod.sqlite"), "{log}");
            assert!(!log.contains("panicked"), "{log}");
            assert_eq!(file.is_dir(), is_folder);
        }
        fs::remove_dir(&file).unwrap();
        fs::write(&file, &good).unwrap();
        journals.iter().for_each(|(bytes, path)| fs::write(path, bytes).unwrap());
        pod.restart_api();
        assert_eq!(pod.get("/v1/members", &admin).status, 200, "nothing of it is lost");
    });
}
