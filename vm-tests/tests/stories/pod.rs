//! The deployment guide's path: a Pod is set up by its web front, and people talk by it.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use vm_tests::client::{Login, Session, shown_certificate};
use vm_tests::data::Data;
use vm_tests::disk::Kept;
use vm_tests::http::Asked;
use vm_tests::images::Image;
use vm_tests::machine::{DISK, Machine};
use vm_tests::pod::{ADMIN, PASSWORD};
use vm_tests::vm::Vm;
use vm_tests::{BOOT, SOON};

const MEMBER: (&str, &str) = ("bob@prose.local", "not a secret");

/// Both write to each other at the same time; returns what came of it for each.
fn chat(vm: &Vm, certificate: &Path, texts: [&str; 2]) -> [Session; 2] {
    let server = vm.xmpp();
    let login = |jid, password, peer, body, expected| Login {
        jid,
        password,
        certificate: certificate.to_owned(),
        body: Some(body),
        peer: Some((peer, expected)),
    };
    let [hers, his] = texts;
    thread::scope(|scope| {
        let alice = scope.spawn(move || login(ADMIN, PASSWORD, MEMBER.0, hers, his).run(server));
        let bob = login(MEMBER.0, MEMBER.1, ADMIN, his, hers).run(server);
        [alice.join().expect("alice's client runs"), bob]
    })
}

#[test]
fn the_guides_path_from_a_first_boot_to_two_people_who_talk_and_talk_on_after_a_reboot() {
    let image = Image::pod("pod", &["test-certificate", "test-trigger", "test-member"], &[]);
    let disk = Kept::of(&image, DISK);
    let vm = Machine::direct(&image).on(&disk).start();
    let certificate = shown_certificate(&vm, BOOT);
    vm.pod_serves();

    // Nobody has set it up.
    let answer = vm.get("/api/pod/version");
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.body["server"]["version"], "13.0.1", "{answer:?}");
    assert!(answer.head.to_lowercase().contains("cache-control: no-store"), "{answer:?}");
    assert_eq!(vm.get("/api/v1/server/config").body, json!({"domain": "prose.local"}));
    let exists = Asked::new("HEAD", "/api/v1/init/first-account", "");
    let before = vm.asks(&exists).status;
    assert_eq!(vm.get("/api/v1/members").status, 401);

    // The first admin is made once, whoever else tries.
    vm.make_admin();
    assert_ne!(vm.asks(&exists).status, before);
    let another = json!({"username": "mallory", "password": PASSWORD, "nickname": "M"});
    let answer = vm.asks(&Asked::json("PUT", "/api/v1/init/first-account", &another));
    assert_eq!(answer.status, 409, "{answer:?}");
    assert_eq!(vm.log_in(ADMIN, "a guess").status, 401);
    let members = vm.admin_get("/api/v1/members");
    let role = |jid: &str| -> Option<Value> {
        let mut all = members.as_array()?.iter();
        Some(all.find(|member| member["jid"] == jid)?["role"].clone())
    };
    assert_eq!(role(ADMIN), Some("ADMIN".into()), "{members}");
    assert_eq!(vm.admin_get("/api/v1/server/config")["federation_enabled"], false);

    // They talk.
    vm.pull_trigger();
    vm.wait_for("stele-init: service member: done", BOOT);
    for session in chat(&vm, &certificate, ["hello, Bob", "hello, Alice"]) {
        assert!(session.message_returned, "{session:?}");
        assert_eq!(session.tls_version.as_deref(), Some("TLSv1.3"), "{session:?}");
    }

    // And after a reboot everything is there: accounts, messages, who is an admin.
    vm.wait_for("stele-init: settings: applied", BOOT);
    vm.power_off(SOON);
    let vm = Machine::direct(&image).on(&disk).start();
    let certificate = shown_certificate(&vm, BOOT);
    vm.pod_serves();
    let member = vm.admin_get(&format!("/api/v1/members/{}", MEMBER.0));
    assert_eq!((&member["jid"], &member["role"]), (&json!(MEMBER.0), &json!("MEMBER")), "{member}");
    let [alice, bob] = chat(&vm, &certificate, ["still there?", "I am"]);
    for text in ["hello, Bob", "hello, Alice", "still there?"] {
        assert!(alice.archive.iter().any(|kept| kept == text), "{alice:?}");
        assert!(bob.archive.iter().any(|kept| kept == text), "{bob:?}");
    }
    // The settings that worked were there before the API had said any: no check was needed.
    vm.wait_for("stele-init: settings: applied", SOON);
    assert!(vm.lines_with("service render: starting").is_empty());
}

