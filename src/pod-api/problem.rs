//! What a request is answered when it can't be granted: the one place where an error becomes a
//! status.

use std::borrow::Cow;
use std::fmt::Display;

use appliance::backup::{Kind, Trouble};
use axum::Json;
use axum::http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use crate::server::NOT_SERVED;
use crate::{init, log, mail, server, settings, store};

/// What every 401 says, to the letter.
const CHALLENGE: &str = "Bearer realm=\"Admin only area\", charset=\"UTF-8\"";

/// An answer that isn't the one that was asked for: `{"error":…,"message":…}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Its status.
    pub status: StatusCode,
    /// The word that programs go by.
    pub error: &'static str,
    /// The sentence that people read.
    pub message: String,
    /// When to ask again, in seconds, where that helps.
    pub retry_after: Option<u32>,
}

impl Problem {
    fn new(status: StatusCode, error: &'static str, message: impl Into<String>) -> Problem {
        Problem { status, error, message: message.into(), retry_after: None }
    }

    /// Whoever asks isn't logged in.
    pub fn unauthorized() -> Problem {
        Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", "You are not logged in.")
    }

    /// A login that failed, for whatever reason.
    pub fn invalid_credentials() -> Problem {
        let message = "The address or the password is wrong.";
        Problem::new(StatusCode::UNAUTHORIZED, "invalid_credentials", message)
    }

    /// Whoever asks may not.
    pub fn forbidden() -> Problem {
        Problem::new(StatusCode::FORBIDDEN, "forbidden", "Only an admin may do this.")
    }

    /// What is asked for is somebody else's own business.
    pub fn not_oneself() -> Problem {
        let message = "Only the member themself may do this.";
        Problem::new(StatusCode::FORBIDDEN, "forbidden", message)
    }

    /// Nobody makes themself less than they are, lest nobody is left who may undo it.
    pub fn cannot_change_own_role() -> Problem {
        let message = "You cannot change your own role: another admin can.";
        Problem::new(StatusCode::FORBIDDEN, "cannot_change_own_role", message)
    }

    /// Nor does anybody delete themself.
    pub fn cannot_remove_self() -> Problem {
        let message = "You cannot delete your own account: another admin can.";
        Problem::new(StatusCode::FORBIDDEN, "cannot_remove_self", message)
    }

    /// There is no such member.
    pub fn member_not_found() -> Problem {
        Problem::new(StatusCode::NOT_FOUND, "member_not_found", "There is no such member.")
    }

    /// Somebody else was first.
    pub fn first_account_already_created() -> Problem {
        let message = "The first account exists already: log in with it.";
        Problem::new(StatusCode::CONFLICT, "first_account_already_created", message)
    }

    /// No such invitation, or not any more.
    pub fn invitation_not_found() -> Problem {
        let message = "There is no such invitation: it was used, cancelled, or has expired.";
        Problem::new(StatusCode::GONE, "invitation_not_found", message)
    }

    /// Somebody of this name is invited.
    pub fn invitation_already_exists() -> Problem {
        let message = "This username has an invitation already: send it again, or cancel it.";
        Problem::new(StatusCode::CONFLICT, "invitation_already_exists", message)
    }

    /// More members than the operator wants.
    pub fn user_limit_reached() -> Problem {
        let message = "There are as many members as there may be.";
        Problem::new(StatusCode::FORBIDDEN, "user_limit_reached", message)
    }

    /// No such link, or not any more.
    pub fn password_reset_token_expired() -> Problem {
        let message = "This link was used, or it has expired: ask for another one.";
        Problem::new(StatusCode::NOT_FOUND, "password_reset_token_expired", message)
    }

    /// Nobody said where a member is reached.
    pub fn missing_email_address() -> Problem {
        let message = "No e-mail address of this member is known.";
        Problem::new(StatusCode::PRECONDITION_FAILED, "missing_email_address", message)
    }

