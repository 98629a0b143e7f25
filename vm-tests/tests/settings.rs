//! Rendered configurations, understood by real Prosodys of both versions.

use std::fmt::Write;
use std::fs;

use appliance::settings::{Settings, lua, render};
use serde_json::json;
use vm_tests::scratch;
use vm_tests::server::{Client, Server, Tree, VERSIONS};

const DOMAIN: &str = "example.org";

/// Lua that takes a module away from hosts that have it.
const NO_PING: &str = "modules_disabled = { \"ping\", \"muc_mam\" }";

/// One of each kind of value.
fn overrides() -> serde_json::Value {
    json!({
        "archive_expires_after": "30d", "c2s_stanza_size_limit": 262_144,
        "default_archive_policy": false, "http_file_share_size_limit": 1024,
        "limits": {"c2s": {"rate": "50kb/s", "burst": "2s"}, "s2sout": {"rate": "1mb/s"}},
        "max_archive_query_results": 50, "muc_log_expires_after": "never",
        "s2s_secure_domains": ["a.example"], "tls_profile": "intermediate",
        "upgrade_legacy_vcards": true,
    })
}

fn settings(more: serde_json::Value) -> Settings {
    let mut document = json!({"domain": DOMAIN, "c2s_unencrypted": true});
    document.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    Settings::parse(document.to_string().as_bytes()).unwrap()
}

/// Names of modules at a host; none, if there is no such host.
fn modules(server: &Server, host: &str) -> Vec<String> {
    let answer = server.call("modules", "{}");
    let names = answer.body["modules"][host].as_array().cloned().unwrap_or_default();
    names.iter().map(|name| name.as_str().unwrap().to_owned()).collect()
}

#[test]
fn each_setting_is_taken_over_without_a_restart() {
    for version in VERSIONS {
        let server = Server::start(version);
        let (rooms, uploads) = ("groups.example.org", "upload.example.org");
        for (more, host, has, has_not) in [
            (json!({}), DOMAIN, "mam", "s2s"),
            (json!({"message_archive_enabled": false}), DOMAIN, "roster", "mam"),
            (json!({"message_archive_enabled": false}), rooms, "muc", "muc_mam"),
            (json!({"message_archive_retention": "P6M"}), DOMAIN, "mam", "s2s"),
            (json!({}), rooms, "muc_mam", "s2s"),
            (json!({"file_upload_allowed": false}), DOMAIN, "disco", "http_file_share"),
            (json!({"file_storage_retention": "P1Y"}), uploads, "http_file_share", "s2s"),
            (json!({"file_storage_retention": "P100Y"}), uploads, "http_file_share", "s2s"),
            (json!({"federation_enabled": true}), DOMAIN, "s2s", "stele"),
            (json!({"federation_enabled": true}), DOMAIN, "s2s_bidi", "stele"),
            (json!({"federation_enabled": true}), rooms, "dialback", "friends"),
            (
                json!({"federation_enabled": true, "federation_whitelist_enabled": true}),
                DOMAIN,
                "friends",
                "stele",
            ),
            (
                json!({"federation_enabled": true, "federation_whitelist_enabled": true}),
                rooms,
                "friends",
                "stele",
            ),
            (json!({"federation_whitelist_enabled": true}), DOMAIN, "team", "s2s"),
            (json!({"tls_profile": "old", "log_level": "trace"}), DOMAIN, "tls", "s2s"),
            (json!({"tls_profile": "intermediate"}), DOMAIN, "tls", "s2s"),
            (json!({"push_notification_with_body": false}), DOMAIN, "tls", "s2s"),
            (json!({"push_notification_with_sender": false}), DOMAIN, "tls", "s2s"),
            (json!({"c2s_unencrypted": false}), DOMAIN, "tls", "s2s"),
            (
                json!({"public_contacts": {"default": ["mailto:a@example.org"]}}),
                DOMAIN,
                "server_contact_info",
                "s2s",
            ),
        ] {
            let answer = server.apply(&settings(more.clone()));
            assert_eq!(answer.body, json!({"restart": false}), "{more}\n{}", server.log());
            let names = modules(&server, host);
            let is = |name: &str| names.iter().any(|other| other == name);
            assert!(is(has) && !is(has_not), "{version:?} {more}: {names:?}");
            let (is_content, said) = server.check_configuration();
            assert!(is_content, "{more}: {said}");
        }
        assert!(!server.log().to_lowercase().contains("traceback"), "{}", server.log());
    }
}

/// Prosody's own options: some of them want a restart, after which it serves as before.
#[test]
fn overrides_and_lua_are_understood() {
    for version in VERSIONS {
        let mut server = Server::start(version);
        for (more, host, module, has_it) in [
            (json!({"prosody_overrides": overrides()}), "groups.example.org", "muc_mam", true),
            (json!({}), DOMAIN, "ping", true),
            (json!({"prosody_overrides_raw": NO_PING}), DOMAIN, "ping", false),
            (json!({"prosody_overrides_raw": NO_PING}), "groups.example.org", "muc_mam", false),
        ] {
            let answer = server.apply(&settings(more.clone()));
            assert_eq!(answer.status, 200, "{more}\n{}", server.log());
            if answer.body["restart"] == true {
                server.restart("another-secret-of-a-fresh-start-0123");
            }
            let names = modules(&server, host);
            let is_there = names.iter().any(|name| name == module);
            assert_eq!(is_there, has_it, "{version:?} {more}: {names:?}");
            let (is_content, said) = server.check_configuration();
            assert!(is_content, "{more}: {said}");
        }
        assert!(!server.log().to_lowercase().contains("traceback"), "{}", server.log());
    }
}

