//! What admins chose for the Server. A choice wins over the file and the environment, even one that
//! says the same, until it is taken back.
//!
//! ```text
//! Prose.toml, environment ── Defaults ┐
//! SQLite ── choices, a value a key ───┴ over ──► Defaults ── settings ──► stele-init
//! ```

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use utoipa::openapi::schema::{ArrayBuilder, ObjectBuilder, Schema, Type};

use crate::config::Defaults;
use crate::log;

/// The most bytes of a value: all settings together must fit into what `stele-init` reads at once.
const LONGEST: usize = 32 * 1024;

/// A setting that can be chosen, by its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Setting(&'static str);

/// Settings that are taken back together.
#[derive(Debug)]
pub struct Group {
    /// As paths have it.
    pub name: &'static str,
    /// Its own: no setting is in two groups.
    pub settings: &'static [Setting],
}

/// All groups, and in them all settings but those that are Prosody's affair.
pub static GROUPS: [Group; 5] = [
    Group {
        name: "messaging",
        settings: &[Setting("message_archive_enabled"), Setting("message_archive_retention")],
    },
    Group {
        name: "files",
        settings: &[Setting("file_upload_allowed"), Setting("file_storage_retention")],
    },
    Group {
        name: "push-notifications",
        settings: &[
            Setting("push_notification_with_body"),
            Setting("push_notification_with_sender"),
        ],
    },
    Group { name: "network-encryption", settings: &[Setting("tls_profile")] },
    Group {
        name: "server-federation",
        settings: &[
            Setting("federation_enabled"),
            Setting("federation_whitelist_enabled"),
            Setting("federation_friendly_servers"),
        ],
    },
];

/// Options by Prosody's own names.
pub const OVERRIDES: Setting = Setting("prosody_overrides");
/// Lua.
pub const LUA: Setting = Setting("prosody_overrides_raw");

/// What an admin wants.
#[derive(Debug, Clone)]
pub enum Change {
    /// This value.
    Choose(Setting, Value),
    /// What the operator wrote.
    TakeBack(&'static [Setting]),
}

/// Why a value is none of a setting's.
#[derive(Debug, thiserror::Error)]
pub enum BadValue {
    /// Of the wrong type, or not among those that are allowed.
    #[error("{0}")]
    Wrong(#[from] serde_json::Error),
    /// Neither of those that can be absent is.
    #[error("it must be an object, or of Lua a text")]
    Kind,
    /// It has more than [`LONGEST`] bytes.
    #[error("it has more than {LONGEST} bytes")]
    TooLong,
}

/// What admins chose, over what the operator wrote. All of it is right.
#[derive(Debug, Clone, Default)]
pub struct Choices {
    defaults: Defaults,
    values: BTreeMap<Setting, Value>,
    effective: Defaults,
}

impl Setting {
    /// As objects and the database have it.
    pub fn key(self) -> &'static str {
        self.0
    }

    /// As paths have it.
    pub fn segment(self) -> String {
        self.0.replace('_', "-")
    }

    /// What its values are.
    pub fn schema(self) -> Schema {
        let of = |kind| ObjectBuilder::new().schema_type(kind);
        match self.0 {
            "message_archive_retention" | "file_storage_retention" => of(Type::String)
                .description(Some("`infinite`, or one of P1Y, P6M, P2W, P30D and the like."))
                .into(),
            "tls_profile" => {
                let words = ["modern", "intermediate", "old"];
                of(Type::String).enum_values(Some(words)).into()
            }
            "federation_friendly_servers" => {
                let domain = of(Type::String).description(Some("A domain."));
                ArrayBuilder::new().items(domain).unique_items(true).into()
            }
            _ => of(Type::Boolean).into(),
        }
    }

    fn all() -> impl Iterator<Item = Setting> {
        GROUPS.iter().flat_map(|group| group.settings).copied().chain([OVERRIDES, LUA])
    }
}

impl Change {
    /// The settings that it is about.
    pub fn settings(&self) -> Vec<Setting> {
        match self {
            Change::Choose(setting, _) => vec![*setting],
            Change::TakeBack(settings) => settings.to_vec(),
        }
    }
}

impl Choices {
    /// With those that were kept, a key and JSON each. What is of no use is none: it was written by
    /// another version.
    pub fn new(defaults: Defaults, kept: Vec<(String, String)>) -> Choices {
        let none = Choices { effective: defaults.clone(), defaults, values: BTreeMap::new() };
        kept.into_iter().fold(none, |choices, (key, json)| {
            let setting = Setting::all().find(|setting| setting.key() == key);
            let change = setting.zip(serde_json::from_str(&json).ok());
            let change = change.map(|(setting, value)| Change::Choose(setting, value));
            change.and_then(|change| choices.after(change).ok()).unwrap_or_else(|| {
                log::warn(format_args!("cannot use what was chosen for {key}: {json:.100}"));
                choices
            })
        })
    }

    /// The same over something else that the operator wrote.
    pub fn over(&self, defaults: Defaults) -> Choices {
        let kept = self.values.iter().map(|(it, value)| (it.key().to_owned(), value.to_string()));
        Choices::new(defaults, kept.collect())
    }

    /// What holds now.
    pub fn effective(&self) -> &Defaults {
        &self.effective
    }

    /// What holds now of one.
    pub fn value(&self, setting: Setting) -> Value {
        object(&self.effective).remove(setting.key()).unwrap_or_default()
    }

