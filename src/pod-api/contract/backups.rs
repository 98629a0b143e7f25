//! Backups and the factory reset.

use std::fs;

use appliance::backup::{Kind, Trouble, Wish};
use serde_json::{Value, json};

use super::client::Answer;
use super::{PASSWORD, World, until};

const PASSPHRASE: &str = "a passphrase of some length";
const ADDRESS: &str = "age1qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqq";

/// Alice is an admin, Bob isn't.
async fn world() -> (World, String) {
    let world = World::with(&[("alice", "prosody:admin"), ("bob", "prosody:member")]).await;
    let token = world.token("alice").await;
    (world, token)
}

impl World {
    async fn send(&self, token: &str, method: &str, path: &str, body: &Value) -> Answer {
        let bearer = format!("Bearer {token}");
        let headers = [("content-type", "application/json"), ("authorization", &bearer)];
        self.client.ask(method, path, &headers, Some(&body.to_string())).await
    }

    /// One that was just made.
    async fn backup(&self, token: &str) -> String {
        let body = json!({ "description": "Nightly", "passphrase": PASSPHRASE });
        let answer = self.send(token, "POST", "/v1/backups", &body).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        answer.json()["id"].as_str().unwrap().to_owned()
    }

    async fn restore(&self, token: &str, id: &str, body: &Value) -> Answer {
        self.send(token, "PUT", &format!("/v1/backups/{id}/restore"), body).await
    }

    async fn reset(&self, token: &str, body: &Value) -> Answer {
        self.send(token, "DELETE", "/", body).await
    }
}

#[tokio::test]
async fn backups_are_made_listed_described_and_deleted() {
    let (world, token) = world().await;
    let body = json!({ "description": "Nightly", "passphrase": PASSPHRASE });
    let answer = world.send(&token, "POST", "/v1/backups", &body).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    let first = answer.json();
    let id = first["id"].as_str().unwrap().to_owned();
    assert_eq!(answer.header("location"), Some(format!("/v1/backups/{id}").as_str()));
    assert!(id.ends_with(".tar.zst.age"), "{id}");
    let expected = json!({
        "id": id, "description": "Nightly", "created_at": "2026-01-13T10:00:00Z",
        "size_bytes": 25, "is_signed": false, "is_encrypted": true, "can_be_restored": true,
        "is_intact": true, "signing_key": null, "is_signature_trusted": null,
        "is_signature_valid": null, "encryption_key": null, "is_encryption_valid": null,
        "is_trusted": null,
    });
    assert_eq!(first, expected);
    let body = json!({ "recipient": ADDRESS });
    let second = world.send(&token, "POST", "/v1/backups", &body).await.json();
    assert_eq!(
        (&second["encryption_key"], &second["description"]),
        (&json!(ADDRESS), &json!(null))
    );

    let all = world.ask_as(&token, "GET", "/v1/backups").await;
    let ids: Vec<Value> =
        all.json().as_array().unwrap().iter().map(|it| it["id"].clone()).collect();
    assert_eq!((all.status, ids), (200, vec![second["id"].clone(), first["id"].clone()]));
    assert!(all.json()[0].get("is_intact").is_none());

    let path = format!("/v1/backups/{id}");
    let answer = world.send(&token, "PATCH", &path, &json!({ "description": "Kept" })).await;
    assert_eq!((answer.status, &answer.json()["description"]), (200, &json!("Kept")));
    for bad in ["", &"x".repeat(257), "a\nb"] {
        let answer = world.send(&token, "PATCH", &path, &json!({ "description": bad })).await;
        assert_eq!((answer.status, answer.error()), (422, "unknown".into()));
    }
    fs::write(world.init.vault.told().kept.join(&id), "rotten").unwrap();
    let rotten = world.ask_as(&token, "GET", &path).await.json();
    assert_eq!((&rotten["is_intact"], &rotten["can_be_restored"]), (&json!(false), &json!(false)));

    assert_eq!(world.ask_as(&token, "DELETE", &path).await.status, 204);
    for (method, path) in [
        ("GET", path.as_str()),
        ("DELETE", &path),
        ("GET", "/v1/backups/..%00"),
        ("GET", "/v1/backups/pod.sqlite"),
        ("GET", "/v1/backups/none.tar.zst.age/download"),
        ("GET", "/v1/backup-downloads/0123"),
    ] {
        let answer = world.ask_as(&token, method, path).await;
        assert_eq!((answer.status, answer.error()), (404, "backup_not_found".into()), "{path}");
    }
    let one = second["id"].as_str().unwrap();
    let batch =
        async |ids: &str| world.ask_as(&token, "DELETE", &format!("/v1/backups?{ids}")).await;
    assert_eq!(batch(&format!("ids={one}&ids={id}")).await.status, 404);
    assert_eq!(batch("").await.status, 400);
    assert_eq!(batch(&format!("ids%5B%5D={one}")).await.status, 204);
    assert_eq!(world.ask_as(&token, "GET", "/v1/backups").await.json(), json!([]));
}

