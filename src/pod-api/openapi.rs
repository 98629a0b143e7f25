//! The API's own description (OpenAPI 3.1), at `/openapi.json`: what the attributes of the handlers
//! say, completed by what holds for all of them.
//!
//! ```text
//! routes::all ── split ──┬─► Router
//!                        └─► OpenApi ── complete ──► JSON
//! ```
//!
//! A route is registered together with its description, so that there is none without.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use utoipa::openapi::OpenApi;
use utoipa::openapi::path::Paths;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::server::Server;
use utoipa_axum::router::UtoipaMethodRouter;

use crate::problem::Problem;

/// What everybody should know first.
#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Prose Pod API",
        description = "Configures a Prose Pod. Every error has a body of the schema Problem, but \
            for 404 and 405 where there is no such path or method. Keys that aren't known are \
            ignored in bodies. While the Server is being started, what needs it answers 503. More \
            than 128 connections at a time wait."
    ),
    components(schemas(Problem))
)]
struct Head;

/// What a description begins with.
pub fn head() -> OpenApi {
    let mut head = <Head as utoipa::OpenApi>::openapi();
    head.servers = Some(vec![Server::new("/api")]);
    let bearer = |about: &str| {
        let mut scheme = Http::new(HttpAuthScheme::Bearer);
        scheme.description = Some(about.to_owned());
        SecurityScheme::Http(scheme)
    };
    let mut basic = Http::new(HttpAuthScheme::Basic);
    basic.description = Some("A member's address (alice@example.org) and password.".to_owned());
    let components = head.components.get_or_insert_default();
    components.add_security_scheme("member", bearer("The token of any member, of a login."));
    components.add_security_scheme("admin", bearer("The token of an admin, of a login."));
    components.add_security_scheme("password", SecurityScheme::Http(basic));
    head
}

/// The same operations at another path.
pub fn at<S>(path: &str, routes: UtoipaMethodRouter<S>) -> UtoipaMethodRouter<S> {
    let (schemas, paths, router) = routes;
    let mut moved = Paths::new();
    moved.paths = paths.paths.into_values().map(|item| (path.to_owned(), item)).collect();
    (schemas, moved, router)
}

/// Adds what handlers needn't say: a name for each operation, and what all of its kind may answer.
pub fn complete(document: &OpenApi) -> Value {
    // Plain data: serialising it cannot fail.
    let mut document = serde_json::to_value(document).unwrap_or_default();
    let paths = document["paths"].as_object_mut().into_iter().flatten();
    for (path, item) in paths {
        for (method, operation) in item.as_object_mut().into_iter().flatten() {
            operation["operationId"] = name(method, path).into();
            let usual = usual(path, operation);
            let Some(responses) = operation["responses"].as_object_mut() else { continue };
            for (status, about) in usual {
                responses.entry(status).or_insert_with(|| json!({ "description": about }));
            }
            if method != "head" {
                responses.iter_mut().for_each(explain);
            }
        }
    }
    loosen(&mut document);
    document
}

/// Of alternatives, more than one may fit: what has all keys has those of the shorter one, too.
fn loosen(schema: &mut Value) {
    match schema {
        Value::Object(keys) => {
            if let Some(alternatives) = keys.remove("oneOf") {
                keys.insert("anyOf".into(), alternatives);
            }
            keys.values_mut().for_each(loosen);
        }
        Value::Array(items) => items.iter_mut().for_each(loosen),
        _ => (),
    }
}

/// `put_v1_members_jid_role`
fn name(method: &str, path: &str) -> String {
    let words = path.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    words.fold(method.to_owned(), |name, word| format!("{name}_{word}"))
}

/// What may be answered to any operation of this kind.
fn usual(path: &str, operation: &Value) -> BTreeMap<&'static str, &'static str> {
    let mut usual = BTreeMap::new();
    if path.ends_with("version") || path.contains("health") {
        return usual;
    }
    usual.insert("500", "Something went wrong that the log tells more of.");
    usual.insert("503", "The Server, or the Pod itself, is being started: try again.");
    let schemes = operation["security"].as_array().into_iter().flatten();
    for scheme in schemes.filter_map(Value::as_object).flat_map(|it| it.keys()) {
        usual.insert("401", "`unauthorized`: no token, or one that is not good any more.");
        if scheme == "admin" {
            usual.insert("403", "`forbidden`: only an admin may do this.");
        }
    }
    if operation["responses"]["200"]["content"]["text/event-stream"].is_object() {
        usual.insert("429", "`too_many_requests`: too many streams of events are open.");
    }
    if operation["parameters"].is_array() {
        usual.insert("400", "A parameter is not right.");
    }
    if operation["requestBody"].is_object() {
        usual.insert("400", "The body is not well-formed.");
        usual.insert("408", "The body took too long.");
        usual.insert("413", "The body is too large.");
        usual.insert("415", "The body is of the wrong type.");
        usual.insert("422", "The body is well-formed, but says something that can't be.");
    }
    usual
}

/// Every error has the same kind of body.
fn explain((status, response): (&String, &mut Value)) {
    let is_error = status.starts_with('4') || status.starts_with('5');
    if is_error && response["content"].is_null() {
        let schema = json!({ "$ref": "#/components/schemas/Problem" });
        response["content"] = json!({ "application/json": { "schema": schema } });
    }
}
