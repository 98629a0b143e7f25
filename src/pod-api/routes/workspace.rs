//! The workspace. It is named before the first account is made, by whoever sets the Pod up.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::header::{IF_MATCH, LOCATION};
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;

use crate::body;
use crate::pod::Pod;
use crate::problem::Problem;
use crate::workspace::{Shown, Wish, Workspace};

pub(super) async fn exists(
    State(pod): State<Arc<Pod>>,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    match headers.get(IF_MATCH).map(|value| value.as_bytes()) {
        None => Err(Problem::malformed("The header If-Match is missing: it must be *.")),
        Some(b"*") if pod.workspace().is_some() => Ok(StatusCode::NO_CONTENT),
        Some(b"*") => Ok(StatusCode::PRECONDITION_FAILED),
        Some(_) => Err(Problem::precondition_required()),
    }
}

/// As often as one likes, until there is a member.
pub(super) async fn initialize(
    State(pod): State<Arc<Pod>>,
    body::Json(wish): body::Json<Wish>,
) -> Result<impl IntoResponse, Problem> {
    let workspace = Workspace::new(wish)?;
    let _setup = pod.setup.lock().await;
    if pod.look(|accounts| accounts.members().next().is_some())? {
        return Err(Problem::workspace_already_initialized());
    }
    pod.set_workspace(workspace.clone()).await?;
    Ok((StatusCode::CREATED, [(LOCATION, "/v1/workspace")], Json(workspace.shown())))
}

pub(super) async fn read(State(pod): State<Arc<Pod>>) -> Json<Shown> {
    Json(current(&pod).shown())
}

pub(super) async fn name(State(pod): State<Arc<Pod>>) -> Json<String> {
    Json(current(&pod).name)
}

pub(super) async fn accent_color(State(pod): State<Arc<Pod>>) -> Json<Option<String>> {
    Json(current(&pod).accent_color)
}

fn current(pod: &Pod) -> Workspace {
    pod.workspace().unwrap_or_else(|| Workspace::default(pod.domain().as_ref()))
}
