//! What compatibility hangs on (`cNN`: its number in the list of the contract), over all routes: they
//! are those that the API describes.

use serde_json::Value;

use super::World;
use super::client::{Answer, basic};
use crate::pod::now;
use crate::token::{Digest, Standing, Token, make};

const CHALLENGE: &str = "Bearer realm=\"Admin only area\", charset=\"UTF-8\"";

/// An operation that is described.
struct Operation {
    method: String,
    path: String,
    about: Value,
}

impl Operation {
    /// Who may ask: `admin`, `member`, or anybody.
    fn needs(&self) -> Option<&str> {
        let schemes = self.about["security"].as_array()?;
        let is_optional = schemes.iter().any(|it| it.as_object().is_some_and(|it| it.is_empty()));
        let scheme = schemes.first()?.as_object()?.keys().next()?;
        Some(scheme.as_str()).filter(|it| !is_optional && ["admin", "member"].contains(it))
    }

    /// The one kind of body that it takes.
    fn takes_json_only(&self) -> bool {
        let content = self.about["requestBody"]["content"].as_object();
        content.is_some_and(|it| it.len() == 1 && it.contains_key("application/json"))
    }

    async fn ask(&self, world: &World, headers: &[(&str, &str)], body: Option<&str>) -> Answer {
        world.client.ask(&self.method, &self.path, headers, body).await
    }
}

async fn operations(world: &World) -> Vec<Operation> {
    let document = world.ask("GET", "/openapi.json").await.json();
    let mut operations = vec![];
    for (path, item) in document["paths"].as_object().unwrap() {
        let path = path.replace("{jid}", "alice@example.org");
        let path = path.split('/').map(|it| if it.starts_with('{') { "1" } else { it });
        let path = path.collect::<Vec<_>>().join("/");
        for (method, about) in item.as_object().unwrap() {
            let (method, about) = (method.to_uppercase(), about.clone());
            operations.push(Operation { method, path: path.clone(), about });
        }
    }
    assert!(operations.len() > 70, "{}", operations.len());
    operations
}

async fn world() -> (World, String) {
    let world = World::with(&[("alice", "prosody:admin"), ("bob", "prosody:member")]).await;
    let token = world.token("alice").await;
    (world, token)
}

#[tokio::test]
async fn c01_a_bearer_that_is_none_is_anybody() {
    let (world, _) = world().await;
    for header in ["Bearer null", "Bearer undefined", "Bearer ", "Bearer", "bearer null", ""] {
        let headers = [("authorization", header)];
        let ask = async |path| world.client.ask("GET", path, &headers, None).await;
        assert_eq!(ask("/v1/workspace").await.status, 200, "{header}");
        let optional = ask("/v1/server/config").await;
        assert_eq!(
            (optional.status, optional.json()["domain"].as_str()),
            (200, Some("example.org"))
        );
        assert_eq!(optional.json().as_object().unwrap().len(), 1);
        let required = ask("/v1/members").await;
        assert_eq!((required.status, required.error().as_str()), (401, "unauthorized"));
        assert_eq!(required.header("www-authenticate"), Some(CHALLENGE));
    }
}

