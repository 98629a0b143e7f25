//! A name and a password for a token.

use std::sync::Arc;

use appliance::secret::Secret;
use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use serde::Serialize;
use utoipa::ToSchema;

use crate::jid::Jid;
use crate::log;
use crate::member::Role;
use crate::pod::{self, Pod};
use crate::problem::Problem;
use crate::throttle::Who;
use crate::token::{self, Digest, Standing, Token};

/// The answer to a login. It is shown to nobody else, and not kept as it is.
#[derive(Serialize, ToSchema)]
pub(super) struct Login {
    token: String,
}

/// Get a token for an address and a password.
#[utoipa::path(
    post, path = "/v1/login", tag = "Login",
    responses(
        (status = 200, description = "To be sent as `Authorization: Bearer`.", body = Login),
        (status = 401, description = "`unauthorized`, or `invalid_credentials`."),
        (status = 429, description = "`too_many_requests`: after failed logins, for a while."),
    ),
    security(("password" = []))
)]
pub(super) async fn login(
    State(pod): State<Arc<Pod>>,
    headers: HeaderMap,
) -> Result<Json<Login>, Problem> {
    let header = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let basic = header.and_then(token::basic).ok_or_else(Problem::unauthorized)?;
    let (name, password) = basic;
    let jid = Jid::parse(&name).map_err(|_| Problem::unauthorized())?;
    let mut who = vec![Who::Name(jid.to_string())];
    who.extend(address(&headers).map(Who::Address));
    let role = check(&pod, &jid, password.as_ref(), who).await?;
    let token = token::make().map_err(|error| {
        log::error(format_args!("cannot make a token: {error}"));
        Problem::internal()
    })?;
    let created = pod::now();
    let expires = created.saturating_add(pod.config.token_ttl.as_secs());
    let standing = Standing::new(role);
    let jid = jid.to_string();
    pod.log_in(Digest::of(&token), Token { jid, created, expires, standing }).await?;
    Ok(Json(Login { token: token.reveal().to_owned() }))
}

/// The role of the member whose it is, with this password.
async fn check(
    pod: &Pod,
    jid: &Jid,
    password: Option<&Secret>,
    who: Vec<Who>,
) -> Result<Role, Problem> {
    // One after the other, so that as many at once don't get around the count of failures.
    let _login = pod.login.lock().await;
    let allowed = pod.throttle(|throttle| throttle.allows(&who, pod::now()));
    allowed.map_err(Problem::too_many)?;
    let connection = pod.connection()?;
    // Also for names that are nobody's: the Server takes as long for them.
    let is_right = match password.filter(|_| jid.domain == *pod.domain()) {
        Some(it) => connection.check_password(jid.domain.as_ref(), &jid.local, it).await?,
        None => false,
    };
    let role = pod.look(|accounts| accounts.member(&jid.local).map(|(role, _)| role))?;
    if let Some(role) = role.filter(|_| is_right) {
        return Ok(role);
    }
    pod.throttle(|throttle| throttle.failed(who, pod::now()));
    Err(Problem::invalid_credentials())
}

/// Where they are, by the front's word: what a client wrote into the header stands before that.
pub(super) fn address(headers: &HeaderMap) -> Option<String> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let last = text("x-forwarded-for").and_then(|all| all.rsplit(',').next());
    let address = text("x-real-ip").or(last)?.trim();
    (1..=64).contains(&address.len()).then(|| address.to_owned())
}
