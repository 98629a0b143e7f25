//! Where a member is reached who forgot their password: their own business, and admins'.

use std::sync::Arc;

use axum::Json;
use axum::extract::{FromRequestParts, State};
use axum::http::StatusCode;
use axum::http::request::Parts;

use super::member::Whom;
use crate::auth::Caller;
use crate::body;
use crate::jid::Localpart;
use crate::mail::address::EmailAddress;
use crate::member::Role;
use crate::pod::Pod;
use crate::problem::Problem;

/// It had other names.
pub(super) const OTHER_PATHS: [&str; 2] =
    ["/v1/members/{jid}/email-address", "/v1/members/{jid}/recovery-email"];

/// A member of whom whoever asks may know this: it is themself, or they are an admin.
pub(super) struct Of(Localpart);

impl FromRequestParts<Arc<Pod>> for Of {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, pod: &Arc<Pod>) -> Result<Of, Problem> {
        let caller = Caller::from_request_parts(parts, pod).await?;
        let whom = Whom::from_request_parts(parts, pod).await;
        if caller.role != Role::Admin {
            let is_oneself = whom.is_ok_and(|whom| whom.0 == pod.jid(&caller.local));
            return is_oneself.then_some(Of(caller.local)).ok_or_else(Problem::forbidden);
        }
        let local = whom?.here(pod)?;
        check(pod, &local).map(|()| Of(local))
    }
}

/// Where is a member reached who forgot their password?
#[utoipa::path(
    get, path = "/v1/members/{jid}/recovery-email-address", tag = "Members",
    params(("jid" = String, Path, description = "The member's address, such as alice@example.org.")),
    responses(
        (status = 200, description = "There; `null` if nobody said.", body = Option<EmailAddress>),
        (status = 403, description = "`forbidden`: it is somebody else's."),
        (status = 404, description = "`member_not_found`"),
    ),
    security(("member" = []))
)]
pub(super) async fn read(State(pod): State<Arc<Pod>>, Of(local): Of) -> Json<Option<EmailAddress>> {
    Json(pod.address(&local))
}

/// Say where a member is reached who forgot their password.
///
/// `null` forgets it. Links that were sent elsewhere are void.
#[utoipa::path(
    put, path = "/v1/members/{jid}/recovery-email-address", tag = "Members",
    params(("jid" = String, Path, description = "The member's address, such as alice@example.org.")),
    request_body(content = Option<EmailAddress>, content_type = "application/json"),
    responses(
        (status = 200, description = "Taken."),
        (status = 403, description = "`forbidden`: it is somebody else's."),
        (status = 404, description = "`member_not_found`"),
    ),
    security(("member" = []))
)]
pub(super) async fn write(
    State(pod): State<Arc<Pod>>,
    Of(local): Of,
    body::Json(address): body::Json<Option<EmailAddress>>,
) -> Result<StatusCode, Problem> {
    let _setup = pod.setup.lock().await;
    // They may have been deleted meanwhile.
    check(&pod, &local)?;
    pod.set_address(&local, address).await?;
    Ok(StatusCode::OK)
}

fn check(pod: &Pod, local: &Localpart) -> Result<(), Problem> {
    let is_member = pod.look(|accounts| accounts.member(local).is_some())?;
    if is_member { Ok(()) } else { Err(Problem::member_not_found()) }
}