    /// Letters can't be sent. Where it is only asked whether they can.
    pub fn cannot_invite() -> Problem {
        let problem = Problem::missing_config();
        Problem { status: StatusCode::PRECONDITION_FAILED, ..problem }
    }

    /// Letters can't be sent: nobody said how.
    pub fn missing_config() -> Problem {
        let message = "No mail server is configured: the operator can name one in Prose.toml, as \
                       notifiers.email.smtp_host.";
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "missing_config", message)
    }

    /// The name is that of an account.
    pub fn member_already_exists() -> Problem {
        let message = "This username is taken.";
        Problem::new(StatusCode::CONFLICT, "member_already_exists", message)
    }

    /// The domain is the operator's to say, or that of members already.
    pub fn domain_already_set() -> Problem {
        let message = "The domain cannot be chosen any more: there are members, or the operator of \
                       this Pod has set one.";
        Problem::new(StatusCode::CONFLICT, "server_config_already_initialized", message)
    }

    /// A workspace with members is changed in another way.
    pub fn workspace_already_initialized() -> Problem {
        let message = "The workspace is initialized already.";
        Problem::new(StatusCode::CONFLICT, "workspace_already_initialized", message)
    }

    /// A password with fewer characters than `least`.
    pub fn password_too_short(least: usize) -> Problem {
        let message = format!("The password must have at least {least} characters.");
        Problem::new(StatusCode::BAD_REQUEST, "invalid_password", message)
    }

    /// A password that can't be one, however long.
    pub fn password_unusable() -> Problem {
        let message =
            "The password must not be longer than 1024 bytes, nor contain control characters.";
        Problem::new(StatusCode::BAD_REQUEST, "invalid_password", message)
    }

    /// `HEAD /v1/workspace` asks for something else than whether it exists.
    pub fn precondition_required() -> Problem {
        let message = "The header If-Match must be *.";
        Problem::new(StatusCode::PRECONDITION_REQUIRED, "precondition_required", message)
    }

    /// Malformed: broken JSON, an odd query or path.
    pub fn malformed(message: impl Into<String>) -> Problem {
        Problem::new(StatusCode::BAD_REQUEST, "unknown", message)
    }

    /// Well-formed, but it makes no sense here.
    pub fn bad_request(message: impl Into<String>) -> Problem {
        Problem::new(StatusCode::BAD_REQUEST, "bad_request", message)
    }

    /// Well-formed, but not right.
    pub fn invalid(message: impl Into<String>) -> Problem {
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "unknown", message)
    }

    /// An upload that is no picture.
    pub fn no_picture() -> Problem {
        let message = "The picture must be a PNG, a JPEG or a GIF.";
        Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", message)
    }

    /// Not declared to be JSON.
    pub fn not_json() -> Problem {
        let message = "The body's Content-Type must be application/json.";
        Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unknown", message)
    }

    /// Not declared to be Lua.
    pub fn not_lua() -> Problem {
        let message =
            "The body's Content-Type must be text/x-lua, or application/json with a text.";
        Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", message)
    }

    /// Lua runs next to the messages: the operator has to want that.
    pub fn no_lua() -> Problem {
        let message = "Lua is not allowed here. Whoever operates this Pod can allow it, with \
                       PROSE_PROSODY_EXT__ALLOW_RAW_OVERRIDES=true in /etc/prose/env.";
        Problem::new(StatusCode::FORBIDDEN, "forbidden", message)
    }

    /// Lua that the Server's own check refuses. What it says may quote the rest of the file.
    pub fn bad_lua() -> Problem {
        Problem::invalid("The Server refuses this Lua, so nothing has changed: the log says why.")
    }

    /// Not declared to be bytes.
    pub fn not_bytes() -> Problem {
        let message = "The body's Content-Type must be application/octet-stream.";
        Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unknown", message)
    }

    /// As it is shown, in a body or an event.
    pub fn shown(&self) -> Value {
        json!({ "error": self.error, "message": self.message })
    }

    /// More bytes than anybody needs.
    pub fn too_large() -> Problem {
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "unknown", "The body is too large.")
    }

    /// A body that never ends.
    pub fn too_slow() -> Problem {
        Problem::new(StatusCode::REQUEST_TIMEOUT, "unknown", "The body took too long.")
    }

    /// Too many failed logins.
    pub fn too_many(retry_after: u32) -> Problem {
        let message = "Too many failed attempts: wait a little.";
        let problem = Problem::new(StatusCode::TOO_MANY_REQUESTS, "too_many_requests", message);
        Problem { retry_after: Some(retry_after), ..problem }
    }

    /// More streams of events than one may have, or all together.
    pub fn too_many_streams() -> Problem {
        let message = "Too many streams of events are open: end one, or wait a little.";
        let problem = Problem::new(StatusCode::TOO_MANY_REQUESTS, "too_many_requests", message);
        Problem { retry_after: Some(5), ..problem }
    }

    /// There is no such backup.
    pub fn backup_not_found() -> Problem {
        Problem::new(StatusCode::NOT_FOUND, "backup_not_found", "There is no such backup.")
    }

    /// Something else is being done with backups.
    pub fn backup_in_progress() -> Problem {
        let message = "Something else is being backed up or restored: wait until that is done.";
        let problem = Problem::new(StatusCode::CONFLICT, "backup_in_progress", message);
        Problem { retry_after: Some(5), ..problem }
    }

    /// It takes longer than a request may.
    pub fn backup_takes_longer() -> Problem {
        let message = "The backup is still being checked. Ask again with the same key, or for \
                       events, which take as long as it takes.";
        let problem = Problem::new(StatusCode::CONFLICT, "backup_in_progress", message);
        Problem { retry_after: Some(5), ..problem }
    }

    /// Its passphrase or key doesn't open a backup. Not 401, at which the Dashboard logs out.
    pub fn backup_locked(message: impl Display) -> Problem {
        let message = format!("The backup stays closed: {message}.");
        Problem::new(StatusCode::BAD_REQUEST, "invalid_backup_key", message)
    }

    /// It isn't what was written.
    pub fn backup_damaged(message: impl Display) -> Problem {
        let message = format!("The backup can't be used: {message}.");
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "backup_damaged", message)
    }

    /// It is another appliance's, or a newer one's.
    pub fn backup_incompatible(message: impl Display) -> Problem {
        let message = format!("The backup can't be used here: {message}.");
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "backup_incompatible", message)
    }

    /// The disk is too full. Not 507: nothing is wrong here, and asking again won't help.
    pub fn insufficient_storage(message: impl Display) -> Problem {
        let message = format!("There is too little room: {message}.");
        Problem::new(StatusCode::CONFLICT, "insufficient_storage", message)
    }

    /// A code that isn't the one that was given, or not any more.
    pub fn invalid_confirmation_code() -> Problem {
        let message = "The confirmation code is wrong, or was used, or is older than 5 minutes.";
        Problem::new(StatusCode::BAD_REQUEST, "invalid_confirmation_code", message)
    }

    /// All data is being exchanged.
    pub fn restarting() -> Problem {
        let message = "The API is restarting.";
        let status = StatusCode::SERVICE_UNAVAILABLE;
        let problem = Problem::new(status, "internal_server_error", message);
        Problem { retry_after: Some(1), ..problem }
    }

    /// Something that nothing here does.
    pub fn not_implemented() -> Problem {
        let message = "This cannot be changed.";
        Problem::new(StatusCode::NOT_IMPLEMENTED, "not_implemented", message)
    }

    /// The Server isn't there yet, or not any more: it is being started.
    ///
    /// Not 500, at which the Dashboard leaves its page for a full-screen error.
    pub fn starting() -> Problem {
        let message = "The Server is starting.";
        let status = StatusCode::SERVICE_UNAVAILABLE;
        let problem = Problem::new(status, "internal_server_error", message);
        Problem { retry_after: Some(1), ..problem }
    }

    /// The configuration is wrong, so that there is no Pod.
    pub fn degraded(why: &str) -> Problem {
        let message = format!("This Pod is not configured rightly. {why}");
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "internal_server_error", message)
    }

    /// Somebody changes the settings for so long already that another one can't be waited for.
    pub fn being_changed() -> Problem {
        let message = "Another change is being applied: try again in a moment.";
        let status = StatusCode::SERVICE_UNAVAILABLE;
        let problem = Problem::new(status, "internal_server_error", message);
        Problem { retry_after: Some(5), ..problem }
    }

    /// The Server doesn't serve by the settings that somebody wants.
    pub fn not_applied() -> Problem {
        let message = "The Server does not take this, so nothing has changed: the log says why.";
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal_server_error", message)
    }

    /// Something unexpected, which the log has told already.
    pub fn internal() -> Problem {
        let message = "Something went wrong: the log says what.";
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal_server_error", message)
    }
}

