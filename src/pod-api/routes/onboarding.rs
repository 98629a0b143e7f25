//! What is left to do on a new Pod.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;

use crate::auth::Caller;
use crate::onboarding::Onboarding;
use crate::pod::Pod;

/// What is left to do on a new Pod: the keys are in order.
#[utoipa::path(
    get, path = "/v1/onboarding-steps", tag = "Setting up",
    responses((status = 200, description = "What was done.", body = Onboarding)),
    security(("member" = []))
)]
pub(super) async fn steps(State(pod): State<Arc<Pod>>, _: Caller) -> Json<Onboarding> {
    Json(pod.onboarding())
}