#[tokio::test]
async fn only_admins_see_backups_and_each_body_is_looked_at_after_that() {
    let (world, token) = world().await;
    let id = world.backup(&token).await;
    let bob = world.token("bob").await;
    for (method, path) in [
        ("POST", "/v1/backups".to_owned()),
        ("GET", "/v1/backups".to_owned()),
        ("DELETE", format!("/v1/backups?ids={id}")),
        ("GET", format!("/v1/backups/{id}")),
        ("PUT", format!("/v1/backups/{id}")),
        ("PATCH", format!("/v1/backups/{id}")),
        ("DELETE", format!("/v1/backups/{id}")),
        ("GET", format!("/v1/backups/{id}/download")),
        ("PUT", format!("/v1/backups/{id}/restore")),
        ("DELETE", "/".to_owned()),
    ] {
        let answer = world.ask_as(&bob, method, &path).await;
        assert_eq!((answer.status, answer.error()), (403, "forbidden".into()), "{method} {path}");
        let answer = world.ask(method, &path).await;
        assert_eq!(
            (answer.status, answer.error()),
            (401, "unauthorized".into()),
            "{method} {path}"
        );
    }
    for body in [
        json!({}),
        json!({ "description": "x" }),
        json!({ "passphrase": "too short" }),
        json!({ "passphrase": PASSPHRASE, "recipient": ADDRESS }),
        json!({ "passphrase": "nul\u{0} in a long passphrase" }),
        json!({ "passphrase": PASSPHRASE, "description": "" }),
    ] {
        let answer = world.send(&token, "POST", "/v1/backups", &body).await;
        assert_eq!((answer.status, answer.error()), (422, "unknown".into()), "{body}");
    }
}

#[tokio::test]
async fn a_backup_comes_and_goes_as_a_stream() {
    let (world, token) = world().await;
    let id = world.backup(&token).await;
    let offered = world.ask_as(&token, "GET", &format!("/v1/backups/{id}/download")).await;
    assert_eq!(offered.status, 303, "{offered:?}");
    let location = offered.header("location").unwrap();
    let path = location.strip_prefix("../..").unwrap();
    let answer = world.ask("GET", &format!("/v1{path}")).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "age-encryption.org/v1\n..."));
    assert_eq!(answer.header("content-length"), Some("25"));
    let disposition = format!("attachment; filename=\"{id}\"");
    assert_eq!(answer.header("content-disposition"), Some(disposition.as_str()));

    let upload = async |name: &str, kind: &str, body: &str| {
        let bearer = format!("Bearer {token}");
        let headers = [("content-type", kind), ("authorization", &bearer)];
        let path = format!("/v1/backups/{name}?description=From%20afar");
        world.client.ask("PUT", &path, &headers, Some(body)).await
    };
    let bytes = "application/octet-stream";
    let answer = upload("b.tar.zst.age", bytes, &answer.body).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    assert_eq!(answer.json()["description"], "From afar");
    assert_eq!(answer.json()["is_intact"], true);
    let long = format!("age-encryption.org/v1\n{}", "x".repeat(3_000_000));
    let answer = upload("long.tar.zst.age", bytes, &long).await;
    assert_eq!((answer.status, &answer.json()["size_bytes"]), (201, &json!(long.len())));
    for (name, kind, body, status, error) in [
        ("c.tar.zst.age", bytes, "PK something else", 422, "backup_damaged"),
        ("c.tar.zst.age", "application/json", "{}", 415, "unknown"),
        ("c.zip", bytes, "x", 422, "unknown"),
        ("..tar.zst.age", bytes, "x", 422, "unknown"),
    ] {
        let answer = upload(name, kind, body).await;
        assert_eq!((answer.status, answer.error().as_str()), (status, error), "{name} {kind}");
    }
    let incoming = world.init.vault.told().incoming.clone();
    assert_eq!(fs::read_dir(incoming).unwrap().count(), 0);
}

