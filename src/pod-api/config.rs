//! What the operator wrote: `Prose.toml`, and the environment, which wins over it.
//!
//! `PROSE_AUTH__TOKEN_TTL=PT1H` says the same as `[auth] token_ttl = "PT1H"`. Keys that are none of
//! ours may be another program's: those of files that nobody knows are told of.

mod known;
pub mod mail;
pub mod network;
mod read;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::num::NonZeroU32;
use std::path::Path;
use std::time::Duration;

use appliance::settings::{
    Contact, Domain, Domains, LogLevel, Overrides, RawLua, Retention, Settings, TlsProfile,
    UNSETTLED_DOMAIN, Uri,
};
use serde::{Deserialize, Serialize};
use toml::Value as Toml;
use utoipa::ToSchema;

use crate::duration::Span;
use mail::{Branding, Mail, Notifiers};
use network::{Address, Checks, ChecksTable, DashboardUrl};
pub use read::Error;

/// The most bytes of what `stele-init` hands over.
const LONGEST: u64 = 1024 * 1024;
/// Passwords may not be allowed to be shorter than this.
const SHORTEST_PASSWORD: usize = 8;

/// All that is configured, each value right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The messaging server's part of it.
    pub server: ServerConfig,
    /// Did the operator say the domain?
    pub is_domain_set: bool,
    /// The fewest characters that a new password must have.
    pub min_password_length: usize,
    /// How long after a login its token is good.
    pub token_ttl: Duration,
    /// How long after it was sent an invitation is good.
    pub invitation_ttl: Duration,
    /// How long a link is good by which a member chooses a new password.
    pub password_reset_ttl: Duration,
    /// The most members; a Pod has no such bound by itself.
    pub user_limit: Option<NonZeroU32>,
    /// Whose Pod it is, if that was said.
    pub company_name: Option<String>,
    /// How letters are sent, if they are.
    pub mail: Option<Mail>,
    /// How long pictures of members are kept that were fetched from the Server.
    pub avatar_ttl: Duration,
    /// Where the Pod is.
    pub pod: Address,
    /// Where its Dashboard is, if that was said.
    pub dashboard_url: Option<DashboardUrl>,
    /// How the network is checked.
    pub network_checks: Checks,
}

/// The messaging server's settings, by the API's names for them: as `GET /v1/server/config` shows
/// them to an admin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct ServerConfig {
    #[schema(value_type = String)]
    pub domain: Domain,
    #[serde(flatten)]
    pub defaults: Defaults,
    pub c2s_unencrypted: bool,
    /// Not shown.
    #[serde(skip)]
    pub log_level: LogLevel,
    /// Not shown.
    #[serde(skip)]
    pub public_contacts: BTreeMap<Contact, Vec<Uri>>,
}

/// `[server.defaults]`: what holds for a setting that no admin has changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
#[schema(as = ServerSettings)]
pub struct Defaults {
    pub message_archive_enabled: bool,
    #[schema(value_type = String)]
    pub message_archive_retention: Retention,
    pub file_upload_allowed: bool,
    pub file_storage_encryption_scheme: EncryptionScheme,
    #[schema(value_type = String)]
    pub file_storage_retention: Retention,
    pub mfa_required: bool,
    #[schema(value_type = String)]
    pub tls_profile: TlsProfile,
    pub federation_enabled: bool,
    pub federation_whitelist_enabled: bool,
    #[schema(value_type = Vec<String>)]
    pub federation_friendly_servers: Domains,
    /// Only shown, as the next one.
    pub settings_backup_interval: String,
    pub user_data_backup_interval: String,
    pub push_notification_with_body: bool,
    pub push_notification_with_sender: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Object)]
    pub prosody_overrides: Option<Box<Overrides>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String)]
    pub prosody_overrides_raw: Option<RawLua>,
}

/// How uploads are encrypted: it is only shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub enum EncryptionScheme {
    /// The only one.
    #[serde(rename = "AES-256")]
    Aes256,
}

