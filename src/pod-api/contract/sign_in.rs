//! Logging in, and what a token is good for.

use serde_json::json;

use super::client::basic;
use super::{PASSWORD, World, until};

const CHALLENGE: &str = "Bearer realm=\"Admin only area\", charset=\"UTF-8\"";

async fn world() -> World {
    World::with(&[
        ("alice", "prosody:admin"),
        ("bob", "prosody:member"),
        ("prose-workspace", "prosody:registered"),
    ])
    .await
}

#[tokio::test]
async fn who_may_log_in() {
    let world = world().await;
    for (name, password, status, error) in [
        ("alice@example.org", PASSWORD, 200, ""),
        ("Alice@Example.ORG", PASSWORD, 200, ""),
        ("alice@example.org", "wrong", 401, "invalid_credentials"),
        ("alice@example.org", "", 401, "invalid_credentials"),
        ("nobody@example.org", PASSWORD, 401, "invalid_credentials"),
        ("alice@elsewhere.org", PASSWORD, 401, "invalid_credentials"),
        ("prose-workspace@example.org", PASSWORD, 401, "invalid_credentials"),
        ("alice", PASSWORD, 401, "unauthorized"),
        ("@example.org", PASSWORD, 401, "unauthorized"),
        ("", "", 401, "unauthorized"),
        ("null", "null", 401, "unauthorized"),
        ("undefined", "", 401, "unauthorized"),
    ] {
        let answer = world.login(name, password).await;
        assert_eq!(answer.status, status, "{name} {password}: {answer:?}");
        if status == 200 {
            assert_eq!(answer.json().as_object().unwrap().len(), 1);
            let token = answer.json()["token"].as_str().unwrap().to_owned();
            assert!(token.starts_with("secret-token:") && token.len() == 77, "{token}");
        } else {
            assert_eq!(answer.error(), error, "{name} {password}");
            assert_eq!(answer.header("www-authenticate"), Some(CHALLENGE));
        }
    }
    for header in ["Bearer x", "Basic", "Basic !!!", "Basic /w==", "Digest x", ""] {
        let headers = [("authorization", header)];
        let answer = world.client.ask("POST", "/v1/login", &headers, None).await;
        assert_eq!((answer.status, answer.error().as_str()), (401, "unauthorized"), "{header}");
    }
    assert_eq!(world.ask("POST", "/v1/login").await.error(), "unauthorized");
}

#[tokio::test]
async fn a_token_is_needed_and_must_be_right() {
    let world = world().await;
    let token = world.token("alice").await;
    for (header, status) in [
        (format!("Bearer {token}"), 200),
        (format!("bearer {token}"), 200),
        (format!("Bearer {token}x"), 401),
        ("Bearer null".to_owned(), 401),
        ("Bearer".to_owned(), 401),
        (basic("alice@example.org", PASSWORD), 401),
    ] {
        let headers = [("authorization", header.as_str())];
        let answer = world.client.ask("GET", "/v1/members", &headers, None).await;
        assert_eq!(answer.status, status, "{header}");
        let challenge = (status == 401).then_some(CHALLENGE);
        assert_eq!(answer.header("www-authenticate"), challenge, "{header}");
    }
    assert_eq!(world.ask("GET", "/v1/members").await.error(), "unauthorized");
    // A public route doesn't look at it.
    assert_eq!(world.ask_as("stale", "GET", "/v1/workspace").await.status, 200);
}

#[tokio::test]
async fn the_configuration_is_an_admins() {
    let world = world().await;
    let domain = json!({ "domain": "example.org" });
    let (alice, bob) = (world.token("alice").await, world.token("bob").await);
    for token in [&bob, "null", "stale"] {
        let answer = world.ask_as(token, "GET", "/v1/server/config").await;
        assert_eq!((answer.status, answer.json()), (200, domain.clone()), "{token}");
    }
    assert_eq!(world.ask("GET", "/v1/server/config").await.json(), domain);
    let full = json!({
        "domain": "example.org",
        "message_archive_enabled": true, "message_archive_retention": "infinite",
        "file_upload_allowed": true, "file_storage_encryption_scheme": "AES-256",
        "file_storage_retention": "infinite",
        "mfa_required": true, "tls_profile": "modern",
        "federation_enabled": false, "federation_whitelist_enabled": false,
        "federation_friendly_servers": [],
        "settings_backup_interval": "P1D", "user_data_backup_interval": "P1W",
        "push_notification_with_body": true, "push_notification_with_sender": true,
        "c2s_unencrypted": false
    });
    let answer = world.ask_as(&alice, "GET", "/v1/server/config").await;
    assert_eq!((answer.status, answer.json()), (200, full));
    // Demoted: at the very next request, with the same token.
    world.server.set_role("alice", "prosody:member");
    world.caught_up().await;
    assert_eq!(world.ask_as(&alice, "GET", "/v1/server/config").await.json(), domain);
    assert_eq!(world.ask_as(&alice, "GET", "/v1/members").await.status, 401);
}

