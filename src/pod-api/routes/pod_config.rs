//! Where the Pod and its Dashboard are, as the operator said or by default.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use crate::auth::Admin;
use crate::config::network::ShownAddress;
use crate::pod::Pod;

pub(super) async fn pod(State(pod): State<Arc<Pod>>, _: Admin) -> Json<Value> {
    Json(json!({ "address": shown(&pod) }))
}

pub(super) async fn address(State(pod): State<Arc<Pod>>, _: Admin) -> Json<ShownAddress> {
    Json(shown(&pod))
}

pub(super) async fn dashboard(State(pod): State<Arc<Pod>>, _: Admin) -> Json<Value> {
    Json(json!({ "url": pod.config.dashboard_url().as_str() }))
}

pub(super) async fn dashboard_url(State(pod): State<Arc<Pod>>, _: Admin) -> Json<String> {
    Json(pod.config.dashboard_url().as_str().to_owned())
}

fn shown(pod: &Pod) -> ShownAddress {
    pod.config.pod.shown(pod.domain())
}
