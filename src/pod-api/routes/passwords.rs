//! A new password for who forgot theirs: a link, by letter or from an admin's hand, that is good once.

use std::sync::Arc;

use appliance::secret::Secret;
use axum::Json;
use axum::extract::{FromRequestParts, RawQuery, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::invitation_tokens::ByToken;
use super::login;
use super::member::Whom;
use crate::auth::{self, Admin};
use crate::body;
use crate::jid::{Jid, Localpart};
use crate::log;
use crate::mail::address::EmailAddress;
use crate::member;
use crate::moment;
use crate::page::Query;
use crate::pod::{Pod, now};
use crate::problem::Problem;
use crate::reset::Reset;
use crate::secret;
use crate::server;
use crate::throttle::Who;
use crate::token::Digest;

/// Who wants one: an admin, or anybody. Members who are logged in may not.
pub(super) enum Asker {
    Anybody,
    Admin(Admin),
}

impl FromRequestParts<Arc<Pod>> for Asker {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, pod: &Arc<Pod>) -> Result<Asker, Problem> {
        if auth::shown(&parts.headers).is_none() {
            return Ok(Asker::Anybody);
        }
        Admin::from_request_parts(parts, pod).await.map(Asker::Admin)
    }
}

/// What an admin is told of a link. Nothing of it is for anybody else.
#[derive(Default, Serialize, ToSchema)]
#[schema(as = PasswordReset)]
pub(super) struct Started {
    #[serde(flatten)]
    link: Option<Link>,
}

/// A link by which a member chooses a new password, once.
#[derive(Serialize, ToSchema)]
#[schema(as = PasswordResetLink)]
struct Link {
    /// What stands at its end.
    token: String,
    #[schema(format = DateTime)]
    expires_at: String,
    url: String,
}

/// How a link gets to whom it is for.
enum Channel {
    Email(EmailAddress),
    /// By the admin.
    Link,
}

/// A new password.
#[derive(Deserialize, ToSchema)]
#[schema(as = NewPassword)]
pub(super) struct Wish {
    /// Long enough: 15 characters unless configured.
    password: String,
}

/// Let a member choose a new password, by a link.
///
/// Until it is used, the one that they have stays. Whoever isn't logged in is always answered the same:
/// an empty object, whether there was somebody to send a letter to or not.
#[utoipa::path(
    delete, path = "/v1/members/{jid}/password", tag = "Members",
    params(
        ("jid" = String, Path, description = "The member's address, such as alice@example.org."),
        ("channel" = Option<String>, Query, description = "`email` unless told; `link`: no letter, the admin hands the link on."),
    ),
    responses(
        (status = 202, description = "A letter was sent, if that was wanted.", body = Started),
        (status = 404, description = "`member_not_found`"),
        (status = 412, description = "`missing_email_address`: nobody said where they are reached."),
        (status = 500, description = "`missing_config`: no mail server is configured. Or something went wrong."),
        (status = 502, description = "The letter could not be sent."),
    ),
    security((), ("admin" = []))
)]
pub(super) async fn start(
    State(pod): State<Arc<Pod>>,
    asker: Asker,
    whom: Whom,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<(StatusCode, Json<Started>), Problem> {
    let started = match asker {
        Asker::Anybody => {
            // Answered before it is looked who that is: neither words nor time tell it.
            tokio::spawn(send_if_member(pod, whom.0, login::address(&headers)));
            Started::default()
        }
        Asker::Admin(by) => {
            let local = whom.here(&pod)?;
            // By itself: it is finished even if whoever asked goes away.
            let made = tokio::spawn(make_by(pod, by, local, query)).await;
            Started { link: Some(made.map_err(|_| Problem::internal())??) }
        }
    };
    Ok((StatusCode::ACCEPTED, Json(started)))
}

/// Choose a new password, by a link.
///
/// Logins, clients and other such links of that member end.
#[utoipa::path(
    put, path = "/v1/password-reset-tokens/{token}/use", tag = "Members",
    params(("token" = String, Path, description = "What stands at the end of a link.")),
    request_body = Wish,
    responses(
        (status = 200, description = "It is the password now."),
        (status = 400, description = "`invalid_password`: too short; the link is good still."),
        (status = 404, description = "`password_reset_token_expired`: used, expired, or never there."),
    )
)]
pub(super) async fn finish(
    State(pod): State<Arc<Pod>>,
    ByToken(token): ByToken,
    body::Json(wish): body::Json<Wish>,
) -> Result<StatusCode, Problem> {
    pod.reset_of(token).ok_or_else(Problem::password_reset_token_expired)?;
    let password = member::password(wish.password, pod.config.min_password_length)?;
    // By itself: it is finished even if whoever asked goes away.
    let changed = tokio::spawn(change(pod, token, password)).await;
    changed.map_err(|_| Problem::internal())??;
    Ok(StatusCode::OK)
}

