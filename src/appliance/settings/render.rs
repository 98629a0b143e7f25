//! Prosody's configuration of [`Settings`]. Both files begin alike, so that changing from the one
//! to the other needs no restart.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use super::lua::{Value, quote};
use super::{Contact, INTERNAL_HOST, LogLevel, MARKER, Overrides, RawLua, Settings};

/// What an image has where, which isn't anybody's to set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Which Prosody it is.
    pub prosody: Prosody,
    /// The folder of what it keeps.
    pub data: String,
    /// The folder in which it finds operators' certificates.
    pub certificates: String,
    /// The folder of our modules.
    pub modules: String,
    /// Where it writes its process's number.
    pub pid_file: String,
    /// The certificates of authorities that it trusts.
    pub authorities: String,
    /// What it shows to clients.
    pub certificate: Certificate,
    /// The port of HTTP, on loopback.
    pub http_port: u16,
    /// The port of clients.
    pub c2s_port: u16,
    /// The port of other servers.
    pub s2s_port: u16,
}

/// A version of Prosody, as far as configurations differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prosody {
    /// Of bookworm; it has no module for push notifications.
    V0_12,
    /// Of trixie.
    V13_0,
}

/// What is shown to clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Certificate {
    /// What Prosody finds for the domain among the operator's.
    Discovered,
    /// This one, until the operator gives another.
    SelfSigned {
        /// The private key's file.
        key: String,
        /// The certificate's file.
        certificate: String,
    },
}

impl Place {
    /// The appliance's.
    pub fn appliance(prosody: Prosody, certificate: Certificate) -> Place {
        Place {
            prosody,
            data: "/var/lib/prosody".into(),
            certificates: "/etc/prosody".into(),
            modules: "/usr/share/prose/modules".into(),
            pid_file: "/run/prosody/prosody.pid".into(),
            authorities: "/etc/ssl/certs/ca-certificates.crt".into(),
            certificate,
            http_port: 5280,
            c2s_port: 5222,
            s2s_port: 5269,
        }
    }
}

impl Certificate {
    /// The one that the appliance makes for itself.
    pub fn self_signed() -> Certificate {
        Certificate::SelfSigned {
            key: "/var/lib/prosody/self-signed.key".into(),
            certificate: "/var/lib/prosody/self-signed.crt".into(),
        }
    }
}

/// What clients of the domain can do.
const MODULES: [&str; 17] = [
    "blocklist",
    "bookmarks",
    "carbons",
    "csi_simple",
    "disco",
    "limits",
    "pep",
    "ping",
    "private",
    "roster",
    "saslauth",
    "smacks",
    "team",
    "tls",
    "vcard4",
    "vcard_legacy",
    "version",
];
/// What a host needs to talk to other servers, besides what Prosody loads by itself. Accounts' host
/// has some of it anyway.
const FEDERATION: [&str; 3] = ["dialback", "s2s_bidi", "tls"];
/// Modules that Prosody loads by itself, and that the internal host has no use for: it has no
/// sessions, and neither clients nor servers reach it.
const NOT_INTERNAL: [&str; 7] =
    ["c2s", "iq", "message", "offline", "presence", "s2s", "s2s_auth_certs"];
/// The largest uploaded file, and all of an account's of one day.
const LARGEST_UPLOAD: i64 = 20 << 20;
const UPLOADS_A_DAY: i64 = 100 << 20;
/// Hash rounds for the secret of the internal account: the fewest that Prosody takes, since it is
/// random, kept in memory, and made on each start.
const INTERNAL_ITERATIONS: i64 = 4096;

/// What Prosody starts with until the gate is open: the internal host alone, in memory, and nothing
/// that listens but HTTP on loopback.
pub fn bootstrap(place: &Place) -> String {
    let mut text = Text::new("what the Server starts with until the gate is open", None);
    text.everywhere(place, LogLevel::Info);
    text.internal_host();
    text.text
}

/// What Prosody runs with.
pub fn render(settings: &Settings, place: &Place) -> String {
    let title = "the Server's configuration, of the Pod's settings. Changes are lost";
    let mut text = Text::new(title, settings.prosody_overrides.as_deref());
    text.everywhere(place, settings.log_level);
    text.option("tls_profile", settings.tls_profile.word());
    if !settings.federation_enabled {
        text.option("modules_disabled", Value::texts(["s2s", "s2s_auth_certs"]));
    }
    text.other_overrides();
    text.internal_host();
    text.domain(settings, place);
    text.raw(settings);
    text.rooms(settings, place);
    text.raw(settings);
    if settings.file_upload_allowed {
        text.uploads(settings);
        text.raw(settings);
    }
    text.text
}

