//! The Server's configuration: all of it for an admin, the domain for anybody. Never 401: the login
//! page asks. And its settings, one by one, for admins.
//!
//! A change is answered once `stele-init` has accepted it: the Server loads it right after.

use std::slice;
use std::sync::Arc;

use axum::extract::State;
use axum::http::header::CONTENT_LOCATION;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, put};
use axum::{Extension, Json, Router};
use serde_json::{Value, json};

use crate::auth::{Admin, Caller};
use crate::body;
use crate::member::Role;
use crate::pod::Pod;
use crate::problem::Problem;
use crate::settings::{Change, GROUPS, Setting};

/// Where all of it is.
const PATH: &str = "/v1/server/config";

/// The configuration, each setting and each group of them.
pub(super) fn routes() -> Router<Arc<Pod>> {
    let all = Router::new()
        .route(PATH, get(read))
        .route(&format!("{PATH}/file-storage-encryption-scheme"), put(choose_encryption));
    GROUPS.iter().fold(all, |all, group| {
        let together = delete(reset_group).layer(Extension(group.settings));
        let all = all.route(&format!("{PATH}/{}", group.name), together);
        group.settings.iter().fold(all, |all, setting| {
            let one = get(read_one).put(choose).delete(reset).layer(Extension(setting));
            all.route(&format!("{PATH}/{}", setting.segment()), one)
        })
    })
}

async fn read(State(pod): State<Arc<Pod>>, caller: Option<Caller>) -> Response {
    match caller {
        Some(Caller { role: Role::Admin, .. }) => Json(pod.server_config()).into_response(),
        _ => Json(json!({ "domain": pod.domain() })).into_response(),
    }
}

async fn read_one(
    State(pod): State<Arc<Pod>>,
    _: Admin,
    Extension(setting): Extension<&'static Setting>,
) -> Json<Value> {
    Json(pod.setting(*setting))
}

async fn choose(
    State(pod): State<Arc<Pod>>,
    _: Admin,
    Extension(setting): Extension<&'static Setting>,
    body::Json(value): body::Json<Value>,
) -> Result<Json<Value>, Problem> {
    change(&pod, Change::Choose(*setting, value)).await?;
    Ok(Json(pod.setting(*setting)))
}

async fn reset(
    State(pod): State<Arc<Pod>>,
    _: Admin,
    Extension(setting): Extension<&'static Setting>,
) -> Result<Json<Value>, Problem> {
    change(&pod, Change::TakeBack(slice::from_ref(setting))).await?;
    Ok(Json(pod.setting(*setting)))
}

async fn reset_group(
    State(pod): State<Arc<Pod>>,
    _: Admin,
    Extension(settings): Extension<&'static [Setting]>,
) -> Result<impl IntoResponse, Problem> {
    change(&pod, Change::TakeBack(settings)).await?;
    Ok(([(CONTENT_LOCATION, PATH)], Json(pod.server_config())))
}

/// There is but one scheme.
async fn choose_encryption(_: Admin) -> Problem {
    Problem::not_implemented()
}

/// By itself: it is finished even if whoever asked goes away.
async fn change(pod: &Arc<Pod>, change: Change) -> Result<(), Problem> {
    let pod = pod.clone();
    let changed = tokio::spawn(async move { pod.change_settings(change).await }).await;
    changed.map_err(|_| Problem::internal())?
}