async fn make_by(
    pod: Arc<Pod>,
    by: Admin,
    local: Localpart,
    query: Option<String>,
) -> Result<Link, Problem> {
    let channel = channel(&pod, &local, Query::new(query.as_deref()).get(&["channel"]))?;
    let link = make(&pod, &local, channel).await?;
    log::info(format_args!("{} allowed {} a new password", by.local.as_str(), local.as_str()));
    Ok(link)
}

/// Sends a link to a member who can be reached, unless too many were sent. Tells nobody.
async fn send_if_member(pod: Arc<Pod>, jid: Jid, from: Option<String>) {
    let counted = |who: Vec<Who>| {
        pod.throttle(|throttle| {
            let allowed = throttle.allows(&who, now()).is_ok();
            if allowed {
                throttle.failed(who, now());
            }
            allowed
        })
    };
    if !counted(from.into_iter().map(Who::Requester).collect()) || jid.domain != *pod.domain() {
        return;
    }
    let Ok(channel) = channel(&pod, &jid.local, None) else { return };
    if !counted(vec![Who::Recipient(jid.to_string()), Who::Anybody]) {
        return;
    }
    // What went wrong is in the log.
    if make(&pod, &jid.local, channel).await.is_ok() {
        log::info(format_args!("somebody asked for a new password for {}", jid.local.as_str()));
    }
}

/// How a member gets a link; an admin may want it for themself to hand on.
fn channel(pod: &Pod, local: &Localpart, wanted: Option<&str>) -> Result<Channel, Problem> {
    if pod.look(|accounts| accounts.member(local).is_none())? {
        return Err(Problem::member_not_found());
    }
    match wanted {
        Some("link") => Ok(Channel::Link),
        Some("email") | None if pod.config.mail.is_none() => Err(Problem::missing_config()),
        Some("email") | None => {
            let address = pod.address(local).ok_or_else(Problem::missing_email_address)?;
            Ok(Channel::Email(address))
        }
        Some(_) => Err(Problem::malformed("The channel must be email or link.")),
    }
}

async fn make(pod: &Pod, local: &Localpart, channel: Channel) -> Result<Link, Problem> {
    let token = secret::random("").map_err(|error| {
        log::error(format_args!("cannot make a token: {error}"));
        Problem::internal()
    })?;
    let created = now();
    let expires = created.saturating_add(pod.config.password_reset_ttl.as_secs());
    let reset = Reset { local: local.clone(), created, expires };
    pod.allow_reset(Digest::of(&token), reset).await?;
    let sender = pod.sender();
    if let Channel::Email(to) = channel {
        let jid = pod.jid(local).to_string();
        if let Err(problem) = pod.send(sender.password_reset(to, &jid, &token, expires)).await {
            pod.void_reset(Digest::of(&token)).await;
            return Err(problem);
        }
    }
    Ok(Link {
        token: token.reveal().to_owned(),
        expires_at: moment::rfc3339(expires),
        url: sender.reset_url(&token),
    })
}

/// The token goes first, and with it all others of that member: whatever is lost on the way, none is
/// good twice. What the Server surely didn't do may be tried again with the same one.
async fn change(pod: Arc<Pod>, token: Digest, password: Secret) -> Result<(), Problem> {
    let _setup = pod.setup.lock().await;
    let local = pod.reset_of(token).ok_or_else(Problem::password_reset_token_expired)?;
    let connection = pod.connection()?;
    // Crash: nothing has changed, and another link must be asked for.
    let tokens = pod.take_resets(&local).await?;
    match connection.set_password(pod.domain().as_ref(), &local, &password).await {
        Ok(()) => (),
        Err(server::Error::Refused { status: 404, .. }) => {
            return Err(Problem::password_reset_token_expired());
        }
        Err(error) => {
            match error {
                // Even so: it may have been done.
                server::Error::Unreachable(_) | server::Error::Odd(_) => pod.log_out(&local).await,
                _ => pod.restore_resets(tokens).await,
            }
            return Err(error.into());
        }
    }
    pod.log_out(&local).await;
    log::info(format_args!("{} has a new password, by a link", local.as_str()));
    Ok(())
}
