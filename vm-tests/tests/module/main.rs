//! The verbs of `mod_stele`, asked of real Prosodys of both versions: docs/prosody-module.md.

mod friends;
mod probe;
mod profiles;
mod team;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use appliance::settings::{Prosody, render};
use serde_json::{Value, json};
use vm_tests::images;
use vm_tests::scratch::judge;
use vm_tests::server::{Answer, Asked, BOOTSTRAP_SECRET, Client, Server, VERSIONS};

const DOMAIN: &str = "example.org";
const NEW_SECRET: &str = "0123456789abcdef0123456789abcdef:\"\\]]";
const API: &str = "prose-pod-api@admin.prose.local";

/// What a request needs to name an account, and `more`.
fn of(localpart: &str, more: Value) -> String {
    let mut body = json!({"host": DOMAIN, "localpart": localpart});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body.to_string()
}

fn create(server: &Server, localpart: &str, role: &str) -> Answer {
    let more = json!({"password": format!("{localpart}'s password"), "role": role});
    server.call("create_account", of(localpart, more))
}

/// Each version with its domain served.
fn each(test: impl Fn(Server)) {
    for version in VERSIONS {
        let server = Server::start(version);
        assert_eq!(server.apply(&Server::plain_settings(DOMAIN)).body, json!({"restart": false}));
        eprintln!("--- {version:?}");
        test(server);
    }
}

#[track_caller]
fn expect(answer: &Answer, status: u16, body: Value) {
    assert_eq!((answer.status, &answer.body), (status, &body));
}

#[test]
fn accounts_are_made_changed_and_deleted() {
    each(|server| {
        let nobody = json!({"error": "no_such_account", "message": "cannot account: there is no such account"});
        expect(&server.call("account", of("alice", json!({}))), 404, nobody);
        expect(&create(&server, "Alice", "prosody:admin"), 200, json!({"localpart": "alice"}));
        assert_eq!(create(&server, "alice", "prosody:member").error(), "exists");
        expect(&create(&server, "bob", "prosody:member"), 200, json!({"localpart": "bob"}));
        expect(
            &create(&server, "service", "prosody:registered"),
            200,
            json!({"localpart": "service"}),
        );
        let listed = server.call("accounts", json!({"host": DOMAIN}).to_string());
        let roles: Vec<(&str, &str)> = listed.body["accounts"]
            .as_array()
            .unwrap()
            .iter()
            .map(|a| (a["localpart"].as_str().unwrap(), a["role"].as_str().unwrap()))
            .collect();
        assert_eq!(
            roles,
            [
                ("alice", "prosody:admin"),
                ("bob", "prosody:member"),
                ("service", "prosody:registered")
            ]
        );
        assert!(listed.body["seq"].is_u64());
        let has_date = listed.body["accounts"][0]["created"].is_u64();
        assert_eq!(has_date, server.version() == Prosody::V13_0);

        let check = |name: &str, password: &str| {
            server.call("check_password", of(name, json!({"password": password}))).body
        };
        assert_eq!(check("ALICE", "Alice's password"), json!({"ok": true}));
        assert_eq!(check("alice", "bob's password"), json!({"ok": false}));
        assert_eq!(check("nobody", "x"), json!({"ok": false}));
        expect(
            &server.call("set_password", of("alice", json!({"password": "pässwörd ]]\"\\"}))),
            200,
            json!({}),
        );
        assert_eq!(check("alice", "Alice's password"), json!({"ok": false}));
        assert_eq!(check("alice", "pässwörd ]]\"\\"), json!({"ok": true}));

        expect(
            &server.call("set_role", of("alice", json!({"role": "prosody:member"}))),
            200,
            json!({}),
        );
        let account = server.call("account", of("alice", json!({}))).body;
        assert_eq!(
            (&account["role"], &account["exists"]),
            (&json!("prosody:member"), &json!(true))
        );
        expect(&server.call("delete_account", of("alice", json!({}))), 200, json!({}));
        for (verb, more) in [
            ("account", json!({})),
            ("delete_account", json!({})),
            ("set_role", json!({"role": "prosody:admin"})),
            ("set_password", json!({"password": "x"})),
        ] {
            let answer = server.call(verb, of("alice", more));
            assert_eq!((answer.status, answer.error()), (404, "no_such_account"), "{verb}");
        }
        assert_eq!(check("alice", "pässwörd ]]\"\\"), json!({"ok": false}));
        // Nothing of the first one is left to the second.
        create(&server, "alice", "prosody:registered");
        assert_eq!(
            server.call("account", of("alice", json!({}))).body["role"],
            "prosody:registered"
        );
    });
}