impl From<server::Error> for Problem {
    fn from(error: server::Error) -> Problem {
        use server::Error::{Busy, Gone, Odd, Refused, Unauthorized, Unreachable};
        match error {
            Busy => Problem::too_many(5),
            // What it won't take is what the caller wrote: we check less strictly than it does.
            Refused { status: 400, message, .. } => Problem::invalid(message),
            // The domain comes and goes while a configuration is loaded.
            Refused { error, .. } if error == NOT_SERVED => Problem::starting(),
            Unauthorized | Gone | Refused { .. } | Unreachable(_) | Odd(_) => {
                log::error(format_args!("cannot ask the Server: {error}"));
                Problem::internal()
            }
        }
    }
}

impl From<mail::Error> for Problem {
    fn from(error: mail::Error) -> Problem {
        log::error(&error);
        let message = "The e-mail could not be sent: the log says why.";
        // Not 500, at which the Dashboard leaves its page for a full-screen error.
        Problem::new(StatusCode::BAD_GATEWAY, "internal_server_error", message)
    }
}

impl From<init::Error> for Problem {
    fn from(error: init::Error) -> Problem {
        log::error(error);
        Problem::internal()
    }
}

impl From<init::backup::NotGranted> for Problem {
    fn from(error: init::backup::NotGranted) -> Problem {
        use init::backup::NotGranted::{Busy, NotPrepared, Other};
        match error {
            Busy => Problem::backup_in_progress(),
            NotPrepared => Problem::invalid_confirmation_code(),
            Other(error) => error.into(),
        }
    }
}

