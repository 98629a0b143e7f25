//! Prosody's own configuration: shown, overridden by option, overridden by Lua.

use std::sync::Arc;

use axum::Json;
use axum::extract::{FromRequestParts, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use serde_json::Value;

use super::config::change;
use crate::auth::Admin;
use crate::body;
use crate::log;
use crate::pod::Pod;
use crate::problem::Problem;
use crate::settings::{Change, LUA, OVERRIDES};

/// What the Server runs with.
#[utoipa::path(
    get, path = "/v1/server/config/prosody", tag = "Server",
    responses(
        (status = 200, description = "Prosody's configuration.", body = String, content_type = "text/x-lua"),
    ),
    security(("admin" = []))
)]
pub(super) async fn server_file(
    State(pod): State<Arc<Pod>>,
    _: Admin,
) -> Result<Response, Problem> {
    let text = pod.init.server_file().await?.ok_or_else(Problem::starting)?;
    Ok(as_lua(text))
}

/// Options of Prosody's that are overridden.
#[utoipa::path(
    get, path = "/v1/server/config/prosody-overrides", tag = "Server",
    responses(
        (status = 200, description = "Options by Prosody's names for them.", body = Value),
        (status = 204, description = "None."),
    ),
    security(("admin" = []))
)]
pub(super) async fn overrides(State(pod): State<Arc<Pod>>, _: Admin) -> Response {
    match pod.setting(OVERRIDES) {
        Value::Null => StatusCode::NO_CONTENT.into_response(),
        overrides => Json(overrides).into_response(),
    }
}

/// Override options of Prosody's. It is answered once they hold.
///
/// Known are, each of Prosody's own type: `archive_expires_after`, `c2s_require_encryption`,
/// `c2s_stanza_size_limit`, `consider_websocket_secure`, `default_archive_policy`,
/// `http_file_share_daily_quota`, `http_file_share_size_limit`, `limits`,
/// `max_archive_query_results`, `muc_log_all_rooms`, `muc_log_by_default`,
/// `muc_log_expires_after`, `push_notification_with_body`, `push_notification_with_sender`,
/// `s2s_insecure_domains`, `s2s_require_encryption`, `s2s_secure_auth`, `s2s_secure_domains`,
/// `s2s_stanza_size_limit`, `tls_profile`, `upgrade_legacy_vcards`. Others are refused.
#[utoipa::path(
    put, path = "/v1/server/config/prosody-overrides", tag = "Server",
    request_body = Value,
    responses(
        (status = 200, description = "The options.", body = Value),
    ),
    security(("admin" = []))
)]
pub(super) async fn override_options(
    State(pod): State<Arc<Pod>>,
    _: Admin,
    body::Json(options): body::Json<Value>,
) -> Result<Json<Value>, Problem> {
    change(&pod, Change::Choose(OVERRIDES, options)).await?;
    Ok(Json(pod.setting(OVERRIDES)))
}

/// Override no options any more.
#[utoipa::path(
    delete, path = "/v1/server/config/prosody-overrides", tag = "Server",
    responses(
        (status = 204, description = "None."),
    ),
    security(("admin" = []))
)]
pub(super) async fn reset_overrides(
    State(pod): State<Arc<Pod>>,
    _: Admin,
) -> Result<StatusCode, Problem> {
    change(&pod, Change::TakeBack(&[OVERRIDES])).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Lua at the end of each of the Server's hosts.
#[utoipa::path(
    get, path = "/v1/server/config/prosody-overrides-raw", tag = "Server",
    responses(
        (status = 200, description = "The Lua.", body = String, content_type = "text/x-lua"),
        (status = 204, description = "None."),
    ),
    security(("admin" = []))
)]
pub(super) async fn lua(State(pod): State<Arc<Pod>>, _: Admin) -> Response {
    match pod.setting(LUA) {
        Value::String(text) => as_lua(text),
        _ => StatusCode::NO_CONTENT.into_response(),
    }
}

/// Put Lua at the end of each of the Server's hosts. It is answered once it holds.
///
/// Whoever writes it runs it next to the messages: so it is refused, unless the operator has
/// `PROSE_PROSODY_EXT__ALLOW_RAW_OVERRIDES=true` in `/etc/prose/env`. Each change is in the log.
#[utoipa::path(
    put, path = "/v1/server/config/prosody-overrides-raw", tag = "Server",
    request_body(content((String = "text/x-lua"), (String = "application/json"))),
    responses(
        (status = 200, description = "The Lua.", body = String, content_type = "text/x-lua"),
        (status = 403, description = "`forbidden`: only an admin may do this, and only where the operator allows it."),
        (status = 415, description = "`unsupported_media_type`: neither Lua nor JSON."),
        (status = 422, description = "Too long, or refused by Prosody's own check."),
    ),
    security(("admin" = []))
)]
pub(super) async fn override_by_lua(
    State(pod): State<Arc<Pod>>,
    by: Admin,
    _: LuaAllowed,
    body::Lua(text): body::Lua,
) -> Result<Response, Problem> {
    change(&pod, Change::Choose(LUA, text.clone().into())).await?;
    log::warn(format_args!("{} set {} bytes of Lua", by.local.as_str(), text.len()));
    Ok(as_lua(text))
}

/// Take the Lua away.
#[utoipa::path(
    delete, path = "/v1/server/config/prosody-overrides-raw", tag = "Server",
    responses(
        (status = 204, description = "None."),
    ),
    security(("admin" = []))
)]
pub(super) async fn reset_lua(
    State(pod): State<Arc<Pod>>,
    by: Admin,
) -> Result<StatusCode, Problem> {
    change(&pod, Change::TakeBack(&[LUA])).await?;
    log::warn(format_args!("{} took Lua back", by.local.as_str()));
    Ok(StatusCode::NO_CONTENT)
}

/// The operator allows Lua: asked before the body is looked at.
pub(super) struct LuaAllowed;

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
