//! Where a member is reached who forgot their password: their own business, and admins'.

use std::sync::Arc;

use axum::extract::{FromRequestParts, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::routing::get;
use axum::{Json, Router};

use super::member::Whom;
use crate::auth::Caller;
use crate::body;
use crate::jid::Localpart;
use crate::mail::address::EmailAddress;
use crate::member::Role;
use crate::pod::Pod;
use crate::problem::Problem;

/// Its name has changed twice.
const PATHS: [&str; 3] = [
    "/v1/members/{jid}/recovery-email-address",
    "/v1/members/{jid}/recovery-email",
    "/v1/members/{jid}/email-address",
];

pub(super) fn routes() -> Router<Arc<Pod>> {
    PATHS.iter().fold(Router::new(), |router, path| router.route(path, get(read).put(write)))
}

/// A member of whom whoever asks may know this: it is themself, or they are an admin.
struct Of(Localpart);

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

async fn read(State(pod): State<Arc<Pod>>, Of(local): Of) -> Json<Option<EmailAddress>> {
    Json(pod.address(&local))
}

/// `null` forgets it.
async fn write(
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