#[tokio::test]
async fn a_restoration_takes_two_steps_and_the_second_only_once() {
    let (world, token) = world().await;
    let id = world.backup(&token).await;
    for (body, status, error) in [
        (json!({ "passphrase": "another passphrase" }), 400, "invalid_backup_key"),
        (json!({ "identity": "AGE-SECRET-KEY-1" }), 400, "invalid_backup_key"),
        (json!({ "confirmation": "0123456789abcdef" }), 400, "invalid_confirmation_code"),
        (json!({ "confirmation": "short" }), 422, "unknown"),
        (json!({ "confirmation": "0123456789abcdef", "passphrase": PASSPHRASE }), 422, "unknown"),
        (json!({}), 422, "unknown"),
    ] {
        let answer = world.restore(&token, &id, &body).await;
        assert_eq!((answer.status, answer.error().as_str()), (status, error), "{body}");
    }
    let answer = world.restore(&token, "none.tar.zst.age", &json!({ "passphrase": "x" })).await;
    assert_eq!(answer.error(), "backup_not_found");
    for (kind, status, error) in [
        (Kind::Damaged, 422, "backup_damaged"),
        (Kind::Foreign, 422, "backup_incompatible"),
        (Kind::NoRoom, 409, "insufficient_storage"),
        (Kind::Failed, 500, "internal_server_error"),
    ] {
        world.init.vault.told().trouble = Some(Trouble::new(kind, "why"));
        let answer = world.restore(&token, &id, &json!({ "passphrase": PASSPHRASE })).await;
        assert_eq!((answer.status, answer.error().as_str()), (status, error));
    }
    assert!(world.init.vault.told().exchanged.is_empty());

    // What is busy for a moment is waited for.
    world.init.vault.told().busy = 3;
    let answer = world.restore(&token, &id, &json!({ "passphrase": PASSPHRASE })).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    let code = answer.json()["confirmation"].clone();
    assert_eq!(code.as_str().unwrap().len(), 16);
    let answer = world.restore(&token, &id, &json!({ "confirmation": code })).await;
    assert_eq!((answer.status, answer.body.as_str()), (205, ""), "{answer:?}");
    assert!(matches!(world.init.vault.told().exchanged.as_slice(), [Wish::Restore { .. }]));
    let answer = world.ask("GET", "/v1/workspace").await;
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")), "{answer:?}");
}

