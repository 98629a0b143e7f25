//! What members and the workspace show of themselves, to the API's clients and at the Server.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::client::Answer;
use super::gate::FakeInit;
use super::server::FakeServer;
use super::{PASSWORD, World, until};
use crate::store::Store;

const PNG: &[u8] = b"\x89PNG\r\n\x1a\n and so on";
const WORKSPACE: &str = "prose-workspace";
const ALICE: &str = "/v1/members/alice@example.org";

/// With an admin and a member; and the token of each.
async fn world() -> (World, String, String) {
    let world = World::with(&[("alice", "prosody:admin"), ("bob", "prosody:member")]).await;
    let (alice, bob) = (world.token("alice").await, world.token("bob").await);
    (world, alice, bob)
}

async fn upload(world: &World, token: &str, name: &str, kind: &str, body: &str) -> Answer {
    let bearer = format!("Bearer {token}");
    let headers = [("authorization", bearer.as_str()), ("content-type", kind)];
    let path = format!("/v1/members/{name}@example.org/avatar");
    world.client.ask("PUT", &path, &headers, Some(body)).await
}

fn asked(world: &World, verb: &str) -> usize {
    world.server.state().asked.iter().filter(|it| **it == verb).count()
}

#[tokio::test]
async fn a_nickname_is_the_servers_whoever_gives_it() {
    let (world, alice, bob) = world().await;
    let hostile = r#"]]'"\ <x/> %s "#;
    let path = format!("{ALICE}/nickname");
    let answer = world.put_as(&alice, &path, &json!(hostile).to_string()).await;
    assert_eq!(answer.status, 204);
    assert_eq!(world.server.shown("alice"), json!({ "nickname": hostile }));
    for body in [r#""a\u0000b""#, r#""a\nb""#, r#""\ud800""#] {
        let status = world.put_as(&alice, &path, body).await.status;
        assert!([400, 422].contains(&status), "{body}: {status}");
    }
    // Her client renames her.
    world.server.show("alice", "nickname", json!("Lissy"));
    world.caught_up().await;
    let shown = world.ask_as(&bob, "GET", ALICE).await.json();
    assert_eq!(shown["nickname"], "Lissy");
    let found = world.ask_as(&bob, "GET", "/v1/members?q=liss").await.json();
    assert_eq!(found[0]["jid"], "alice@example.org");
    world.server.go_down();
    let answer = world.put_as(&alice, &path, "\"Other\"").await;
    assert!([500, 503].contains(&answer.status), "{answer:?}");
}

#[tokio::test]
async fn an_avatar_is_uploaded_and_shown() {
    let (world, alice, bob) = world().await;
    let encoded = STANDARD.encode(PNG);
    let quoted = format!("\"{encoded}\"");
    for (kind, body) in [
        ("text/plain", encoded.as_str()),
        ("text/plain; charset=utf-8", &encoded),
        ("image/webp", "GIF89a"),
        ("application/octet-stream", "GIF87a"),
        ("application/json", &quoted),
    ] {
        let answer = upload(&world, &alice, "alice", kind, body).await;
        assert_eq!((answer.status, answer.body.as_str()), (204, ""), "{kind}");
    }
    let expected = json!({ "base64": encoded, "type": "image/png" });
    let shown = async || world.ask_as(&bob, "GET", ALICE).await.json()["avatar"].clone();
    assert_eq!(shown().await, expected, "at once");
    world.caught_up().await;
    assert_eq!(shown().await, expected);
    let path = "/v1/enrich-members?jids=alice@example.org&jids=bob@example.org";
    let by_jid = world.ask_as(&bob, "GET", path).await.json();
    assert_eq!(by_jid["alice@example.org"]["avatar"], expected);
    assert_eq!(by_jid["bob@example.org"]["avatar"], Value::Null);
    let found = world.ask_as(&bob, "GET", "/v1/members?q=alice").await.json();
    assert_eq!(found[0]["avatar"], expected);

    let webp = STANDARD.encode(b"RIFF\x04\0\0\0WEBP");
    let large = "A".repeat(1536 * 1024 + 1);
    for (kind, body, status, error) in [
        ("text/plain", webp.as_str(), 415, "unsupported_media_type"),
        ("image/svg+xml", "<svg/>", 415, "unsupported_media_type"),
        ("text/html", "GIF89a", 415, "unsupported_media_type"),
        ("text/plain", "%%%", 400, "bad_request"),
        ("application/json", "7", 422, "unknown"),
        ("text/plain", &large, 413, "unknown"),
    ] {
        let answer = upload(&world, &alice, "alice", kind, body).await;
        assert_eq!((answer.status, answer.error().as_str()), (status, error), "{kind} {body:.9}");
    }
    // Nobody else's, whatever the body is.
    for (token, name, status) in [
        (&alice, "bob", 403),
        (&bob, "alice", 403),
        (&bob, "nobody", 403),
        (&"x".into(), "bob", 401),
    ] {
        assert_eq!(upload(&world, token, name, "text/html", "x").await.status, status, "{name}");
    }
    assert_eq!(shown().await, expected);
}