    /// What was chosen of one, in its normal form.
    pub fn chosen(&self, setting: Setting) -> Option<&Value> {
        self.values.get(&setting)
    }

    /// These, after a change.
    pub fn after(&self, change: Change) -> Result<Choices, BadValue> {
        let Choices { defaults, mut values, .. } = self.clone();
        match change {
            Change::Choose(setting, value) => {
                if value.to_string().len() > LONGEST {
                    return Err(BadValue::TooLong);
                }
                // These may be absent, but not chosen to be; and serde takes a list for a table.
                if (setting == OVERRIDES && !value.is_object())
                    || (setting == LUA && value.is_null())
                {
                    return Err(BadValue::Kind);
                }
                values.insert(setting, value);
            }
            Change::TakeBack(settings) => values.retain(|it, _| !settings.contains(it)),
        }
        let mut all = object(&defaults);
        all.extend(values.iter().map(|(it, value)| (it.key().to_owned(), value.clone())));
        let effective: Defaults = serde_json::from_value(all.into())?;
        let mut normal = object(&effective);
        for (setting, value) in &mut values {
            *value = normal.remove(setting.key()).unwrap_or_default();
        }
        Ok(Choices { defaults, values, effective })
    }
}

/// Each key with its value.
fn object(of: &Defaults) -> Map<String, Value> {
    match serde_json::to_value(of) {
        Ok(Value::Object(object)) => object,
        _ => Map::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn setting(key: &str) -> Setting {
        Setting::all().find(|setting| setting.key() == key).unwrap()
    }

    #[test]
    fn each_setting_is_one_of_the_configuration() {
        let all: Vec<Setting> = Setting::all().collect();
        assert_eq!(all.len(), 12);
        let overrides = serde_json::from_str("{}").ok();
        let lua = String::new().try_into().ok();
        let configuration = object(&Defaults {
            prosody_overrides: overrides,
            prosody_overrides_raw: lua,
            ..Defaults::default()
        });
        for setting in &all {
            assert!(configuration.contains_key(setting.key()), "{setting:?}");
            assert_eq!(all.iter().filter(|it| *it == setting).count(), 1);
        }
    }

    #[test]
    fn a_value_is_right_and_normal_or_refused() {
        for (key, value, expected) in [
            ("message_archive_enabled", json!(false), Some(json!(false))),
            ("message_archive_enabled", json!("false"), None),
            ("message_archive_enabled", json!(null), None),
            ("message_archive_enabled", json!(0), None),
            ("message_archive_retention", json!("P2W"), Some(json!("P14D"))),
            ("message_archive_retention", json!("infinite"), Some(json!("infinite"))),
            ("message_archive_retention", json!("P1Y6M"), None),
            ("message_archive_retention", json!("PT1H"), None),
            ("file_storage_retention", json!("P0D"), None),
            ("tls_profile", json!("old"), Some(json!("old"))),
            ("tls_profile", json!("ancient"), None),
            (
                "federation_friendly_servers",
                json!(["B.org", "a.org"]),
                Some(json!(["b.org", "a.org"])),
            ),
            ("federation_friendly_servers", json!(["a.org", "a.org"]), None),
            ("federation_friendly_servers", json!(["not a domain"]), None),
            ("federation_friendly_servers", json!("a.org"), None),
            ("federation_friendly_servers", json!(vec!["a.example"; 4000]), None),
            (
                "prosody_overrides",
                json!({ "s2s_secure_auth": true, "tls_profile": null }),
                Some(json!({ "s2s_secure_auth": true })),
            ),
            ("prosody_overrides", json!({ "storage": "none" }), None),
            ("prosody_overrides", json!(null), None),
            ("prosody_overrides", json!([]), None),
            ("prosody_overrides_raw", json!("x = 1"), Some(json!("x = 1"))),
            ("prosody_overrides_raw", json!("\u{0}"), None),
            ("prosody_overrides_raw", json!(1), None),
        ] {
            let choices = Choices::default().after(Change::Choose(setting(key), value.clone()));
            let read = choices.ok().map(|choices| {
                assert_eq!(choices.chosen(setting(key)), Some(&choices.value(setting(key))));
                choices.value(setting(key))
            });
            assert_eq!(read, expected, "{key} {value}");
        }
    }

    #[test]
    fn a_choice_holds_until_it_is_taken_back() {
        let [archive, federation] =
            [setting("message_archive_enabled"), setting("federation_enabled")];
        let kept = [("federation_enabled", "true"), ("gone", "1"), ("tls_profile", "\"odd\"")];
        let kept = kept.map(|(key, json)| (key.to_owned(), json.to_owned())).to_vec();
        let operators = Defaults { message_archive_enabled: false, ..Defaults::default() };
        let choices = Choices::new(operators.clone(), kept);
        assert_eq!(choices.value(federation), json!(true));
        assert_eq!(choices.value(archive), json!(false));
        assert_eq!(choices.value(setting("tls_profile")), json!("modern"));
        let choices = choices.after(Change::Choose(archive, json!(true))).unwrap();
        assert_eq!(choices.value(archive), json!(true));
        for group in &GROUPS {
            let back = choices.after(Change::TakeBack(group.settings)).unwrap();
            let is_back = group.settings.iter().all(|it| back.chosen(*it).is_none());
            assert!(is_back, "{}", group.name);
        }
        let all: Vec<Setting> = Setting::all().collect();
        let back = choices.after(Change::TakeBack(all.leak())).unwrap();
        assert_eq!(back.effective(), &operators);
    }
}