/// A configuration that is being written.
struct Text {
    text: String,
    /// What holds instead of what is written, wherever that is.
    overrides: BTreeMap<&'static str, Value>,
    /// Options that were written.
    written: BTreeSet<&'static str>,
}

impl Text {
    fn new(title: &str, overrides: Option<&Overrides>) -> Text {
        Text {
            text: format!("{MARKER} {title}.\n\n"),
            overrides: overrides.into_iter().flat_map(Overrides::options).collect(),
            written: BTreeSet::new(),
        }
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.text, "{line}");
    }

    fn option(&mut self, name: &'static str, value: impl Into<Value>) {
        let value = self.overrides.get(name).cloned().unwrap_or_else(|| value.into());
        self.written.insert(name);
        self.line(format_args!("{name} = {value}"));
    }

    /// Those of options that aren't written for everything.
    fn other_overrides(&mut self) {
        let written = &self.written;
        let others = self.overrides.iter().filter(|(name, _)| !written.contains(*name));
        let others: Vec<(&'static str, Value)> =
            others.map(|(name, value)| (*name, value.clone())).collect();
        others.into_iter().for_each(|(name, value)| self.option(name, value));
    }

    /// Lua, at the end of a section.
    fn raw(&mut self, settings: &Settings) {
        if let Some(lua) = settings.prosody_overrides_raw.as_ref().map(RawLua::as_ref) {
            self.line(format_args!("-- An admin's own:\n{lua}"));
        }
    }

    fn host(&mut self, name: &str) {
        self.line(format_args!("\nVirtualHost {}", quote(name)));
    }

    fn component(&mut self, name: &str, module: &str) {
        self.line(format_args!("\nComponent {} {}", quote(name), quote(module)));
    }

    fn everywhere(&mut self, place: &Place, level: LogLevel) {
        self.option("pidfile", place.pid_file.as_str());
        self.option("data_path", place.data.as_str());
        self.option("certificates", place.certificates.as_str());
        self.option("plugin_paths", Value::texts([&place.modules]));
        self.option("log", Value::Table(vec![(log_level(level), "*console".into())]));
        self.option("http_ports", Value::List(vec![place.http_port.into()]));
        self.option("http_interfaces", Value::texts(["127.0.0.1"]));
        self.option("https_ports", Value::List(vec![]));
        self.option("c2s_ports", Value::List(vec![place.c2s_port.into()]));
        self.option("c2s_direct_tls_ports", Value::List(vec![]));
        self.option("s2s_ports", Value::List(vec![place.s2s_port.into()]));
        self.option("s2s_direct_tls_ports", Value::List(vec![]));
        self.option("s2s_require_encryption", true);
        self.option("s2s_secure_auth", false);
        self.option("ssl", Value::Table(vec![("cafile", place.authorities.as_str().into())]));
        // `prosodyctl check` of 13.0 looks for it.
        self.option("modules_enabled", Value::List(vec![]));
        self.option("authentication", "internal_hashed");
        self.option("storage", "internal");
        self.option("allow_registration", false);
        let limit = |rate: &str, burst: &str| {
            Value::Table(vec![("rate", rate.into()), ("burst", burst.into())])
        };
        let limits = vec![("c2s", limit("50kb/s", "2s")), ("s2sin", limit("250kb/s", "4s"))];
        self.option("limits", Value::Table(limits));
    }

    fn internal_host(&mut self) {
        self.host(INTERNAL_HOST);
        self.option("storage", "memory");
        self.option("modules_enabled", Value::texts(["stele"]));
        self.option("modules_disabled", Value::texts(NOT_INTERNAL));
        self.option("default_iteration_count", INTERNAL_ITERATIONS);
        self.option("disco_hidden", true);
    }

    fn domain(&mut self, settings: &Settings, place: &Place) {
        self.host(settings.domain.as_ref());
        let mut modules = MODULES.to_vec();
        let mut also = |module, is_wanted: bool| modules.extend(is_wanted.then_some(module));
        also("mam", settings.message_archive_enabled);
        also("cloud_notify", place.prosody == Prosody::V13_0);
        also("server_contact_info", !settings.public_contacts.is_empty());
        self.modules(modules, settings);
        self.certificate(place);
        // An account of which 0.12 knows no role is a member, and so it is in 13.0.
        self.option("default_user_role", "prosody:member");
        self.option("c2s_require_encryption", !settings.c2s_unencrypted);
        self.option("allow_unencrypted_plain_auth", settings.c2s_unencrypted);
        self.option("push_notification_with_body", settings.push_notification_with_body);
        self.option("push_notification_with_sender", settings.push_notification_with_sender);
        // Said even where there is no archive: one option less to change later.
        self.option("default_archive_policy", true);
        self.option("max_archive_query_results", 100_i64);
        let days = settings.message_archive_retention.days();
        let expiry = days.map_or("never".to_owned(), |days| format!("{days}d"));
        self.option("archive_expires_after", expiry);
        if !settings.public_contacts.is_empty() {
            self.option("contact_info", contact_info(settings));
        }
    }

    /// These, and what talking to other servers needs: to all, or to friends.
    fn modules(&mut self, mut modules: Vec<&str>, settings: &Settings) {
        if settings.federation_enabled {
            let lacking = FEDERATION.into_iter().filter(|it| !modules.contains(it));
            modules.extend(lacking.collect::<Vec<_>>());
        }
        if settings.is_among_friends() {
            modules.push("friends");
        }
        self.option("modules_enabled", Value::texts(modules));
        if settings.is_among_friends() {
            let friends = Vec::from(settings.federation_friendly_servers.clone());
            self.option("friendly_servers", Value::texts(friends));
        }
    }

    fn certificate(&mut self, place: &Place) {
        if let Certificate::SelfSigned { key, certificate } = &place.certificate {
            let files = vec![("key", key.as_str()), ("certificate", certificate.as_str())];
            let files = files.into_iter().map(|(name, path)| (name, path.into())).collect();
            self.option("ssl", Value::Table(files));
        }
    }

    fn rooms(&mut self, settings: &Settings, place: &Place) {
        self.component(&settings.domain.below("groups"), "muc");
        self.option("name", "Rooms");
        self.option("restrict_room_creation", "local");
        let modules = settings.message_archive_enabled.then_some("muc_mam");
        self.modules(modules.into_iter().collect(), settings);
        self.certificate(place);
        self.option("max_archive_query_results", 100_i64);
        self.option("muc_log_by_default", true);
        self.option("muc_log_all_rooms", true);
        self.option("muc_log_expires_after", "never");
    }

    fn uploads(&mut self, settings: &Settings) {
        const SECONDS_A_DAY: i64 = 24 * 60 * 60;
        let front = settings.domain.below("prose");
        self.component(&settings.domain.below("upload"), "http_file_share");
        self.option("http_external_url", format!("https://{front}/"));
        self.option("http_host", front);
        self.option("http_paths", Value::Table(vec![("file_share", "/upload".into())]));
        self.option("http_file_share_size_limit", LARGEST_UPLOAD);
        self.option("http_file_share_daily_quota", UPLOADS_A_DAY);
        self.option("http_file_share_access", Value::texts([&settings.domain]));
        let days = settings.file_storage_retention.days();
        // Both versions take a negative number for `never`.
        let expiry = days.map_or(-1, |days| i64::from(days) * SECONDS_A_DAY);
        self.option("http_file_share_expires_after", expiry);
    }
}

fn log_level(level: LogLevel) -> &'static str {
    match level {
        LogLevel::Trace | LogLevel::Debug => "debug",
        LogLevel::Info => "info",
        LogLevel::Warn => "warn",
        LogLevel::Error => "error",
    }
}

/// Whom to write to about what; the default where nobody is named for it.
fn contact_info(settings: &Settings) -> Value {
    const USES: [(Contact, &str); 6] = [
        (Contact::Abuse, "abuse"),
        (Contact::Admin, "admin"),
        (Contact::Feedback, "feedback"),
        (Contact::Sales, "sales"),
        (Contact::Security, "security"),
        (Contact::Support, "support"),
    ];
    let contacts = &settings.public_contacts;
    let named = |of| contacts.get(&of).or(contacts.get(&Contact::Default));
    let uses = USES.into_iter().filter_map(|(of, name)| Some((name, Value::texts(named(of)?))));
    Value::Table(uses.collect())
}
