//! Which path is whose. What isn't here is answered by 404, or 405, and no body.

use std::sync::Arc;

use axum::Router;
use axum::http::HeaderValue;
use axum::http::header::CACHE_CONTROL;
use axum::middleware::map_response;
use axum::response::Response;
use axum::routing::{get, head, post, put};

use crate::pod::Pod;

mod config;
mod first_account;
mod health;
mod invitation_tokens;
mod invitations;
mod login;
mod member;
mod members;
mod network;
mod passwords;
mod pod_config;
mod recovery;
mod version;
mod workspace;

/// The whole API.
pub fn router(pod: Arc<Pod>) -> Router {
    Router::new()
        .route("/version", get(version::api))
        .route("/v1/version", get(version::api))
        .route("/pod/version", get(version::pod))
        .route("/v1/pod/version", get(version::pod))
        .route("/server/version", get(version::server))
        .route("/v1/server/version", get(version::server))
        .route("/health", get(health::health))
        .route("/healthz", get(health::health))
        .route("/v1/health", get(health::health))
        .route("/v1/healthz", get(health::health))
        .route("/v1/login", post(login::login))
        .route("/v1/init/first-account", head(first_account::exists).put(first_account::create))
        .route(
            "/v1/workspace",
            get(workspace::read)
                .head(workspace::exists)
                .put(workspace::initialize)
                .patch(workspace::change),
        )
        .route("/v1/workspace/name", get(workspace::name).put(workspace::set_name))
        .route(
            "/v1/workspace/accent-color",
            get(workspace::accent_color).put(workspace::set_accent_color),
        )
        .route("/v1/workspace/icon", get(workspace::icon).put(workspace::set_icon))
        .route("/v1/network/dns/records", get(network::records))
        .route("/v1/network/checks", get(network::all))
        .route("/v1/network/checks/dns", get(network::dns))
        .route("/v1/network/checks/ip", get(network::ip))
        .route("/v1/network/checks/ports", get(network::ports))
        .route("/v1/pod/config", get(pod_config::pod))
        .route("/v1/pod/config/address", get(pod_config::address))
        .route("/v1/dashboard/config", get(pod_config::dashboard))
        .route("/v1/dashboard/config/url", get(pod_config::dashboard_url))
        .route("/v1/members", get(members::list).head(members::count))
        .route("/v1/members/{jid}", get(members::one).delete(member::delete))
        .route("/v1/members/{jid}/role", put(member::set_role))
        .route("/v1/members/{jid}/nickname", put(member::set_nickname))
        .route("/v1/enrich-members", get(members::enrich))
        .merge(config::routes())
        .merge(invitations::routes())
        .merge(invitation_tokens::routes())
        .merge(passwords::routes())
        .merge(recovery::routes())
        .layer(map_response(uncached))
        .with_state(pod)
}

/// No answer is kept by a browser or a proxy.
async fn uncached(mut response: Response) -> Response {
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
