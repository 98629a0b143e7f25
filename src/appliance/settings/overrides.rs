//! Options of Prosody's that an admin sets by name, where no setting of ours says it; and Lua, for
//! those whose operator allows it.
//!
//! What isn't here is refused: each of these is a value, so that none loads a module, opens a port,
//! names a path or reaches the internal host.

use serde::{Deserialize, Serialize};

use super::lua::Value;
use super::{Domains, TlsProfile};

/// Options with their values; what isn't said is as it is without.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Overrides {
    #[serde(skip_serializing_if = "Option::is_none")]
    archive_expires_after: Option<Expiry>,
    #[serde(skip_serializing_if = "Option::is_none")]
    c2s_require_encryption: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    c2s_stanza_size_limit: Option<StanzaSize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    consider_websocket_secure: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    default_archive_policy: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    http_file_share_daily_quota: Option<FileSize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    http_file_share_size_limit: Option<FileSize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limits: Option<Limits>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_archive_query_results: Option<Count>,
    #[serde(skip_serializing_if = "Option::is_none")]
    muc_log_all_rooms: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    muc_log_by_default: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    muc_log_expires_after: Option<Expiry>,
    #[serde(skip_serializing_if = "Option::is_none")]
    push_notification_with_body: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    push_notification_with_sender: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    s2s_insecure_domains: Option<Domains>,
    #[serde(skip_serializing_if = "Option::is_none")]
    s2s_require_encryption: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    s2s_secure_auth: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    s2s_secure_domains: Option<Domains>,
    #[serde(skip_serializing_if = "Option::is_none")]
    s2s_stanza_size_limit: Option<StanzaSize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tls_profile: Option<TlsProfile>,
    #[serde(skip_serializing_if = "Option::is_none")]
    upgrade_legacy_vcards: Option<bool>,
}

/// How fast streams may be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Limits {
    #[serde(skip_serializing_if = "Option::is_none")]
    c2s: Option<Limit>,
    #[serde(skip_serializing_if = "Option::is_none")]
    s2sin: Option<Limit>,
    #[serde(skip_serializing_if = "Option::is_none")]
    s2sout: Option<Limit>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Limit {
    rate: Rate,
    #[serde(skip_serializing_if = "Option::is_none")]
    burst: Option<Burst>,
}

/// A whole number between two others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
struct Within<const LEAST: u32, const MOST: u32>(u32);

/// Bytes of one stanza; RFC 6120 has the least.
type StanzaSize = Within<10_000, { 16 << 20 }>;
/// Bytes.
type FileSize = Within<1, { i32::MAX as u32 }>;
/// Of messages, on one page.
type Count = Within<1, 10_000>;

/// A number that isn't [`Within`].
#[derive(Debug, thiserror::Error)]
#[error("{0} is not from {1} to {2}")]
struct Without(u32, u32, u32);

impl<const LEAST: u32, const MOST: u32> TryFrom<u32> for Within<LEAST, MOST> {
    type Error = Without;

    fn try_from(number: u32) -> Result<Self, Without> {
        if (LEAST..=MOST).contains(&number) {
            Ok(Within(number))
        } else {
            Err(Without(number, LEAST, MOST))
        }
    }
}

impl<const LEAST: u32, const MOST: u32> From<Within<LEAST, MOST>> for u32 {
    fn from(Within(number): Within<LEAST, MOST>) -> u32 {
        number
    }
}

impl<const LEAST: u32, const MOST: u32> From<Within<LEAST, MOST>> for Value {
    fn from(Within(number): Within<LEAST, MOST>) -> Value {
        i64::from(number).into()
    }
}

/// A number and a unit: a text that means the same in every version.
macro_rules! quantity {
    ($(#[$doc:meta])* $name:ident, $units:expr, $also:expr, $bad:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        struct $name(String);

        impl TryFrom<String> for $name {
            type Error = &'static str;

            fn try_from(text: String) -> Result<$name, &'static str> {
                let is_one = $also.contains(&text.as_str()) || is_quantity(&text, &$units);
                if is_one { Ok($name(text)) } else { Err($bad) }
            }
        }

        impl From<$name> for String {
            fn from($name(text): $name) -> String {
                text
            }
        }
    };
}

