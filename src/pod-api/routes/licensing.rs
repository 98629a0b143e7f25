//! How many members there may be. There is nothing to buy: the operator says, if anybody.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use crate::auth::Admin;
use crate::pod::Pod;
use crate::problem::Problem;

/// So many members are as good as any number, where the operator set none.
const PLENTY: u32 = 1_000_000;

/// The one that each Pod has.
#[derive(Serialize, ToSchema)]
pub(super) struct License {
    id: &'static str,
    name: &'static str,
    user_limit: u32,
    /// It has none.
    #[schema(value_type = Option<String>)]
    expiry: (),
    /// It has none.
    #[schema(value_type = Option<u64>)]
    ttl_ms: (),
}

#[derive(Serialize, ToSchema)]
#[schema(as = LicensingStatus)]
pub(super) struct Status {
    license: License,
    user_count: u32,
    remaining_seats: u32,
}

impl License {
    fn of(pod: &Pod) -> License {
        License {
            // `community`
            id: "Y29tbXVuaXR5",
            name: "Community",
            user_limit: pod.config.user_limit.map_or(PLENTY, Into::into),
            expiry: (),
            ttl_ms: (),
        }
    }
}

/// The license.
#[utoipa::path(
    get, path = "/v1/licensing/license", tag = "Pod",
    responses((status = 200, description = "The license.", body = License)),
    security(("admin" = []))
)]
pub(super) async fn license(State(pod): State<Arc<Pod>>, _: Admin) -> Json<License> {
    Json(License::of(&pod))
}

/// The license, and how many members there are.
#[utoipa::path(
    get, path = "/v1/licensing/status", tag = "Pod",
    responses((status = 200, description = "The license, and what is left of it.", body = Status)),
    security(("admin" = []))
)]
pub(super) async fn status(State(pod): State<Arc<Pod>>, _: Admin) -> Result<Json<Status>, Problem> {
    let license = License::of(&pod);
    let count = pod.look(|accounts| accounts.members().count())?;
    let user_count = u32::try_from(count).unwrap_or(u32::MAX);
    let remaining_seats = license.user_limit.saturating_sub(user_count);
    Ok(Json(Status { license, user_count, remaining_seats }))
}

/// Put another license in its place: not possible.
#[utoipa::path(
    put, path = "/v1/licensing/license", tag = "Pod",
    request_body(content((String = "text/plain"), (Vec<u8> = "application/octet-stream"))),
    responses((status = 400, description = "`bad_request`: there is nothing to buy."), (status = 204, description = "Never.")),
    security(("admin" = []))
)]
pub(super) async fn buy(_: Admin) -> Problem {
    Problem::bad_request("This Pod needs no license: its operator says how many members it has.")
}
