//! The operator has changed the configuration.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;

use crate::auth::Admin;
use crate::pod::Pod;

/// Read the configuration anew.
///
/// That is done a moment later. If it is wrong, the last good one goes on, and the log says why. A
/// Pod that was started with a wrong one lets anybody do this.
#[utoipa::path(
    post, path = "/reload", tag = "Pod",
    responses((status = 202, description = "It will be.")),
    security(("admin" = []))
)]
pub(super) async fn reload(State(pod): State<Arc<Pod>>, _: Admin) -> StatusCode {
    pod.desk.reload();
    StatusCode::ACCEPTED
}
