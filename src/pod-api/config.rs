//! What the operator wrote: `Prose.toml`, and the environment, which wins over it.
//!
//! `PROSE_AUTH__TOKEN_TTL=PT1H` says the same as `[auth] token_ttl = "PT1H"`. Keys that are none of
//! ours are another program's, so they aren't looked at.

use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use toml::{Table, Value as Toml};

use crate::duration::{Retention, Span};
use crate::jid::Domain;

/// The most bytes that a configuration may have.
const LONGEST: u64 = 1024 * 1024;
/// Passwords may not be allowed to be shorter than this.
const SHORTEST_PASSWORD: usize = 8;
/// What names of the environment begin with.
const PREFIX: &str = "PROSE_";
/// The domain of a Pod that nobody has configured.
const DOMAIN: &str = "prose.local";

/// All that is configured, each value right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// What `GET /v1/server/config` shows an admin.
    pub server: ServerConfig,
    /// The fewest characters that a new password must have.
    pub min_password_length: usize,
    /// How long after a login its token is good.
    pub token_ttl: Duration,
}

/// The messaging server's settings, by the API's names for them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ServerConfig {
    pub domain: String,
    #[serde(flatten)]
    pub defaults: Defaults,
    pub c2s_unencrypted: bool,
}

/// `[server.defaults]`: what holds for a setting that no admin has changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Defaults {
    pub message_archive_enabled: bool,
    pub message_archive_retention: Retention,
    pub file_upload_allowed: bool,
    pub file_storage_encryption_scheme: EncryptionScheme,
    pub file_storage_retention: Retention,
    pub mfa_required: bool,
    pub tls_profile: TlsProfile,
    pub federation_enabled: bool,
    pub federation_whitelist_enabled: bool,
    pub federation_friendly_servers: Vec<ServerName>,
    pub settings_backup_interval: Interval,
    pub user_data_backup_interval: Interval,
    pub push_notification_with_body: bool,
    pub push_notification_with_sender: bool,
}

/// A domain, shown as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Domain")]
pub struct ServerName(String);

/// A length of time that is only shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interval(String);

/// How uploads are encrypted: it is only shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum EncryptionScheme {
    /// The only one.
    #[serde(rename = "AES-256")]
    Aes256,
}

/// Mozilla's words for how old a client may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TlsProfile {
    Modern,
    Intermediate,
    Old,
}