#[test]
fn who_is_connected_stays_so_and_another_domain_takes_its_place() {
    for version in VERSIONS {
        let server = Server::start(version);
        server.apply(&settings(json!({})));
        let alice = json!({"host": DOMAIN, "localpart": "alice", "password": "xyz", "role": "prosody:member"});
        assert_eq!(server.call("create_account", alice.to_string()).status, 200);
        let mut client = Client::login(server.c2s(), DOMAIN, "alice", "xyz", "r").unwrap();
        let ping = "<iq type='get' id='p1' to='example.org'><ping xmlns='urn:xmpp:ping'/></iq>";
        for more in [json!({"federation_enabled": true}), json!({"message_archive_enabled": false})]
        {
            assert_eq!(server.apply(&settings(more)).body, json!({"restart": false}));
            client.send(ping).unwrap();
            client.wait_for("type='result'").unwrap();
        }
        let other = Server::plain_settings("other.example");
        assert_eq!(server.apply(&other).body, json!({"restart": false}));
        client.wait_for("host-gone").unwrap();
        let accounts = |host: &str| server.call("accounts", json!({"host": host}).to_string());
        assert_eq!(accounts(DOMAIN).error(), "no_such_host");
        assert_eq!(accounts("other.example").body["accounts"], json!([]));
        // Its accounts are kept, for when it comes back.
        server.apply(&settings(json!({})));
        assert_eq!(accounts(DOMAIN).body["accounts"][0]["localpart"], "alice");
    }
}

#[test]
fn what_prosody_refuses_leaves_the_last_one_in_force() {
    for version in VERSIONS {
        let server = Server::start(version);
        let good = settings(json!({}));
        server.apply(&good);
        let before = modules(&server, DOMAIN);
        for bad in ["os.exit(", "error('no')", "VirtualHost"] {
            server.configure(bad);
            let answer = server.call("reload", "{}");
            assert_eq!((answer.status, answer.error()), (409, "bad_configuration"), "{bad}");
            assert_eq!(modules(&server, DOMAIN), before);
        }
        // One option that no module can take over while it runs.
        let text = render(&good, &server.place);
        server.configure(&format!("network_backend = \"select\"\n{text}"));
        assert_eq!(server.call("reload", "{}").body, json!({"restart": true}));
    }
}

#[test]
fn a_hostile_contact_is_published_as_it_is_and_nothing_else() {
    let hostile = [
        r#"mailto:"]]--\"#,
        r#"mailto:";os.exit()--"#,
        r"mailto:\34;os.exit()",
        "mailto:]]..os.exit()..[[",
        "mailto:\\",
        "mailto:ä\u{1f600}",
        "mailto:${HOME}%s%n`id`",
    ];
    for version in VERSIONS {
        let server = Server::start(version);
        let contacts = json!({"public_contacts": {"default": hostile, "abuse": ["tel:1"]}});
        assert_eq!(server.apply(&settings(contacts)).body, json!({"restart": false}));
        let (is_content, said) = server.check_configuration();
        assert!(is_content, "{said}");
        let alice = json!({"host": DOMAIN, "localpart": "alice", "password": "xyz", "role": "prosody:member"});
        server.call("create_account", alice.to_string());
        let mut client = Client::login(server.c2s(), DOMAIN, "alice", "xyz", "r").unwrap();
        let query = "<query xmlns='http://jabber.org/protocol/disco#info'/>";
        client.send(&format!("<iq type='get' id='d' to='{DOMAIN}'>{query}</iq>")).unwrap();
        let said = client.wait_for("</query>").unwrap();
        for uri in hostile {
            let text = uri.replace('&', "&amp;").replace('"', "&quot;").replace('\'', "&apos;");
            assert!(said.contains(&format!("<value>{text}</value>")), "{uri}: {said}");
        }
        assert!(said.contains("<value>tel:1</value>"));
    }
}

#[test]
fn lua_reads_every_quoted_text_as_it_was() {
    const NASTY: [char; 16] = [
        '"',
        '\\',
        ']',
        '[',
        '\n',
        '\r',
        '\0',
        '0',
        '9',
        '-',
        '\'',
        'x',
        'u',
        'z',
        'ä',
        '\u{10ffff}',
    ];
    let mut random = fastrand::Rng::with_seed(1);
    let mut draw = |below: usize| random.usize(..below);
    let mut program = String::from("local count = 0\nlocal function is(text, hex)\n");
    program.push_str(
        "  local own = text:gsub('.', function(c) return ('%02x'):format(c:byte()) end)\n",
    );
    program.push_str("  assert(own == hex, hex) count = count + 1\nend\n");
    for _ in 0..5000 {
        let text: String = (0..draw(12)).map(|_| NASTY[draw(NASTY.len())]).collect();
        let hex: String = text.bytes().fold(String::new(), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        });
        let _ = writeln!(program, "is({}, '{hex}')", lua::quote(&text));
    }
    program.push_str("print(count)\n");
    let file = scratch::folder("prosody").unwrap().join("quoted.lua");
    fs::write(&file, program).unwrap();
    for version in VERSIONS {
        let output = Tree::find(version).unwrap().lua().arg(&file).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(String::from_utf8_lossy(&output.stdout), "5000\n", "{version:?}: {said}");
    }
}