#[tokio::test]
async fn a_list_asks_nothing_and_an_avatar_is_fetched_once() {
    let (world, alice, _) = world().await;
    for number in 0..38 {
        world.server.create(&format!("member{number:02}"), "p", "prosody:member");
        world.caught_up().await;
    }
    upload(&world, &alice, "alice", "image/png", "GIF89a one").await;
    // Nothing is remembered of before.
    let world = world.restart().await;
    world.in_step().await;
    assert_eq!(asked(&world, "avatar"), 0);
    let before = world.server.state().asked.len();
    for _ in 0..3 {
        let path = "/v1/members?page_number=1&page_size=40";
        let list = world.ask_as(&alice, "GET", path).await;
        assert_eq!((list.status, list.json().as_array().unwrap().len()), (200, 40));
    }
    assert!(world.server.state().asked.len() <= before + 1, "but for the long poll");
    let path = "/v1/enrich-members?jids=alice@example.org&jids=member01@example.org";
    let avatar = async || {
        let by_jid = world.ask_as(&alice, "GET", path).await;
        assert_eq!(by_jid.status, 200);
        by_jid.json()["alice@example.org"]["avatar"]["base64"].clone()
    };
    // What cannot be had is null, and is asked for again.
    world.server.state().loses_to = Some("avatar");
    assert_eq!(avatar().await, Value::Null);
    for _ in 0..3 {
        assert_eq!(avatar().await, STANDARD.encode("GIF89a one"));
    }
    assert_eq!(asked(&world, "avatar"), 2);
    // Another one is another: by her client, of which we are only told.
    let id = json!({ "id": "f".repeat(40), "type": "image/png", "bytes": 7 });
    world.server.show("alice", "avatar", id);
    world.caught_up().await;
    avatar().await;
    assert_eq!(asked(&world, "avatar"), 3);
}

#[tokio::test]
async fn the_profiles_of_many_are_read_in_parts() {
    let server = Arc::new(FakeServer::new("bootstrap-secret"));
    for number in 0..150 {
        let name = format!("member{number:03}");
        server.create(
            &name,
            PASSWORD,
            if number == 0 { "prosody:admin" } else { "prosody:member" },
        );
        server.show(&name, "nickname", json!(format!("Number {number}")));
    }
    let init = FakeInit::new("bootstrap-secret", server.clone());
    let world = World::around(server, init, tempfile::tempdir().unwrap()).await;
    world.in_step().await;
    let nickname = |name: &str| {
        let local = crate::jid::Localpart::parse(name).unwrap();
        let known = world.pod.look(|accounts| accounts.account(&local).cloned()).unwrap();
        known.and_then(|known| known.profile.nickname)
    };
    assert_eq!(nickname("member000").as_deref(), Some("Number 0"), "from the start");
    until("all are read", || nickname("member149").as_deref() == Some("Number 149")).await;
    assert_eq!(asked(&world, "profiles"), 3);
}