/// The file's own form.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Document {
    server: ServerTable,
    auth: Auth,
    debug_use_at_your_own_risk: Debug,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ServerTable {
    domain: Option<Domain>,
    defaults: Defaults,
    /// Seconds: the older name of `auth.token_ttl`.
    oauth2_access_token_ttl: Option<u32>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Auth {
    min_password_length: Option<usize>,
    token_ttl: Option<Span>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Debug {
    c2s_unencrypted: bool,
}

/// Why there is no [`Config`].
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be read.
    #[error("cannot read {0}: {1}")]
    Read(PathBuf, std::io::Error),
    /// It has more than [`LONGEST`] bytes.
    #[error("cannot read {0}: it has more than {LONGEST} bytes")]
    TooLong(PathBuf),
    /// What is wrong in it, with its line.
    #[error("cannot understand {0}: {1}")]
    File(PathBuf, String),
    /// What is wrong in it and the environment taken together.
    #[error("cannot understand {PREFIX}… in the environment: {0}")]
    Environment(String),
}

impl ServerConfig {
    /// The document that `stele-init` renders Prosody's configuration from: what has an effect on
    /// it, by the same names.
    pub fn settings(&self) -> Value {
        let Defaults {
            message_archive_enabled,
            message_archive_retention,
            file_upload_allowed,
            file_storage_encryption_scheme: _,
            file_storage_retention,
            mfa_required: _,
            tls_profile,
            federation_enabled,
            federation_whitelist_enabled,
            federation_friendly_servers,
            settings_backup_interval: _,
            user_data_backup_interval: _,
            push_notification_with_body,
            push_notification_with_sender,
        } = &self.defaults;
        json!({
            "domain": self.domain,
            "message_archive_enabled": message_archive_enabled,
            "message_archive_retention": message_archive_retention,
            "file_upload_allowed": file_upload_allowed,
            "file_storage_retention": file_storage_retention,
            "tls_profile": tls_profile,
            "federation_enabled": federation_enabled,
            "federation_whitelist_enabled": federation_whitelist_enabled,
            "federation_friendly_servers": federation_friendly_servers,
            "push_notification_with_body": push_notification_with_body,
            "push_notification_with_sender": push_notification_with_sender,
            "c2s_unencrypted": self.c2s_unencrypted,
        })
    }
}

impl Config {
    /// Reads the file, if there is one, and the environment.
    pub fn load(
        path: &Path,
        environment: impl Iterator<Item = (String, String)>,
    ) -> Result<Config, Error> {
        let mut text = String::new();
        match File::open(path) {
            Ok(file) => {
                let read = file.take(LONGEST + 1).read_to_string(&mut text);
                read.map_err(|error| Error::Read(path.into(), error))?;
            }
            Err(error) if error.kind() == ErrorKind::NotFound => (),
            Err(error) => return Err(Error::Read(path.into(), error)),
        }
        if text.len() as u64 > LONGEST {
            return Err(Error::TooLong(path.into()));
        }
        // Alone, so that what is wrong in it is told with its line.
        let alone = toml::from_str(&text).map_err(|error| error.to_string()).and_then(checked);
        alone.map_err(|error| Error::File(path.into(), error))?;
        let mut table: Table = text.parse().unwrap_or_default();
        let environment = environment
            .filter_map(|(name, value)| Some((name.strip_prefix(PREFIX)?.to_lowercase(), value)));
        for (name, value) in environment {
            let keys: Vec<&str> = name.split("__").collect();
            set(&mut table, &keys, scalar(value));
        }
        let together = table.try_into().map_err(|error: toml::de::Error| error.to_string());
        together.and_then(checked).map_err(Error::Environment)
    }
}

fn checked(document: Document) -> Result<Config, String> {
    let Document { server, auth, debug_use_at_your_own_risk: debug } = document;
    let min_password_length = auth.min_password_length.unwrap_or(15);
    if !(SHORTEST_PASSWORD..=256).contains(&min_password_length) {
        return Err(format!(
            "auth.min_password_length is {min_password_length}, expected {SHORTEST_PASSWORD} to 256"
        ));
    }
    let older = server.oauth2_access_token_ttl.map(|seconds| Duration::from_secs(seconds.into()));
    let token_ttl = auth.token_ttl.map(|span| span.0).or(older);
    let domain = server.domain.as_ref().map_or(DOMAIN, Domain::as_str).to_owned();
    let c2s_unencrypted = debug.c2s_unencrypted;
    let server = ServerConfig { domain, defaults: server.defaults, c2s_unencrypted };
    let token_ttl = token_ttl.unwrap_or(Duration::from_secs(3 * 60 * 60));
    Ok(Config { server, min_password_length, token_ttl })
}

/// Puts a value below nested tables. What is in its way gives way: the environment wins.
fn set(table: &mut Table, keys: &[&str], value: Toml) {
    match keys {
        [] => (),
        [key] => drop(table.insert((*key).to_owned(), value)),
        [key, rest @ ..] => {
            let inner = table.entry(*key).or_insert_with(|| Toml::Table(Table::new()));
            if !inner.is_table() {
                *inner = Toml::Table(Table::new());
            }
            if let Toml::Table(inner) = inner {
                set(inner, rest, value);
            }
        }
    }
}

/// What TOML would read, or else the text as it is.
fn scalar(text: String) -> Toml {
    let parsed = format!("it = {text}").parse::<Table>().ok();
    let it = parsed.filter(|table| table.len() == 1).and_then(|mut table| table.remove("it"));
    match it {
        Some(value @ (Toml::Boolean(_) | Toml::Integer(_) | Toml::Array(_))) => value,
        Some(Toml::String(text)) => Toml::String(text),
        _ => Toml::String(text),
    }
}

impl From<Domain> for ServerName {
    fn from(domain: Domain) -> ServerName {
        ServerName(domain.as_str().to_owned())
    }
}

impl Default for Defaults {
    fn default() -> Defaults {
        Defaults {
            message_archive_enabled: true,
            message_archive_retention: Retention::Infinite,
            file_upload_allowed: true,
            file_storage_encryption_scheme: EncryptionScheme::Aes256,
            file_storage_retention: Retention::Infinite,
            mfa_required: true,
            tls_profile: TlsProfile::Modern,
            federation_enabled: false,
            federation_whitelist_enabled: false,
            federation_friendly_servers: vec![],
            settings_backup_interval: Interval("P1D".into()),
            user_data_backup_interval: Interval("P1W".into()),
            push_notification_with_body: true,
            push_notification_with_sender: true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str, environment: &[(&str, &str)]) -> Result<Config, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("Prose.toml");
        std::fs::write(&path, text).unwrap();
        let environment =
            environment.iter().map(|(name, value)| (name.to_string(), value.to_string()));
        Config::load(&path, environment).map_err(|error| error.to_string())
    }

    #[test]
    fn nothing_configured_is_a_pod_of_prose_local() {
        let none = Config::load(Path::new("/nonexistent/Prose.toml"), std::iter::empty()).unwrap();
        assert_eq!(none, load("", &[]).unwrap());
        assert_eq!(none.server.domain, "prose.local");
        assert_eq!(none.min_password_length, 15);
        assert_eq!(none.token_ttl.as_secs(), 10_800);
    }

    #[test]
    fn the_environment_wins_over_the_file() {
        let file = "[server]\ndomain = \"Acme.example\"\nlog_level = \"info\"\n\
                    [server.defaults]\nmessage_archive_retention = \"P2W\"\n[branding]\ncolour = 1\n";
        let alone = load(file, &[]).unwrap();
        assert_eq!(alone.server.domain, "acme.example");
        assert_eq!(alone.server.defaults.message_archive_retention, Retention::For(14, 'D'));
        let with = load(
            file,
            &[
                ("PROSE_SERVER__DOMAIN", "2024.example"),
                ("PROSE_SERVER__DEFAULTS__FEDERATION_ENABLED", "true"),
                ("PROSE_SERVER__DEFAULTS__FEDERATION_FRIENDLY_SERVERS", "[\"a.example\"]"),
                ("PROSE_AUTH__TOKEN_TTL", "PT1H"),
                ("PROSE_AUTH__MIN_PASSWORD_LENGTH", "8"),
                ("PROSE_LOG__LEVEL__X", "odd"),
                ("HOME", "/"),
            ],
        );
        let with = with.unwrap();
        assert_eq!(with.server.domain, "2024.example");
        assert!(with.server.defaults.federation_enabled);
        assert_eq!(with.server.defaults.federation_friendly_servers.len(), 1);
        assert_eq!((with.token_ttl.as_secs(), with.min_password_length), (3600, 8));
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        for (file, environment, said) in [
            ("[server]\ndomain = 7\n", ("A", ""), "line 2"),
            ("[server]\ndomain = \"a b\"\n", ("A", ""), "not a domain name like example.org"),
            ("[server", ("A", ""), "line 1"),
            ("[auth]\nmin_password_length = 7\n", ("A", ""), "expected 8 to 256"),
            ("[auth]\ntoken_ttl = \"3h\"\n", ("A", ""), "a duration like PT3H"),
            ("", ("PROSE_SERVER__DEFAULTS__TLS_PROFILE", "new"), "in the environment"),
        ] {
            let error = load(file, &[environment]).unwrap_err();
            assert!(error.contains(said), "{file}: {error}");
        }
        assert!(load(&" ".repeat(1024 * 1024 + 1), &[]).unwrap_err().contains("more than"));
    }
}
