//! A new Pod: versions, health, the workspace, the first account.

use std::sync::Arc;
use std::time::Duration;

use appliance::settings::Settings;
use serde_json::{Value, json};
use tokio::join;

use super::gate::FakeInit;
use super::server::FakeServer;
use super::{PASSWORD, World, until};

const FIRST: &str = r#"{"username":"alice","password":"correct horse battery","nickname":"Alice"}"#;

#[tokio::test]
async fn c24_versions_answer_whatever_the_server_does() {
    let world = World::start().await;
    let block = |version: &str| {
        json!({
            "version": version, "tag": version, "build_date": null, "build_timestamp": null,
            "commit_short": null, "commit_long": null,
        })
    };
    let api = block(env!("CARGO_PKG_VERSION"));
    for is_down in [false, true] {
        if is_down {
            world.server.go_down();
            until("it is out of step", || !world.pod.is_linked()).await;
        }
        for (path, expected) in [
            ("/version", api.clone()),
            ("/server/version", block("13.0.2")),
            ("/pod/version", json!({ "api": api, "server": block("13.0.2") })),
        ] {
            for path in [path.to_owned(), format!("/v1{path}")] {
                let answer = world.ask("GET", &path).await;
                assert_eq!((answer.status, answer.json()), (200, expected.clone()), "{path}");
                assert_eq!(answer.header("content-type"), Some("application/json"));
                assert_eq!(answer.header("cache-control"), Some("no-store"));
            }
        }
        for path in ["/health", "/healthz", "/v1/health"] {
            assert_eq!(world.ask("GET", path).await.status, if is_down { 503 } else { 200 });
        }
    }
}

#[tokio::test]
async fn before_it_ever_saw_a_server_it_answers_what_it_can() {
    let world = World::start().await;
    world.server.go_down();
    let world = world.restart().await;
    let answer = world.ask("GET", "/pod/version").await;
    assert_eq!((answer.status, &answer.json()["server"]["version"]), (200, &json!("unknown")));
    for (method, path) in
        [("HEAD", "/v1/init/first-account"), ("GET", "/v1/server/config"), ("GET", "/v1/workspace")]
    {
        let answer = world.ask(method, path).await;
        assert_eq!(answer.status, if path.ends_with("account") { 503 } else { 200 }, "{path}");
    }
    let answer = world.put("/v1/init/first-account", FIRST).await;
    assert_eq!((answer.status, answer.error().as_str()), (503, "internal_server_error"));
    assert_eq!(answer.header("retry-after"), Some("1"));
    world.server.restart(&world.init.secret_of_a_new_server());
    world.in_step().await;
    assert_eq!(world.put("/v1/init/first-account", FIRST).await.status, 201);
}

#[tokio::test]
async fn the_settings_give_the_server_its_domain_a_while_later() {
    let server = Arc::new(FakeServer::new("bootstrap-secret"));
    // As it starts: with the internal host only.
    server.state().serves = false;
    let init = FakeInit::new("bootstrap-secret", server.clone());
    init.state().is_busy = true;
    init.state().loads_after = Duration::from_millis(700);
    let world = World::around(server, init, tempfile::tempdir().unwrap()).await;
    until("they are accepted", || world.init.state().settings.len() == 1).await;
    assert_eq!(world.ask("GET", "/health").await.status, 503);
    world.in_step().await;
    assert_eq!(world.init.state().settings.len(), 1);
    // It was logged in to once, and looked at often.
    let asked = |verb| world.server.state().asked.iter().filter(|it| **it == verb).count();
    assert_eq!(asked("version"), 2);
    assert!((4..10).contains(&asked("accounts")), "{}", asked("accounts"));
    // Another process, which is told once more.
    world.server.go_down();
    until("it is out of step", || !world.pod.is_linked()).await;
    world.server.restart(&world.init.secret_of_a_new_server());
    world.in_step().await;
    let settings = Settings::new("example.org".parse().unwrap());
    assert_eq!(world.init.state().settings, vec![settings; 2]);
}

#[tokio::test]
async fn what_is_not_there_has_no_body() {
    let world = World::start().await;
    for (method, path, status) in [
        ("GET", "/", 404),
        ("GET", "/v1/members/", 404),
        ("GET", "/v1/nothing", 404),
        ("GET", "/api/version", 404),
        ("POST", "/version", 405),
        ("GET", "/v1/login", 405),
        ("DELETE", "/v1/workspace", 405),
        ("OPTIONS", "/v1/members", 405),
    ] {
        let answer = world.ask(method, path).await;
        assert_eq!((answer.status, answer.body.as_str()), (status, ""), "{method} {path}");
        assert_eq!(answer.header("content-type"), None, "{method} {path}");
        assert_eq!(answer.header("cache-control"), Some("no-store"), "{method} {path}");
    }
}

