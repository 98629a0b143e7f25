//! The Server's configuration: all of it for an admin, the domain for anybody. Never 401: the login
//! page asks. And its settings, one by one, for admins.
//!
//! A change is answered once the Server serves by it.

use std::slice;
use std::sync::Arc;

use axum::extract::State;
use axum::http::header::CONTENT_LOCATION;
use axum::response::IntoResponse;
use axum::{Extension, Json};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use utoipa::openapi::{PathItem, RefOr};
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouterExt as _};
use utoipa_axum::routes;

use super::domain;
use crate::auth::{Admin, Caller};
use crate::body;
use crate::config::ServerConfig;
use crate::member::Role;
use crate::openapi::at;
use crate::pod::Pod;
use crate::problem::Problem;
use crate::settings::{Change, GROUPS, Setting};

/// Where all of it is.
const PATH: &str = "/v1/server/config";

/// The configuration, each setting and each group of them.
pub(super) fn routes() -> OpenApiRouter<Arc<Pod>> {
    let all = OpenApiRouter::new()
        .routes(routes!(read, domain::is_settled, domain::choose))
        .routes(routes!(choose_encryption));
    GROUPS.iter().fold(all, |all, group| {
        let together = routes!(reset_group).layer(Extension(group.settings));
        let all = all.routes(at(&format!("{PATH}/{}", group.name), together));
        group.settings.iter().fold(all, |all, setting| {
            let (schemas, mut paths, router) = routes!(read_one, choose, reset);
            paths.paths.values_mut().for_each(|item| describe(item, *setting));
            let one = (schemas, paths, router).layer(Extension(setting));
            all.routes(at(&format!("{PATH}/{}", setting.segment()), one))
        })
    })
}

/// Says which values this setting has.
fn describe(item: &mut PathItem, setting: Setting) {
    let schema = RefOr::T(setting.schema());
    for operation in [&mut item.get, &mut item.put, &mut item.delete].into_iter().flatten() {
        if let Some(summary) = &mut operation.summary {
            *summary = format!("{summary} ({})", setting.key());
        }
        let responses = operation.responses.responses.values_mut();
        let contents = responses.filter_map(|response| match response {
            RefOr::T(response) => Some(response.content.values_mut()),
            RefOr::Ref(_) => None,
        });
        let body = operation.request_body.iter_mut().filter_map(|body| match body {
            RefOr::T(body) => Some(body.content.values_mut()),
            RefOr::Ref(_) => None,
        });
        for content in contents.flatten().chain(body.flatten()) {
            if let RefOr::T(content) = content {
                content.schema = Some(schema.clone());
            }
        }
    }
}

/// What is shown of the configuration.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
enum Shown {
    All(Box<ServerConfig>),
    Domain { domain: String },
}

/// The Server's configuration: all of it for an admin, the domain for anybody.
#[utoipa::path(
    get, path = "/v1/server/config", tag = "Server",
    responses((status = 200, description = "An admin gets all of it, anybody else the domain.", body = Shown)),
    security((), ("admin" = []))
)]
async fn read(State(pod): State<Arc<Pod>>, caller: Option<Caller>) -> Json<Shown> {
    match caller {
        Some(Caller { role: Role::Admin, .. }) => Json(Shown::All(pod.server_config().into())),
        _ => Json(Shown::Domain { domain: pod.domain().to_string() }),
    }
}

/// What a setting is.
#[utoipa::path(
    get, path = "/v1/server/config/{setting}", tag = "Server",
    responses((status = 200, description = "Its value.", body = Value)),
    security(("admin" = []))
)]
async fn read_one(
    State(pod): State<Arc<Pod>>,
    _: Admin,
    Extension(setting): Extension<&'static Setting>,
) -> Json<Value> {
    Json(pod.setting(*setting))
}

/// Choose a setting. It is answered once it holds.
#[utoipa::path(
    put, path = "/v1/server/config/{setting}", tag = "Server",
    request_body = Value,
    responses((status = 200, description = "Its value.", body = Value)),
    security(("admin" = []))
)]
async fn choose(
    State(pod): State<Arc<Pod>>,
    _: Admin,
    Extension(setting): Extension<&'static Setting>,
    body::Json(value): body::Json<Value>,
) -> Result<Json<Value>, Problem> {
    change(&pod, Change::Choose(*setting, value)).await?;
    Ok(Json(pod.setting(*setting)))
}

/// Take a setting back: what the operator wrote holds, or what is built in.
#[utoipa::path(
    delete, path = "/v1/server/config/{setting}", tag = "Server",
    responses((status = 200, description = "Its value.", body = Value)),
    security(("admin" = []))
)]
async fn reset(
    State(pod): State<Arc<Pod>>,
    _: Admin,
    Extension(setting): Extension<&'static Setting>,
) -> Result<Json<Value>, Problem> {
    change(&pod, Change::TakeBack(slice::from_ref(setting))).await?;
    Ok(Json(pod.setting(*setting)))
}

/// Take all settings of a group back.
#[utoipa::path(
    delete, path = "/v1/server/config/{group}", tag = "Server",
    responses((status = 200, description = "All of the configuration.", body = ServerConfig, headers(("Content-Location" = String, description = "Where it is.")))),
    security(("admin" = []))
)]
async fn reset_group(
    State(pod): State<Arc<Pod>>,
    _: Admin,
    Extension(settings): Extension<&'static [Setting]>,
) -> Result<impl IntoResponse, Problem> {
    change(&pod, Change::TakeBack(settings)).await?;
    Ok(([(CONTENT_LOCATION, PATH)], Json(pod.server_config())))
}

/// Choose how uploads are encrypted: not possible.
///
/// There is but one scheme.
#[utoipa::path(
    put, path = "/v1/server/config/file-storage-encryption-scheme", tag = "Server",
    responses((status = 501, description = "`not_implemented`")),
    security(("admin" = []))
)]
async fn choose_encryption(_: Admin) -> Problem {
    Problem::not_implemented()
}

/// By itself: it is finished even if whoever asked goes away.
pub(super) async fn change(pod: &Arc<Pod>, change: Change) -> Result<(), Problem> {
    let pod = pod.clone();
    let changed = tokio::spawn(async move { pod.change_settings(change).await }).await;
    changed.map_err(|_| Problem::internal())?
}
