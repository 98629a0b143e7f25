//! The workspace. It is named before the first account is made, by whoever sets the Pod up;
//! then admins may change it.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::header::{ACCEPT, CONTENT_TYPE, IF_MATCH, LOCATION, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};

use crate::auth::Admin;
use crate::body;
use crate::picture::Picture;
use crate::pod::Pod;
use crate::problem::Problem;
use crate::publish;
use crate::workspace::{Change, Shown, Wish, Workspace};

/// Was the workspace initialised?
#[utoipa::path(
    head, path = "/v1/workspace", tag = "Workspace",
    params(("If-Match" = String, Header, description = "`*`")),
    responses(
        (status = 204, description = "It was."),
        (status = 412, description = "Not yet."),
        (status = 428, description = "`precondition_required`: If-Match isn't `*`."),
    )
)]
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

/// Name the workspace, before the first account is made.
///
/// As often as one likes, until there is a member.
#[utoipa::path(
    put, path = "/v1/workspace", tag = "Setting up",
    request_body = Wish,
    responses(
        (status = 201, description = "Named.", body = Shown, headers(("Location" = String, description = "Where it is."))),
        (status = 409, description = "`workspace_already_initialized`: there are members."),
    )
)]
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
    publish::changed(&pod).await;
    Ok((StatusCode::CREATED, [(LOCATION, "/v1/workspace")], Json(workspace.shown(pod.icon()))))
}

/// The workspace. Without a name of its own it is called like the domain.
#[utoipa::path(
    get, path = "/v1/workspace", tag = "Workspace",
    responses((status = 200, description = "All of it.", body = Shown))
)]
pub(super) async fn read(State(pod): State<Arc<Pod>>) -> Json<Shown> {
    Json(current(&pod).shown(pod.icon()))
}

/// The workspace's name.
#[utoipa::path(
    get, path = "/v1/workspace/name", tag = "Workspace",
    responses((status = 200, description = "Its name.", body = String, content_type = "application/json"))
)]
pub(super) async fn name(State(pod): State<Arc<Pod>>) -> Json<String> {
    Json(current(&pod).name)
}

/// The workspace's colour.
#[utoipa::path(
    get, path = "/v1/workspace/accent-color", tag = "Workspace",
    responses((status = 200, description = "`#rrggbb`, or null.", body = Option<String>, content_type = "application/json"))
)]
pub(super) async fn accent_color(State(pod): State<Arc<Pod>>) -> Json<Option<String>> {
    Json(current(&pod).accent_color)
}

/// Change the workspace.
#[utoipa::path(
    patch, path = "/v1/workspace", tag = "Workspace",
    request_body = Change,
    responses((status = 200, description = "As it is now.", body = Shown)),
    security(("admin" = []))
)]
pub(super) async fn change(
    State(pod): State<Arc<Pod>>,
    _: Admin,
    body::Json(change): body::Json<Change>,
) -> Result<Json<Shown>, Problem> {
    let changed = changed(&pod, change).await?;
    Ok(Json(changed.shown(pod.icon())))
}

/// Name the workspace.
#[utoipa::path(
    put, path = "/v1/workspace/name", tag = "Workspace",
    request_body(content = String, content_type = "application/json", description = "1 to 48 characters."),
    responses((status = 200, description = "Its name.", body = String, content_type = "application/json")),
    security(("admin" = []))
)]
pub(super) async fn set_name(
    State(pod): State<Arc<Pod>>,
    _: Admin,
    body::Text(name): body::Text,
) -> Result<Json<String>, Problem> {
    let change = Change { name: Some(name), ..Change::default() };
    Ok(Json(changed(&pod, change).await?.name))
}

/// Colour the workspace.
#[utoipa::path(
    put, path = "/v1/workspace/accent-color", tag = "Workspace",
    request_body(content = Option<String>, content_type = "application/json", description = "`#rgb`, `#rrggbb` or null."),
    responses((status = 200, description = "`#rrggbb`, or null.", body = Option<String>, content_type = "application/json")),
    security(("admin" = []))
)]
pub(super) async fn set_accent_color(
    State(pod): State<Arc<Pod>>,
    _: Admin,
    body::Json(color): body::Json<Option<String>>,
) -> Result<Json<Option<String>>, Problem> {
    let change = Change { accent_color: Some(color), ..Change::default() };
    Ok(Json(changed(&pod, change).await?.accent_color))
}

/// The workspace's picture.
///
/// Its bytes, or JSON for those who say that they take it.
#[utoipa::path(
    get, path = "/v1/workspace/icon", tag = "Workspace",
    responses(
        (status = 200, description = "Its bytes; or JSON, where that is accepted.", content(
            (Option<Picture> = "application/json"),
            (Vec<u8> = "image/png"),
            (Vec<u8> = "image/jpeg"),
            (Vec<u8> = "image/gif"),
        )),
        (status = 204, description = "It has none."),
    )
)]
pub(super) async fn icon(State(pod): State<Arc<Pod>>, headers: HeaderMap) -> Response {
    let accepted = headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or("");
    let mut kinds = accepted.split(',').filter_map(|kind| kind.split(';').next());
    match pod.icon() {
        icon if kinds.any(|kind| kind.trim() == "application/json") => Json(icon).into_response(),
        Some(Picture { bytes, kind }) => {
            ([(CONTENT_TYPE, kind), (X_CONTENT_TYPE_OPTIONS, "nosniff")], bytes).into_response()
        }
        None => StatusCode::NO_CONTENT.into_response(),
    }
}

/// Give the workspace a picture: PNG, JPEG or GIF, up to 1 MiB.
#[utoipa::path(
    put, path = "/v1/workspace/icon", tag = "Workspace",
    request_body(content(
        (String = "text/plain"),
        (String = "application/json"),
        (Vec<u8> = "application/octet-stream"),
        (Vec<u8> = "image/png"),
        (Vec<u8> = "image/jpeg"),
        (Vec<u8> = "image/gif"),
    ), description = "Bytes; or base64, as text or as a JSON string."),
    responses(
        (status = 204, description = "Taken."),
        (status = 415, description = "`unsupported_media_type`: it is no such picture."),
    ),
    security(("admin" = []))
)]
pub(super) async fn set_icon(
    State(pod): State<Arc<Pod>>,
    _: Admin,
    icon: Picture,
) -> Result<StatusCode, Problem> {
    pod.set_icon(icon).await?;
    publish::changed(&pod).await;
    Ok(StatusCode::NO_CONTENT)
}

async fn changed(pod: &Pod, change: Change) -> Result<Workspace, Problem> {
    let _setup = pod.setup.lock().await;
    let workspace = current(pod).after(change)?;
    pod.set_workspace(workspace.clone()).await?;
    publish::changed(pod).await;
    Ok(workspace)
}

fn current(pod: &Pod) -> Workspace {
    pod.workspace().unwrap_or_else(|| Workspace::default(pod.domain().as_ref()))
}
