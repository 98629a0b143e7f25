//! The first account, an admin's: whoever asks first gets it, and nobody ever after.

use std::sync::Arc;

use appliance::secret::Secret;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::LOCATION;
use axum::response::IntoResponse;
use serde::Deserialize;
use utoipa::ToSchema;

use crate::body;
use crate::jid::Localpart;
use crate::log;
use crate::mail::address::EmailAddress;
use crate::member::{self, Member, Role, role_of};
use crate::pod::Pod;
use crate::problem::Problem;
use crate::server;

/// The first account, as somebody wants it.
#[derive(Deserialize, ToSchema)]
#[schema(as = FirstAccount)]
pub(super) struct Wish {
    /// What stands before the `@` of the address.
    username: String,
    /// Long enough: 15 characters unless configured.
    password: String,
    /// 1 to 48 bytes.
    #[schema(min_length = 1, max_length = 48)]
    nickname: String,
    /// Where to reach them if they forget it.
    email: Option<EmailAddress>,
}

/// A wish that can be granted.
struct FirstAccount {
    local: Localpart,
    password: Secret,
    nickname: String,
    address: Option<EmailAddress>,
}

/// Is there a first account?
#[utoipa::path(
    head, path = "/v1/init/first-account", tag = "Setting up",
    responses(
        (status = 200, description = "There is."),
        (status = 204, description = "There is none yet."),
    )
)]
pub(super) async fn exists(State(pod): State<Arc<Pod>>) -> Result<StatusCode, Problem> {
    let exists = pod.look(|accounts| accounts.members().next().is_some())?;
    Ok(if exists { StatusCode::OK } else { StatusCode::NO_CONTENT })
}

/// Make the first account, an admin's.
#[utoipa::path(
    put, path = "/v1/init/first-account", tag = "Setting up",
    request_body = Wish,
    responses(
        (status = 201, description = "Made.", body = Member, headers(("Location" = String, description = "Where the member is."))),
        (status = 400, description = "`invalid_password`: too short."),
        (status = 409, description = "`first_account_already_created`, or `member_already_exists`."),
    )
)]
pub(super) async fn create(
    State(pod): State<Arc<Pod>>,
    body::Json(wish): body::Json<Wish>,
) -> Result<impl IntoResponse, Problem> {
    let first = FirstAccount::new(wish, pod.config.min_password_length)?;
    // By itself: it is finished even if whoever asked goes away.
    let made = tokio::spawn(make(pod, first)).await;
    let jid = made.map_err(|_| Problem::internal())??;
    let location = format!("/v1/members/{jid}");
    let member = Member { jid, role: Some(Role::Admin) };
    Ok((StatusCode::CREATED, [(LOCATION, location)], Json(member)))
}

impl FirstAccount {
    fn new(wish: Wish, min_password_length: usize) -> Result<FirstAccount, Problem> {
        let local = Localpart::parse_new(&wish.username)
            .map_err(|error| Problem::invalid(format!("The username can't be used: {error}.")))?;
        let nickname = member::nickname(wish.nickname)?;
        let password = member::password(wish.password, min_password_length)?;
        Ok(FirstAccount { local, password, nickname, address: wish.email })
    }
}

/// Returns its JID.
async fn make(pod: Arc<Pod>, first: FirstAccount) -> Result<String, Problem> {
    let _setup = pod.setup.lock().await;
    let connection = pod.connection()?;
    // The Server itself, not what we know of it: a change may be on its way.
    let accounts = connection.accounts(pod.domain().as_ref()).await?.accounts;
    if accounts.iter().any(|account| role_of(account.role.as_deref()).is_some()) {
        return Err(Problem::first_account_already_created());
    }
    let FirstAccount { local, password, nickname, address } = first;
    let host = pod.domain().as_ref();
    match connection.create_account(host, &local, &password, Role::Admin).await {
        Ok(()) => (),
        // A service's: it is no member, but its name is taken.
        Err(server::Error::Refused { status: 409, .. }) => {
            return Err(Problem::member_already_exists());
        }
        Err(error) => return Err(error.into()),
    }
    pod.note(|accounts| accounts.created(&local, Role::Admin));
    // The account is there: without a nickname its name is shown, without an address an admin can
    // give it one.
    if let Err(error) = pod.name(&local, nickname).await {
        log::error(error);
    }
    if let Err(error) = pod.set_address(&local, address).await {
        log::error(error);
    }
    log::info("the first account was made");
    Ok(pod.jid(&local).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_is_checked() {
        let long = "p".repeat(1025);
        for (username, password, nickname, refused) in [
            ("alice", "correct horse battery", "Alice", None),
            ("Alice", "ünïcödé ünïcödé", "A]]\"\\", None),
            ("", "correct horse battery", "Alice", Some(422)),
            ("a b", "correct horse battery", "Alice", Some(422)),
            ("a@example.org", "correct horse battery", "Alice", Some(422)),
            ("a\0", "correct horse battery", "Alice", Some(422)),
            ("alice", "correct horse battery", "", Some(422)),
            ("alice", "correct horse battery", "A\nB", Some(422)),
            ("alice", "correct horse battery", &long[..49], Some(422)),
            ("alice", "fourteen chars", "Alice", Some(400)),
            ("alice", "", "Alice", Some(400)),
            ("alice", &long, "Alice", Some(400)),
            ("alice", "correct horse\nbattery", "Alice", Some(400)),
        ] {
            let wish = Wish {
                username: username.into(),
                password: password.into(),
                nickname: nickname.into(),
                email: None,
            };
            let status = FirstAccount::new(wish, 15).err().map(|problem| problem.status.as_u16());
            assert_eq!(status, refused, "{username:?} {password:?} {nickname:?}");
        }
    }
}
