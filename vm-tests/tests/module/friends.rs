//! Federation with friends only: streams of other servers, as far as a script speaks their part.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use appliance::settings::{Certificate, Prosody, Settings, render};
use serde_json::{Value, json};
use vm_tests::images;
use vm_tests::scratch::judge;
use vm_tests::server::{BOOTSTRAP_SECRET, Client, Server, VERSIONS};

use super::{DOMAIN, create};

fn settings(friends: &[&str]) -> Settings {
    settings_of(DOMAIN, friends)
}

fn settings_of(domain: &str, friends: &[&str]) -> Settings {
    let document = json!({
        "domain": domain, "c2s_unencrypted": true, "federation_enabled": true,
        "federation_whitelist_enabled": true, "federation_friendly_servers": friends,
    });
    Settings::parse(document.to_string().as_bytes()).unwrap()
}

/// What the Server says to another that opens a stream, and sends this.
fn stream(server: &Server, from: &str, to: &str, then: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", server.place.s2s_port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    let header = format!(
        "<?xml version='1.0'?><stream:stream xmlns='jabber:server' xmlns:db='jabber:server:dialback' \
         xmlns:stream='http://etherx.jabber.org/streams' from='{from}' to='{to}' version='1.0'>{then}"
    );
    stream.write_all(header.as_bytes()).unwrap();
    let (mut said, mut buffer) = (Vec::new(), [0; 4096]);
    let deadline = Instant::now() + Duration::from_secs(4);
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        said.extend(&buffer[..count]);
        let text = String::from_utf8_lossy(&said);
        if text.contains("</stream:features>") && then.is_empty() || Instant::now() > deadline {
            break;
        }
    }
    String::from_utf8_lossy(&said).into_owned()
}

#[test]
fn only_friends_are_listened_to() {
    for version in VERSIONS {
        let server = Server::start(version);
        server.apply(&settings(&["friend.example", "xn--bcher-kva.example"]));
        for to in [DOMAIN, "groups.example.org"] {
            for (from, is_friend) in [
                ("friend.example", true),
                ("FRIEND.example", true),
                ("bücher.example", true),
                ("foe.example", false),
                ("sub.friend.example", false),
                ("friend.example.foe.example", false),
            ] {
                let said = stream(&server, from, to, "");
                assert_eq!(said.contains("policy-violation"), !is_friend, "{from} to {to}: {said}");
                assert_eq!(said.contains("starttls"), is_friend, "{from} to {to}: {said}");
            }
        }
        // Nor a further host by a friend's stream.
        let key = "<db:result from='foe.example' to='example.org'>0123</db:result>";
        let said = stream(&server, "friend.example", DOMAIN, key);
        assert!(said.contains("</stream:stream>") && !said.contains("type='valid'"), "{said}");
        assert!(!server.log().contains("traceback"), "{}", server.log());
    }
}

#[test]
fn nothing_is_sent_to_others_and_the_list_changes_at_once() {
    for version in VERSIONS {
        let server = Server::start(version);
        server.apply(&settings(&["friend.example"]));
        create(&server, "alice", "prosody:member");
        let mut alice =
            Client::login(server.c2s(), DOMAIN, "alice", "alice's password", "r").unwrap();
        let mut refused = |to: &str, id: &str| {
            let ping =
                format!("<iq type='get' id='{id}' to='{to}'><ping xmlns='urn:xmpp:ping'/></iq>");
            alice.send(&ping).unwrap();
            let at_once = "Communication with remote domains is not enabled";
            alice.wait_for(&format!("id='{id}'")).unwrap();
            alice.wait_for("</iq>").unwrap().contains(at_once)
        };
        assert!(refused("foe.example", "p1"));
        // A friend's server is looked for, and not found.
        assert!(!refused("friend.example", "p2"));
        // The client stays connected through it all.
        assert_eq!(server.apply(&settings(&["foe.example"])).body, json!({"restart": false}));
        assert!(!refused("foe.example", "p3"));
        assert!(refused("friend.example", "p4"));
        assert_eq!(server.apply(&settings(&[])).body, json!({"restart": false}));
        assert!(refused("foe.example", "p5"));
        let mut open = settings(&[]);
        open.federation_whitelist_enabled = false;
        assert_eq!(server.apply(&open).body, json!({"restart": false}));
        assert!(!refused("foe.example", "p6"));
        assert!(!stream(&server, "foe.example", DOMAIN, "").contains("policy-violation"));
        // None at all.
        let none = Server::plain_settings(DOMAIN);
        assert_eq!(server.apply(&none).body, json!({"restart": false}));
        assert!(refused("friend.example", "p7"));
        let closed = TcpStream::connect(("127.0.0.1", server.place.s2s_port)).is_err();
        assert!(closed, "its port is closed");
        assert!(!server.log().contains("traceback"), "{}", server.log());
    }
}

