//! Invitations, as admins see them: made, listed, sent again, cancelled.
//!
//! One is made, then its letter is sent; if that fails it is taken back, so that what is listed was
//! sent. One without a letter is for a Pod without a mail server: the answer, and nothing else ever,
//! has its links, for the admin to hand on.

use std::sync::Arc;

use axum::extract::{FromRequestParts, Path, RawQuery, State};
use axum::http::StatusCode;
use axum::http::header::LOCATION;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};

use crate::auth::{Admin, Caller};
use crate::body;
use crate::invitation::{Contact, Invitation, Links};
use crate::jid::Localpart;
use crate::log;
use crate::member::Role;
use crate::moment;
use crate::page::Query;
use crate::pod::{Pod, now};
use crate::problem::Problem;

pub(super) fn routes() -> Router<Arc<Pod>> {
    Router::new()
        .route("/v1/invitations", get(list).head(may_invite).post(create))
        .route("/v1/invitations/{id}", get(one).delete(cancel))
        .route("/v1/invitations/{id}/resend", post(resend))
}

#[derive(Deserialize)]
struct Wish {
    username: String,
    pre_assigned_role: Option<Role>,
    #[serde(flatten)]
    contact: Contact,
}

/// An invitation, without its tokens: they are the invited's.
#[derive(Debug, Serialize)]
struct Shown {
    /// A number: the Dashboard compares it with one.
    invitation_id: i64,
    created_at: String,
    jid: String,
    pre_assigned_role: Role,
    contact: Contact,
    accept_token_expires_at: String,
    is_expired: bool,
    /// Only where no letter has them, and only at this moment.
    #[serde(flatten)]
    urls: Option<Urls>,
}

#[derive(Debug, Serialize)]
struct Urls {
    accept_url: String,
    reject_url: String,
}

/// Which one: the number in the path.
struct Id(i64);

impl FromRequestParts<Arc<Pod>> for Id {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, pod: &Arc<Pod>) -> Result<Id, Problem> {
        let id = Path::<i64>::from_request_parts(parts, pod).await;
        id.map(|Path(id)| Id(id)).map_err(|error| Problem::malformed(error.body_text()))
    }
}

/// The Dashboard asks this before it shows how to invite somebody.
async fn may_invite(
    State(pod): State<Arc<Pod>>,
    caller: Option<Caller>,
) -> Result<StatusCode, Problem> {
    match caller {
        Some(Caller { role: Role::Admin, .. }) if pod.config.mail.is_some() => {
            Ok(StatusCode::NO_CONTENT)
        }
        Some(Caller { role: Role::Admin, .. }) => Err(Problem::cannot_invite()),
        // Not 401, at which the Dashboard forgets who is logged in.
        _ => Err(Problem::forbidden()),
    }
}

async fn list(
    State(pod): State<Arc<Pod>>,
    _: Admin,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let query = Query::new(query.as_deref());
    let page = query.page()?;
    let until = query.get(&["until"]).map(|text| {
        let bad = || Problem::malformed("until must be a date like 2026-01-13T10:00:00Z.");
        moment::parse(text).ok_or_else(bad)
    });
    let until = until.transpose()?.unwrap_or(u64::MAX);
    let all = pod.invitations(|invitations| invitations.all().to_vec());
    let all = all.iter().filter(|invitation| invitation.created <= until);
    let shown: Vec<Shown> = all.map(|invitation| show(&pod, invitation, None)).collect();
    Ok(page.of(shown))
}

async fn one(State(pod): State<Arc<Pod>>, _: Admin, id: Id) -> Result<Json<Shown>, Problem> {
    find(&pod, id).map(|invitation| Json(show(&pod, &invitation, None)))
}

async fn create(
    State(pod): State<Arc<Pod>>,
    by: Admin,
    body::Json(wish): body::Json<Wish>,
) -> Result<impl IntoResponse, Problem> {
    let local = Localpart::parse_new(&wish.username)
        .map_err(|error| Problem::invalid(format!("The username can't be used: {error}.")))?;
    let role = wish.pre_assigned_role.unwrap_or(Role::Member);
    // By itself: it is finished even if whoever asked goes away.
    let made = tokio::spawn(invite(pod, by, local, role, wish.contact)).await;
    let shown = made.map_err(|_| Problem::internal())??;
    let location = format!("/v1/invitations/{}", shown.invitation_id);
    Ok((StatusCode::CREATED, [(LOCATION, location)], Json(shown)))
}

