//! First start and initialisation, as the Dashboard goes about it.

use serde_json::json;
use vm_tests::host::{ADMIN, PASSWORD, Pod, each, jid};
use vm_tests::server::{Answer, Asked};

/// `HEAD /v1/workspace` with these `If-Match` fields.
fn workspace_exists(pod: &Pod, fields: &[&str]) -> Answer {
    let asked = Asked::new("HEAD", "/api/v1/workspace", "");
    pod.ask(&fields.iter().fold(asked, |asked, it| asked.with(&format!("If-Match: {it}"))))
}

fn first_account(name: &str) -> serde_json::Value {
    json!({"username": name, "password": PASSWORD, "nickname": "Alice"})
}

#[test]
fn the_dashboard_starts_for_the_first_time() {
    each(|pod| {
        assert_eq!(workspace_exists(&pod, &["*"]).status, 412);
        // The badge, as nobody: axios says so in its way.
        let workspace = pod.get("/v1/workspace", "null");
        let expected = json!({"name": "example.org", "icon": null, "accent_color": null});
        assert_eq!((workspace.status, workspace.body), (200, expected));
        let versions = pod.get("/pod/version", "null");
        assert_eq!(versions.status, 200);
        let runs = versions.body["server"]["version"].as_str().unwrap();
        assert_eq!(runs.starts_with("0.12"), pod.version() == super::OLDER, "{runs}");
        let config = pod.get("/v1/server/config", "null");
        assert_eq!((config.status, config.body), (200, json!({"domain": "example.org"})));
        // Step 1.
        let named = pod.put("/v1/workspace", "null", json!({"name": "Acme"}));
        assert_eq!((named.status, named.header("location")), (201, Some("/v1/workspace")));
        assert_eq!(workspace_exists(&pod, &["*"]).status, 204);
        assert_eq!(pod.head("/v1/init/first-account", "null").status, 204);
        // Step 2, and the login that follows by itself.
        let made = pod.put("/v1/init/first-account", "null", first_account(ADMIN));
        assert_eq!(made.status, 201, "{made:?}");
        assert_eq!(made.header("location"), Some("/v1/members/alice@example.org"));
        assert_eq!(made.body, json!({"jid": jid(ADMIN), "role": "ADMIN"}));
        let login = pod.try_log_in(&jid(ADMIN), PASSWORD);
        let token = login.body["token"].as_str().unwrap();
        let profile = pod.get("/v1/members/alice@example.org", token);
        assert_eq!((profile.status, &profile.body["nickname"]), (200, &json!("Alice")));
        assert_eq!(pod.head("/v1/init/first-account", "").status, 200);
        // The account is one for chatting, too.
        pod.session(ADMIN).ping();
    });
}

#[test]
fn c02_head_workspace_tests_for_existence() {
    each(|pod| {
        for exists in [false, true] {
            let status = if exists { 204 } else { 412 };
            for (fields, status) in
                [(&["*"][..], status), (&[][..], 400), (&["\"abc\""][..], 428), (&["abc"], 428)]
            {
                let answer = workspace_exists(&pod, fields);
                assert_eq!((answer.status, answer.body), (status, json!("")), "{fields:?}");
            }
            assert_eq!(pod.put("/v1/workspace", "", json!({"name": "Acme"})).status, 201);
        }
    });
}

#[test]
fn c03_head_first_account_tells_of_one() {
    each(|pod| {
        assert_eq!(pod.head("/v1/init/first-account", "").status, 204);
        // One that the API hasn't made counts as well; a service's doesn't.
        pod.make_account("robot", PASSWORD, "prosody:registered");
        pod.make_account("carol", PASSWORD, "prosody:member");
        vm_tests::host::wait_for("the first account", || {
            (pod.head("/v1/init/first-account", "").status == 200).then_some(())
        });
    });
}

