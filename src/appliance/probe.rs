//! How it is found out whether services serve: from outside, as those see it who use them.
//!
//! ```text
//! stele-init ── Question, in a file without a name ──► stele-probe ──► XMPP, HTTP of loopback
//!            ◄── Line: a check, as JSON, on stdout ──
//! ```

use serde::{Deserialize, Serialize};

use crate::secret::Secret;
use crate::settings::Domain;
use crate::upgrade::Check;

/// What asks them.
pub const PROGRAM: &str = "/usr/lib/stele/stele-probe";
/// The local part of the account that it logs in with. Nobody else may have it.
pub const ACCOUNT: &str = "stele-probe";

/// The check that the account logs in over TLS, and gets its own message back.
pub const XMPP: &str = "xmpp";
/// The check that the API answers through the front.
pub const API: &str = "api";
/// The check that the data keeps what is written to it.
pub const DATA: &str = "data";

/// What the program is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Question {
    /// What the answers are known by: one that was asked before may be answered late.
    pub number: u32,
    /// The front's port of loopback, if the API shall be asked.
    pub api: Option<u16>,
    /// How to log in, if that shall be tried.
    pub xmpp: Option<Login>,
}

/// How to log in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Login {
    /// The Server's port of loopback for clients.
    pub port: u16,
    /// Where [`ACCOUNT`] is.
    pub domain: Domain,
    /// Its password.
    pub password: Secret,
}

/// What came of one check: a line of JSON, at most 4096 bytes, as soon as it is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Line {
    /// The question's.
    pub number: u32,
    /// Which, and whether it passed.
    pub check: Check,
}
