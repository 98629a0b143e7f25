//! Federation with friends only: streams of other servers, as far as a script speaks their part.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use appliance::settings::Settings;
use serde_json::json;
use vm_tests::server::{Client, Server, VERSIONS};

use super::{DOMAIN, create};

fn settings(friends: &[&str]) -> Settings {
    let document = json!({
        "domain": DOMAIN, "c2s_unencrypted": true, "federation_enabled": true,
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
