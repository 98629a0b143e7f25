//! Why a request gets no answer of its own: the only place where that becomes a status.

use appliance::upgrade::{Code, Refused};
use hyper::StatusCode;
use serde::Serialize;
use thiserror::Error;

/// Methods that go through to pod-api.
pub const API_METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";
/// Methods of what is only read.
pub const READING_METHODS: &str = "GET, HEAD";
/// The method of what takes a bundle.
pub const TAKING_METHOD: &str = "PUT";
/// The method of what is to be done.
pub const DOING_METHOD: &str = "POST";

/// Why not.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Problem {
    /// The path could mean another one to somebody else.
    #[error("cannot use this path: {0}")]
    Path(&'static str),
    /// A field of the head is missing or says two things.
    #[error("cannot use this request: {0}")]
    Request(&'static str),
    /// The path is longer than [`crate::limits::LONGEST_TARGET`].
    #[error("cannot use this path: it is too long")]
    LongTarget,
    /// Nothing is there.
    #[error("nothing is at this address")]
    NotFound,
    /// Nothing below `/api` is there: the appliance has no pod-api.
    #[error("this appliance has no API")]
    NoApi,
    /// It is there, for these methods.
    #[error("this address takes {0}")]
    Method(&'static str),
    /// The body is longer than [`crate::limits::Limits::body`].
    #[error("the request's body is too long")]
    LongBody,
    /// The body took longer than [`crate::limits::Limits::body_within`].
    #[error("the request's body took too long")]
    SlowBody,
    /// pod-api doesn't take connections.
    #[error("the API isn't running just now")]
    Down,
    /// pod-api broke off, or what it said was no reply.
    #[error("the API broke off")]
    Broken,
    /// pod-api said nothing in time.
    #[error("the API took too long")]
    Silent,
    /// `stele-init` doesn't say how the appliance is.
    #[error("the appliance doesn't say how it is")]
    NoState,
    /// `stele-init` doesn't do what it is told to.
    #[error("the appliance doesn't do it: {0}")]
    NotDone(&'static str),
    /// A bundle isn't installed, or the other system isn't tried.
    #[error("{}", .0.message)]
    Upgrade(Refused),
    /// What installs bundles ended without a word.
    #[error("what installs bundles broke off: what runs is as it was, the slots tell the rest")]
    NoInstall,
    /// What installs bundles said nothing for long.
    #[error("what installs bundles takes too long: the slots tell what became of it")]
    SlowInstall,
    /// No trial is remembered that failed.
    #[error("no upgrade has failed here")]
    NoVerdict,
}

/// A problem as programs are told it.
#[derive(Serialize)]
struct Told {
    error: Word,
    message: String,
}

/// What programs go by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Word {
    /// One of the API's.
    Api(&'static str),
    /// One of the upgrades'.
    Upgrade(Code),
}

impl Problem {
    /// Its status.
    pub fn status(&self) -> StatusCode {
        match self {
            Problem::Path(_) | Problem::Request(_) => StatusCode::BAD_REQUEST,
            Problem::LongTarget => StatusCode::URI_TOO_LONG,
            Problem::NotFound | Problem::NoApi | Problem::NoVerdict => StatusCode::NOT_FOUND,
            Problem::Method(_) => StatusCode::METHOD_NOT_ALLOWED,
            Problem::LongBody => StatusCode::PAYLOAD_TOO_LARGE,
            Problem::SlowBody => StatusCode::REQUEST_TIMEOUT,
            Problem::Down | Problem::NoState | Problem::NotDone(_) => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Problem::Broken => StatusCode::BAD_GATEWAY,
            Problem::Silent | Problem::SlowInstall => StatusCode::GATEWAY_TIMEOUT,
            Problem::Upgrade(refused) => status_of(refused.code),
            Problem::NoInstall => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// Its word in `error`: pod-api's own where it has one.
    pub fn word(&self) -> Word {
        Word::Api(match self {
            Problem::Path(_) | Problem::Request(_) | Problem::LongTarget => "bad_request",
            Problem::NotFound | Problem::NoApi | Problem::NoVerdict => "not_found",
            Problem::Method(_) => "method_not_allowed",
            Problem::LongBody | Problem::SlowBody => "unknown",
            Problem::Down | Problem::NoState | Problem::NotDone(_) => "service_unavailable",
            Problem::Broken => "bad_gateway",
            Problem::Silent | Problem::SlowInstall => "gateway_timeout",
            Problem::Upgrade(refused) => return Word::Upgrade(refused.code),
            Problem::NoInstall => "internal_server_error",
        })
    }

    /// May it be gone in a second?
    pub fn is_passing(&self) -> bool {
        self.status() == StatusCode::SERVICE_UNAVAILABLE
    }

    /// May there be a body that nobody has read to its end?
    pub fn leaves_a_body(&self) -> bool {
        use Problem::{LongBody, NoInstall, Request, SlowBody, SlowInstall, Upgrade};
        matches!(self, LongBody | SlowBody | Request(_) | Upgrade(_) | NoInstall | SlowInstall)
    }

    /// The body for programs: `{"error":"not_found","message":"…"}`.
    pub fn json(&self) -> String {
        let told = Told { error: self.word(), message: self.to_string() };
        // Plain data: serialising it cannot fail.
        serde_json::to_string(&told).unwrap_or_default()
    }
}

/// Whose fault it is that a bundle isn't installed: its sender's, the moment's, or the machine's.
fn status_of(code: Code) -> StatusCode {
    match code {
        Code::NotABundle | Code::Format | Code::Manifest | Code::Truncated => {
            StatusCode::BAD_REQUEST
        }
        Code::UnknownKey | Code::Signature | Code::Product | Code::Architecture | Code::Chunk => {
            StatusCode::UNPROCESSABLE_ENTITY
        }
        Code::NoKeys
        | Code::Running
        | Code::Downgrade
        | Code::KnownBad
        | Code::Unblessed
        | Code::Busy
        | Code::NoCounting => StatusCode::CONFLICT,
        Code::Size | Code::Oversized => StatusCode::PAYLOAD_TOO_LARGE,
        Code::Space => StatusCode::INSUFFICIENT_STORAGE,
        Code::ReadBack | Code::Disk => StatusCode::INTERNAL_SERVER_ERROR,
    }
}
