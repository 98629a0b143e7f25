//! What is done with one member: their role, their nickname, their picture, the end of their account.
//!
//! An admin is left, always: nobody demotes or deletes themself, and whoever does it to somebody
//! else is an admin at that moment, by the Server's word and one after the other.

use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::extract::{FromRequestParts, Path, State};
use axum::http::StatusCode;
use axum::http::request::Parts;

use crate::auth::{Admin, Caller};
use crate::body;
use crate::jid::{Jid, Localpart};
use crate::log;
use crate::member::{self, Role, role_of};
use crate::picture::Picture;
use crate::pod::Pod;
use crate::problem::Problem;
use crate::server::{self, Connection};

/// Whom it is about: the JID in the path.
pub(super) struct Whom(pub Jid);

impl FromRequestParts<Arc<Pod>> for Whom {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, pod: &Arc<Pod>) -> Result<Whom, Problem> {
        let Path(jid) = Path::<String>::from_request_parts(parts, pod)
            .await
            .map_err(|error| Problem::malformed(error.body_text()))?;
        let jid = Jid::parse(&jid);
        jid.map(Whom)
            .map_err(|error| Problem::malformed(format!("The address can't be one: {error}.")))
    }
}

/// It is about whoever asks: nobody else may, not even an admin.
pub(super) struct Oneself(Localpart);

impl FromRequestParts<Arc<Pod>> for Oneself {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, pod: &Arc<Pod>) -> Result<Oneself, Problem> {
        let caller = Caller::from_request_parts(parts, pod).await?;
        let Whom(jid) = Whom::from_request_parts(parts, pod).await?;
        if jid != pod.jid(&caller.local) {
            return Err(Problem::not_oneself());
        }
        Ok(Oneself(caller.local))
    }
}

impl Whom {
    /// Only here are members.
    pub(super) fn here(self, pod: &Pod) -> Result<Localpart, Problem> {
        let here = Some(self.0).filter(|jid| jid.domain == *pod.domain());
        Ok(here.ok_or_else(Problem::member_not_found)?.local)
    }
}

/// Give a member another role.
#[utoipa::path(
    put, path = "/v1/members/{jid}/role", tag = "Members",
    params(("jid" = String, Path, description = "The member's address, such as alice@example.org.")),
    request_body = Role,
    responses(
        (status = 200, description = "The role.", body = Role),
        (status = 403, description = "`forbidden`, or `cannot_change_own_role`."),
        (status = 404, description = "`member_not_found`"),
    ),
    security(("admin" = []))
)]
pub(super) async fn set_role(
    State(pod): State<Arc<Pod>>,
    by: Admin,
    whom: Whom,
    body::Json(role): body::Json<Role>,
) -> Result<Json<Role>, Problem> {
    let whom = whom.here(&pod)?;
    if whom == by.local {
        return Err(Problem::cannot_change_own_role());
    }
    // By itself: it is finished even if whoever asked goes away.
    let assigned = tokio::spawn(async move { assign(&pod, &by, &whom, role).await }).await;
    assigned.map_err(|_| Problem::internal())??;
    Ok(Json(role))
}

/// Delete a member, and all that is theirs.
///
/// Also of one that isn't there any more.
#[utoipa::path(
    delete, path = "/v1/members/{jid}", tag = "Members",
    params(("jid" = String, Path, description = "The member's address, such as alice@example.org.")),
    responses(
        (status = 204, description = "Deleted."),
        (status = 403, description = "`forbidden`, or `cannot_remove_self`."),
        (status = 404, description = "`member_not_found`: it is no member's address."),
    ),
    security(("admin" = []))
)]
pub(super) async fn delete(
    State(pod): State<Arc<Pod>>,
    by: Admin,
    whom: Whom,
) -> Result<StatusCode, Problem> {
    let whom = whom.here(&pod)?;
    if whom == by.local {
        return Err(Problem::cannot_remove_self());
    }
    let removed = tokio::spawn(async move { remove(&pod, &by, &whom).await }).await;
    removed.map_err(|_| Problem::internal())??;
    Ok(StatusCode::NO_CONTENT)
}