#[test]
fn accounts_outlive_the_server_and_their_api_does_not() {
    each(|mut server| {
        create(&server, "alice", "prosody:admin");
        let since =
            server.call("accounts", json!({"host": DOMAIN}).to_string()).body["seq"].clone();
        assert_eq!(
            server.call("rotate_secret", json!({"new": NEW_SECRET}).to_string()).status,
            200
        );
        server.restart("another secret");
        assert_eq!(server.call_with(NEW_SECRET, "version", "{}").status, 401);
        let account = server.call("account", of("alice", json!({})));
        assert_eq!(account.body["role"], "prosody:admin");
        let answer = server.call("changes", json!({"since": since}).to_string());
        assert_eq!((answer.status, answer.error()), (410, "gone"));
    });
}

#[test]
fn the_secret_is_changed_and_the_old_one_refused_at_once() {
    for version in VERSIONS {
        let mut server = Server::start(version);
        let started = server.call("version", "{}").body["started"].clone();
        let rotate = |server: &Server, new: &str| {
            server.call("rotate_secret", json!({"new": new}).to_string())
        };
        let bad = ["", "short", &"x".repeat(31), &"x".repeat(513)].map(str::to_owned);
        for bad in &bad {
            assert_eq!(rotate(&server, bad).error(), "malformed");
        }
        let bad = ["a b".repeat(20), "ä".repeat(40), "\0".repeat(40), "\n".repeat(40)];
        for bad in &bad {
            assert_eq!(rotate(&server, bad).error(), "malformed");
        }
        let old = "x".repeat(32);
        expect(&rotate(&server, &old), 200, json!({}));
        assert_eq!(server.call_with(BOOTSTRAP_SECRET, "version", "{}").status, 401);
        server.secret = old.clone();
        let unchanged = rotate(&server, &old);
        assert_eq!((unchanged.status, unchanged.error()), (409, "unchanged"));
        expect(&rotate(&server, NEW_SECRET), 200, json!({}));
        let refused = server.call_with(&old, "version", "{}");
        assert_eq!((refused.status, refused.error()), (401, "unauthorized"));
        let head = refused.head.to_lowercase();
        assert!(head.contains("www-authenticate: basic"), "{head}");
        server.secret = NEW_SECRET.into();
        let now = server.call("version", "{}");
        assert_eq!((now.status, &now.body["started"]), (200, &started), "the same process");
        for secret in [BOOTSTRAP_SECRET, NEW_SECRET, &old] {
            assert!(!server.log().contains(secret), "{}", server.log());
            assert!(!holds(server.folder(), secret), "{secret} is on the disk");
        }
    }
}

/// Is this in a file, other than the credential itself?
fn holds(folder: &std::path::Path, text: &str) -> bool {
    fs::read_dir(folder).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        if path.is_dir() {
            return !path.ends_with("credentials") && holds(&path, text);
        }
        let bytes = fs::read(path).unwrap();
        bytes.windows(text.len()).any(|window| window == text.as_bytes())
    })
}

#[test]
fn nobody_else_is_answered() {
    each(|server| {
        let verb = || Asked::verb("version", "{}");
        for (asked, status) in [
            (verb(), 401),
            (verb().by(API, "wrong"), 401),
            (verb().by(API, ""), 401),
            (verb().by("prose-pod-api", BOOTSTRAP_SECRET), 401),
            (verb().by(&API.to_uppercase(), BOOTSTRAP_SECRET), 401),
            (verb().by("alice@example.org", BOOTSTRAP_SECRET), 401),
            (verb().with("Authorization: Bearer x"), 401),
            (verb().with("Authorization: Basic !!!"), 401),
            (verb().with("Authorization: Basic"), 401),
            (verb().by(API, &"x".repeat(5000)), 401),
            // As if by a proxy: from outside.
            (verb().by(API, BOOTSTRAP_SECRET).with("X-Forwarded-For: 127.0.0.1"), 404),
            (verb().by(API, BOOTSTRAP_SECRET).with("Forwarded: for=127.0.0.1"), 404),
            (verb().by(API, BOOTSTRAP_SECRET).with("Via: 1.1 front"), 404),
            (verb().by(API, BOOTSTRAP_SECRET), 200),
        ] {
            assert_eq!(server.ask(&asked).status, status, "{asked:?}");
        }
        let mut get = verb().by(API, BOOTSTRAP_SECRET);
        get.head = get.head.replace("POST", "GET");
        assert_eq!(server.ask(&get).status, 404);
        // Not by XMPP either: there is no such host for clients.
        let mut client = Client::open(server.c2s(), "admin.prose.local").unwrap();
        let said = client.wait_for("</stream:stream>").unwrap();
        assert!(said.contains("host-unknown"), "{said}");
        let user = ("prose-pod-api", BOOTSTRAP_SECRET);
        Client::login(server.c2s(), DOMAIN, user.0, user.1, "r").unwrap_err();
    });
}

