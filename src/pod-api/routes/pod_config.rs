//! Where the Pod and its Dashboard are, as the operator said or by default.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use crate::auth::Admin;
use crate::config::network::ShownAddress;
use crate::pod::Pod;

#[derive(Serialize, ToSchema)]
pub(super) struct PodConfig {
    address: ShownAddress,
}

#[derive(Serialize, ToSchema)]
pub(super) struct DashboardConfig {
    url: String,
}

/// Where the Pod is.
#[utoipa::path(
    get, path = "/v1/pod/config", tag = "Pod",
    responses((status = 200, description = "Its configuration.", body = PodConfig)),
    security(("admin" = []))
)]
pub(super) async fn pod(State(pod): State<Arc<Pod>>, _: Admin) -> Json<PodConfig> {
    Json(PodConfig { address: shown(&pod) })
}

/// Where the Pod is: only the address.
#[utoipa::path(
    get, path = "/v1/pod/config/address", tag = "Pod",
    responses((status = 200, description = "Its address.", body = ShownAddress)),
    security(("admin" = []))
)]
pub(super) async fn address(State(pod): State<Arc<Pod>>, _: Admin) -> Json<ShownAddress> {
    Json(shown(&pod))
}

/// Where the Dashboard is.
#[utoipa::path(
    get, path = "/v1/dashboard/config", tag = "Pod",
    responses((status = 200, description = "Its configuration.", body = DashboardConfig)),
    security(("admin" = []))
)]
pub(super) async fn dashboard(State(pod): State<Arc<Pod>>, _: Admin) -> Json<DashboardConfig> {
    Json(DashboardConfig { url: pod.config.dashboard_url().as_str().to_owned() })
}

/// Where the Dashboard is: only the URL.
#[utoipa::path(
    get, path = "/v1/dashboard/config/url", tag = "Pod",
    responses((status = 200, description = "Its URL.", body = String, content_type = "application/json")),
    security(("admin" = []))
)]
pub(super) async fn dashboard_url(State(pod): State<Arc<Pod>>, _: Admin) -> Json<String> {
    Json(pod.config.dashboard_url().as_str().to_owned())
}

fn shown(pod: &Pod) -> ShownAddress {
    pod.config.pod.shown(pod.domain())
}