/// Say how you want to be called.
#[utoipa::path(
    put, path = "/v1/members/{jid}/nickname", tag = "Members",
    params(("jid" = String, Path, description = "The member's address, such as alice@example.org.")),
    request_body(content = body::Text, content_type = "application/json", description = "1 to 48 bytes, without control characters."),
    responses(
        (status = 204, description = "Taken."),
        (status = 403, description = "`forbidden`: it is somebody else's."),
    ),
    security(("member" = []))
)]
pub(super) async fn set_nickname(
    State(pod): State<Arc<Pod>>,
    Oneself(local): Oneself,
    body::Text(nickname): body::Text,
) -> Result<StatusCode, Problem> {
    pod.name(&local, member::nickname(nickname)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Show a picture of yourself: PNG, JPEG or GIF, up to 1 MiB.
#[utoipa::path(
    put, path = "/v1/members/{jid}/avatar", tag = "Members",
    params(("jid" = String, Path, description = "The member's address, such as alice@example.org.")),
    request_body(content(
        (String = "text/plain"),
        (String = "application/json"),
        (Vec<u8> = "application/octet-stream"),
        (Vec<u8> = "image/png"),
        (Vec<u8> = "image/jpeg"),
        (Vec<u8> = "image/gif"),
    ), description = "Bytes; or base64, as text or as a JSON string."),
    responses(
        (status = 204, description = "Taken: chat clients see it, too."),
        (status = 403, description = "`forbidden`: it is somebody else's."),
        (status = 415, description = "`unsupported_media_type`: it is no such picture."),
    ),
    security(("member" = []))
)]
pub(super) async fn set_avatar(
    State(pod): State<Arc<Pod>>,
    Oneself(local): Oneself,
    picture: Picture,
) -> Result<StatusCode, Problem> {
    let connection = pod.connection()?;
    let id = connection.set_avatar(pod.domain().as_ref(), &local, &picture.bytes).await?;
    pod.avatars(|avatars| avatars.keep(id.clone(), Some(picture), Instant::now()));
    pod.note(|accounts| accounts.pictured(&local, id));
    Ok(StatusCode::NO_CONTENT)
}

async fn assign(pod: &Pod, by: &Admin, whom: &Localpart, role: Role) -> Result<(), Problem> {
    let _setup = pod.setup.lock().await;
    let connection = pod.connection()?;
    let account = account(pod, &connection, by, whom).await?;
    let before = account.flatten().ok_or_else(Problem::member_not_found)?;
    if before == role {
        return Ok(());
    }
    let assigned = connection.set_role(pod.domain().as_ref(), whom, role).await;
    if role < before {
        // Even if the answer got lost: it may have been done.
        pod.see_role(whom, Some(role)).await;
    }
    assigned?;
    pod.note(|accounts| accounts.assigned(whom, role));
    pod.see_role(whom, Some(role)).await;
    log::info(format_args!("{} made {} {}", by.local.as_str(), whom.as_str(), role.to_server()));
    Ok(())
}

async fn remove(pod: &Pod, by: &Admin, whom: &Localpart) -> Result<(), Problem> {
    let _setup = pod.setup.lock().await;
    let connection = pod.connection()?;
    match account(pod, &connection, by, whom).await? {
        None => return Ok(()),
        // A service's.
        Some(None) => return Err(Problem::member_not_found()),
        Some(Some(_)) => (),
    }
    match connection.delete_account(pod.domain().as_ref(), whom).await {
        Ok(()) | Err(server::Error::Refused { status: 404, .. }) => (),
        Err(error) => return Err(error.into()),
    }
    pod.note(|accounts| accounts.deleted(whom));
    pod.log_out(whom).await;
    pod.forget_recovery(whom).await;
    log::info(format_args!("{} deleted {}", by.local.as_str(), whom.as_str()));
    Ok(())
}

/// The role of an account, if there is one, for somebody who is an admin still. Of the Server
/// itself, not of what we know of it: a change may be on its way.
async fn account(
    pod: &Pod,
    connection: &Connection,
    by: &Admin,
    whom: &Localpart,
) -> Result<Option<Option<Role>>, Problem> {
    let accounts = connection.accounts(pod.domain().as_ref()).await?.accounts;
    let find = |local: &Localpart| {
        let is_theirs = |name: &str| Localpart::parse(name).is_ok_and(|name| name == *local);
        let account = accounts.iter().find(|account| is_theirs(&account.localpart));
        account.map(|account| role_of(account.role.as_deref()))
    };
    if find(&by.local) != Some(Some(Role::Admin)) {
        return Err(Problem::forbidden());
    }
    Ok(find(whom))
}
