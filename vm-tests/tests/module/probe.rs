//! The account that the appliance logs in with to find out whether the Server serves.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use appliance::probe::{Line, Login, Question};
use appliance::settings::{Certificate, Settings};
use appliance::upgrade::Check;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use vm_tests::images::Tools;
use vm_tests::server::{BOOTSTRAP_SECRET, Client, Server, VERSIONS, base64};

use super::{DOMAIN, create, each, expect, holds, of, self_signed};

const NAME: &str = "stele-probe";
const PASSWORD: &str = "a password of this boot";
const OWN: &str = "stele-probe@example.org/r";

fn arm_for(server: &Server, seconds: u32) {
    let body = json!({"host": DOMAIN, "password": PASSWORD, "seconds": seconds});
    expect(&server.call("probe", body.to_string()), 200, json!({}));
}

fn login(server: &Server, password: &str) -> Client {
    Client::login(server.c2s(), DOMAIN, NAME, password, "r").unwrap()
}

#[track_caller]
fn is_refused(server: &Server, name: &str, password: &str) {
    let mut client = Client::open(server.c2s(), DOMAIN).unwrap();
    client.wait_for("</stream:features>").unwrap();
    let plain = base64(format!("\0{name}\0{password}").as_bytes());
    let auth = "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>";
    client.send(&format!("{auth}{plain}</auth>")).unwrap();
    let said = client.wait_for("</failure>").unwrap();
    assert!(said.contains("not-authorized"), "{said}");
}

fn message(to: &str, text: &str) -> String {
    format!("<message type='chat' id='m' to='{to}'><body>{text}</body></message>")
}

#[test]
fn it_logs_in_while_it_is_armed_and_gets_its_own_message_back() {
    each(|server| {
        is_refused(&server, NAME, PASSWORD);
        arm_for(&server, 60);
        is_refused(&server, NAME, "another password");
        let mut probe = login(&server, PASSWORD);
        probe.send(&message(OWN, "one")).unwrap();
        let back = probe.wait_for("</message>").unwrap();
        assert!(back.contains("<body>one</body>") && back.contains(&format!("from='{OWN}'")));
        // Armed anew it has another password, and who was in is out.
        let body = json!({"host": DOMAIN, "password": "the next one", "seconds": 60});
        expect(&server.call("probe", body.to_string()), 200, json!({}));
        probe.wait_for("</stream:stream>").unwrap();
        is_refused(&server, NAME, PASSWORD);
        login(&server, "the next one");
        assert!(!server.log().contains("traceback"), "{}", server.log());
    });
}

#[test]
fn its_time_ends_by_itself_and_with_its_server() {
    each(|mut server| {
        arm_for(&server, 1);
        let mut probe = login(&server, PASSWORD);
        let started = Instant::now();
        let said = probe.wait_for("</stream:stream>").unwrap();
        assert!(said.contains("policy-violation"), "{said}");
        assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
        is_refused(&server, NAME, PASSWORD);
        arm_for(&server, 60);
        server.restart(BOOTSTRAP_SECRET);
        is_refused(&server, NAME, PASSWORD);
        assert!(!holds(server.folder(), PASSWORD), "its password is on the disk");
    });
}

