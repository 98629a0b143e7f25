//! The document, and what becomes of it. Whether Prosody understands it is asked of Prosody itself:
//! `vm-tests/tests/settings.rs`.

use std::fs;
use std::path::Path;

use super::*;

const FULL: &str = r#"{
    "domain": "Example.org",
    "message_archive_enabled": false, "message_archive_retention": "P1Y",
    "file_upload_allowed": false, "file_storage_retention": "P2W",
    "push_notification_with_body": false, "push_notification_with_sender": false,
    "tls_profile": "old",
    "federation_enabled": true, "federation_whitelist_enabled": true,
    "federation_friendly_servers": ["b.example", "a.example"],
    "c2s_unencrypted": true, "log_level": "trace",
    "public_contacts": {"abuse": ["mailto:abuse@example.org"]},
    "prosody_overrides": {"s2s_secure_auth": true}, "prosody_overrides_raw": "x = 1"
}"#;

fn place() -> Place {
    Place::appliance(Prosody::V13_0, Certificate::self_signed())
}

fn parse(json: &str) -> Settings {
    Settings::parse(json.as_bytes()).unwrap()
}

#[test]
fn a_document_is_read_and_written() {
    let full = parse(FULL);
    assert_eq!(full.domain.as_ref(), "example.org");
    assert_eq!(full.message_archive_retention.to_string(), "P1Y");
    assert_eq!(full.file_storage_retention.to_string(), "P14D");
    let json = serde_json::to_string(&full).unwrap();
    assert_eq!(parse(&json), full);
    let least = parse(r#"{"domain":"example.org"}"#);
    assert_eq!(least, Settings::new("example.org".parse().unwrap()));
    UNSETTLED_DOMAIN.parse::<Domain>().unwrap();
}

#[test]
fn what_is_not_a_document_is_refused() {
    for (json, why) in [
        ("", "EOF"),
        ("[]", "invalid length 0"),
        ("{}", "missing field `domain`"),
        (r#"{"domain":"a b"}"#, "its labels must be"),
        (r#"{"domain":"admin.prose.local"}"#, "the Pod itself uses it"),
        (r#"{"domain":"a.org","domain":"b.org"}"#, "duplicate field"),
        (r#"{"domain":"a.org","prosody_raw":"os.exit()"}"#, "unknown field `prosody_raw`"),
        (r#"{"domain":"a.org","tls_profile":"legacy"}"#, "unknown variant `legacy`"),
        (r#"{"domain":"a.org","log_level":"info\"}"}"#, "unknown variant"),
        (r#"{"domain":"a.org","federation_enabled":1}"#, "expected a boolean"),
        (r#"{"domain":"a.org","message_archive_retention":"P1Y6M"}"#, "is not `infinite`"),
        (r#"{"domain":"a.org","federation_friendly_servers":["a.b","A.b"]}"#, "twice"),
        (r#"{"domain":"a.org","prosody_overrides":{"storage":"none"}}"#, "unknown field `storage`"),
        (r#"{"domain":"a.org","prosody_overrides_raw":"\u0000"}"#, "control characters"),
        (r#"{"domain":"a.org","public_contacts":{"x":[]}}"#, "unknown variant `x`"),
        (r#"{"domain":"a.org","public_contacts":{"abuse":["a"]}}"#, "is not an address"),
    ] {
        let error = Settings::parse(json.as_bytes()).unwrap_err().to_string();
        assert!(error.starts_with("cannot understand the settings: "), "{error}");
        assert!(error.contains(why), "{json}: {error}");
    }
    assert!(Settings::parse(b"{\"domain\":\"a.org\xff\"}").is_err(), "not UTF-8");
}

#[test]
fn each_setting_has_its_effect() {
    let all = |json: &str| render(&parse(json), &place());
    let plain = all(r#"{"domain":"a.org"}"#);
    let old = render(
        &parse(r#"{"domain":"a.org"}"#),
        &Place::appliance(Prosody::V0_12, Certificate::Discovered),
    );
    let set = |more: &str| all(&format!(r#"{{"domain":"a.org",{more}}}"#));
    for (text, has, has_not) in [
        (&plain, "VirtualHost \"a.org\"", "s2s_bidi"),
        (&plain, "\"team\"", "friend"),
        (&plain, "modules_disabled = { \"s2s\", \"s2s_auth_certs\" }", "contact_info"),
        (&plain, "archive_expires_after = \"never\"", "dialback"),
        (&plain, "http_file_share_expires_after = -1", "mod_stele"),
        (&plain, "tls_profile = \"modern\"", "debug"),
        (&plain, "self-signed.key", "allow_unencrypted_plain_auth = true"),
        (&plain, "\"cloud_notify\"", "Written by hand"),
        (&old, "VirtualHost \"a.org\"", "cloud_notify"),
        (&old, "VirtualHost \"a.org\"", "self-signed.key"),
        (&set(r#""message_archive_enabled":false"#), "\"muc\"", "mam"),
        (&set(r#""message_archive_retention":"P6M""#), "= \"180d\"", "archive_expires_after = \"n"),
        (&set(r#""file_upload_allowed":false"#), "VirtualHost", "file_share"),
        (&set(r#""file_storage_retention":"P1D""#), "expires_after = 86400", "after = -1"),
        (&set(r#""push_notification_with_body":false"#), "with_body = false", "with_body = true"),
        (&set(r#""push_notification_with_sender":false"#), "sender = false", "sender = true"),
        (&set(r#""tls_profile":"intermediate""#), "\"intermediate\"", "\"modern\""),
        (&set(r#""federation_enabled":true"#), "\"s2s_bidi\"", "{ \"s2s\", \"s2s_auth_certs\" }"),
        (&set(r#""federation_enabled":true"#), "\"muc_mam\", \"dialback\"", "friend"),
        (&set(r#""federation_whitelist_enabled":true"#), "\"s2s\", \"s2s_auth_certs\" }", "friend"),
        (
            &set(r#""federation_enabled":true,"federation_whitelist_enabled":true,
                   "federation_friendly_servers":["b.org","A.org"]"#),
            "friendly_servers = { \"b.org\", \"a.org\" }",
            "modules_disabled = { \"s2s\", \"s2s_auth_certs\" }",
        ),
        (&set(r#""c2s_unencrypted":true"#), "c2s_require_encryption = false", "= \"x\""),
        (&set(r#""log_level":"error""#), "log = { error = \"*console\" }", "info ="),
        (
            &set(r#""public_contacts":{"default":["tel:1"],"abuse":["tel:2"]}"#),
            "contact_info = { abuse = { \"tel:2\" }, admin = { \"tel:1\" }, ",
            "{ default",
        ),
    ] {
        assert!(text.contains(has), "{has}: {text}");
        assert!(!text.contains(has_not), "{has_not}: {text}");
    }
}

#[test]
fn overrides_win_wherever_an_option_is_written() {
    let json = r#"{"domain":"a.org","prosody_overrides":{"c2s_require_encryption":false,
        "max_archive_query_results":7,"s2s_secure_auth":true,"upgrade_legacy_vcards":true}}"#;
    let text = render(&parse(json), &place());
    let lines = |start: &str| -> Vec<&str> {
        text.lines().filter(|line| line.starts_with(start)).collect()
    };
    assert_eq!(lines("c2s_require_encryption"), ["c2s_require_encryption = false"; 2]);
    assert_eq!(lines("max_archive_query"), ["max_archive_query_results = 7"; 3]);
    assert_eq!(lines("s2s_secure_auth"), ["s2s_secure_auth = true"]);
    // What nothing else says is said for everything, before the first host.
    let (global, hosts) = text.split_once("VirtualHost").unwrap();
    assert!(global.contains("upgrade_legacy_vcards = true") && !hosts.contains("upgrade_legacy"));
}

#[test]
fn lua_is_at_the_end_of_each_section_of_members() {
    let settings = parse(r#"{"domain":"a.org","prosody_overrides_raw":"x = 1\ny = 2"}"#);
    let text = render(&settings, &place());
    let sections: Vec<&str> = text.split("\n\n").collect();
    let with: Vec<&&str> = sections.iter().filter(|it| it.contains("x = 1\ny = 2")).collect();
    assert_eq!(with.len(), 3);
    for (section, host) in with.iter().zip(["\"a.org\"", "\"groups.a.org\"", "\"upload.a.org\""]) {
        assert!(section.contains(host) && section.trim_end().ends_with("y = 2"), "{section}");
    }
}

#[test]
fn a_digest_is_of_what_is_said() {
    let digest = |json: &str| parse(json).digest();
    let plain = digest(r#"{"domain":"a.org"}"#);
    assert_eq!(plain, digest(r#"{"tls_profile":"modern","domain":"A.org"}"#));
    assert_ne!(plain, digest(r#"{"domain":"a.org","tls_profile":"old"}"#));
    assert_ne!(plain, digest(r#"{"domain":"a.org","prosody_overrides_raw":""}"#));
}

#[test]
fn a_hostile_string_stays_on_its_line() {
    let uri = r#"mailto:"]]--\\\" os.execute('x') \u2028"#.replace(' ', "");
    let json = format!(r#"{{"domain":"a.org","public_contacts":{{"abuse":[{uri:?}]}}}}"#);
    let settings = Settings::parse(json.replace("\\\\u2028", "\\u00a7").as_bytes()).unwrap();
    let text = render(&settings, &place());
    let lines: Vec<&str> = text.lines().filter(|line| line.contains("mailto")).collect();
    assert_eq!(lines.len(), 1);
    assert!(text.bytes().all(|c| c == b'\n' || (b' '..=b'~').contains(&c)));
}

#[test]
fn the_layer_ships_what_is_written_here() {
    let shipped = include_str!("../../../layers/prosody-pod/prosody.bootstrap.cfg.lua");
    assert_eq!(shipped, bootstrap(&place()), "the image's file is another than the code's");
    for text in [shipped, &render(&parse(FULL), &place())] {
        assert!(text.starts_with(MARKER));
    }
}

#[test]
fn the_layer_ships_every_module() {
    let layer = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../layers/prosody-pod");
    let shipped = fs::read_to_string(layer.join("layer.toml")).unwrap();
    let files = |folder: &Path| {
        let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        entries.filter(|path| path.extension().is_some_and(|it| it == "lua")).collect::<Vec<_>>()
    };
    for path in [files(&layer), files(&layer.join("mod_stele"))].concat() {
        let name = path.strip_prefix(&layer).unwrap().display().to_string();
        assert!(shipped.contains(&format!("{{ from = {name:?} }}")), "{name}");
    }
}
