//! What runs here. Answers whatever the Server does: the Dashboard asks this first.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use crate::pod::Pod;

/// A version, in as many forms as the Dashboard knows. The image holds no date and no commit, so
/// that the same sources make the same bytes: those are null.
#[derive(Debug, Serialize, ToSchema)]
pub struct Version {
    version: String,
    tag: String,
    build_date: Option<String>,
    build_timestamp: Option<String>,
    commit_short: Option<String>,
    commit_long: Option<String>,
}

/// Of both.
#[derive(Debug, Serialize, ToSchema)]
pub struct Versions {
    api: Version,
    server: Version,
}

impl Versions {
    /// Without a Pod nobody has seen a Server.
    pub(super) fn without_server() -> Versions {
        Versions { api: Version::of_api(), server: Version::new("unknown") }
    }
}

impl Version {
    fn new(version: &str) -> Version {
        Version {
            version: version.to_owned(),
            tag: version.to_owned(),
            build_date: None,
            build_timestamp: None,
            commit_short: None,
            commit_long: None,
        }
    }

    pub(super) fn of_api() -> Version {
        Version::new(env!("CARGO_PKG_VERSION"))
    }

    fn of_server(pod: &Pod) -> Version {
        Version::new(pod.server_version().as_ref().map_or("unknown", |version| &version.prosody))
    }
}

/// The API's version.
#[utoipa::path(
    get, path = "/version", tag = "Pod",
    responses((status = 200, description = "Its version.", body = Version))
)]
pub(super) async fn api() -> Json<Version> {
    Json(Version::of_api())
}

/// The Server's version.
#[utoipa::path(
    get, path = "/server/version", tag = "Pod",
    responses((status = 200, description = "Its version, `unknown` until it was seen.", body = Version))
)]
pub(super) async fn server(State(pod): State<Arc<Pod>>) -> Json<Version> {
    Json(Version::of_server(&pod))
}

/// The versions of API and Server.
#[utoipa::path(
    get, path = "/pod/version", tag = "Pod",
    responses((status = 200, description = "Both.", body = Versions))
)]
pub(super) async fn pod(State(pod): State<Arc<Pod>>) -> Json<Versions> {
    Json(Versions { api: Version::of_api(), server: Version::of_server(&pod) })
}
