//! Is the Pod usable?

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;

use crate::pod::Pod;

/// Is the Pod usable?
#[utoipa::path(
    get, path = "/health", tag = "Pod",
    responses(
        (status = 200, description = "It is.", body = String, content_type = "text/plain"),
        (status = 503, description = "The Server does not answer.", body = String, content_type = "text/plain"),
    )
)]
pub(super) async fn health(State(pod): State<Arc<Pod>>) -> (StatusCode, &'static str) {
    if pod.is_linked() {
        (StatusCode::OK, "")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "The Server does not answer.\n")
    }
}