#[tokio::test]
async fn whoever_wants_events_sees_how_it_goes() {
    let (world, token) = world().await;
    let bearer = format!("Bearer {token}");
    let headers = [
        ("content-type", "application/json"),
        ("authorization", &bearer),
        ("accept", "text/event-stream"),
    ];
    let ask = async |method: &str, path: &str, body: Value| {
        let answer = world.client.ask(method, path, &headers, Some(&body.to_string())).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert!(answer.body.ends_with("event: end\nid: end\ndata: {}\n\n"), "{answer:?}");
        answer.body
    };
    let made = ask("POST", "/v1/backups", json!({ "passphrase": PASSPHRASE })).await;
    assert!(made.contains("event: backup-create-progress\n"), "{made}");
    assert!(made.contains("event: backup-create-success\n"), "{made}");
    let all = world.ask_as(&token, "GET", "/v1/backups").await.json();
    let path = format!("/v1/backups/{}/restore", all[0]["id"].as_str().unwrap());
    let refused = ask("PUT", &path, json!({ "passphrase": "not the right one" })).await;
    assert!(refused.contains("event: backup-restore-error\n"), "{refused}");
    assert!(refused.contains("invalid_backup_key"), "{refused}");
    let ready = ask("PUT", &path, json!({ "passphrase": PASSPHRASE })).await;
    assert!(ready.contains("event: backup-restore-success\n"), "{ready}");
    assert!(ready.contains("\"extracted_bytes\":100") && ready.contains("\"confirmation\":"));
}

#[tokio::test]
async fn a_reset_takes_the_own_password_and_its_code() {
    let (world, token) = world().await;
    let password = |text: &str| json!({ "password": text });
    let answer = world.reset(&token, &password("wrong")).await;
    assert_eq!((answer.status, answer.error()), (401, "invalid_credentials".into()));
    assert_eq!(world.ask_as(&token, "GET", "/v1/members").await.status, 200, "still logged in");
    let answer = world.reset(&token, &json!({})).await;
    assert_eq!((answer.status, answer.error()), (422, "unknown".into()));
    let answer = world.reset(&token, &password(PASSWORD)).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    let code = answer.json()["confirmation"].clone();
    for (body, status, error) in [
        (json!({ "confirmation": "0123456789abcdef" }), 400, "invalid_confirmation_code"),
        (json!({ "confirmation": "0123" }), 422, "unknown"),
    ] {
        let answer = world.reset(&token, &body).await;
        assert_eq!((answer.status, answer.error().as_str()), (status, error));
    }
    assert!(world.init.vault.told().exchanged.is_empty());
    let answer = world.reset(&token, &json!({ "confirmation": code })).await;
    assert_eq!((answer.status, answer.body.as_str()), (205, ""), "{answer:?}");
    assert_eq!(world.init.vault.told().exchanged, [Wish::Erase]);
    let answer = world.ask("GET", "/pod/version").await;
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")), "{answer:?}");
}

#[tokio::test]
async fn an_exchange_that_fails_leaves_the_pod_as_it_was() {
    let (world, token) = world().await;
    world.init.vault.told().trouble = Some(Trouble::new(Kind::Failed, "the disk is broken"));
    let code = world.reset(&token, &json!({ "password": PASSWORD })).await.json();
    let body = json!({ "confirmation": code["confirmation"] });
    assert_eq!(world.reset(&token, &body).await.status, 205);
    until("it goes on", || !world.pod.backups.is_leaving()).await;
    assert_eq!(world.ask_as(&token, "GET", "/v1/members").await.status, 200);
    // The code was used.
    assert_eq!(world.reset(&token, &body).await.error(), "invalid_confirmation_code");
}

#[tokio::test]
async fn who_has_the_same_key_waits_for_the_same_restoration() {
    let (world, token) = world().await;
    let id = world.backup(&token).await;
    world.init.vault.told().is_slow = true;
    let body = json!({ "passphrase": PASSPHRASE });
    let finish = async {
        until("it is begun", || world.init.vault.told().state.prepared.is_some()).await;
        let again = world.restore(&token, &id, &body);
        let finished = async {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            world.init.vault.told().finish();
        };
        tokio::join!(again, finished).0
    };
    let (first, second) = tokio::join!(world.restore(&token, &id, &body), finish);
    assert_eq!((first.status, second.status), (202, 202), "{first:?} {second:?}");
    // One of the two codes is the last that was given.
    let code = json!({ "confirmation": second.json()["confirmation"] });
    let other = json!({ "confirmation": first.json()["confirmation"] });
    let statuses = [
        world.restore(&token, &id, &code).await.status,
        world.restore(&token, &id, &other).await.status,
    ];
    assert!(statuses.contains(&205), "{statuses:?}");
}
