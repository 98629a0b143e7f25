//! Why a request gets no answer of its own: the only place where that becomes a status.

use hyper::StatusCode;
use serde::Serialize;
use thiserror::Error;

/// Methods that go through to pod-api.
pub const API_METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";
/// Methods of what is only read.
pub const READING_METHODS: &str = "GET, HEAD";

/// Why not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
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
}

/// A problem as programs are told it.
#[derive(Serialize)]
struct Told {
    error: &'static str,
    message: String,
}

impl Problem {
    /// Its status.
    pub fn status(self) -> StatusCode {
        match self {
            Problem::Path(_) | Problem::Request(_) => StatusCode::BAD_REQUEST,
            Problem::LongTarget => StatusCode::URI_TOO_LONG,
            Problem::NotFound | Problem::NoApi => StatusCode::NOT_FOUND,
            Problem::Method(_) => StatusCode::METHOD_NOT_ALLOWED,
            Problem::LongBody => StatusCode::PAYLOAD_TOO_LARGE,
            Problem::SlowBody => StatusCode::REQUEST_TIMEOUT,
            Problem::Down | Problem::NoState => StatusCode::SERVICE_UNAVAILABLE,
            Problem::Broken => StatusCode::BAD_GATEWAY,
            Problem::Silent => StatusCode::GATEWAY_TIMEOUT,
        }
    }

    /// Its word in `error`: pod-api's own where it has one.
    pub fn word(self) -> &'static str {
        match self {
            Problem::Path(_) | Problem::Request(_) | Problem::LongTarget => "bad_request",
            Problem::NotFound | Problem::NoApi => "not_found",
            Problem::Method(_) => "method_not_allowed",
            Problem::LongBody | Problem::SlowBody => "unknown",
            Problem::Down | Problem::NoState => "service_unavailable",
            Problem::Broken => "bad_gateway",
            Problem::Silent => "gateway_timeout",
        }
    }

    /// May it be gone in a second?
    pub fn is_passing(self) -> bool {
        self.status() == StatusCode::SERVICE_UNAVAILABLE
    }

    /// The body for programs: `{"error":"not_found","message":"…"}`.
    pub fn json(self) -> String {
        let told = Told { error: self.word(), message: self.to_string() };
        // Plain data: serialising it cannot fail.
        serde_json::to_string(&told).unwrap_or_default()
    }
}
