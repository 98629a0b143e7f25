//! What is left to do on a new Pod.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;

use crate::auth::Caller;
use crate::onboarding::Onboarding;
use crate::pod::Pod;

pub(super) async fn steps(State(pod): State<Arc<Pod>>, _: Caller) -> Json<Onboarding> {
    Json(pod.onboarding())
}