#[test]
fn c04_the_workspace_is_named_again_until_there_is_a_member() {
    each(|pod| {
        for (name, color) in [("Acme", json!("#1972F5")), ("2024", json!(null))] {
            let named = pod.put("/v1/workspace", "", json!({"name": name, "accent_color": color}));
            assert_eq!(named.status, 201, "{named:?}");
            assert_eq!(pod.get("/v1/workspace/name", "").body, json!(name));
        }
        let made = pod.put("/v1/init/first-account", "", first_account(ADMIN));
        assert_eq!(made.status, 201, "{made:?}");
        let late = pod.put("/v1/workspace", "", json!({"name": "Late"}));
        assert_eq!((late.status, late.error()), (409, "workspace_already_initialized"));
        assert_eq!(pod.get("/v1/workspace/name", "").body, json!("2024"));
    });
}

#[test]
fn c05_of_many_first_accounts_at_once_one_is_made() {
    each(|pod| {
        let names = ["alice", "bob", "alice", "carol", "dave", "alice", "erin", "frank"];
        let mut statuses: Vec<u16> = std::thread::scope(|scope| {
            let ask = |name| {
                let pod = &pod;
                scope.spawn(move || {
                    let answer = pod.put("/v1/init/first-account", "", first_account(name));
                    if answer.status != 201 {
                        assert_eq!(answer.error(), "first_account_already_created", "{answer:?}");
                    }
                    answer.status
                })
            };
            let asked: Vec<_> = names.map(ask).into();
            asked.into_iter().map(|it| it.join().unwrap()).collect()
        });
        statuses.sort();
        assert_eq!(statuses, [201, 409, 409, 409, 409, 409, 409, 409]);
        let listed = pod.server().call("accounts", json!({"host": "example.org"}).to_string());
        let accounts = listed.body["accounts"].as_array().unwrap().iter();
        let members = accounts.filter(|it| it["role"] != "prosody:registered");
        assert_eq!(members.count(), 1, "{listed:?}");
    });
}

#[test]
fn what_is_no_first_account_is_refused() {
    each(|pod| {
        for (name, password, nickname, status, error) in [
            ("alice", "too short", "Alice", 400, "invalid_password"),
            ("alice", "with a\ncontrol character", "Alice", 400, "invalid_password"),
            ("a b", PASSWORD, "Alice", 422, "unknown"),
            ("alice@example.org", PASSWORD, "Alice", 422, "unknown"),
            ("", PASSWORD, "Alice", 422, "unknown"),
            ("alice", PASSWORD, "Al\nice", 422, "unknown"),
        ] {
            let wish = json!({"username": name, "password": password, "nickname": nickname});
            let answer = pod.put("/v1/init/first-account", "", wish);
            assert_eq!((answer.status, answer.error()), (status, error), "{name:?} {password:?}");
            assert!(answer.body["message"].is_string(), "{answer:?}");
        }
        assert_eq!(pod.head("/v1/init/first-account", "").status, 204);
    });
}

#[test]
fn c24_versions_answer_while_the_server_is_down() {
    each(|pod| {
        let admin = pod.make_admin();
        let before = pod.get("/pod/version", "").body;
        pod.server().stop();
        vm_tests::host::wait_for("the API's notice of it", || {
            (pod.get("/healthz", "").status == 503).then_some(())
        });
        for path in ["/pod/version", "/v1/pod/version"] {
            let answer = pod.get(path, &admin);
            assert_eq!((answer.status, &answer.body), (200, &before), "{path}");
        }
        for (path, of) in [
            ("/version", "api"),
            ("/v1/version", "api"),
            ("/server/version", "server"),
            ("/v1/server/version", "server"),
        ] {
            let answer = pod.get(path, "");
            assert_eq!((answer.status, &answer.body), (200, &before[of]), "{path}");
        }
        let members = pod.get("/v1/members", &admin);
        assert_eq!((members.status, members.header("retry-after")), (503, Some("1")));
        pod.restart_server();
        pod.wait_until_healthy();
        assert_eq!(pod.get("/v1/members", &admin).status, 200);
    });
}
