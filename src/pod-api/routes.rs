//! Which path is whose. What isn't here is answered by 404, or 405, and no body.

use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::HeaderValue;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::middleware::{Next, from_fn, from_fn_with_state, map_response};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use serde_json::Value;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::Desk;
use crate::openapi::{self, at};
use crate::pod::Pod;
use crate::problem::Problem;
use crate::{sse, unread};

mod backups;
mod config;
mod degraded;
mod domain;
mod first_account;
mod health;
mod invitation_tokens;
mod invitations;
mod licensing;
mod login;
mod member;
mod members;
mod network;
mod onboarding;
mod overrides;
mod passwords;
mod pod_config;
mod recovery;
mod reload;
mod reset;
mod version;
mod workspace;

/// Where the API is described.
const DESCRIPTION: &str = "/openapi.json";

/// The whole API.
pub fn router(pod: Arc<Pod>) -> Router {
    let description = Router::new().route(DESCRIPTION, get(describe));
    let bounded = from_fn_with_state(pod.clone(), sse::bounded);
    let leaving = from_fn_with_state(pod.clone(), leaving);
    let router = Router::from(all()).with_state(pod).merge(description);
    let router = router.layer(bounded).layer(leaving);
    router.layer(from_fn(unread::taken)).layer(map_response(uncached))
}

/// What is there while the configuration is wrong, which anybody may be told.
pub fn degraded(desk: Desk, why: &str) -> Router {
    degraded::router(desk, why).layer(map_response(uncached))
}

/// While all data is being exchanged, nothing that is answered would be true for long.
async fn leaving(State(pod): State<Arc<Pod>>, request: Request, next: Next) -> Response {
    match pod.backups.is_leaving() {
        true => Problem::restarting().into_response(),
        false => next.run(request).await,
    }
}

/// What can be asked for, in OpenAPI's words.
fn description() -> Value {
    openapi::complete(all().get_openapi())
}

fn all() -> OpenApiRouter<Arc<Pod>> {
    OpenApiRouter::with_openapi(openapi::head())
        .routes(routes!(version::api))
        .routes(at("/v1/version", routes!(version::api)))
        .routes(routes!(version::pod))
        .routes(at("/v1/pod/version", routes!(version::pod)))
        .routes(routes!(version::server))
        .routes(at("/v1/server/version", routes!(version::server)))
        .routes(routes!(health::health))
        .routes(at("/healthz", routes!(health::health)))
        .routes(at("/v1/health", routes!(health::health)))
        .routes(at("/v1/healthz", routes!(health::health)))
        .routes(routes!(login::login))
        .routes(routes!(first_account::exists, first_account::create))
        .routes(routes!(
            workspace::read,
            workspace::exists,
            workspace::initialize,
            workspace::change
        ))
        .routes(routes!(workspace::name, workspace::set_name))
        .routes(routes!(workspace::accent_color, workspace::set_accent_color))
        .routes(routes!(workspace::icon, workspace::set_icon))
        .routes(routes!(onboarding::steps))
        .routes(routes!(network::records))
        .routes(routes!(network::all))
        .routes(routes!(network::dns))
        .routes(routes!(network::ip))
        .routes(routes!(network::ports))
        .routes(routes!(pod_config::pod))
        .routes(routes!(pod_config::address))
        .routes(routes!(pod_config::dashboard))
        .routes(routes!(pod_config::dashboard_url))
        .routes(routes!(members::list, members::count))
        .routes(routes!(members::one, member::delete))
        .routes(routes!(member::set_role))
        .routes(routes!(member::set_nickname))
        .routes(routes!(member::set_avatar))
        .routes(routes!(members::enrich))
        .routes(routes!(reload::reload))
        .routes(routes!(licensing::license, licensing::buy))
        .routes(routes!(licensing::status))
        .routes(routes!(overrides::server_file))
        .routes(routes!(
            overrides::overrides,
            overrides::override_options,
            overrides::reset_overrides
        ))
        .routes(routes!(overrides::lua, overrides::override_by_lua, overrides::reset_lua))
        .routes(routes!(backups::create, backups::list, backups::delete_some))
        .routes(routes!(backups::one, backups::put, backups::describe, backups::delete))
        .routes(routes!(backups::offer))
        .routes(routes!(backups::get))
        .routes(routes!(backups::restore))
        .routes(routes!(reset::reset))
        .merge(config::routes())
        .routes(routes!(invitations::may_invite, invitations::list, invitations::create))
        .routes(routes!(invitations::one, invitations::cancel))
        .routes(routes!(invitations::resend))
        .routes(routes!(invitation_tokens::details))
        .routes(routes!(invitation_tokens::accept))
        .routes(routes!(invitation_tokens::reject))
        .routes(routes!(passwords::start))
        .routes(routes!(passwords::finish))
        .routes(routes!(recovery::read, recovery::write))
        .routes(at(recovery::OTHER_PATHS[0], routes!(recovery::read, recovery::write)))
        .routes(at(recovery::OTHER_PATHS[1], routes!(recovery::read, recovery::write)))
}

