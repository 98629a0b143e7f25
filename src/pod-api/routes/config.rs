//! The Server's configuration: all of it for an admin, the domain for anybody. Never 401: the login
//! page asks. And its settings, one by one, for admins.
//!
//! A change is answered once the Server serves by it.

use std::slice;
use std::sync::Arc;

use axum::extract::{FromRequestParts, State};
use axum::http::StatusCode;
use axum::http::header::{CONTENT_LOCATION, CONTENT_TYPE};
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, put};
use axum::{Extension, Json, Router};
use serde_json::{Value, json};

use crate::auth::{Admin, Caller};
use crate::body;
use crate::log;
use crate::member::Role;
use crate::pod::Pod;
use crate::problem::Problem;
use crate::settings::{Change, GROUPS, LUA, OVERRIDES, Setting};

/// Where all of it is.
const PATH: &str = "/v1/server/config";

/// The configuration, each setting and each group of them.
pub(super) fn routes() -> Router<Arc<Pod>> {
    let all = Router::new()
        .route(PATH, get(read))
        .route(&format!("{PATH}/file-storage-encryption-scheme"), put(choose_encryption))
        .route(&format!("{PATH}/prosody"), get(server_file))
        .route(
            &format!("{PATH}/prosody-overrides"),
            get(overrides).put(override_options).delete(reset_overrides),
        )
        .route(
            &format!("{PATH}/prosody-overrides-raw"),
            get(lua).put(override_by_lua).delete(reset_lua),
        );
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

/// What the Server runs with.
async fn server_file(State(pod): State<Arc<Pod>>, _: Admin) -> Result<Response, Problem> {
    let text = pod.init.server_file().await?.ok_or_else(Problem::starting)?;
    Ok(as_lua(text))
}

/// Options by Prosody's own names; nothing, where none are overridden.
async fn overrides(State(pod): State<Arc<Pod>>, _: Admin) -> Response {
    match pod.setting(OVERRIDES) {
        Value::Null => StatusCode::NO_CONTENT.into_response(),
        overrides => Json(overrides).into_response(),
    }
}

async fn override_options(
    State(pod): State<Arc<Pod>>,
    _: Admin,
    body::Json(options): body::Json<Value>,
) -> Result<Json<Value>, Problem> {
    change(&pod, Change::Choose(OVERRIDES, options)).await?;
    Ok(Json(pod.setting(OVERRIDES)))
}

async fn reset_overrides(State(pod): State<Arc<Pod>>, _: Admin) -> Result<StatusCode, Problem> {
    change(&pod, Change::TakeBack(&[OVERRIDES])).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Lua for each of the Server's hosts; nothing, where there is none.
async fn lua(State(pod): State<Arc<Pod>>, _: Admin) -> Response {
    match pod.setting(LUA) {
        Value::String(text) => as_lua(text),
        _ => StatusCode::NO_CONTENT.into_response(),
    }
}

/// Whoever writes it runs it next to the messages: only where the operator allows that.
async fn override_by_lua(
    State(pod): State<Arc<Pod>>,
    by: Admin,
    _: LuaAllowed,
    body::Lua(text): body::Lua,
) -> Result<Response, Problem> {
    change(&pod, Change::Choose(LUA, text.clone().into())).await?;
    log::warn(format_args!("{} set {} bytes of Lua", by.local.as_str(), text.len()));
    Ok(as_lua(text))
}

async fn reset_lua(State(pod): State<Arc<Pod>>, by: Admin) -> Result<StatusCode, Problem> {
    change(&pod, Change::TakeBack(&[LUA])).await?;
    log::warn(format_args!("{} took Lua back", by.local.as_str()));
    Ok(StatusCode::NO_CONTENT)
}

/// The operator allows Lua: asked before the body is looked at.
struct LuaAllowed;

impl FromRequestParts<Arc<Pod>> for LuaAllowed {
    type Rejection = Problem;

    async fn from_request_parts(_: &mut Parts, pod: &Arc<Pod>) -> Result<LuaAllowed, Problem> {
        match pod.may_hold_lua().await? {
            true => Ok(LuaAllowed),
            false => Err(Problem::no_lua()),
        }
    }
}

fn as_lua(text: String) -> Response {
    ([(CONTENT_TYPE, "text/x-lua")], text).into_response()
}

/// By itself: it is finished even if whoever asked goes away.
async fn change(pod: &Arc<Pod>, change: Change) -> Result<(), Problem> {
    let pod = pod.clone();
    let changed = tokio::spawn(async move { pod.change_settings(change).await }).await;
    changed.map_err(|_| Problem::internal())?
}