const ONLY: [&str; 0] = [];

quantity!(
    /// Bytes a second.
    Rate,
    ["b/s", "kb/s", "mb/s"],
    ONLY,
    "expected a rate like 50kb/s"
);
quantity!(
    /// For so long a stream may be as fast as it likes.
    Burst,
    ["s"],
    ONLY,
    "expected seconds like 2s"
);
quantity!(
    /// After which messages are forgotten.
    Expiry,
    ["d", "w", "m", "y"],
    ["never"],
    "expected never, or days, weeks, months or years like 30d"
);

fn is_quantity(text: &str, units: &[&str]) -> bool {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    (1..=5).contains(&digits) && !number.starts_with('0') && units.contains(&unit)
}

impl Overrides {
    /// As Prosody's configuration has them.
    pub(super) fn options(&self) -> Vec<(&'static str, Value)> {
        fn some<T: Clone + Into<Value>>(value: &Option<T>) -> Option<Value> {
            value.clone().map(Into::into)
        }
        let text = |it: &Option<Expiry>| it.as_ref().map(|Expiry(text)| text.as_str().into());
        let list = |it: &Option<Domains>| it.clone().map(|it| Value::texts(Vec::from(it)));
        let options = [
            ("archive_expires_after", text(&self.archive_expires_after)),
            ("c2s_require_encryption", some(&self.c2s_require_encryption)),
            ("c2s_stanza_size_limit", some(&self.c2s_stanza_size_limit)),
            ("consider_websocket_secure", some(&self.consider_websocket_secure)),
            ("default_archive_policy", some(&self.default_archive_policy)),
            ("http_file_share_daily_quota", some(&self.http_file_share_daily_quota)),
            ("http_file_share_size_limit", some(&self.http_file_share_size_limit)),
            ("limits", self.limits.as_ref().map(Limits::value)),
            ("max_archive_query_results", some(&self.max_archive_query_results)),
            ("muc_log_all_rooms", some(&self.muc_log_all_rooms)),
            ("muc_log_by_default", some(&self.muc_log_by_default)),
            ("muc_log_expires_after", text(&self.muc_log_expires_after)),
            ("push_notification_with_body", some(&self.push_notification_with_body)),
            ("push_notification_with_sender", some(&self.push_notification_with_sender)),
            ("s2s_insecure_domains", list(&self.s2s_insecure_domains)),
            ("s2s_require_encryption", some(&self.s2s_require_encryption)),
            ("s2s_secure_auth", some(&self.s2s_secure_auth)),
            ("s2s_secure_domains", list(&self.s2s_secure_domains)),
            ("s2s_stanza_size_limit", some(&self.s2s_stanza_size_limit)),
            ("tls_profile", self.tls_profile.map(|profile| profile.word().into())),
            ("upgrade_legacy_vcards", some(&self.upgrade_legacy_vcards)),
        ];
        options.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }
}

impl Limits {
    fn value(&self) -> Value {
        let limits = [("c2s", &self.c2s), ("s2sin", &self.s2sin), ("s2sout", &self.s2sout)];
        let limits = limits.into_iter().filter_map(|(name, it)| Some((name, it.as_ref()?.value())));
        Value::Table(limits.collect())
    }
}

impl Limit {
    fn value(&self) -> Value {
        let burst = self.burst.as_ref().map(|Burst(burst)| ("burst", burst.as_str().into()));
        Value::Table([("rate", self.rate.0.as_str().into())].into_iter().chain(burst).collect())
    }
}

/// Lua, as somebody wrote it: what it does isn't looked at. Not longer than what fits into a packet
/// to `stele-init` together with all else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RawLua(String);

/// The most bytes of it.
const LONGEST_LUA: usize = 8 * 1024;

/// Why some text isn't [`RawLua`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadLua {
    /// It has more bytes than may be.
    #[error("it has more than {LONGEST_LUA} bytes")]
    TooLong,
    /// No text has them.
    #[error("it has control characters")]
    Control,
}

impl TryFrom<String> for RawLua {
    type Error = BadLua;