/// Made for the first who asks: few do, and it would take more of a start than all the rest.
async fn describe() -> impl IntoResponse {
    static TEXT: OnceLock<Bytes> = OnceLock::new();
    let text = TEXT.get_or_init(|| Bytes::from(description().to_string()));
    ([(CONTENT_TYPE, "application/json")], text.clone())
}

/// No answer is kept by a browser or a proxy.
async fn uncached(mut response: Response) -> Response {
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What an operation must say of itself.
    fn flaws(path: &str, method: &str, operation: &Value) -> Vec<String> {
        let mut flaws = vec![];
        let mut must = |is_so: bool, what: &str| {
            if !is_so {
                flaws.push(format!("{method} {path}: {what}"));
            }
        };
        must(operation["summary"].as_str().is_some_and(|it| !it.is_empty()), "has no summary");
        must(operation["tags"].as_array().is_some_and(|it| it.len() == 1), "has no tag");
        must(operation["operationId"].is_string(), "has no name");
        let responses = operation["responses"].as_object().cloned().unwrap_or_default();
        // 501: it never does, and says so.
        let is_good = |status: &String| status.starts_with(['2', '3']) || status == "501";
        must(responses.keys().any(is_good), "never succeeds");
        for (status, response) in &responses {
            let says = response["description"].as_str().is_some_and(|it| !it.is_empty());
            must(says, &format!("{status} isn't explained"));
        }
        let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
        for name in path.split('/').filter_map(|it| it.strip_prefix('{')) {
            let name = name.trim_end_matches('}');
            let is_it = |it: &Value| it["in"] == "path" && it["name"] == name;
            must(parameters.iter().any(is_it), &format!("{name} isn't explained"));
        }
        let takes = ["put", "post", "patch"].contains(&method);
        let about_body = responses.contains_key("415");
        must(!takes || about_body || operation["requestBody"].is_null(), "takes what body?");
        flaws
    }

    #[test]
    fn each_route_is_documented() {
        let document = description();
        assert_eq!(document["openapi"], "3.1.0");
        let mut names = std::collections::BTreeSet::new();
        let mut flawed = vec![];
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                flawed.extend(flaws(path, method, operation));
                assert!(names.insert(operation["operationId"].to_string()), "{method} {path}");
            }
        }
        assert_eq!(flawed, Vec::<String>::new());
        assert!(names.len() > 60, "{}", names.len());
        assert_ne!(flaws("/x", "get", &Value::Null), Vec::<String>::new(), "it finds nothing");
    }

    /// Only the description itself may be registered without one.
    #[test]
    fn there_is_no_route_past_the_documentation() {
        let sources = [concat!(env!("CARGO_MANIFEST_DIR"), "/routes.rs")].map(Into::into);
        let folder = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/routes")).unwrap();
        let all = sources.into_iter().chain(folder.map(|it| it.unwrap().path()));
        let registered = |path: std::path::PathBuf| {
            let text = std::fs::read_to_string(path).unwrap();
            [".route(", ".route_service(", ".nest_service("].map(|it| text.matches(it).count())
        };
        let found: Vec<[usize; 3]> = all.map(registered).collect();
        let sum = |at: usize| found.iter().map(|it| it[at]).sum::<usize>();
        // The one, and those that this test names.
        assert_eq!([sum(0), sum(1), sum(2)], [2, 1, 1]);
    }
}
