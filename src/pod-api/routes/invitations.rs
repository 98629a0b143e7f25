//! Invitations, as admins see them: made, listed, sent again, cancelled.
//!
//! One is made, then its letter is sent; if that fails it is taken back, so that what is listed was
//! sent. One without a letter is for a Pod without a mail server: the answer, and nothing else ever,
//! has its links, for the admin to hand on.

use std::sync::Arc;

use axum::Json;
use axum::extract::{FromRequestParts, Path, RawQuery, State};
use axum::http::StatusCode;
use axum::http::header::LOCATION;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::auth::{Admin, Caller};
use crate::body;
use crate::invitation::{Contact, Invitation, Links};
use crate::jid::Localpart;
use crate::log;
use crate::member::Role;
use crate::moment;
use crate::onboarding::Step;
use crate::page::Query;
use crate::pod::{Pod, now};
use crate::problem::Problem;

/// Somebody to be invited.
#[derive(Deserialize, ToSchema)]
#[schema(as = InvitationRequest)]
pub(super) struct Wish {
    /// What will stand before the `@` of their address.
    username: String,
    /// What they will be allowed to do: `MEMBER` unless told.
    pre_assigned_role: Option<Role>,
    #[serde(flatten)]
    contact: Contact,
}

/// An invitation, without its tokens: they are the invited's.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Invitation)]
pub(super) struct Shown {
    /// A number: the Dashboard compares it with one.
    invitation_id: i64,
    #[schema(format = DateTime)]
    created_at: String,
    /// Who they will be: `bob@example.org`.
    jid: String,
    /// What they will be allowed to do.
    pre_assigned_role: Role,
    contact: Contact,
    /// So do both links.
    #[schema(format = DateTime)]
    accept_token_expires_at: String,
    /// It is too late; it may be sent again.
    is_expired: bool,
    /// Who opens it accepts. Only where no letter has it, and only at this moment.
    #[serde(skip_serializing_if = "Option::is_none")]
    accept_url: Option<String>,
    /// Who opens it rejects; likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    reject_url: Option<String>,
}

/// Which one: the number in the path.
pub(super) struct Id(i64);

impl FromRequestParts<Arc<Pod>> for Id {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, pod: &Arc<Pod>) -> Result<Id, Problem> {
        let id = Path::<i64>::from_request_parts(parts, pod).await;
        id.map(|Path(id)| Id(id)).map_err(|error| Problem::malformed(error.body_text()))
    }
}

/// May you invite somebody, by letter?
///
/// The Dashboard asks this before it shows how. Without a mail server, invite by link.
#[utoipa::path(
    head, path = "/v1/invitations", tag = "Invitations",
    responses(
        (status = 204, description = "You may."),
        (status = 403, description = "You are no admin, or not logged in."),
        (status = 412, description = "No mail server is configured."),
    ),
    security((), ("admin" = []))
)]
pub(super) async fn may_invite(
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

/// All invitations, the oldest first, page by page.
///
/// Also those that have expired, for 30 days.
#[utoipa::path(
    get, path = "/v1/invitations", tag = "Invitations",
    params(
        ("page_number" = Option<u64>, Query, description = "From 1 on.", minimum = 1),
        ("page_size" = Option<u64>, Query, description = "Rows of a page: 20 unless told.", minimum = 1),
        ("until" = Option<String>, Query, description = "Only those that were made until then.", format = DateTime),
    ),
    responses(
        (status = 200, description = "The last page.", body = Vec<Shown>, headers(
            ("Pagination-Current-Page" = u64, description = "As asked for."),
            ("Pagination-Page-Size" = u64, description = "As asked for."),
            ("Pagination-Page-Count" = u64, description = "Of all of them."),
            ("Pagination-Item-Count" = u64, description = "Of all of them."),
        )),
        (status = 206, description = "There are more pages.", body = Vec<Shown>, headers(
            ("Pagination-Current-Page" = u64, description = "As asked for."),
            ("Pagination-Page-Size" = u64, description = "As asked for."),
            ("Pagination-Page-Count" = u64, description = "Of all of them."),
            ("Pagination-Item-Count" = u64, description = "Of all of them."),
        )),
    ),
    security(("admin" = []))
)]
pub(super) async fn list(
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

/// An invitation.
#[utoipa::path(
    get, path = "/v1/invitations/{id}", tag = "Invitations",
    params(("id" = i64, Path, description = "The invitation's number.")),
    responses(
        (status = 200, description = "It, without its links.", body = Shown),
        (status = 410, description = "`invitation_not_found`: used, cancelled, or never there."),
    ),
    security(("admin" = []))
)]
pub(super) async fn one(
    State(pod): State<Arc<Pod>>,
    _: Admin,
    id: Id,
) -> Result<Json<Shown>, Problem> {
    find(&pod, id).map(|invitation| Json(show(&pod, &invitation, None)))
}

/// Invite somebody, by letter or by a link that you hand on yourself.
///
/// With the channel `link`, this answer has the links, and no other ever.
#[utoipa::path(
    post, path = "/v1/invitations", tag = "Invitations",
    request_body = Wish,
    responses(
        (status = 201, description = "Invited; a letter was sent.", body = Shown, headers(("Location" = String, description = "Where the invitation is."))),
        (status = 400, description = "The body is no JSON, or there are too many invitations."),
        (status = 409, description = "`invitation_already_exists`, or `member_already_exists`."),
        (status = 500, description = "`missing_config`: no mail server is configured. Or something went wrong."),
        (status = 502, description = "The letter could not be sent, so there is no invitation."),
    ),
    security(("admin" = []))
)]
pub(super) async fn create(
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

/// Send an invitation again, with other links, and the whole time to accept it.
///
/// The old links are dead.
#[utoipa::path(
    post, path = "/v1/invitations/{id}/resend", tag = "Invitations",
    params(("id" = i64, Path, description = "The invitation's number.")),
    responses(
        (status = 200, description = "Its channel is `link`: here are the new ones.", body = Shown),
        (status = 204, description = "A letter was sent."),
        (status = 410, description = "`invitation_not_found`: used, cancelled, or never there."),
        (status = 500, description = "`missing_config`: no mail server is configured. Or something went wrong."),
        (status = 502, description = "The letter could not be sent: the old links are good still."),
    ),
    security(("admin" = []))
)]
pub(super) async fn resend(
    State(pod): State<Arc<Pod>>,
    _: Admin,
    id: Id,
) -> Result<Response, Problem> {
    let rearmed = tokio::spawn(rearm(pod, id)).await;
    let shown = rearmed.map_err(|_| Problem::internal())??;
    Ok(match shown.accept_url {
        Some(_) => Json(shown).into_response(),
        None => StatusCode::NO_CONTENT.into_response(),
    })
}

/// Take an invitation back.
#[utoipa::path(
    delete, path = "/v1/invitations/{id}", tag = "Invitations",
    params(("id" = i64, Path, description = "The invitation's number.")),
    responses(
        (status = 204, description = "Its links are dead."),
        (status = 410, description = "`invitation_not_found`: used, cancelled, or never there."),
    ),
    security(("admin" = []))
)]
pub(super) async fn cancel(
    State(pod): State<Arc<Pod>>,
    _: Admin,
    id: Id,
) -> Result<StatusCode, Problem> {
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
    pod.complete(Step::InvitationSent).await;
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
    pod.complete(Step::InvitationSent).await;
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
        accept_url: links.map(|links| sender.accept_url(&links.accept)),
        reject_url: links.map(|links| sender.reject_url(&links.reject)),
    }
}