    fn try_from(text: String) -> Result<RawLua, BadLua> {
        let is_odd = |c: char| c.is_control() && !['\n', '\r', '\t'].contains(&c);
        match text {
            text if text.len() > LONGEST_LUA => Err(BadLua::TooLong),
            text if text.contains(is_odd) => Err(BadLua::Control),
            text => Ok(RawLua(text)),
        }
    }
}

impl From<RawLua> for String {
    fn from(RawLua(text): RawLua) -> String {
        text
    }
}

impl AsRef<str> for RawLua {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: &str = r#"{
        "archive_expires_after":"1y","c2s_require_encryption":false,"c2s_stanza_size_limit":262144,
        "consider_websocket_secure":true,"default_archive_policy":false,
        "http_file_share_daily_quota":1048576,"http_file_share_size_limit":1024,
        "limits":{"c2s":{"rate":"50kb/s","burst":"2s"},"s2sout":{"rate":"1mb/s"}},
        "max_archive_query_results":50,"muc_log_all_rooms":false,"muc_log_by_default":false,
        "muc_log_expires_after":"never","push_notification_with_body":false,
        "push_notification_with_sender":false,"s2s_insecure_domains":["a.example"],
        "s2s_require_encryption":false,"s2s_secure_auth":true,"s2s_secure_domains":[],
        "s2s_stanza_size_limit":524288,"tls_profile":"old","upgrade_legacy_vcards":true
    }"#;

    #[test]
    fn every_option_is_read_and_rendered() {
        let all: Overrides = serde_json::from_str(ALL).unwrap();
        let back: serde_json::Value = serde_json::to_value(&all).unwrap();
        assert_eq!(back, serde_json::from_str::<serde_json::Value>(ALL).unwrap());
        let names: Vec<&str> = all.options().iter().map(|(name, _)| *name).collect();
        let known: Vec<&String> = back.as_object().unwrap().keys().collect();
        assert_eq!(names, known);
        let limits = all.options().into_iter().find(|(name, _)| *name == "limits").unwrap().1;
        let expected =
            r#"{ c2s = { rate = "50kb/s", burst = "2s" }, s2sout = { rate = "1mb/s" } }"#;
        assert_eq!(limits.to_string(), expected);
        assert_eq!(Overrides::default().options(), []);
    }

    #[test]
    fn what_could_do_more_than_a_value_is_refused() {
        for json in [
            r#"{"modules_enabled":["admin_shell"]}"#,
            r#"{"plugin_paths":["/tmp"]}"#,
            r#"{"c2s_ports":[1]}"#,
            r#"{"storage":"none"}"#,
            r#"{"authentication":"anonymous"}"#,
            r#"{"c2s_require_encryption":"false"}"#,
            r#"{"c2s_stanza_size_limit":1}"#,
            r#"{"c2s_stanza_size_limit":-1}"#,
            r#"{"max_archive_query_results":10001}"#,
            r#"{"http_file_share_size_limit":2147483648}"#,
            r#"{"archive_expires_after":"P1Y"}"#,
            r#"{"archive_expires_after":"0d"}"#,
            r#"{"archive_expires_after":"1d\" .. os.exit() .. \""}"#,
            r#"{"limits":{"c2s":{"rate":"fast"}}}"#,
            r#"{"limits":{"c2s":{"burst":"2s"}}}"#,
            r#"{"limits":{"http":{"rate":"1kb/s"}}}"#,
            r#"{"s2s_secure_domains":["not a domain"]}"#,
            "1",
        ] {
            assert!(serde_json::from_str::<Overrides>(json).is_err(), "{json}");
        }
    }

    #[test]
    fn lua_is_bounded_text() {
        for (text, expected) in [
            ("", Ok(())),
            ("-- ü\r\n\tx = 1\n", Ok(())),
            ("x\0", Err(BadLua::Control)),
            ("\u{1b}[1m", Err(BadLua::Control)),
            (&"x".repeat(LONGEST_LUA), Ok(())),
            (&"x".repeat(LONGEST_LUA + 1), Err(BadLua::TooLong)),
        ] {
            assert_eq!(RawLua::try_from(text.to_owned()).map(drop), expected, "{text:.40}");
        }
    }
}
