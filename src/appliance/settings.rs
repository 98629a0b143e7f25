//! What an admin or operator settles about the Server, as one document, and the configuration that
//! Prosody gets of it.
//!
//! ```text
//! JSON ── parse ──► Settings ┐
//!            Place (image) ──┴ render ──► prosody.cfg.lua
//! ```
//!
//! A configuration of Prosody's is a program, so nobody hands one over: what a document may say is
//! said by these types, and everything in them is either a word of ours or a quoted string. The
//! keys are those of the Pod API's server configuration.

pub mod domain;
pub mod lua;
pub mod overrides;
pub mod render;
pub mod retention;
pub mod uri;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::hash::Digest;

pub use domain::{Domain, Domains};
pub use overrides::{Overrides, RawLua};
pub use render::{Certificate, Place, Prosody, bootstrap, render};
pub use retention::Retention;
pub use uri::Uri;

/// The host of the account that the Pod API and the Server share. No stream of others reaches it.
pub const INTERNAL_HOST: &str = "admin.prose.local";
/// The domain that is served until there is another.
pub const UNSETTLED_DOMAIN: &str = "prose.local";
/// Where the image has the configuration that Prosody starts with until the gate is open.
pub const BOOTSTRAP_FILE: &str = "/usr/share/prose/prosody.bootstrap.cfg.lua";
/// How each file begins that is written here: one that doesn't is an operator's own.
pub const MARKER: &str = "-- Written by Stele;";

/// The document. What isn't said is as by default; what isn't known is refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The right-hand side of its accounts' addresses.
    pub domain: Domain,
    /// Are messages kept for later devices?
    #[serde(default = "yes")]
    pub message_archive_enabled: bool,
    /// For how long.
    #[serde(default)]
    pub message_archive_retention: Retention,
    /// May files be uploaded?
    #[serde(default = "yes")]
    pub file_upload_allowed: bool,
    /// How long they are kept.
    #[serde(default)]
    pub file_storage_retention: Retention,
    /// Do push notifications tell what was written?
    #[serde(default = "yes")]
    pub push_notification_with_body: bool,
    /// Do they tell by whom?
    #[serde(default = "yes")]
    pub push_notification_with_sender: bool,
    /// Which ciphers are accepted.
    #[serde(default)]
    pub tls_profile: TlsProfile,
    /// Are other servers talked to?
    #[serde(default)]
    pub federation_enabled: bool,
    /// Only to those below?
    #[serde(default)]
    pub federation_whitelist_enabled: bool,
    /// Servers that may be talked to.
    #[serde(default)]
    pub federation_friendly_servers: Domains,
    /// May clients log in without TLS? For debugging.
    #[serde(default)]
    pub c2s_unencrypted: bool,
    /// How much Prosody says.
    #[serde(default)]
    pub log_level: LogLevel,
    /// Whom strangers may write to, published in service discovery.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub public_contacts: BTreeMap<Contact, Vec<Uri>>,
    /// Options by Prosody's own names, over all else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prosody_overrides: Option<Box<Overrides>>,
    /// Lua for each host of members'. `stele-init` takes it only where the operator allows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prosody_overrides_raw: Option<RawLua>,
}

/// A set of ciphers, by Mozilla's recommendation for servers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TlsProfile {
    /// TLS 1.3.
    #[default]
    Modern,
    /// TLS 1.2 and later.
    Intermediate,
    /// For clients long out of date.
    Old,
}

impl TlsProfile {
    /// Prosody's.
    fn word(self) -> &'static str {
        match self {
            TlsProfile::Modern => "modern",
            TlsProfile::Intermediate => "intermediate",
            TlsProfile::Old => "old",
        }
    }
}

/// The least important line that is said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogLevel {
    /// As [`LogLevel::Debug`]: Prosody has nothing finer.
    Trace,
    /// What only developers need.
    Debug,
    /// What happens.
    #[default]
    Info,
    /// What may need somebody.
    Warn,
    /// What does.
    Error,
}

/// What a contact is for (XEP-0157).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)] // the words say it
pub enum Contact {
    /// For all that nobody else is named for.
    Default,
    Abuse,
    Admin,
    Feedback,
    Sales,
    Security,
    Support,
}

fn yes() -> bool {
    true
}

impl Settings {
    /// Everything by default, for this domain.
    pub fn new(domain: Domain) -> Settings {
        Settings {
            domain,
            message_archive_enabled: true,
            message_archive_retention: Retention::default(),
            file_upload_allowed: true,
            file_storage_retention: Retention::default(),
            push_notification_with_body: true,
            push_notification_with_sender: true,
            tls_profile: TlsProfile::default(),
            federation_enabled: false,
            federation_whitelist_enabled: false,
            federation_friendly_servers: Domains::default(),
            c2s_unencrypted: false,
            log_level: LogLevel::default(),
            public_contacts: BTreeMap::new(),
            prosody_overrides: None,
            prosody_overrides_raw: None,
        }
    }

    /// By which one tells documents apart: alike for those that say the same.
    pub fn digest(&self) -> Digest {
        // Plain data: serialising it cannot fail.
        Digest::of(&serde_json::to_vec(self).unwrap_or_default())
    }

    /// Reads a document that anybody may have sent.
    pub fn parse(json: &[u8]) -> Result<Settings, NoSettings> {
        Ok(serde_json::from_slice(json)?)
    }

    /// Does Prosody talk to other servers, but only to friendly ones?
    pub fn is_among_friends(&self) -> bool {
        self.federation_enabled && self.federation_whitelist_enabled
    }
}

/// Why a document isn't [`Settings`].
#[derive(Debug, thiserror::Error)]
#[error("cannot understand the settings: {0}")]
pub struct NoSettings(#[from] serde_json::Error);

#[cfg(test)]
mod tests;