/// Instead of DNS: where the other server is. 0.12 has nothing to hook into.
fn peers(port: u16, domain: &str) -> String {
    format!(
        r#"local basic = require "net.resolvers.basic"
local service = require "net.resolvers.service"
local real = service.new
local function is_peer(name) return name == {domain:?} or name == "groups." .. {domain:?} end
local function peer() return basic.new("127.0.0.1", {port}, "tcp") end
function service.new(name, ...) return is_peer(name) and peer() or real(name, ...) end
module:hook("s2sout-pre-connect", function(event)
  if is_peer(event.session.to_host) then event.resolver = peer() end
end)
"#
    )
}

/// Its configuration, with what it needs to find the other one.
fn configure(server: &Server, settings: &Settings) {
    let own = format!("plugin_paths = {{ {:?}, ", server.folder().join("peers"));
    let text = render(settings, &server.place)
        .replace("plugin_paths = { ", &own)
        .replace("\"ping\"", "\"ping\", \"peers\"")
        .replace("{ \"muc_mam\"", "{ \"peers\", \"muc_mam\"");
    server.configure(&text);
}

/// A server of a domain, with the certificate of one that is new, and the other at `port`.
fn federated(mut server: Server, domain: &str, other: &str, port: u16) -> Server {
    let folder = server.folder().to_owned();
    let [key, certificate] = ["key", "certificate"].map(|it| folder.join(it));
    let mut make = judge("openssl", 60);
    make.args(["req", "-x509", "-noenc", "-newkey", "ec", "-pkeyopt"]);
    make.args(["ec_paramgen_curve:prime256v1", "-subj", &format!("/CN={domain}"), "-keyout"]);
    images::run(make.arg(&key).arg("-out").arg(&certificate), "make a certificate").unwrap();
    let [key, certificate] = [key, certificate].map(|it| it.display().to_string());
    server.place.certificate = Certificate::SelfSigned { key, certificate };
    fs::create_dir(folder.join("peers")).unwrap();
    fs::write(folder.join("peers/mod_peers.lua"), peers(port, other)).unwrap();
    configure(&server, &settings_of(domain, &[other, &format!("groups.{other}")]));
    server.restart(BOOTSTRAP_SECRET);
    let alice =
        json!({"host": domain, "localpart": "alice", "password": "p", "role": "prosody:member"});
    assert_eq!(server.call("create_account", alice.to_string()).status, 200);
    server
}

#[test]
fn friends_of_both_versions_talk_until_they_are_friends_no_more() {
    let (one, other) = (Server::start(Prosody::V0_12), Server::start(Prosody::V13_0));
    let ports = (one.place.s2s_port, other.place.s2s_port);
    let one = federated(one, "one.example", "other.example", ports.1);
    let other = federated(other, "other.example", "one.example", ports.0);
    let login = |server: &Server, domain| Client::login(server.c2s(), domain, "alice", "p", "r");
    let mut here = login(&one, "one.example").unwrap();
    let mut there = login(&other, "other.example").unwrap();
    let try_ask = |client: &mut Client, to: &str, id: &str| {
        let query = "<query xmlns='http://jabber.org/protocol/disco#info'/>";
        let iq = format!("<iq type='get' id='{id}' to='{to}'>{query}</iq>");
        client.send(&iq).unwrap();
        let before = client.wait_for(&format!("id='{id}'")).ok()?;
        Some(before + &client.wait_for(">").unwrap())
    };
    let ask = |client: &mut Client, to: &str, id: &str| try_ask(client, to, id).expect("an answer");
    for (is_here, to, id) in [
        (true, "other.example", "p1"),
        (false, "one.example", "p2"),
        // Rooms have streams of their own.
        (true, "groups.other.example", "p3"),
        (false, "groups.one.example", "p4"),
    ] {
        let said = ask(if is_here { &mut here } else { &mut there }, to, id);
        assert!(said.contains("type='result'"), "{to}: {said}\n{}\n{}", one.log(), other.log());
    }
    // One of them thinks otherwise: also the streams that were open are ended.
    configure(&one, &settings_of("one.example", &["groups.other.example"]));
    assert_eq!(one.call("reload", "{}").body, json!({"restart": false}), "{}", one.log());
    let streams = |server: &Server| {
        let log = server.log();
        log.matches("refused a stream of other.example").count()
    };
    assert!(streams(&one) >= 1, "{}", one.log());
    assert!(ask(&mut here, "other.example", "p5").contains("type='error'"));
    // What is sent just when a stream ends is lost with it.
    let said = ["p6", "p7"].iter().find_map(|id| try_ask(&mut there, "one.example", id));
    let said = said.expect("an answer");
    assert!(said.contains("type='error'"), "{said}\n{}", one.log());
    assert!(!one.log().contains("traceback") && !other.log().contains("traceback"));
    let nobody: Value = one.call("sessions", json!({"host": "one.example"}).to_string()).body;
    assert_eq!(nobody["sessions"].as_array().unwrap().len(), 1, "who is connected stays so");
}