/// A stream of XMPP's that is open, but not encrypted yet.
fn open_stream(vm: &Vm) -> TcpStream {
    let mut stream = TcpStream::connect(vm.xmpp()).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    let header = "<?xml version='1.0'?><stream:stream to='prose.local' version='1.0' \
                  xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>";
    stream.write_all(header.as_bytes()).unwrap();
    let mut buffer = [0; 4096];
    let mut said = String::new();
    while !said.contains("</stream:features>") {
        let length = stream.read(&mut buffer).unwrap();
        assert!(length > 0, "the stream was closed after `{said}`");
        said += &String::from_utf8_lossy(&buffer[..length]);
    }
    stream
}

#[test]
fn clients_stay_when_the_pod_api_is_started_anew() {
    let vm =
        Machine::direct(&Image::pod("api-restart", &["test-trigger", "test-api-restart"], &[]))
            .start();
    vm.pod_serves();
    vm.make_admin();
    let mut stream = open_stream(&vm);
    vm.restart_api();
    vm.pod_serves();
    // Tokens and accounts outlive it; the gate stays open, and nobody rotates anything again.
    assert_eq!(vm.log_in(ADMIN, PASSWORD).status, 200);
    assert_eq!(vm.lines_with("prose-pod-api@admin.prose.local").len(), 2, "created, changed");
    assert!(vm.lines_with("service prosody: ended").is_empty());
    // The stream is where it was: nothing has come, and it still answers.
    stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let nothing = stream.read(&mut [0; 16]).expect_err("nobody said anything");
    assert!([ErrorKind::WouldBlock, ErrorKind::TimedOut].contains(&nothing.kind()), "{nothing}");
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream.write_all(b"<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>").unwrap();
    let mut answer = [0; 8];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"<proceed");
}

#[test]
fn the_older_server_serves_a_pod_alike() {
    let vm = Machine::direct(&Image::older_pod("older-pod", &["test-certificate"])).start();
    let certificate = shown_certificate(&vm, BOOT);
    vm.pod_serves();
    let version = vm.get("/api/pod/version").body["server"]["version"].clone();
    assert!(version.as_str().is_some_and(|version| version.starts_with("0.12.")), "{version}");
    let applied = vm.wait_for("stele-init: settings: applied", BOOT);
    vm.make_admin();
    let login = Login { jid: ADMIN, password: PASSWORD, certificate, body: None, peer: None };
    let session = login.run(vm.xmpp());
    assert!(session.message_returned, "{session:?}");
    assert_eq!(session.tls_version.as_deref(), Some("TLSv1.3"), "{session:?}");
    // What an admin chooses, the running Server does.
    vm.admin_put("/api/v1/server/config/message-archive-retention", &json!("P1Y"));
    vm.wait_for_next(&applied, "stele-init: settings: applied", BOOT);
    assert!(vm.lines_with("service prosody: ended").is_empty());
}