#[tokio::test]
async fn the_workspace_has_an_account_that_nobody_sees_but_clients() {
    let world = World::start().await;
    let shown = |name: &str, color: &str| {
        let mut card = json!({
            "name": name, "kind": "application", "dashboard_url": "https://admin.prose.example.org",
            "api_url": "https://admin.prose.example.org/api",
        });
        if !color.is_empty() {
            card["accent_color"] = color.into();
        }
        card
    };
    assert_eq!(world.server.shown(WORKSPACE), shown("example.org", ""));
    assert_eq!(world.ask("HEAD", "/v1/init/first-account").await.status, 204);
    let wish = json!({ "name": "Acme & ]]\"", "accent_color": "#abc" }).to_string();
    assert_eq!(world.put("/v1/workspace", &wish).await.status, 201);
    assert_eq!(world.server.shown(WORKSPACE), shown("Acme & ]]\"", "#aabbcc"));
    // Its name is taken, and it can't log in.
    let first =
        |name: &str| json!({ "username": name, "password": PASSWORD, "nickname": "A" }).to_string();
    let taken = world.put("/v1/init/first-account", &first(WORKSPACE)).await;
    assert_eq!((taken.status, taken.error().as_str()), (409, "member_already_exists"));
    assert_eq!(world.put("/v1/init/first-account", &first("alice")).await.status, 201);
    let alice = world.token("alice").await;
    let list = world.ask_as(&alice, "GET", "/v1/members").await;
    assert_eq!(list.header("pagination-item-count"), Some("1"));
    let found = world.ask_as(&alice, "GET", "/v1/members?q=prose").await;
    assert_eq!(found.json(), json!([]));
    assert_eq!(world.login("prose-workspace@example.org", "p").await.status, 401);
    // Each change is shown.
    for (path, body, card) in [
        ("name", "\"Beta\"", shown("Beta", "#aabbcc")),
        ("accent-color", "null", shown("Beta", "")),
        ("accent-color", "\"#123456\"", shown("Beta", "#123456")),
    ] {
        let answer = world.put_as(&alice, &format!("/v1/workspace/{path}"), body).await;
        assert_eq!(answer.status, 200);
        assert_eq!(world.server.shown(WORKSPACE), card, "{path} {body}");
    }
    let icon = world.put_as(&alice, "/v1/workspace/icon", "\"R0lGODlh\"").await;
    assert_eq!(icon.status, 204);
    assert!(world.server.shown(WORKSPACE)["avatar"]["id"].is_string());
}

#[tokio::test]
async fn what_the_workspace_shows_is_put_right_at_each_login() {
    let (world, alice, _) = world().await;
    world.put_as(&alice, "/v1/workspace/name", "\"Acme\"").await;
    world.put_as(&alice, "/v1/workspace/icon", "\"R0lGODlh\"").await;
    let right = world.server.shown(WORKSPACE);
    assert_eq!(right["name"], "Acme");
    world.server.show(WORKSPACE, "name", json!("Evil"));
    let world = world.restart().await;
    world.in_step().await;
    assert_eq!(world.server.shown(WORKSPACE), right);
    world.server.delete(WORKSPACE);
    let world = world.restart().await;
    world.in_step().await;
    assert_eq!(world.server.shown(WORKSPACE)["name"], "Acme");
    assert!(world.server.shown(WORKSPACE)["avatar"].is_object());
    // It is no reason to stay away if that fails.
    world.server.state().loses_to = Some("set_profile");
    let world = world.restart().await;
    world.in_step().await;
    // While the Server is away, the API answers all the same; it is told later.
    world.server.go_down();
    until("it is away", || !world.pod.is_linked()).await;
    let answer = world.ask("GET", "/v1/workspace/name").await;
    assert_eq!((answer.status, answer.json()), (200, json!("Acme")));
}

#[tokio::test]
async fn a_members_account_of_that_name_is_left_alone() {
    let world = World::with(&[("alice", "prosody:admin")]).await;
    world.server.create(WORKSPACE, PASSWORD, "prosody:member");
    world.server.show(WORKSPACE, "nickname", json!("Me"));
    let world = world.restart().await;
    world.in_step().await;
    let alice = world.token("alice").await;
    assert_eq!(world.put_as(&alice, "/v1/workspace/name", "\"Acme\"").await.status, 200);
    assert_eq!(world.server.shown(WORKSPACE), json!({ "nickname": "Me" }));
}

#[tokio::test]
async fn nicknames_that_an_older_version_kept_are_handed_over() {
    let folder = tempfile::tempdir().unwrap();
    drop(Store::open(folder.path()).unwrap());
    let database = rusqlite::Connection::open(folder.path().join("pod.sqlite")).unwrap();
    let rows = "INSERT INTO nickname VALUES ('alice', 'Ally'), ('bob', 'Bobby'), ('gone', 'G')";
    database.execute_batch(rows).unwrap();
    drop(database);
    let server = Arc::new(FakeServer::new("bootstrap-secret"));
    server.create("alice", PASSWORD, "prosody:admin");
    server.create("bob", PASSWORD, "prosody:member");
    server.show("bob", "nickname", json!("Robert"));
    let init = FakeInit::new("bootstrap-secret", server.clone());
    let world = World::around(server, init, folder).await;
    until("all are handed over", || world.pod.left_over().is_empty()).await;
    assert_eq!(world.server.shown("alice")["nickname"], "Ally");
    assert_eq!(world.server.shown("bob")["nickname"], "Robert", "the Server's word holds");
    assert_eq!(world.server.shown("gone"), Value::Null);
    let world = world.restart().await;
    assert!(world.pod.left_over().is_empty());
}