/// A key, and a certificate that it signs itself.
fn self_signed(server: &Server) -> (PathBuf, PathBuf) {
    let (key, certificate) = (server.folder().join("key"), server.folder().join("cert"));
    let mut make = judge("openssl", 60);
    make.args(["req", "-x509", "-noenc", "-subj", "/CN=example.org", "-newkey", "ec"]);
    make.args(["-pkeyopt", "ec_paramgen_curve:prime256v1", "-keyout"]).arg(&key);
    images::run(make.arg("-out").arg(&certificate), "make a certificate").unwrap();
    (key, certificate)
}

#[test]
fn over_tls_there_is_no_module() {
    for version in VERSIONS {
        let server = Server::start(version);
        let (key, certificate) = self_signed(&server);
        let port = Server::free_port();
        let plain = format!("http_ports = {{ {} }}\n", server.place.http_port);
        let text = render(&Server::plain_settings(DOMAIN), &server.place)
            .replace("https_ports = {}", &format!("https_ports = {{ {port} }}"))
            .replace(&plain, &format!("{plain}https_interfaces = {{ \"127.0.0.1\" }}\n"))
            .replace(
                "ssl = { cafile",
                &format!("ssl = {{ key = {key:?}, certificate = {certificate:?}, cafile"),
            );
        server.configure(&text);
        let mut server = server;
        server.restart(BOOTSTRAP_SECRET);
        let asked = Asked::verb("version", "{}").by(API, BOOTSTRAP_SECRET);
        let mut client = judge("openssl", 20);
        client.args(["s_client", "-quiet", "-connect", &format!("127.0.0.1:{port}")]);
        client.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut client = client.spawn().unwrap();
        let bytes = [asked.head.as_bytes(), b"\r\n", &asked.body].concat();
        client.stdin.take().unwrap().write_all(&bytes).unwrap();
        let said = client.wait_with_output().unwrap().stdout;
        let said = String::from_utf8_lossy(&said);
        assert!(said.starts_with("HTTP/1.1 404"), "{said}\n{}", server.log());
        assert_eq!(server.call("version", "{}").status, 200);
    }
}

#[test]
fn wrong_secrets_are_slowed_down_and_the_right_one_never() {
    for version in VERSIONS {
        let server = Server::start(version);
        let wrong: Vec<u16> =
            (0..40).map(|_| server.call_with("wrong", "version", "{}").status).collect();
        assert_eq!(wrong[..19], [401; 19]);
        assert!(wrong.contains(&429), "{wrong:?}");
        assert_eq!(server.call("version", "{}").status, 200);
        let slow = server.call_with("wrong", "version", "{}");
        assert!(slow.status == 401 || slow.head.contains("Retry-After: "), "{}", slow.head);
    }
}

#[test]
fn wrong_passwords_are_slowed_down_for_their_account() {
    each(|server| {
        create(&server, "alice", "prosody:member");
        create(&server, "bob", "prosody:member");
        let check = |name: &str, password: &str| {
            server.call("check_password", of(name, json!({"password": password}))).status
        };
        let wrong: Vec<u16> = (0..15).map(|_| check("alice", "wrong")).collect();
        assert_eq!(wrong[..10], [200; 10]);
        assert!(wrong.contains(&429), "{wrong:?}");
        assert_eq!(check("bob", "bob's password"), 200);
    });
}