impl From<Trouble> for Problem {
    fn from(Trouble { kind, message }: Trouble) -> Problem {
        match kind {
            Kind::NotFound => Problem::backup_not_found(),
            Kind::WrongKey => Problem::backup_locked(message),
            Kind::Damaged => Problem::backup_damaged(message),
            Kind::Foreign => Problem::backup_incompatible(message),
            Kind::NoRoom => Problem::insufficient_storage(message),
            Kind::Invalid => Problem::invalid(format!("The backup is not right: {message}.")),
            Kind::Failed => {
                log::error(message);
                Problem::internal()
            }
        }
    }
}

impl From<settings::BadValue> for Problem {
    fn from(error: settings::BadValue) -> Problem {
        Problem::invalid(format!("The value is not right: {error}."))
    }
}

impl From<store::Error> for Problem {
    fn from(error: store::Error) -> Problem {
        log::error(format_args!("{error}"));
        let message = "The database does not work: the log says why.";
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "database_error", message)
    }
}

/// How a [`Problem`] is shown.
#[derive(ToSchema)]
#[allow(dead_code)] // it only describes
struct Shown {
    /// The word that programs go by.
    error: String,
    /// The sentence that people read.
    message: String,
}

impl PartialSchema for Problem {
    fn schema() -> RefOr<Schema> {
        Shown::schema()
    }
}

impl ToSchema for Problem {
    fn name() -> Cow<'static, str> {
        "Problem".into()
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = Json(self.shown());
        let mut response = (self.status, body).into_response();
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static(CHALLENGE));
        }
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(RETRY_AFTER, seconds.into());
        }
        response
    }
}