/// 204 where a letter was sent; where there is none, the new links.
async fn resend(State(pod): State<Arc<Pod>>, _: Admin, id: Id) -> Result<Response, Problem> {
    let rearmed = tokio::spawn(rearm(pod, id)).await;
    let shown = rearmed.map_err(|_| Problem::internal())??;
    Ok(match shown.urls {
        Some(_) => Json(shown).into_response(),
        None => StatusCode::NO_CONTENT.into_response(),
    })
}

async fn cancel(State(pod): State<Arc<Pod>>, _: Admin, id: Id) -> Result<StatusCode, Problem> {
    let _setup = pod.setup.lock().await;
    let invitation = find(&pod, id)?;
    pod.withdraw(invitation.id).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn invite(
    pod: Arc<Pod>,
    by: Admin,
    local: Localpart,
    role: Role,
    contact: Contact,
) -> Result<Shown, Problem> {
    can_reach(&pod, &contact)?;
    let links = make_links()?;
    let invitation = {
        let _setup = pod.setup.lock().await;
        pod.invite(local, role, contact, &links).await?
    };
    // Crash: it is listed, though no letter was sent: the admin, who got no answer, sends it again.
    if let Err(problem) = deliver(&pod, &invitation, &links).await {
        let _setup = pod.setup.lock().await;
        pod.withdraw(invitation.id).await?;
        return Err(problem);
    }
    pod.note_invitation_sent().await;
    log::info(format_args!("{} invited {}", by.local.as_str(), invitation.local.as_str()));
    Ok(show(&pod, &invitation, Some(&links)))
}

async fn rearm(pod: Arc<Pod>, id: Id) -> Result<Shown, Problem> {
    let links = make_links()?;
    let expires = now().saturating_add(pod.config.invitation_ttl.as_secs());
    let before = {
        let _setup = pod.setup.lock().await;
        let before = find(&pod, id)?;
        can_reach(&pod, &before.contact)?;
        pod.rearm(before.id, links.digests(), expires).await?;
        before
    };
    let after = Invitation { digests: links.digests(), expires, ..before.clone() };
    // Crash: the old links are dead, and no letter has the new ones: the admin sends it again.
    if let Err(problem) = deliver(&pod, &after, &links).await {
        let _setup = pod.setup.lock().await;
        let is_ours = |it: &Invitation| it.digests == after.digests;
        if pod.invitations(|all| all.by_id(after.id).is_some_and(is_ours)) {
            pod.rearm(before.id, before.digests, before.expires).await?;
        }
        return Err(problem);
    }
    pod.note_invitation_sent().await;
    Ok(show(&pod, &after, Some(&links)))
}

fn can_reach(pod: &Pod, contact: &Contact) -> Result<(), Problem> {
    match contact {
        Contact::Email { .. } if pod.config.mail.is_none() => Err(Problem::missing_config()),
        Contact::Email { .. } | Contact::Link => Ok(()),
    }
}

async fn deliver(pod: &Pod, invitation: &Invitation, links: &Links) -> Result<(), Problem> {
    let Some(to) = invitation.contact.address() else { return Ok(()) };
    let jid = pod.jid(&invitation.local).to_string();
    let tokens = (&links.accept, &links.reject);
    pod.send(pod.sender().invitation(to.clone(), &jid, tokens, invitation.expires)).await
}

fn find(pod: &Pod, Id(id): Id) -> Result<Invitation, Problem> {
    let found = pod.invitations(|invitations| invitations.by_id(id).cloned());
    found.ok_or_else(Problem::invitation_not_found)
}

fn make_links() -> Result<Links, Problem> {
    Links::make().map_err(|error| {
        log::error(format_args!("cannot make a token: {error}"));
        Problem::internal()
    })
}

/// With `links`, if no letter has them.
fn show(pod: &Pod, invitation: &Invitation, links: Option<&Links>) -> Shown {
    let sender = pod.sender();
    let links = links.filter(|_| invitation.contact == Contact::Link);
    Shown {
        invitation_id: invitation.id,
        created_at: moment::rfc3339(invitation.created),
        jid: pod.jid(&invitation.local).to_string(),
        pre_assigned_role: invitation.role,
        contact: invitation.contact.clone(),
        accept_token_expires_at: moment::rfc3339(invitation.expires),
        is_expired: invitation.is_expired(now()),
        urls: links.map(|links| Urls {
            accept_url: sender.accept_url(&links.accept),
            reject_url: sender.reject_url(&links.reject),
        }),
    }
}