#[test]
fn it_is_in_no_list_and_nobody_meets_it() {
    each(|server| {
        create(&server, "alice", "prosody:admin");
        let listed = || server.call("accounts", json!({"host": DOMAIN}).to_string()).body;
        let seq = listed()["seq"].clone();
        let mut alice =
            Client::login(server.c2s(), DOMAIN, "alice", "alice's password", "a").unwrap();
        alice.send("<presence/>").unwrap();
        alice.wait_for("from='alice@example.org/a'").unwrap();
        arm_for(&server, 60);
        let mut probe = login(&server, PASSWORD);
        probe.send(&message(OWN, "one")).unwrap();
        probe.wait_for("</message>").unwrap();

        let names: Vec<_> = listed()["accounts"].as_array().unwrap().to_vec();
        assert_eq!((names.len(), &names[0]["localpart"]), (1, &json!("alice")));
        let sessions = server.call("sessions", json!({"host": DOMAIN}).to_string()).body;
        assert_eq!(sessions["sessions"].as_array().unwrap().len(), 1, "{sessions}");
        let none = server.call("sessions", of(NAME, json!({}))).body;
        assert_eq!(none, json!({"sessions": []}));
        let changes = server.call("changes", json!({"since": seq}).to_string()).body.to_string();
        assert!(changes.contains("alice") && !changes.contains(NAME), "{changes}");
        alice.send("<iq type='get' id='r'><query xmlns='jabber:iq:roster'/></iq>").unwrap();
        let roster = alice.wait_for("</iq>").unwrap_or_default();
        assert!(!roster.contains(NAME), "{roster}");

        // What others send comes back as from somebody who isn't there.
        for to in [OWN, "stele-probe@example.org", "nobody@example.org/r"] {
            alice.send(&message(to, "hello")).unwrap();
            let back = alice.wait_for("</message>").unwrap();
            assert!(back.contains("service-unavailable"), "{to}: {back}");
            alice
                .send(&format!(
                    "<iq type='get' id='p' to='{to}'><ping xmlns='urn:xmpp:ping'/></iq>"
                ))
                .unwrap();
            let back = alice.wait_for("</iq>").unwrap();
            assert!(back.contains("service-unavailable"), "{to}: {back}");
        }
        for kind in ["", " type='subscribe'", " type='probe'"] {
            alice.send(&format!("<presence{kind} to='{OWN}'/>")).unwrap();
            alice.send(&format!("<presence{kind} to='stele-probe@example.org'/>")).unwrap();
        }
        // Nor does it meet anybody.
        for stanza in [
            message("alice@example.org", "hello"),
            message("alice@example.org/a", "hello"),
            message("alice@elsewhere.example", "hello"),
            message("room@groups.example.org", "hello"),
            "<iq type='get' id='r'><query xmlns='jabber:iq:roster'/></iq>".into(),
        ] {
            probe.send(&stanza).unwrap();
            let said = probe.wait_for("</error>").unwrap();
            assert!(said.contains("not-allowed"), "{said}");
        }
        for kind in ["", " to='alice@example.org'", " to='alice@example.org' type='subscribe'"] {
            probe.send(&format!("<presence{kind}/>")).unwrap();
        }
        probe.send(&message(OWN, "two")).unwrap();
        let said = probe.wait_for("<body>two</body>").unwrap();
        assert!(!said.contains("<presence") && !said.contains("alice"), "{said}");
        alice.send(&message("alice@example.org/a", "three")).unwrap();
        let said = alice.wait_for("<body>three</body>").unwrap();
        assert!(!said.contains("from='stele-probe"), "{said}");
        assert!(!server.log().contains("traceback"), "{}", server.log());
        assert!(!is_kept(&server), "something of it is kept");
    });
}

/// Has it stored a file named like the account?
fn is_kept(server: &Server) -> bool {
    let host = Path::new(&server.place.data).join("example%2eorg");
    let stores = fs::read_dir(host).into_iter().flatten().flatten();
    let mut files = stores.filter_map(|store| fs::read_dir(store.path()).ok());
    files.any(|mut files| {
        files.any(|file| file.unwrap().file_name().to_string_lossy().contains("stele"))
    })
}

#[test]
fn its_name_is_nobody_elses() {
    each(|server| {
        for _ in 0..2 {
            let taken = create(&server, "Stele-Probe", "prosody:member");
            assert_eq!((taken.status, taken.error()), (409, "exists"));
            for (verb, more) in [
                ("account", json!({})),
                ("delete_account", json!({})),
                ("set_password", json!({"password": "x"})),
                ("set_role", json!({"role": "prosody:admin"})),
                ("profile", json!({})),
                ("set_profile", json!({"nickname": "Me"})),
            ] {
                let answer = server.call(verb, of(NAME, more));
                assert_eq!((answer.status, answer.error()), (404, "no_such_account"), "{verb}");
            }
            // Its password opens nothing but a stream.
            let check = server.call("check_password", of(NAME, json!({"password": PASSWORD})));
            assert_eq!(check.body, json!({"ok": false}));
            arm_for(&server, 60);
        }
        login(&server, PASSWORD);
    });
}

