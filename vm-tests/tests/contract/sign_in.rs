//! Logins, and what a token is good for.

use std::time::Duration;

use serde_json::json;
use vm_tests::host::{ADMIN, PASSWORD, each, each_with, jid, wait_for};
use vm_tests::server::Asked;

/// What every 401 says, to the letter.
const CHALLENGE: &str = "Bearer realm=\"Admin only area\", charset=\"UTF-8\"";

#[test]
fn the_dashboard_logs_in() {
    each(|pod| {
        pod.make_admin();
        let exists = Asked::new("HEAD", "/api/v1/workspace", "").with("If-Match: *");
        assert_eq!(pod.ask(&exists).status, 204);
        assert_eq!(pod.head("/v1/init/first-account", "null").status, 200);
        assert_eq!(pod.get("/v1/workspace", "null").body["name"], "Acme");
        // What people type is taken in any case.
        for name in ["alice@example.org", "ALICE@Example.org"] {
            let login = pod.try_log_in(name, PASSWORD);
            assert_eq!(login.status, 200, "{login:?}");
            let token = login.body["token"].as_str().unwrap();
            let profile = pod.get(&format!("/v1/members/{name}"), token);
            assert_eq!((profile.status, &profile.body["role"]), (200, &json!("ADMIN")));
            let config = pod.get("/v1/server/config", token);
            assert_eq!(config.body["message_archive_retention"], "infinite", "{config:?}");
        }
    });
}

#[test]
fn c01_bearer_null_is_nobody() {
    each(|pod| {
        pod.make_admin();
        for token in ["null", "undefined", "nonsense", "secret-token:nonsense"] {
            assert_eq!(pod.get("/v1/workspace", token).status, 200, "{token}");
            let config = pod.get("/v1/server/config", token);
            assert_eq!((config.status, config.body), (200, json!({"domain": "example.org"})));
            for path in ["/v1/members", "/v1/network/dns/records", "/v1/pod/config"] {
                let answer = pod.get(path, token);
                assert_eq!((answer.status, answer.error()), (401, "unauthorized"), "{path}");
                assert_eq!(answer.header("www-authenticate"), Some(CHALLENGE), "{path}");
                assert_eq!(answer.header("content-type"), Some("application/json"), "{path}");
            }
        }
    });
}

#[test]
fn c06_a_login_that_fails_is_401_and_nothing_else() {
    each(|pod| {
        pod.make_admin();
        for (user, password) in [
            ("", PASSWORD),
            ("null", PASSWORD),
            ("undefined", PASSWORD),
            ("alice", PASSWORD),
            ("@example.org", PASSWORD),
            ("alice@elsewhere.org", PASSWORD),
            ("alice@admin.prose.local", PASSWORD),
            ("nobody@example.org", PASSWORD),
            ("alice@example.org", "wrong password"),
            ("alice@example.org", ""),
            ("alice@example.org", "correct horse battery\n"),
            ("a\"]]--\\@example.org", PASSWORD),
        ] {
            let answer = pod.try_log_in(user, password);
            assert_eq!(answer.status, 401, "{user:?} {password:?}: {answer:?}");
            assert!(["unauthorized", "invalid_credentials"].contains(&answer.error()));
            assert!(answer.body["message"].is_string(), "{answer:?}");
        }
        for field in
            ["", "Basic", "Basic !", "Basic YWxpY2U=", "Bearer x", "Digest x", "Basic /w=="]
        {
            let asked = Asked::new("POST", "/api/v1/login", "");
            let answer = pod.ask(&asked.with(&format!("Authorization: {field}")));
            assert_eq!((answer.status, answer.error()), (401, "unauthorized"), "{field}");
        }
        assert_eq!(pod.ask(&Asked::new("POST", "/api/v1/login", "")).status, 401);
    });
}

#[test]
fn c08_an_expired_token_is_401_as_json() {
    each_with("[auth]\ntoken_ttl = \"PT3S\"\n", |pod| {
        let token = pod.make_admin();
        assert_eq!(pod.get("/v1/members", &token).status, 200);
        std::thread::sleep(Duration::from_secs(3));
        let answer = wait_for("its end", || {
            let answer = pod.get("/v1/members", &token);
            (answer.status != 200).then_some(answer)
        });
        assert_eq!((answer.status, answer.error()), (401, "unauthorized"));
        assert_eq!(pod.get("/v1/members", &pod.log_in(ADMIN)).status, 200);
    });
}

#[test]
fn c20_the_configuration_is_for_admins_and_the_domain_for_everybody() {
    each(|pod| {
        let admin = pod.make_admin();
        let member = pod.make_member("bob");
        for token in ["", "null", "undefined", "nonsense", &member] {
            let answer = pod.get("/v1/server/config", token);
            let expected = json!({"domain": "example.org"});
            assert_eq!((answer.status, answer.body), (200, expected), "{token}");
        }
        let whole = pod.get("/v1/server/config", &admin).body;
        let expected = json!({
            "domain": "example.org",
            "message_archive_enabled": true, "message_archive_retention": "infinite",
            "file_upload_allowed": true, "file_storage_encryption_scheme": "AES-256",
            "file_storage_retention": "infinite", "mfa_required": true, "tls_profile": "modern",
            "federation_enabled": false, "federation_whitelist_enabled": false,
            "federation_friendly_servers": [], "settings_backup_interval": "P1D",
            "user_data_backup_interval": "P1W", "push_notification_with_body": true,
            "push_notification_with_sender": true, "c2s_unencrypted": true,
        });
        assert_eq!(whole, expected);
    });
}

#[test]
fn guessing_is_slowed_down() {
    each(|pod| {
        pod.make_admin();
        let statuses: Vec<u16> =
            (0..30).map(|_| pod.try_log_in(&jid(ADMIN), "wrong password").status).collect();
        assert!(statuses.contains(&429) && !statuses.iter().any(|it| *it >= 500), "{statuses:?}");
        let slow = pod.try_log_in(&jid(ADMIN), "wrong password");
        assert!(slow.status == 401 || slow.header("retry-after").is_some(), "{slow:?}");
    });
}