#[tokio::test]
async fn c02_whether_there_is_a_workspace_is_asked_by_a_condition() {
    let world = World::start().await;
    let ask = async |headers: &[(&str, &str)]| {
        let answer = world.client.ask("HEAD", "/v1/workspace", headers, None).await;
        assert_eq!(answer.body, "");
        answer.status
    };
    assert_eq!(ask(&[]).await, 400);
    assert_eq!(ask(&[("if-match", "\"abc\"")]).await, 428);
    assert_eq!(ask(&[("if-match", "*")]).await, 412);
    assert_eq!(world.put("/v1/workspace", r#"{"name":"Acme"}"#).await.status, 201);
    assert_eq!(ask(&[("if-match", "*")]).await, 204);
}

#[tokio::test]
async fn c08_an_expired_token_is_none() {
    let (world, _) = world().await;
    for (left, status) in [(60, 200), (0, 401)] {
        let token = make().unwrap();
        let (jid, created) = ("alice@example.org".to_owned(), now() - 60);
        let expires = now() + left;
        let kept = Token { jid, created, expires, standing: Standing::Admin };
        world.pod.log_in(Digest::of(&token), kept).await.unwrap();
        let answer = world.ask_as(token.reveal(), "GET", "/v1/members").await;
        assert_eq!(answer.status, status);
        if status == 401 {
            assert_eq!(answer.error(), "unauthorized");
        }
    }
}

#[tokio::test]
async fn c19_every_route_says_who_may_use_it_before_all_else() {
    let (world, _) = world().await;
    let bob = format!("Bearer {}", world.token("bob").await);
    let json = ("content-type", "application/json");
    let mut of_admins = 0;
    for operation in operations(&world).await {
        let Some(needs) = operation.needs() else { continue };
        let what = format!("{} {}", operation.method, operation.path);
        let body = operation.about["requestBody"].is_object().then_some("{");
        let has_body = operation.method != "HEAD";
        for token in [None, Some("Bearer null"), Some("Bearer secret-token:odd")] {
            let mut headers = vec![json];
            headers.extend(token.map(|token| ("authorization", token)));
            let answer = operation.ask(&world, &headers, body).await;
            assert_eq!(answer.status, 401, "{what}");
            assert_eq!(answer.header("www-authenticate"), Some(CHALLENGE), "{what}");
            if has_body {
                assert_eq!(answer.error(), "unauthorized", "{what}");
            }
        }
        if needs == "admin" {
            of_admins += 1;
            let headers = [json, ("authorization", &bob)];
            let answer = operation.ask(&world, &headers, body).await;
            assert_eq!(answer.status, 403, "{what}");
            if has_body {
                assert_eq!(answer.error(), "forbidden", "{what}");
            }
        }
    }
    assert!(of_admins > 50, "{of_admins}");
}

#[tokio::test]
async fn c20_anybody_is_told_the_domain_and_nothing_else() {
    let (world, alice) = world().await;
    let bob = world.token("bob").await;
    for (token, keys) in [("null", 1), ("odd", 1), (&bob, 1), (&alice, 16)] {
        let answer = world.ask_as(token, "GET", "/v1/server/config").await;
        assert_eq!((answer.status, &answer.json()["domain"]), (200, &"example.org".into()));
        assert_eq!(answer.json().as_object().unwrap().len(), keys);
    }
}

#[tokio::test]
async fn c21_without_federation_nothing_is_said_of_other_servers() {
    let (world, alice) = world().await;
    for is_federated in [false, true] {
        let path = "/v1/server/config/federation-enabled";
        assert_eq!(world.put_as(&alice, path, &is_federated.to_string()).await.status, 200);
        let checks = world.ask_as(&alice, "GET", "/v1/network/checks").await.body;
        assert_eq!(checks.contains("s2s"), is_federated, "{checks}");
        let steps = world.ask_as(&alice, "GET", "/v1/network/dns/records").await.body;
        assert_eq!(steps.contains("_xmpp-server"), is_federated, "{steps}");
    }
}

#[tokio::test]
async fn c29_whatever_is_started_anew_the_pod_recovers() {
    let (mut world, alice) = world().await;
    for (server, api) in [(false, true), (true, false), (true, true)] {
        if server {
            world.server.go_down();
            super::until("it is out of step", || !world.pod.is_linked()).await;
        }
        if api {
            world = world.restart().await;
        }
        if server {
            world.server.restart(&world.init.secret_of_a_new_server());
        }
        world.in_step().await;
        let answer = world.ask_as(&alice, "GET", "/v1/members").await;
        assert_eq!((answer.status, answer.json().as_array().unwrap().len()), (200, 2));
    }
}

#[tokio::test]
async fn c31_each_way_of_being_wrong_has_its_status_and_a_body() {
    let (world, alice) = world().await;
    let bearer = format!("Bearer {alice}");
    let (authorization, long) = (("authorization", bearer.as_str()), " ".repeat(70_000));
    let mut of_json = 0;
    for operation in operations(&world).await {
        if !operation.takes_json_only() {
            continue;
        }
        of_json += 1;
        let what = format!("{} {}", operation.method, operation.path);
        for (kind, body, status) in [
            ("application/json", "{", 400),
            ("application/json", "", 400),
            ("application/json", "\u{fffd}", 400),
            ("application/merge-patch+json", "{", 400),
            ("text/plain", "{}", 415),
            ("application/xml", "{}", 415),
            ("", "{}", 415),
            ("application/json", long.as_str(), 413),
        ] {
            let headers = [("content-type", kind), authorization];
            let answer = operation.ask(&world, &headers, Some(body)).await;
            assert_eq!(
                (answer.status, answer.error().as_str()),
                (status, "unknown"),
                "{what} {kind}"
            );
        }
    }
    assert!(of_json > 15, "{of_json}");
    // What isn't known is another program's.
    for (path, body, status) in [
        ("/v1/workspace/name", "2024", 200),
        ("/v1/members/alice@example.org/nickname", "true", 204),
    ] {
        assert_eq!(world.put_as(&alice, path, body).await.status, status, "{path}");
    }
    let headers = [("content-type", "application/json; charset=utf-8"), authorization];
    let body = Some(r#"{"name":"Acme","colour":"red"}"#);
    let answer = world.client.ask("PATCH", "/v1/workspace", &headers, body).await;
    assert_eq!((answer.status, &answer.json()["name"]), (200, &"Acme".into()));
    // A name with a colon in its password is a password; one that can't be is refused.
    let login = [("authorization", basic("alice", "x"))];
    let login = [(login[0].0, login[0].1.as_str())];
    let answer = world.client.ask("POST", "/v1/login", &login, None).await;
    assert_eq!((answer.status, answer.error().as_str()), (401, "unauthorized"));
}