#[tokio::test]
async fn a_token_dies_with_its_account_and_its_password() {
    let world = world().await;
    let (alice, bob) = (world.token("alice").await, world.token("bob").await);
    let status = async |token: &str| world.ask_as(token, "GET", "/v1/members").await.status;
    world.server.set_password("bob", "another long password");
    world.caught_up().await;
    until("bob is logged out", || world.pod.owner(&crate::secret::of(&bob)).is_none()).await;
    assert_eq!(status(&bob).await, 401);
    world.server.delete("alice");
    world.server.create("alice", PASSWORD, "prosody:admin");
    world.caught_up().await;
    assert_eq!(status(&alice).await, 401, "the new alice is another");
    assert_eq!(status(&world.token("alice").await).await, 200);
}

#[tokio::test]
async fn a_restart_logs_nobody_out() {
    let world = world().await;
    let (alice, bob) = (world.token("alice").await, world.token("bob").await);
    let world = world.restart().await;
    // Whose role isn't known yet is asked to wait, not logged out.
    let early = world.ask_as(&alice, "GET", "/v1/members").await.status;
    assert!([200, 503].contains(&early), "{early}");
    world.in_step().await;
    assert_eq!(world.ask_as(&alice, "GET", "/v1/members").await.status, 200);
    // What happened while it was away is found out.
    world.server.go_down();
    let world = world.restart().await;
    world.server.state().is_down = false;
    world.server.delete("bob");
    world.in_step().await;
    assert_eq!(world.ask_as(&bob, "GET", "/v1/members").await.status, 401);
    let rotations = world.server.state().asked.iter().filter(|it| **it == "rotate_secret").count();
    assert_eq!(rotations, 1);
}

#[tokio::test]
async fn the_server_may_come_back_with_any_secret_of_ours() {
    let world = world().await;
    let alice = world.token("alice").await;
    for secret in [world.init.secret_of_a_new_server(), "bootstrap-secret".to_owned()] {
        world.server.go_down();
        until("it is out of step", || !world.pod.is_linked()).await;
        let answer = world.ask_as(&alice, "GET", "/v1/members").await;
        assert_eq!((answer.status, answer.error().as_str()), (503, "internal_server_error"));
        world.server.restart(&secret);
        world.in_step().await;
        assert_eq!(world.ask_as(&alice, "GET", "/v1/members").await.status, 200);
        assert_ne!(world.server.state().secret, "bootstrap-secret");
    }
}

#[tokio::test]
async fn guessing_is_slowed_down() {
    let world = world().await;
    for _ in 0..20 {
        assert_eq!(world.login("alice@example.org", "wrong").await.status, 401);
    }
    let answer = world.login("alice@example.org", PASSWORD).await;
    assert_eq!((answer.status, answer.error().as_str()), (429, "too_many_requests"));
    assert!(answer.header("retry-after").is_some());
    assert_eq!(world.login("bob@example.org", PASSWORD).await.status, 200);
}

#[tokio::test]
async fn no_secret_is_kept_in_the_database() {
    let world = world().await;
    let token = world.token("alice").await;
    let secret = world.server.state().secret.clone();
    for file in std::fs::read_dir(world.folder.path()).unwrap() {
        let Ok(bytes) = std::fs::read(file.unwrap().path()) else { continue };
        for needle in [token.trim_start_matches("secret-token:"), &secret, PASSWORD] {
            let found = bytes.windows(needle.len()).any(|window| window == needle.as_bytes());
            assert!(!found, "{needle} is on the disk");
        }
    }
}