#[test]
fn the_front_shows_how_the_appliance_is() {
    let vm = Machine::direct(&Image::release()).start();
    vm.pod_serves();
    let answer = vm.get("/api/v1/appliance");
    assert_eq!((answer.status, &answer.body["name"]), (200, &json!("prose-pod")), "{answer:?}");
    assert_eq!(answer.body["gate"]["open"], true, "{answer:?}");
    let services = answer.body["services"].as_array().unwrap();
    for name in ["prosody", "pod-api", "front"] {
        let state = services.iter().find(|service| service["name"] == name);
        assert_eq!(state.map(|service| &service["state"]), Some(&json!("ready")), "{answer:?}");
    }
    let page = vm.get("/");
    assert_eq!(page.status, 200, "{page:?}");
    let text = page.body.as_str().unwrap();
    assert!(text.contains("prose-pod") && text.contains("All services are running"), "{page:?}");
    let headers = page.head.to_lowercase();
    for header in ["content-security-policy:", "x-content-type-options: nosniff"] {
        assert!(headers.contains(header), "{headers}");
    }
}

#[test]
fn a_server_alone_has_a_front_and_no_api() {
    let vm = Machine::direct(&Image::server()).start();
    vm.stream_reply("prose.local", BOOT);
    let answer = vm.get("/api/v1/appliance");
    assert_eq!((answer.status, &answer.body["gate"]), (200, &Value::Null), "{answer:?}");
    assert_eq!(vm.get("/api/pod/version").status, 404);
    assert_eq!(vm.get("/").status, 200);
    assert!(vm.lines_with("gate").is_empty());
}

#[test]
fn settings_of_the_operators_are_served_by_and_wrong_ones_leave_the_last_good() {
    const SAID: &str = "cannot understand /etc/prose-pod-api/Prose.toml";
    let image = Image::pod("operator", &["test-trigger", "test-operator"], &[]);
    let disk = Kept::of(&image, DISK);
    let seed = |domain: &str| {
        let text = format!("[server]\ndomain = {domain}\n");
        disk.seed(&[("Prose.toml", text.as_bytes())]);
    };
    let served = |vm: &Vm| {
        let reply = vm.stream_reply("example.org", BOOT).text;
        assert!(reply.contains("from='example.org'"), "{reply}");
    };
    seed("\"example.org\"");
    let vm = Machine::direct(&image).on(&disk).start();
    vm.pod_serves();
    served(&vm);
    assert_eq!(vm.get("/api/v1/server/config").body, json!({"domain": "example.org"}));
    // Kept for the next boot is what has worked as a whole.
    vm.wait_for("stele-init: settings: applied", BOOT);
    // An operator puts a file of their own where the Server's is.
    vm.pull_trigger();
    vm.wait_for("stele-init: service operator: done", SOON);
    vm.power_off(SOON);

    seed("7");
    let vm = Machine::direct(&image).on(&disk).start();
    let said = vm.wait_for(SAID, BOOT);
    // The gate doesn't depend on it, and the Server goes on; the API says what is wrong, and little
    // else.
    vm.wait_for("stele-init: gate: open", BOOT);
    served(&vm);
    assert_eq!(vm.get("/api/pod/version").status, 200);
    assert_eq!(vm.get("/api/health").status, 503);
    let answer = vm.get("/api/v1/workspace");
    let message = answer.body["message"].as_str().unwrap_or_default();
    assert_eq!(answer.status, 503, "{answer:?}");
    assert!(message.contains("Prose.toml: line 2: server.domain: "), "{answer:?}");
    vm.wait_for("prosody.cfg.lua is an operator's own; kept as", SOON);
    eprintln!("{}", said.text);
    vm.power_off(SOON);
    let data = Data::of(&disk);
    assert_eq!(data.text("/volumes/etc/prosody/prosody.cfg.lua.operator"), "-- mine");

    // The environment wins over the file.
    disk.seed(&[
        ("Prose.toml", b"[server]\ndomain = \"elsewhere.example\"\n"),
        ("env", b"PROSE_SERVER__DOMAIN=example.org\n"),
    ]);
    let vm = Machine::direct(&image).on(&disk).start();
    vm.pod_serves();
    served(&vm);
}
