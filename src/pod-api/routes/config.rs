//! The Server's configuration: all of it for an admin, the domain for anybody. Never 401: the login
//! page asks.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::auth::Caller;
use crate::member::Role;
use crate::pod::Pod;

pub(super) async fn read(State(pod): State<Arc<Pod>>, caller: Option<Caller>) -> Response {
    match caller {
        Some(Caller { role: Role::Admin, .. }) => Json(&pod.config.server).into_response(),
        _ => Json(json!({ "domain": pod.domain() })).into_response(),
    }
}
