//! Prosody's own configuration: shown, overridden by name, overridden by Lua.

use serde_json::json;

use super::World;
use super::client::Answer;

const FILE: &str = "/v1/server/config/prosody";
const OPTIONS: &str = "/v1/server/config/prosody-overrides";
const LUA: &str = "/v1/server/config/prosody-overrides-raw";

/// With an admin; and her token.
async fn world() -> (World, String) {
    let world = World::with(&[("alice", "prosody:admin"), ("bob", "prosody:member")]).await;
    let token = world.token("alice").await;
    (world, token)
}

async fn put_lua(world: &World, token: &str, kind: &str, body: &str) -> Answer {
    let bearer = format!("Bearer {token}");
    let headers = [("content-type", kind), ("authorization", &bearer)];
    world.client.ask("PUT", LUA, &headers, Some(body)).await
}

#[tokio::test]
async fn the_servers_file_is_shown() {
    let (world, alice) = world().await;
    let answer = world.ask_as(&alice, "GET", FILE).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("text/x-lua")));
    assert!(answer.body.contains("VirtualHost \"example.org\""), "{answer:?}");
    assert_eq!(world.ask("GET", FILE).await.error(), "unauthorized");
    let bob = world.token("bob").await;
    assert_eq!(world.ask_as(&bob, "GET", FILE).await.error(), "forbidden");
}

#[tokio::test]
async fn options_are_overridden_by_their_names() {
    let (world, alice) = world().await;
    let read = async || world.ask_as(&alice, "GET", OPTIONS).await;
    let all = async || world.ask_as(&alice, "GET", "/v1/server/config").await.json();
    let none = read().await;
    assert_eq!((none.status, none.body.as_str()), (204, ""));
    assert_eq!(all().await.get("prosody_overrides"), None);
    let body = r#"{"c2s_require_encryption":false,"limits":{"c2s":{"rate":"9kb/s"}}}"#;
    let chosen =
        json!({ "c2s_require_encryption": false, "limits": { "c2s": { "rate": "9kb/s" } } });
    let put = world.put_as(&alice, OPTIONS, body).await;
    assert_eq!((put.status, put.json()), (200, chosen.clone()));
    assert_eq!((read().await.json(), &all().await["prosody_overrides"]), (chosen.clone(), &chosen));
    let file = world.ask_as(&alice, "GET", FILE).await.body;
    assert!(file.contains("c2s_require_encryption = false") && file.contains("9kb/s"), "{file}");
    for (body, status) in [
        (r#"{"modules_enabled":["admin_shell"]}"#, 422),
        (r#"{"c2s_require_encryption":"no"}"#, 422),
        (r#"{"plugin_paths":"/"}"#, 422),
        ("[]", 422),
        ("null", 422),
        ("{", 400),
    ] {
        let answer = world.put_as(&alice, OPTIONS, body).await;
        assert_eq!((answer.status, answer.error().as_str()), (status, "unknown"), "{body}");
    }
    assert_eq!(read().await.json(), chosen);
    for _ in 0..2 {
        let answer = world.ask_as(&alice, "DELETE", OPTIONS).await;
        assert_eq!((answer.status, answer.body.as_str()), (204, ""));
        assert_eq!(read().await.status, 204);
    }
}

#[tokio::test]
async fn lua_is_off_unless_the_operator_allows_it() {
    let (world, alice) = world().await;
    let answer = put_lua(&world, &alice, "text/x-lua", "x = 1").await;
    assert_eq!((answer.status, answer.error().as_str()), (403, "forbidden"));
    assert!(answer.body.contains("ALLOW_RAW_OVERRIDES=true in /etc/prose/env"), "{answer:?}");
    // Whatever the body is.
    assert_eq!(put_lua(&world, &alice, "image/png", "").await.status, 403);
    assert_eq!(world.ask_as(&alice, "GET", LUA).await.status, 204);
    assert_eq!(world.ask_as(&alice, "DELETE", LUA).await.status, 204);
}

#[tokio::test]
async fn lua_is_kept_and_shown_where_it_is_allowed() {
    let (world, alice) = world().await;
    world.init.state().may_hold_lua = true;
    let text = "-- mine\nx = \"]]\"\n";
    for (kind, body, shown) in [
        ("text/x-lua", text, text),
        ("text/x-lua; charset=utf-8", "y = 2", "y = 2"),
        ("application/json", r#""z = 3""#, "z = 3"),
    ] {
        let put = put_lua(&world, &alice, kind, body).await;
        assert_eq!((put.status, put.body.as_str()), (200, shown), "{kind}");
        assert_eq!(put.header("content-type"), Some("text/x-lua"));
        let read = world.ask_as(&alice, "GET", LUA).await;
        assert_eq!((read.status, read.body.as_str()), (200, shown));
        let all = world.ask_as(&alice, "GET", "/v1/server/config").await.json();
        assert_eq!(all["prosody_overrides_raw"], json!(shown));
        assert!(world.ask_as(&alice, "GET", FILE).await.body.contains(shown));
    }
    let long = "x".repeat(8 * 1024 + 1);
    for (kind, body, status, error) in [
        ("text/plain", "x = 1", 415, "unsupported_media_type"),
        ("", "x = 1", 415, "unsupported_media_type"),
        ("application/json", "x = 1", 400, "unknown"),
        ("application/json", "1", 422, "unknown"),
        ("text/x-lua", "\0", 422, "unknown"),
        ("text/x-lua", &long, 422, "unknown"),
        ("text/x-lua", &"x".repeat(70_000), 413, "unknown"),
    ] {
        let answer = put_lua(&world, &alice, kind, body).await;
        assert_eq!((answer.status, answer.error().as_str()), (status, error), "{kind} {body:.20}");
    }
    // What the Server's check says stays in the log.
    world.init.state().refuses = true;
    let refused = put_lua(&world, &alice, "text/x-lua", "end").await;
    assert_eq!((refused.status, refused.error().as_str()), (422, "unknown"));
    assert!(!refused.body.contains("x.lua"), "{refused:?}");
    assert_eq!(world.ask_as(&alice, "GET", LUA).await.body, "z = 3");
    let bob = world.token("bob").await;
    assert_eq!(put_lua(&world, &bob, "text/x-lua", "x").await.error(), "forbidden");

    // The operator takes the word back: the Pod serves, without it.
    world.init.state().may_hold_lua = false;
    let world = world.restart().await;
    world.in_step().await;
    let last = world.init.state().settings.last().cloned().unwrap();
    assert_eq!(last.prosody_overrides_raw, None);
    let answer = world.put_as(&alice, "/v1/server/config/tls-profile", "\"old\"").await;
    assert_eq!(answer.status, 200);
}
