//! The workspace, once there are members: its name, its colour, its icon.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::World;
use super::client::Answer;

const PNG: &[u8] = b"\x89PNG\r\n\x1a\n and so on";
const ICON: &str = "/v1/workspace/icon";

/// With an admin; and her token.
async fn world() -> (World, String) {
    let world = World::with(&[("alice", "prosody:admin"), ("bob", "prosody:member")]).await;
    let token = world.token("alice").await;
    (world, token)
}

async fn upload(world: &World, token: &str, kind: &str, body: &str) -> Answer {
    let bearer = format!("Bearer {token}");
    let headers = [("authorization", bearer.as_str()), ("content-type", kind)];
    world.client.ask("PUT", ICON, &headers, Some(body)).await
}

async fn icon(world: &World, accept: &str) -> Answer {
    world.client.ask("GET", ICON, &[("accept", accept)], None).await
}

#[tokio::test]
async fn an_admin_renames_the_workspace_and_paints_it() {
    let (world, alice) = world().await;
    for (body, name) in [
        (r#""Ünal & \"Söhne\"""#, "Ünal & \"Söhne\""),
        // As the Dashboard sends them.
        ("2024", "2024"),
        ("true", "true"),
        (r#""Acme""#, "Acme"),
    ] {
        let answer = world.put_as(&alice, "/v1/workspace/name", body).await;
        assert_eq!((answer.status, answer.json()), (200, json!(name)), "{body}");
        assert_eq!(world.ask("GET", "/v1/workspace/name").await.json(), json!(name));
    }
    for (body, color) in
        [("\"#abc\"", json!("#aabbcc")), ("null", Value::Null), ("\"#1972F5\"", json!("#1972f5"))]
    {
        let answer = world.put_as(&alice, "/v1/workspace/accent-color", body).await;
        assert_eq!((answer.status, answer.json()), (200, color.clone()), "{body}");
        assert_eq!(world.ask("GET", "/v1/workspace/accent-color").await.json(), color);
    }
    let long = format!("{:?}", "n".repeat(49));
    for (path, body, status) in [
        ("name", "\"\"", 422),
        ("name", long.as_str(), 422),
        ("name", "\"a\\nb\"", 422),
        ("name", "null", 422),
        ("name", "Acme", 400),
        ("accent-color", "\"red\"", 422),
        ("accent-color", "7", 422),
    ] {
        let answer = world.put_as(&alice, &format!("/v1/workspace/{path}"), body).await;
        assert_eq!((answer.status, answer.error().as_str()), (status, "unknown"), "{path} {body}");
    }
    let world = world.restart().await;
    let expected = json!({ "name": "Acme", "icon": null, "accent_color": "#1972f5" });
    assert_eq!(world.ask("GET", "/v1/workspace").await.json(), expected);
}

#[tokio::test]
async fn a_patch_changes_what_it_says() {
    let (world, alice) = world().await;
    let bearer = format!("Bearer {alice}");
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    let patch = async |body| world.client.ask("PATCH", "/v1/workspace", &headers, Some(body)).await;
    for (body, name, color) in [
        ("{}", "example.org", Value::Null),
        (r##"{"accent_color":"#ABC"}"##, "example.org", json!("#aabbcc")),
        (r#"{"name":"Acme","more":1}"#, "Acme", json!("#aabbcc")),
        (r#"{"accent_color":null}"#, "Acme", Value::Null),
    ] {
        let answer = patch(body).await;
        let expected = json!({ "name": name, "icon": null, "accent_color": color });
        assert_eq!((answer.status, answer.json()), (200, expected), "{body}");
    }
    // All or nothing.
    let answer = patch(r#"{"name":"Other","accent_color":"red"}"#).await;
    assert_eq!((answer.status, answer.error().as_str()), (422, "unknown"));
    assert_eq!(world.ask("GET", "/v1/workspace/name").await.json(), json!("Acme"));
}

#[tokio::test]
async fn an_icon_is_uploaded_and_shown_to_everybody() {
    let (world, alice) = world().await;
    for (accept, status, body) in [("application/json, */*", 200, "null"), ("image/*", 204, "")] {
        let answer = icon(&world, accept).await;
        assert_eq!((answer.status, answer.body.as_str()), (status, body), "{accept}");
    }
    let encoded = STANDARD.encode(PNG);
    let quoted = format!("\"{encoded}\"");
    for (kind, body) in [
        ("text/plain", encoded.as_str()),
        ("text/plain; charset=utf-8", &encoded),
        ("application/json", &quoted),
        ("image/webp", "GIF89a"),
        ("text/plain", &encoded),
    ] {
        let answer = upload(&world, &alice, kind, body).await;
        assert_eq!((answer.status, answer.body.as_str()), (204, ""), "{kind}");
    }
    let shown = json!({ "base64": encoded, "type": "image/png" });
    let world = world.restart().await;
    assert_eq!(icon(&world, "application/json").await.json(), shown);
    assert_eq!(world.ask("GET", "/v1/workspace").await.json()["icon"], shown);
}

#[tokio::test]
async fn an_icon_is_also_given_as_it_is() {
    let (world, alice) = world().await;
    assert_eq!(upload(&world, &alice, "image/gif", "GIF89a rest").await.status, 204);
    let answer = icon(&world, "image/avif,image/*,*/*;q=0.8").await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "GIF89a rest"));
    assert_eq!(answer.header("content-type"), Some("image/gif"));
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
}

#[tokio::test]
async fn what_is_no_icon_is_refused() {
    let (world, alice) = world().await;
    let webp = STANDARD.encode(b"RIFF\x04\0\0\0WEBP");
    let large = "A".repeat(1536 * 1024 + 1);
    for (kind, body, status, error) in [
        ("text/plain", webp.as_str(), 415, "unsupported_media_type"),
        ("image/svg+xml", "<svg/>", 415, "unsupported_media_type"),
        ("multipart/form-data", "GIF89a", 415, "unsupported_media_type"),
        ("text/plain", "%%%", 400, "bad_request"),
        ("application/json", "GIF89a", 400, "unknown"),
        ("text/plain", &large, 413, "unknown"),
    ] {
        let answer = upload(&world, &alice, kind, body).await;
        assert_eq!((answer.status, answer.error().as_str()), (status, error), "{kind}");
    }
    assert_eq!(icon(&world, "*/*").await.status, 204);
}

#[tokio::test]
async fn only_an_admin_changes_the_workspace() {
    let (world, _) = world().await;
    let bob = world.token("bob").await;
    for (method, path) in [
        ("PATCH", "/v1/workspace"),
        ("PUT", "/v1/workspace/name"),
        ("PUT", "/v1/workspace/accent-color"),
        ("PUT", ICON),
    ] {
        let answer = world.ask_as(&bob, method, path).await;
        assert_eq!((answer.status, answer.error().as_str()), (403, "forbidden"), "{path}");
        let answer = world.ask(method, path).await;
        assert_eq!((answer.status, answer.error().as_str()), (401, "unauthorized"), "{path}");
    }
}
