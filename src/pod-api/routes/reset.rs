//! The factory reset: accounts, messages, files and what admins chose are given up. The operator's
//! configuration, certificates and backups stay.

use std::sync::Arc;

use appliance::backup::Wish;
use appliance::secret::Secret;
use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use utoipa::ToSchema;

use super::backups::{Confirmation, must_be_a_code};
use super::login::{address, check};
use crate::auth::Admin;
use crate::body;
use crate::log;
use crate::pod::Pod;
use crate::problem::Problem;
use crate::throttle::Who;

/// One's own password; then the code that it was answered by.
#[derive(Deserialize, ToSchema)]
pub(super) struct Reset {
    /// The first time.
    password: Option<String>,
    /// The second time.
    #[schema(min_length = 16, max_length = 16)]
    confirmation: Option<String>,
}

/// Give up everything that people did with this Pod, in two steps.
///
/// With one's own password: the answer is a code. With that: it is done, and the Pod is as it was
/// before the first account. The operator's configuration, certificates and backups stay.
#[utoipa::path(
    delete, path = "/", tag = "Pod",
    request_body = Reset,
    responses(
        (status = 202, description = "To the first step.", body = Confirmation),
        (status = 205, description = "To the second step: the Pod restarts."),
        (status = 400, description = "`invalid_confirmation_code`"),
        (status = 401, description = "`unauthorized`, or `invalid_credentials`: the password is wrong."),
        (status = 409, description = "`backup_in_progress`"),
        (status = 429, description = "`too_many_requests`: after wrong passwords, for a while."),
    ),
    security(("admin" = []))
)]
pub(super) async fn reset(
    State(pod): State<Arc<Pod>>,
    by: Admin,
    headers: HeaderMap,
    body::Json(wanted): body::Json<Reset>,
) -> Result<Response, Problem> {
    match wanted {
        Reset { password: Some(password), confirmation: None } => {
            let jid = pod.jid(&by.local);
            let mut who = vec![Who::Name(jid.to_string())];
            who.extend(address(&headers).map(Who::Address));
            check(&pod, &jid, Secret::try_from(password).ok().as_ref(), who).await?;
            let confirmation = pod.backups.offer_erasure()?;
            Ok((StatusCode::ACCEPTED, Json(Confirmation { confirmation })).into_response())
        }
        Reset { password: None, confirmation: Some(code) } => {
            must_be_a_code(&code)?;
            pod.backups.confirm_erasure(&code)?;
            log::info(format_args!("{} resets the Pod", by.local.as_str()));
            pod.backups.clone().leave(pod.init.clone(), Wish::Erase).await?;
            Ok(StatusCode::RESET_CONTENT.into_response())
        }
        _ => {
            let message = "The body is not right: it must have a password, or a confirmation.";
            Err(Problem::invalid(message))
        }
    }
}
