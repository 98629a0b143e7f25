//! The list of members, one of them, and some with all that is known.

use serde_json::{Value, json};

use super::client::Answer;
use super::{PASSWORD, World};

const FIRST: &str = r#"{"username":"alice","password":"correct horse battery","nickname":"Ünal"}"#;

fn pagination(answer: &Answer) -> [&str; 4] {
    ["current-page", "page-size", "page-count", "item-count"]
        .map(|name| answer.header(&format!("pagination-{name}")).unwrap_or("absent"))
}

#[tokio::test]
async fn members_come_in_pages() {
    let mut accounts: Vec<(String, &str)> =
        (0..12).map(|number| (format!("member{number:02}"), "prosody:member")).collect();
    accounts.push(("alice".into(), "prosody:admin"));
    accounts.push(("prose-workspace".into(), "prosody:registered"));
    let accounts: Vec<(&str, &str)> =
        accounts.iter().map(|(name, role)| (&**name, *role)).collect();
    let world = World::with(&accounts).await;
    let token = world.token("alice").await;
    for (query, status, rows, headers) in [
        ("", 200, 13, ["1", "20", "1", "13"]),
        ("?page_number=2&page_size=2", 206, 2, ["2", "2", "7", "13"]),
        ("?page_number=7&page_size=2", 200, 1, ["7", "2", "7", "13"]),
        ("?page_number=9&page_size=2", 200, 0, ["9", "2", "7", "13"]),
        ("?page_number=1&page_size=40", 200, 13, ["1", "40", "1", "13"]),
        ("?q=nothing", 200, 0, ["1", "20", "0", "0"]),
        ("?q=MEMBER1", 200, 2, ["1", "20", "1", "2"]),
        ("?search=ali", 200, 1, ["1", "20", "1", "1"]),
        ("?q=", 200, 13, ["1", "20", "1", "13"]),
        ("?until=2026-01-01T00:00:00Z", 200, 13, ["1", "20", "1", "13"]),
    ] {
        let answer = world.ask_as(&token, "GET", &format!("/v1/members{query}")).await;
        assert_eq!(answer.status, status, "{query}");
        assert_eq!(answer.json().as_array().unwrap().len(), rows, "{query}");
        assert_eq!(pagination(&answer), headers, "{query}");
    }
    let first = world.ask_as(&token, "GET", "/v1/members?page_size=2").await.json();
    let expected = json!([{ "jid": "alice@example.org", "role": "ADMIN" },
        { "jid": "member00@example.org", "role": "MEMBER" }]);
    assert_eq!(first, expected);
    for query in ["page_number=0", "page_size=0", "page_number=x", "page_size=-1"] {
        let answer = world.ask_as(&token, "GET", &format!("/v1/members?{query}")).await;
        assert_eq!((answer.status, answer.error().as_str()), (400, "unknown"), "{query}");
    }
    let long = format!("/v1/members?q={}", "a".repeat(129));
    assert_eq!(world.ask_as(&token, "GET", &long).await.status, 422);
    let count = world.ask_as(&token, "HEAD", "/v1/members").await;
    assert_eq!((count.status, count.body.as_str()), (206, ""));
    assert_eq!(pagination(&count), ["1", "1", "13", "13"]);
    for method in ["GET", "HEAD"] {
        let anonymous = world.ask(method, "/v1/members").await;
        assert_eq!((anonymous.status, pagination(&anonymous)), (401, ["absent"; 4]));
    }
}

#[tokio::test]
async fn one_member_is_shown_with_all_keys() {
    let world = World::start().await;
    assert_eq!(world.put("/v1/init/first-account", FIRST).await.status, 201);
    let alice = world.token("alice").await;
    let shown = |online: bool| {
        json!({ "jid": "alice@example.org", "role": "ADMIN", "online": online,
            "nickname": "Ünal", "email": null, "avatar": null })
    };
    for path in ["alice@example.org", "alice%40example.org", "ALICE@example.org"] {
        let answer = world.ask_as(&alice, "GET", &format!("/v1/members/{path}")).await;
        assert_eq!((answer.status, answer.json()), (200, shown(false)), "{path}");
    }
    let found = world.ask_as(&alice, "GET", "/v1/members?q=unal").await.json();
    assert_eq!(found, json!([shown(false)]));
    for online in [true, false] {
        world.server.set_online("alice", online);
        world.caught_up().await;
        let answer = world.ask_as(&alice, "GET", "/v1/members/alice@example.org").await;
        assert_eq!(answer.json(), shown(online));
    }
    for (path, status, error) in [
        ("nobody@example.org", 404, "member_not_found"),
        ("alice@elsewhere.org", 404, "member_not_found"),
        ("alice", 400, "unknown"),
        ("@example.org", 400, "unknown"),
        ("%ff@example.org", 400, "unknown"),
        ("a%00@example.org", 400, "unknown"),
    ] {
        let answer = world.ask_as(&alice, "GET", &format!("/v1/members/{path}")).await;
        assert_eq!((answer.status, answer.error().as_str()), (status, error), "{path}");
    }
    assert_eq!(world.ask("GET", "/v1/members/alice@example.org").await.status, 401);
    // What she calls herself goes with her account.
    world.server.delete("alice");
    world.server.create("alice", "another alice's one", "prosody:member");
    world.server.create("bob", PASSWORD, "prosody:member");
    world.caught_up().await;
    let bob = world.token("bob").await;
    let shown = world.ask_as(&bob, "GET", "/v1/members/alice@example.org").await;
    assert_eq!(shown.json()["nickname"], Value::Null);
}