#[test]
fn what_is_malformed_is_refused() {
    each(|server| {
        create(&server, "alice", "prosody:member");
        let long = format!("\"{}\"", "a".repeat(17 * 1024));
        let deep = "[".repeat(8000);
        for (verb, body, status, error) in [
            ("version", "", 400, "malformed"),
            ("version", "x", 400, "malformed"),
            ("version", "[]", 400, "malformed"),
            ("version", "null", 400, "malformed"),
            ("version", "\"{}\"", 400, "malformed"),
            ("version", "{} {}", 400, "malformed"),
            ("version", &deep, 400, "malformed"),
            ("version", &long, 413, "too_large"),
            ("version", r#"{"host":"example.org"}"#, 400, "malformed"),
            ("version", r#"{"__hash":["a","b"]}"#, 400, "malformed"),
            ("version", r#"{"__array":["a"]}"#, 400, "malformed"),
            ("version", r#"{"__array":1}"#, 400, "malformed"),
            ("nothing", "{}", 404, "no_such_verb"),
            ("Version", "{}", 404, "no_such_verb"),
            ("version/more", "{}", 404, "no_such_verb"),
            ("", "{}", 404, "no_such_verb"),
            ("accounts", "{}", 400, "malformed"),
            ("accounts", r#"{"host":null}"#, 400, "malformed"),
            ("accounts", r#"{"host":["example.org"]}"#, 400, "malformed"),
            ("accounts", r#"{"host":""}"#, 400, "malformed"),
            ("accounts", r#"{"host":"*"}"#, 404, "no_such_host"),
            ("accounts", r#"{"host":"elsewhere.org"}"#, 404, "no_such_host"),
            ("accounts", r#"{"host":"admin.prose.local"}"#, 404, "no_such_host"),
            ("accounts", r#"{"host":"ADMIN.prose.local"}"#, 404, "no_such_host"),
            ("accounts", r#"{"host":"groups.example.org"}"#, 404, "no_such_host"),
            ("set_role", &of("alice", json!({"role": "prosody:operator"})), 400, "malformed"),
            ("set_role", &of("alice", json!({"role": "os.exit()"})), 400, "malformed"),
            ("set_role", &of("alice", json!({})), 400, "malformed"),
            ("changes", r#"{"since":-1}"#, 400, "malformed"),
            ("changes", r#"{"since":1.5}"#, 400, "malformed"),
            ("changes", r#"{"since":1e300}"#, 400, "malformed"),
            ("changes", r#"{"since":"1"}"#, 400, "malformed"),
            ("changes", r#"{"since":0,"wait":26}"#, 400, "malformed"),
            ("changes", r#"{"since":0}"#, 410, "gone"),
            ("changes", r#"{"since":9007199254740992}"#, 410, "gone"),
        ] {
            let answer = server.call(verb, body);
            assert_eq!((answer.status, answer.error()), (status, error), "{verb} {body:.80}");
            assert!(answer.body["message"].as_str().unwrap().starts_with("cannot "), "{answer:?}");
        }
        // Lengths that aren't said, or too long for Prosody itself.
        let mut chunked = Asked::verb("version", "2\r\n{}\r\n0\r\n\r\n").by(API, BOOTSTRAP_SECRET);
        chunked.head = chunked.head.replace("Content-Length: 12", "Transfer-Encoding: chunked");
        let mut huge = Asked::verb("version", "{}").by(API, BOOTSTRAP_SECRET);
        huge.head = huge.head.replace("Content-Length: 2", "Content-Length: 99999999");
        for asked in [chunked, huge] {
            // Prosody may just close the connection.
            assert!(!asked.send(server.http()).is_ok_and(|answer| answer.status < 400));
        }
        assert_eq!(server.call("version", "{}").status, 200);
    });
}

/// What would break out of Lua's quotes, of a file's name, of a stanza; or not be text at all.
const HOSTILE: [&str; 18] = [
    "\"",
    "\\",
    "'",
    "]]",
    "]]..os.exit()--",
    "a\nb",
    "a\r\nb",
    "a\0b",
    "../../../etc/passwd",
    "a/b",
    "<a/>",
    "a b",
    "a@b",
    "%s%n",
    "\u{200b}",
    "\u{202e}x",
    "\u{1f600}",
    "\u{7f}",
];

#[test]
fn hostile_text_is_refused_or_only_text() {
    each(|server| {
        for text in HOSTILE {
            for (name, password) in
                [(text.to_owned(), "a password"), (format!("x{}", text.len()), text)]
            {
                let _ = server.call("delete_account", of(&name, json!({})));
                let more = json!({"password": password, "role": "prosody:member"});
                let answer = server.call("create_account", of(&name, more));
                assert!([200, 400].contains(&answer.status), "{text:?}: {answer:?}");
                let body = answer.body.to_string();
                assert!(!body.contains(".lua") && !body.contains("stack"), "{body}");
                if answer.status == 200 {
                    let made = answer.body["localpart"].as_str().unwrap().to_owned();
                    let check =
                        server.call("check_password", of(&made, json!({"password": password})));
                    assert_eq!(check.body, json!({"ok": true}), "{text:?}");
                    let list = server.call("accounts", json!({"host": DOMAIN}).to_string());
                    let accounts = list.body["accounts"].as_array().unwrap().clone();
                    assert!(
                        accounts.iter().any(|a| a["localpart"] == made),
                        "{made:?} {accounts:?}"
                    );
                    assert_eq!(server.call("delete_account", of(&made, json!({}))).status, 200);
                }
            }
            for body in [
                json!({"host": text}),
                json!({"host": DOMAIN, text: 1}),
                json!({"host": format!("{DOMAIN}{text}")}),
            ] {
                let status = server.call("accounts", body.to_string()).status;
                assert!([400, 404].contains(&status) || text == "\u{200b}", "{body}: {status}");
            }
        }
        for bytes in
            [&b"{\"host\":\"\xff\"}"[..], b"{\"host\":\"example.org\xc0\x80\"}", b"\xef\xbb\xbf{}"]
        {
            assert_eq!(server.call("accounts", bytes).error(), "malformed");
        }
        for unpaired in
            [r#""\ud800""#, r#""\udc00x""#, r#""\u0000""#, r#""a\u0000b""#, r#""\u000a""#]
        {
            let body = format!(
                r#"{{"host":"{DOMAIN}","localpart":{unpaired},"password":{unpaired},"role":"prosody:member"}}"#
            );
            assert_eq!(server.call("create_account", body).error(), "malformed", "{unpaired}");
        }
        let outside = fs::read_dir(Path::new(&server.place.data).join("example%2eorg/accounts"));
        assert!(outside.map_or(0, Iterator::count) == 0, "accounts are left");
        assert!(!server.log().contains("traceback"), "{}", server.log());
    });
}

#[test]
fn whatever_comes_is_answered_by_json() {
    let seeds = [
        ("create_account", of("alice", json!({"password": "p\u{e4}", "role": "prosody:member"}))),
        ("set_role", of("alice", json!({"role": "prosody:admin"}))),
        ("changes", r#"{"since":123456789012,"wait":0}"#.to_owned()),
        ("sessions", of("alice", json!({}))),
    ];
    let mut random = fastrand::Rng::with_seed(1);
    let mut draw = |below: usize| random.usize(..below);
    for version in VERSIONS {
        let server = Server::start(version);
        server.apply(&Server::plain_settings(DOMAIN));
        for _ in 0..1500 {
            let (verb, body) = &seeds[draw(seeds.len())];
            let mut body = body.as_bytes().to_vec();
            for _ in 0..=draw(4) {
                let at = draw(body.len());
                match draw(5) {
                    0 => body[at] = draw(256) as u8,
                    1 => body.insert(at, b"{}[]\",:0\\u.-e"[draw(13)]),
                    2 if body.len() > 1 => drop(body.remove(at)),
                    3 => body = [&body[..at], &br#""__hash":["#[..], &body[at..]].concat(),
                    _ => body.truncate(at + 1),
                }
            }
            let answer = server.call(verb, &body);
            let text = String::from_utf8_lossy(&body);
            assert!(
                [200, 400, 404, 409, 410].contains(&answer.status),
                "{verb} {text}: {answer:?}"
            );
            assert!(answer.body.is_object(), "{verb} {text}: {answer:?}");
        }
        assert!(!server.log().contains("cannot "), "{}", server.log());
    }
}

#[test]
fn changes_are_told_in_order_and_at_once() {
    each(|server| {
        let seq = || {
            server.call("accounts", json!({"host": DOMAIN}).to_string()).body["seq"]
                .as_u64()
                .unwrap()
        };
        let since = |since: u64| {
            let answer = server.call("changes", json!({"since": since}).to_string());
            assert_eq!(answer.status, 200, "{answer:?}");
            answer.body["changes"]
                .as_array()
                .unwrap()
                .iter()
                .map(|change| {
                    assert!(change["seq"].as_u64().unwrap() > since);
                    let detail =
                        ["exists", "online", "role"].iter().find_map(|key| change.get(key));
                    let text = |key: &str| change[key].as_str().unwrap_or_default().to_owned();
                    (text("kind"), text("localpart"), detail.cloned().unwrap_or_default())
                })
                .collect::<Vec<_>>()
        };
        let told = |kind: &str, detail: Value| (kind.to_owned(), "alice".to_owned(), detail);
        let before = seq();
        assert_eq!(since(before), []);
        create(&server, "alice", "prosody:admin");
        assert_eq!(since(before), [told("account", json!(true))]);
        server.call("set_role", of("alice", json!({"role": "prosody:member"})));
        server.call("set_role", of("alice", json!({"role": "prosody:member"})));
        server.call("set_password", of("alice", json!({"password": "xyz"})));
        let rest = [told("role", json!("prosody:member")), told("password", Value::Null)];
        assert_eq!(since(before)[1..], rest);

        let sessions = || server.call("sessions", of("alice", json!({}))).body["sessions"].clone();
        assert_eq!(sessions(), json!([]));
        let at = seq();
        let login =
            |resource| Client::login(server.c2s(), DOMAIN, "alice", "xyz", resource).unwrap();
        let phone = login("phone");
        let (one, desk) = (sessions(), login("desk]]\"'\\"));
        assert_eq!((&one[0]["localpart"], &one[0]["resource"]), (&json!("alice"), &json!("phone")));
        assert!(one[0]["since"].is_u64());
        assert_eq!(sessions().as_array().unwrap().len(), 2);
        assert_eq!(since(at), [told("presence", json!(true))], "once for all its sessions");
        drop((phone, desk));
        let both = [told("presence", json!(true)), told("presence", json!(false))];
        let deadline = Instant::now() + Duration::from_secs(20);
        while since(at) != both {
            assert!(Instant::now() < deadline, "{:?}", since(at));
            server.call("changes", json!({"since": seq(), "wait": 1}).to_string());
        }
        server.call("delete_account", of("alice", json!({})));
        assert_eq!(since(at)[2..], [told("account", json!(false))]);
    });
}

#[test]
fn who_waits_is_answered_when_something_changes_or_in_time() {
    each(|server| {
        let seq = server.call("accounts", json!({"host": DOMAIN}).to_string()).body["seq"].clone();
        let wait = |seconds: u32| {
            let started = Instant::now();
            let body = json!({"since": seq, "wait": seconds}).to_string();
            (server.call("changes", body), started.elapsed())
        };
        let (nothing, took) = wait(1);
        expect(&nothing, 200, json!({"seq": seq, "changes": []}));
        assert!(took >= Duration::from_millis(900), "{took:?}");
        thread::scope(|scope| {
            // More than may wait at a time: the first of them are answered early, with nothing.
            let waiting: Vec<_> = (0..20).map(|_| scope.spawn(|| wait(20))).collect();
            while waiting.iter().filter(|one| one.is_finished()).count() < 4 {
                thread::yield_now();
            }
            create(&server, "alice", "prosody:member");
            let told = waiting.into_iter().map(|one| one.join().unwrap().0);
            let told = told.filter(|answer| answer.body["changes"][0]["localpart"] == "alice");
            assert_eq!(told.count(), 16);
        });
        // One that leaves isn't waited for.
        let asked = Asked::verb(
            "changes",
            json!({"since": seq.as_u64().unwrap() + 1, "wait": 25}).to_string(),
        );
        let asked = asked.by(API, &server.secret);
        let mut stream = std::net::TcpStream::connect(server.http()).unwrap();
        std::io::Write::write_all(
            &mut stream,
            &[asked.head.as_bytes(), b"\r\n", &asked.body].concat(),
        )
        .unwrap();
        drop(stream);
        create(&server, "bob", "prosody:member");
        assert!(!server.log().contains("error"), "{}", server.log());
    });
}

#[test]
fn who_is_too_late_for_the_changes_is_told() {
    for version in VERSIONS {
        let server = Server::start(version);
        server.apply(&Server::plain_settings(DOMAIN));
        let seq =
            || server.call("accounts", json!({"host": DOMAIN}).to_string()).body["seq"].clone();
        let first = seq().as_u64().unwrap();
        create(&server, "alice", "prosody:member");
        let roles = ["prosody:admin", "prosody:member"];
        for turn in 0..1030 {
            server.call("set_role", of("alice", json!({"role": roles[turn % 2]})));
        }
        let since = |since: u64| server.call("changes", json!({"since": since}).to_string());
        assert_eq!(since(first).error(), "gone");
        let last = seq().as_u64().unwrap();
        assert_eq!(last, first + 1031);
        assert_eq!(since(last - 1024).body["changes"].as_array().unwrap().len(), 1024);
        assert_eq!(since(last - 1025).error(), "gone");
    }
}