#[tokio::test]
async fn a_workspace_is_named_until_there_is_a_member() {
    let world = World::start().await;
    let exists = async |value: Option<&str>| {
        let headers: Vec<(&str, &str)> = value.iter().map(|value| ("if-match", *value)).collect();
        let answer = world.client.ask("HEAD", "/v1/workspace", &headers, None).await;
        assert_eq!(answer.body, "");
        answer.status
    };
    for (value, status) in [(None, 400), (Some("\"abc\""), 428), (Some("*"), 412)] {
        assert_eq!(exists(value).await, status, "{value:?}");
    }
    let shown =
        |name: &str, color: Value| json!({ "name": name, "icon": null, "accent_color": color });
    assert_eq!(world.ask("GET", "/v1/workspace").await.json(), shown("example.org", Value::Null));
    for (body, name, color) in [
        (r#"{"name":"Acme"}"#, "Acme", Value::Null),
        (r##"{"name":"Acme 2","accent_color":"#1972F5"}"##, "Acme 2", json!("#1972f5")),
    ] {
        let answer = world.put("/v1/workspace", body).await;
        assert_eq!((answer.status, answer.json()), (201, shown(name, color)));
        assert_eq!(answer.header("location"), Some("/v1/workspace"));
    }
    for (body, status) in [
        ("{", 400),
        ("{}", 422),
        (r#"{"name":""}"#, 422),
        (r#"{"name":"Acme","accent_color":"red"}"#, 422),
    ] {
        let answer = world.put("/v1/workspace", body).await;
        assert_eq!((answer.status, answer.error().as_str()), (status, "unknown"), "{body}");
    }
    assert_eq!(exists(Some("*")).await, 204);
    assert_eq!(world.put("/v1/init/first-account", FIRST).await.status, 201);
    let late = world.put("/v1/workspace", r#"{"name":"Mine"}"#).await;
    assert_eq!((late.status, late.error().as_str()), (409, "workspace_already_initialized"));
    let world = world.restart().await;
    assert_eq!(world.ask("GET", "/v1/workspace/name").await.json(), json!("Acme 2"));
    assert_eq!(world.ask("GET", "/v1/workspace/accent-color").await.json(), json!("#1972f5"));
}

#[tokio::test]
async fn the_first_account_is_made_once() {
    let world = World::start().await;
    let exists = async || world.ask("HEAD", "/v1/init/first-account").await.status;
    assert_eq!(exists().await, 204);
    for (body, status, error) in [
        (FIRST.replace("correct horse battery", "too short"), 400, "invalid_password"),
        (FIRST.replace("alice", "al ice"), 422, "unknown"),
        (FIRST.replace("\"Alice\"", "\"\""), 422, "unknown"),
        (FIRST.replace("nickname", "nick"), 422, "unknown"),
        ("{".to_owned(), 400, "unknown"),
        (" ".repeat(70_000), 413, "unknown"),
    ] {
        let answer = world.put("/v1/init/first-account", &body).await;
        assert_eq!((answer.status, answer.error().as_str()), (status, error), "{body:.80}");
    }
    let untyped = world.client.ask("PUT", "/v1/init/first-account", &[], Some(FIRST)).await;
    assert_eq!((untyped.status, untyped.error().as_str()), (415, "unknown"));
    let bodies = [FIRST.replace("alice", "bob"), FIRST.replace('}', ",\"more\":1}")];
    let (one, other) = join!(
        world.put("/v1/init/first-account", &bodies[0]),
        world.put("/v1/init/first-account", &bodies[1]),
    );
    let (made, refused) = if one.status == 201 { (one, other) } else { (other, one) };
    let jid = made.json()["jid"].as_str().unwrap().to_owned();
    assert_eq!((made.status, made.json()), (201, json!({ "jid": jid, "role": "ADMIN" })));
    assert_eq!(made.header("location"), Some(format!("/v1/members/{jid}").as_str()));
    assert_eq!((refused.status, refused.error().as_str()), (409, "first_account_already_created"));
    assert_eq!(exists().await, 200);
    assert_eq!(world.login(&jid, PASSWORD).await.status, 200);
}

#[tokio::test]
async fn a_service_is_no_first_account_but_has_its_name() {
    let world = World::with(&[("prose-workspace", "prosody:registered")]).await;
    assert_eq!(world.ask("HEAD", "/v1/init/first-account").await.status, 204);
    let taken = FIRST.replace("alice", "prose-workspace");
    let answer = world.put("/v1/init/first-account", &taken).await;
    assert_eq!((answer.status, answer.error().as_str()), (409, "member_already_exists"));
    assert_eq!(world.put("/v1/init/first-account", FIRST).await.status, 201);
}

#[tokio::test]
async fn an_answer_that_gets_lost_makes_no_second_first_account() {
    let world = World::start().await;
    // The account is made, and nobody learns of it: the next one who asks does.
    let lost = async {
        until("it was asked", || world.server.state().asked.contains(&"accounts")).await;
        world.server.state().loses = 1;
        world.put("/v1/init/first-account", FIRST).await
    };
    let lost = lost.await;
    assert_eq!((lost.status, lost.error().as_str()), (500, "internal_server_error"));
    let again = world.put("/v1/init/first-account", FIRST).await;
    assert!([201, 409].contains(&again.status), "{again:?}");
    let once_more = world.put("/v1/init/first-account", &FIRST.replace("alice", "bob")).await;
    assert_eq!(once_more.status, 409);
}

#[tokio::test]
async fn names_and_passwords_cross_as_they_are() {
    for name in ["o'hara", "a\\\\b", "a]]b", "--", "a{b}", "%s", "$(id)", "ünal"] {
        let world = World::start().await;
        let body = format!(
            r#"{{"username":"{name}","password":"pass'\"\\]]word--{{}}","nickname":"]]'\"\\"}}"#
        );
        let answer = world.put("/v1/init/first-account", &body).await;
        let is_name = !name.contains('\'');
        assert_eq!(answer.status, if is_name { 201 } else { 422 }, "{name}: {answer:?}");
        if is_name {
            let jid = answer.json()["jid"].as_str().unwrap().to_owned();
            let login = world.login(&jid, "pass'\"\\]]word--{}").await;
            assert_eq!(login.status, 200, "{name}");
        }
    }
}
