//! Is the Pod usable?

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;

use crate::pod::Pod;

pub(super) async fn health(State(pod): State<Arc<Pod>>) -> (StatusCode, &'static str) {
    if pod.is_linked() {
        (StatusCode::OK, "")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "The Server does not answer.\n")
    }
}