#[tokio::test]
async fn a_member_sees_who_is_there_but_not_what_they_may_do() {
    let world = World::with(&[("alice", "prosody:admin"), ("bob", "prosody:member")]).await;
    let bob = world.token("bob").await;
    let list = world.ask_as(&bob, "GET", "/v1/members").await;
    let expected = json!([{ "jid": "alice@example.org", "role": null },
        { "jid": "bob@example.org", "role": "MEMBER" }]);
    assert_eq!((list.status, list.json()), (200, expected));
    for (name, role) in [("alice", Value::Null), ("bob", json!("MEMBER"))] {
        let answer = world.ask_as(&bob, "GET", &format!("/v1/members/{name}@example.org")).await;
        assert_eq!((answer.status, &answer.json()["role"]), (200, &role), "{name}");
    }
}

/// Alice and Bob, of whom she is online; and her token.
async fn two() -> (World, String) {
    let world = World::with(&[
        ("alice", "prosody:admin"),
        ("bob", "prosody:member"),
        ("prose-workspace", "prosody:registered"),
    ])
    .await;
    let alice = world.token("alice").await;
    let nickname = world.put_as(&alice, "/v1/members/alice@example.org/nickname", "\"Ünal\"").await;
    assert_eq!(nickname.status, 204);
    world.server.set_online("alice", true);
    world.caught_up().await;
    (world, alice)
}

/// Both of them, one unknown, one elsewhere, a service, and what is no JID, in every spelling.
const SOME: &str = "/v1/enrich-members?jids=nobody@example.org&jids=bob%40example.org\
    &jids[]=Alice@example.org&jids%5B%5D=bob@example.org&jids=bob@elsewhere.org\
    &jids=prose-workspace@example.org&jids=%00&jids=";

#[tokio::test]
async fn some_members_are_enriched_by_jid() {
    let (world, alice) = two().await;
    let answer = world.ask_as(&alice, "GET", SOME).await;
    let expected = json!({
        "alice@example.org": { "jid": "alice@example.org", "role": "ADMIN", "online": true,
            "nickname": "Ünal", "email": null, "avatar": null },
        "bob@example.org": { "jid": "bob@example.org", "role": "MEMBER", "online": false,
            "nickname": null, "email": null, "avatar": null },
    });
    assert_eq!((answer.status, answer.json()), (200, expected));
    let bob = world.token("bob").await;
    let answer = world.ask_as(&bob, "GET", SOME).await.json();
    assert_eq!(answer["alice@example.org"]["role"], Value::Null);
    assert_eq!(answer["bob@example.org"]["role"], json!("MEMBER"));
    let none = world.ask_as(&alice, "GET", "/v1/enrich-members").await;
    assert_eq!((none.status, none.json()), (200, json!({})));
    let anonymous = world.ask("GET", SOME).await;
    assert_eq!((anonymous.status, anonymous.error().as_str()), (401, "unauthorized"));
}

#[tokio::test]
async fn some_members_are_enriched_one_after_the_other() {
    let (world, alice) = two().await;
    let bearer = format!("Bearer {alice}");
    let headers = [("authorization", bearer.as_str()), ("accept", "text/event-stream")];
    for (path, expected) in [
        (
            SOME,
            concat!(
                "event: enriched-member\nid: alice@example.org\n",
                "data: {\"jid\":\"alice@example.org\",\"role\":\"ADMIN\",\"online\":true,",
                "\"nickname\":\"Ünal\",\"email\":null,\"avatar\":null}\n\n",
                "event: enriched-member\nid: bob@example.org\n",
                "data: {\"jid\":\"bob@example.org\",\"role\":\"MEMBER\",\"online\":false,",
                "\"nickname\":null,\"email\":null,\"avatar\":null}\n\n",
                ": End of stream\nevent: end\nid: end\ndata: {}\n\n",
            ),
        ),
        (
            "/v1/enrich-members?jids=nobody@example.org",
            ": End of stream\nevent: end\nid: end\ndata: {}\n\n",
        ),
    ] {
        let answer = world.client.ask("GET", path, &headers, None).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("content-type"), Some("text/event-stream"));
        assert_eq!(answer.header("x-accel-buffering"), Some("no"));
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        assert_eq!(answer.body.replace(": keep-alive\n\n", ""), expected);
    }
    let anonymous = world.client.ask("GET", SOME, &headers[1..], None).await;
    assert_eq!((anonymous.status, anonymous.error().as_str()), (401, "unauthorized"));
}

#[tokio::test]
async fn changes_that_were_forgotten_are_read_anew() {
    let world = World::with(&[("alice", "prosody:admin")]).await;
    let token = world.token("alice").await;
    // All at once: the fake remembers sixteen.
    for number in 0..40 {
        world.server.create(&format!("member{number}"), "p", "prosody:member");
    }
    world.caught_up().await;
    let count = world.ask_as(&token, "HEAD", "/v1/members").await;
    assert_eq!(count.header("pagination-item-count"), Some("41"));
}

#[tokio::test]
async fn odd_requests_are_survived() {
    let world = World::start().await;
    for (bytes, status) in [
        (b"GARBAGE\r\n\r\n".to_vec(), 400),
        (b"GET /version HTTP/1.1\r\nHost: x\r\nBad Header\r\n\r\n".to_vec(), 400),
        (format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(100_000)).into_bytes(), 431),
    ] {
        assert_eq!(world.client.raw(&bytes).await.status, status);
    }
    let jids = "jids=somebody%40example.org&".repeat(300);
    assert!(jids.len() > 8192);
    assert_eq!(world.ask("GET", &format!("/version?{jids}")).await.status, 200);
}
