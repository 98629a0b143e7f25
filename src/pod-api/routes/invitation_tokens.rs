//! Invitations, as the invited see them: by one of the two tokens in their links.

use std::sync::Arc;

use appliance::secret::Secret;
use axum::Json;
use axum::extract::{FromRequestParts, Path, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::body;
use crate::invitation::Invitation;
use crate::jid::Localpart;
use crate::licence;
use crate::log;
use crate::mail::address::EmailAddress;
use crate::member::{self, Role};
use crate::pod::{Pod, now};
use crate::problem::Problem;
use crate::reset::Recovery;
use crate::server::{self, Account};
use crate::token::Digest;

/// What the token in the path is kept as.
pub(super) struct ByToken(pub Digest);

impl FromRequestParts<Arc<Pod>> for ByToken {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, pod: &Arc<Pod>) -> Result<ByToken, Problem> {
        let Path(token) = Path::<String>::from_request_parts(parts, pod)
            .await
            .map_err(|error| Problem::malformed(error.body_text()))?;
        Ok(ByToken(Digest::of_text(&token)))
    }
}

/// What an invitation is to.
#[derive(Serialize, ToSchema)]
#[schema(as = InvitationDetails)]
pub(super) struct Details {
    /// Who you will be: `bob@example.org`.
    jid: String,
    /// What you will be allowed to do.
    pre_assigned_role: Role,
    /// Never: whoever comes too late learns nothing.
    is_expired: bool,
}

/// How the invited want to be.
#[derive(Deserialize, ToSchema)]
#[schema(as = InvitationAcceptance)]
pub(super) struct Wish {
    /// 1 to 48 bytes.
    #[schema(min_length = 1, max_length = 48)]
    nickname: String,
    /// Long enough: 15 characters unless configured.
    password: String,
    /// Where to reach you if you forget it, if not where the invitation was sent.
    email: Option<EmailAddress>,
}

/// A wish that can be granted.
struct Acceptance {
    nickname: String,
    password: Secret,
    address: Option<EmailAddress>,
}

/// What is this an invitation to?
#[utoipa::path(
    get, path = "/v1/invitation-tokens/{token}/details", tag = "Invitations",
    params(("token" = String, Path, description = "What stands at the end of a link.")),
    responses(
        (status = 200, description = "To this.", body = Details),
        (status = 410, description = "`invitation_not_found`: used, cancelled, or expired."),
    )
)]
pub(super) async fn details(
    State(pod): State<Arc<Pod>>,
    ByToken(token): ByToken,
) -> Result<Json<Details>, Problem> {
    let invitation = pod.invitations(|all| all.by_token(token, now()).cloned());
    let invitation = invitation.ok_or_else(Problem::invitation_not_found)?;
    Ok(Json(Details {
        jid: pod.jid(&invitation.local).to_string(),
        pre_assigned_role: invitation.role,
        is_expired: false,
    }))
}

/// Accept an invitation: become a member.
#[utoipa::path(
    put, path = "/v1/invitation-tokens/{token}/accept", tag = "Invitations",
    params(("token" = String, Path, description = "What stands at the end of a link.")),
    request_body = Wish,
    responses(
        (status = 200, description = "The account is there: log in."),
        (status = 400, description = "`invalid_password`: too short; the link is good still."),
        (status = 403, description = "`user_limit_reached`: there are as many members as there may be."),
        (status = 409, description = "`member_already_exists`: the name is taken by now."),
        (status = 410, description = "`invitation_not_found`: used, cancelled, or expired."),
    )
)]
pub(super) async fn accept(
    State(pod): State<Arc<Pod>>,
    ByToken(token): ByToken,
    body::Json(wish): body::Json<Wish>,
) -> Result<StatusCode, Problem> {
    to_accept(&pod, token)?;
    let nickname = member::nickname(wish.nickname)?;
    let password = member::password(wish.password, pod.config.min_password_length)?;
    let acceptance = Acceptance { nickname, password, address: wish.email };
    // By itself: it is finished even if whoever asked goes away.
    let joined = tokio::spawn(join(pod, token, acceptance)).await;
    joined.map_err(|_| Problem::internal())??;
    Ok(StatusCode::OK)
}

/// Reject an invitation.
///
/// Whatever the body is; and what isn't there is rejected already.
#[utoipa::path(
    put, path = "/v1/invitation-tokens/{token}/reject", tag = "Invitations",
    params(("token" = String, Path, description = "What stands at the end of a link.")),
    responses((status = 204, description = "Its links are dead, if they were not."))
)]
pub(super) async fn reject(
    State(pod): State<Arc<Pod>>,
    ByToken(token): ByToken,
) -> Result<StatusCode, Problem> {
    let _setup = pod.setup.lock().await;
    if let Some(id) = pod.invitations(|all| all.to_reject(token).map(|it| it.id)) {
        pod.withdraw(id).await?;
        log::info("an invitation was rejected");
    }
    Ok(StatusCode::NO_CONTENT)
}

/// Makes the account. Nothing that fails once it is there leaves a token that makes another: the
/// name is taken then, and the Server says so.
async fn join(pod: Arc<Pod>, token: Digest, acceptance: Acceptance) -> Result<(), Problem> {
    let _setup = pod.setup.lock().await;
    let invitation = to_accept(&pod, token)?;
    let Invitation { local, role, .. } = &invitation;
    let connection = pod.connection()?;
    let host = pod.domain().as_ref();
    // The Server itself, not what we know of it: a change may be on its way.
    let accounts = connection.accounts(host).await?.accounts;
    if accounts.iter().any(|account| is_of(account, local)) {
        return taken(&pod, &invitation).await;
    }
    licence::check(pod.config.user_limit, licence::seats_taken(&accounts))?;
    let Acceptance { nickname, password, address } = acceptance;
    match connection.create_account(host, local, &password, *role).await {
        Ok(()) => (),
        Err(server::Error::Refused { status: 409, .. }) => return taken(&pod, &invitation).await,
        Err(error) => return Err(error.into()),
    }
    pod.note(|accounts| accounts.created(local, *role));
    // Crash: the account is there, and at the next start the invitation is dropped for that; without
    // an address, an admin can give it one.
    let address = address.or_else(|| invitation.contact.address().cloned());
    let recovery = address.map(|address| Recovery { address, since: now() });
    pod.joined(&invitation, recovery).await;
    if let Err(error) = pod.name(local, nickname).await {
        log::error(error);
    }
    log::info(format_args!("{} accepted their invitation", local.as_str()));
    Ok(())
}

/// There is such an account already: the invitation is of no use any more.
async fn taken(pod: &Pod, invitation: &Invitation) -> Result<(), Problem> {
    pod.withdraw(invitation.id).await?;
    Err(Problem::member_already_exists())
}

fn to_accept(pod: &Pod, token: Digest) -> Result<Invitation, Problem> {
    let invitation = pod.invitations(|all| all.to_accept(token, now()).cloned());
    invitation.ok_or_else(Problem::invitation_not_found)
}

fn is_of(account: &Account, local: &Localpart) -> bool {
    Localpart::parse(&account.localpart).is_ok_and(|name| name == *local)
}