/// The file's own form.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Document {
    server: ServerTable,
    auth: Auth,
    public_contacts: BTreeMap<Contact, Vec<Uri>>,
    pod: PodTable,
    dashboard: Dashboard,
    /// The older name of `dashboard.url`.
    dashboard_url: Option<DashboardUrl>,
    api: Api,
    branding: Branding,
    notifiers: Notifiers,
    /// The older name of `notifiers`.
    notify: Notifiers,
    /// The older name of `api.network_checks.retry_interval`.
    default_retry_interval: Option<Span>,
    debug_use_at_your_own_risk: Debug,
    licensing: Licensing,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Licensing {
    user_limit: Option<NonZeroU32>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ServerTable {
    domain: Option<Domain>,
    defaults: Defaults,
    log_level: LogLevel,
    /// Seconds: the older name of `auth.token_ttl`.
    oauth2_access_token_ttl: Option<u32>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Auth {
    min_password_length: Option<usize>,
    token_ttl: Option<Span>,
    invitation_ttl: Option<Span>,
    password_reset_token_ttl: Option<Span>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct PodTable {
    address: Address,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Dashboard {
    url: Option<DashboardUrl>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Api {
    network_checks: ChecksTable,
    invitations: Invitations,
    member_enriching: Enriching,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Invitations {
    /// The older name of `auth.invitation_ttl`.
    invitation_ttl: Option<Span>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Enriching {
    cache_ttl: Option<Span>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Debug {
    c2s_unencrypted: bool,
}

impl ServerConfig {
    /// What has an effect on the Server: what `stele-init` renders its configuration from.
    pub fn settings(&self) -> Settings {
        let ServerConfig { domain, defaults, c2s_unencrypted, log_level, public_contacts } =
            self.clone();
        Settings {
            domain,
            message_archive_enabled: defaults.message_archive_enabled,
            message_archive_retention: defaults.message_archive_retention,
            file_upload_allowed: defaults.file_upload_allowed,
            file_storage_retention: defaults.file_storage_retention,
            push_notification_with_body: defaults.push_notification_with_body,
            push_notification_with_sender: defaults.push_notification_with_sender,
            tls_profile: defaults.tls_profile,
            federation_enabled: defaults.federation_enabled,
            federation_whitelist_enabled: defaults.federation_whitelist_enabled,
            federation_friendly_servers: defaults.federation_friendly_servers,
            c2s_unencrypted,
            log_level,
            public_contacts,
            prosody_overrides: defaults.prosody_overrides,
            prosody_overrides_raw: defaults.prosody_overrides_raw,
        }
    }
}

/// The variables that the operator put into `/etc/prose/env`: `stele-init` hands on those that are
/// for us, as a JSON object in our credentials folder, since some are secrets.
pub fn operators_environment(credentials: &Path) -> Result<BTreeMap<String, String>, Error> {
    let path = credentials.join("environment");
    let mut text = vec![];
    match File::open(&path) {
        Ok(file) => {
            let read = file.take(LONGEST).read_to_end(&mut text);
            read.map_err(|error| Error::Read(path.clone(), error))?;
        }
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(error) => return Err(Error::Read(path, error)),
    }
    serde_json::from_slice(&text).map_err(|error| Error::Variables(path, error.line()))
}

impl Config {
    /// Where the Dashboard is.
    pub fn dashboard_url(&self) -> DashboardUrl {
        let default = || DashboardUrl::default(&self.pod, &self.server.domain);
        self.dashboard_url.clone().unwrap_or_else(default)
    }

    /// Reads files, the weakest first, as far as they are there, and the environment. Should neither
    /// say a domain, it is the one that was `chosen`.
    pub fn load(
        paths: &[&Path],
        environment: impl Iterator<Item = (String, String)>,
        chosen: Option<&Domain>,
    ) -> Result<Config, Error> {
        let mut is_domain_set = false;
        let config = read::read(paths, environment, checked, |table| {
            is_domain_set = table.get("server").and_then(|it| it.get("domain")).is_some();
            if let Some(domain) = chosen.filter(|_| !is_domain_set) {
                read::set(table, &["server", "domain"], Toml::String(domain.to_string()));
            }
        })?;
        Ok(Config { is_domain_set, ..config })
    }
}

fn checked(document: Document) -> Result<Config, String> {
    let Document { server, auth, public_contacts, debug_use_at_your_own_risk: debug, .. } =
        document;
    let Document { api, branding, dashboard, notifiers, notify, pod, .. } = document;
    let min_password_length = auth.min_password_length.unwrap_or(15);
    if !(SHORTEST_PASSWORD..=256).contains(&min_password_length) {
        return Err(format!(
            "auth.min_password_length is {min_password_length}, expected {SHORTEST_PASSWORD} to 256"
        ));
    }
    let older = server.oauth2_access_token_ttl.map(|seconds| Duration::from_secs(seconds.into()));
    let token_ttl = auth.token_ttl.map(|span| span.0).or(older);
    let domain = server.domain.map_or_else(|| UNSETTLED_DOMAIN.parse(), Ok);
    let server = ServerConfig {
        domain: domain.map_err(|error| error.to_string())?,
        defaults: server.defaults,
        c2s_unencrypted: debug.c2s_unencrypted,
        log_level: server.log_level,
        public_contacts,
    };
    let or = |span: Option<Span>, seconds| span.map_or(Duration::from_secs(seconds), |it| it.0);
    let invitation_ttl = auth.invitation_ttl.or(api.invitations.invitation_ttl);
    Ok(Config {
        is_domain_set: false,
        min_password_length,
        token_ttl: token_ttl.unwrap_or(Duration::from_secs(3 * 60 * 60)),
        avatar_ttl: or(api.member_enriching.cache_ttl, 2 * 60),
        invitation_ttl: or(invitation_ttl, 7 * 24 * 60 * 60),
        password_reset_ttl: or(auth.password_reset_token_ttl, 15 * 60),
        user_limit: document.licensing.user_limit,
        company_name: branding.company_name()?,
        mail: notifiers.mail(notify, &branding, (&pod.address, &server.domain))?,
        server,
        pod: pod.address,
        dashboard_url: dashboard.url.or(document.dashboard_url),
        network_checks: api.network_checks.complete(document.default_retry_interval),
    })
}

impl Default for Defaults {
    fn default() -> Defaults {
        Defaults {
            message_archive_enabled: true,
            message_archive_retention: Retention::default(),
            file_upload_allowed: true,
            file_storage_encryption_scheme: EncryptionScheme::Aes256,
            file_storage_retention: Retention::default(),
            mfa_required: true,
            tls_profile: TlsProfile::default(),
            federation_enabled: false,
            federation_whitelist_enabled: false,
            federation_friendly_servers: Domains::default(),
            settings_backup_interval: "P1D".into(),
            user_data_backup_interval: "P1W".into(),
            push_notification_with_body: true,
            push_notification_with_sender: true,
            prosody_overrides: None,
            prosody_overrides_raw: None,
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
        Config::load(&[&path], environment, None).map_err(|error| error.to_string())
    }

    fn contacts(abuse: &str) -> BTreeMap<Contact, Vec<Uri>> {
        BTreeMap::from([(Contact::Abuse, vec![abuse.parse().unwrap()])])
    }

    #[test]
    fn nothing_configured_is_a_pod_of_prose_local() {
        let none = Config::load(&[Path::new("/nonexistent")], std::iter::empty(), None).unwrap();
        assert_eq!(none, load("", &[]).unwrap());
        assert_eq!(none.server.settings(), Settings::new(UNSETTLED_DOMAIN.parse().unwrap()));
        assert_eq!(none.min_password_length, 15);
        assert_eq!((none.token_ttl.as_secs(), none.avatar_ttl.as_secs()), (10_800, 120));
    }

    #[test]
    fn a_domain_that_was_chosen_gives_way_to_the_operators() {
        let chosen: Domain = "chosen.example".parse().unwrap();
        for (variables, expected, is_set) in [
            (vec![], "chosen.example", false),
            (vec![("PROSE_SERVER__DOMAIN", "a.example")], "a.example", true),
        ] {
            let variables = variables.iter().map(|(name, it)| (name.to_string(), it.to_string()));
            let config = Config::load(&[], variables, Some(&chosen)).unwrap();
            assert_eq!((config.server.domain.as_ref(), config.is_domain_set), (expected, is_set));
        }
    }

    #[test]
    fn the_operators_variables_come_by_a_file_of_their_own() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(operators_environment(folder.path()).unwrap(), BTreeMap::new());
        let path = folder.path().join("environment");
        std::fs::write(&path, r#"{"PROSE_SERVER__DOMAIN":"a.example"}"#).unwrap();
        let variables = operators_environment(folder.path()).unwrap();
        let config = Config::load(&[], variables.into_iter(), None).unwrap();
        assert_eq!(config.server.domain.as_ref(), "a.example");
        std::fs::write(&path, "[]").unwrap();
        let error = operators_environment(folder.path()).unwrap_err().to_string();
        assert!(error.starts_with("cannot understand "), "{error}");
    }

    #[test]
    fn the_environment_wins_over_the_file() {
        let file = "[server]\ndomain = \"Acme.example\"\nlog_level = \"debug\"\n\
                    [server.defaults]\nmessage_archive_retention = \"P2W\"\n[branding]\ncolour = 1\n\
                    [public_contacts]\nabuse = [\"mailto:abuse@acme.example\"]\n";
        let alone = load(file, &[]).unwrap().server.settings();
        let expected = Settings {
            message_archive_retention: Retention::Days(14),
            log_level: LogLevel::Debug,
            public_contacts: contacts("mailto:abuse@acme.example"),
            ..Settings::new("acme.example".parse().unwrap())
        };
        assert_eq!(alone, expected);
        let with = load(
            file,
            &[
                ("PROSE_SERVER__DOMAIN", "2024.example"),
                ("PROSE_SERVER__DEFAULTS__FEDERATION_ENABLED", "true"),
                ("PROSE_SERVER__DEFAULTS__FEDERATION_FRIENDLY_SERVERS", "[\"a.example\"]"),
                ("PROSE_AUTH__TOKEN_TTL", "PT1H"),
                ("PROSE_AUTH__MIN_PASSWORD_LENGTH", "8"),
                ("PROSE_API__MEMBER_ENRICHING__CACHE_TTL", "PT5M"),
                ("PROSE_SERVER__LOG_LEVEL", "error"),
                ("PROSE_PUBLIC_CONTACTS__ABUSE", "[\"tel:112\"]"),
                ("PROSE_LOG__LEVEL__X", "odd"),
                ("HOME", "/"),
            ],
        );
        let with = with.unwrap();
        let expected = Settings {
            federation_enabled: true,
            federation_friendly_servers: vec!["a.example".parse().unwrap()].try_into().unwrap(),
            message_archive_retention: Retention::Days(14),
            log_level: LogLevel::Error,
            public_contacts: contacts("tel:112"),
            ..Settings::new("2024.example".parse().unwrap())
        };
        assert_eq!(with.server.settings(), expected);
        assert_eq!((with.token_ttl.as_secs(), with.min_password_length), (3600, 8));
        assert_eq!(with.avatar_ttl.as_secs(), 300);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        for (file, environment, said) in [
            ("[server]\ndomain = 7\n", ("A", ""), "line 2"),
            (
                "[server]\ndomain = \"a b\"\n",
                ("A", ""),
                "labels must be of letters, digits and dashes",
            ),
            ("[server", ("A", ""), "line 1"),
            ("[server]\ndomain = \"admin.prose.local\"\n", ("A", ""), "the Pod itself uses it"),
            ("[server]\nlog_level = \"all\"\n", ("A", ""), "line 2"),
            ("[server.defaults]\nfile_storage_retention = \"P1\"\n", ("A", ""), "such as P1Y"),
            ("[public_contacts]\nabuse = [\"me\"]\n", ("A", ""), "begins with mailto:"),
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