#[test]
fn who_arms_it_is_the_appliance_and_says_how() {
    each(|server| {
        let body = json!({"host": DOMAIN, "password": PASSWORD, "seconds": 10});
        assert_eq!(server.call_with("wrong", "probe", body.to_string()).status, 401);
        for (field, value, word) in [
            ("seconds", json!(0), "malformed"),
            ("seconds", json!(61), "malformed"),
            ("seconds", json!(1.5), "malformed"),
            ("seconds", json!("1"), "malformed"),
            ("password", json!(""), "malformed"),
            ("password", json!("two\nlines"), "malformed"),
            ("host", json!("elsewhere.example"), "no_such_host"),
            ("host", json!("admin.prose.local"), "no_such_host"),
            ("more", json!(1), "malformed"),
        ] {
            let mut body = body.clone();
            body[field] = value;
            assert_eq!(server.call("probe", body.to_string()).error(), word, "{body}");
        }
        is_refused(&server, NAME, PASSWORD);
    });
}

#[test]
fn others_log_in_as_ever_while_it_is_armed() {
    each(|server| {
        create(&server, "alice", "prosody:member");
        arm_for(&server, 60);
        is_refused(&server, "alice", PASSWORD);
        Client::login(server.c2s(), DOMAIN, "alice", "alice's password", "a").unwrap();
    });
}

/// What the program that images get says of the Server.
fn judged(server: &Server) -> Check {
    let login = Login {
        port: server.place.c2s_port,
        domain: DOMAIN.parse().unwrap(),
        password: PASSWORD.to_owned().try_into().unwrap(),
    };
    let mut command = Command::new(Tools::find().unwrap().programs.join("stele-probe"));
    command.env_clear().stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let question = Question { number: 7, api: None, xmpp: Some(login) };
    serde_json::to_writer(child.stdin.take().unwrap(), &question).unwrap();
    let said = child.wait_with_output().unwrap();
    assert!(said.status.success());
    let line: Line = serde_json::from_slice(&said.stdout).unwrap();
    assert_eq!((line.number, &*line.check.name), (7, "xmpp"));
    line.check
}

#[test]
fn the_probe_finds_out_whether_the_server_serves() {
    for version in VERSIONS {
        let mut server = Server::start(version);
        let (key, certificate) = self_signed(&server);
        let text = |path: &Path| path.display().to_string();
        server.place.certificate =
            Certificate::SelfSigned { key: text(&key), certificate: text(&certificate) };
        let why = |server: &Server| judged(server).why.unwrap();
        let refused = why(&server);
        assert!(refused.contains("cannot connect to port"), "{refused}");
        server.apply(&Settings::new(DOMAIN.parse().unwrap()));
        let refused = why(&server);
        assert!(
            refused.contains("cannot log in") && refused.contains("not-authorized"),
            "{refused}"
        );
        arm_for(&server, 60);
        let started = Instant::now();
        let check = judged(&server);
        eprintln!("--- {version:?}: {:?}", started.elapsed());
        assert!(check.passes, "{check:?}\n{}", server.log());
        // One that is there and does nothing.
        let pid = Pid::from_raw(server.pid().try_into().unwrap());
        kill(pid, Signal::SIGSTOP).unwrap();
        let hangs = why(&server);
        assert!(hangs.contains("it takes longer than 12.0 s"), "{hangs}");
        kill(pid, Signal::SIGCONT).unwrap();
        assert!(judged(&server).passes);
        assert!(!is_kept(&server), "something of it is kept");
        // Its own side of TLS is broken.
        fs::write(&certificate, "none").unwrap();
        server.restart(BOOTSTRAP_SECRET);
        let without = why(&server);
        assert!(without.starts_with("cannot "), "{without}");
    }
}
