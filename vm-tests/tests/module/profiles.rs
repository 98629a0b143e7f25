//! What accounts show of themselves: vCards, nicknames and pictures.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use vm_tests::server::{Answer, BOOTSTRAP_SECRET, Client, Server, base64};

use super::{DOMAIN, HOSTILE, create, each, expect, of};

const VCARD: &str = "<iq type='get' id='v' to='prose-workspace@example.org'>\
                     <vcard xmlns='urn:ietf:params:xml:ns:vcard-4.0'/></iq>";

fn set(server: &Server, name: &str, more: Value) -> Answer {
    server.call("set_profile", of(name, more))
}

fn profile(server: &Server, name: &str) -> Value {
    let answer = server.call("profile", of(name, json!({})));
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.body
}

fn login(server: &Server, name: &str) -> Client {
    Client::login(server.c2s(), DOMAIN, name, &format!("{name}'s password"), "r").unwrap()
}

/// A client asks; returns what comes up to the end of its answer.
fn ask(client: &mut Client, iq: &str, id: &str) -> String {
    client.send(iq).unwrap();
    client.wait_for(&format!("id='{id}'")).unwrap();
    client.wait_for("</iq>").unwrap()
}

/// What changes have told of profiles since.
fn told(server: &Server, since: &Value) -> Vec<Value> {
    let answer = server.call("changes", json!({"since": since}).to_string());
    let changes = answer.body["changes"].as_array().unwrap().clone();
    changes.into_iter().filter(|it| it["kind"] == "profile").collect()
}

fn seq(server: &Server) -> Value {
    server.call("accounts", json!({"host": DOMAIN}).to_string()).body["seq"].clone()
}

#[track_caller]
fn until(what: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !what() {
        assert!(Instant::now() < deadline, "it never comes");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// So many bytes that begin like a PNG.
fn png(bytes: usize) -> Vec<u8> {
    let mut picture = b"\x89PNG\r\n\x1a\n".to_vec();
    picture.resize(bytes.max(8), 0xa7);
    picture
}

#[test]
fn a_profile_is_shown_to_everybody_and_kept() {
    each(|mut server| {
        create(&server, "prose-workspace", "prosody:registered");
        create(&server, "alice", "prosody:member");
        expect(&server.call("profile", of("alice", json!({}))), 200, json!({}));
        let all = json!({
            "name": "Acme & \"Söhne\" <x>]]", "kind": "application", "accent_color": "#1972f5",
            "dashboard_url": "https://admin.prose.example.org",
            "api_url": "https://admin.prose.example.org/api",
        });
        expect(&set(&server, "prose-workspace", all.clone()), 200, json!({}));
        assert_eq!(profile(&server, "prose-workspace"), all);
        let mut client = login(&server, "alice");
        let vcard = ask(&mut client, VCARD, "v");
        for has in [
            "<text>Acme &amp; &quot;Söhne&quot; &lt;x&gt;]]</text>",
            "<x-accent-color",
            "<text>#1972f5</text>",
            "<kind",
            "<x-prose-pod-dashboard-url",
            "<text>https://admin.prose.example.org/api</text>",
        ] {
            assert!(vcard.contains(has), "{has}: {vcard}");
        }
        set(&server, "prose-workspace", json!({"accent_color": "", "name": "Beta"}));
        let mut less = all;
        less.as_object_mut().unwrap().remove("accent_color");
        less["name"] = "Beta".into();
        server.restart(BOOTSTRAP_SECRET);
        assert_eq!(profile(&server, "prose-workspace"), less);
        assert!(!server.log().contains("traceback"), "{}", server.log());
    });
}

#[test]
fn a_nickname_is_in_vcard_and_node_and_the_rest_of_a_vcard_stays() {
    each(|server| {
        create(&server, "alice", "prosody:member");
        create(&server, "bob", "prosody:member");
        let mut alice = login(&server, "alice");
        let own = "<iq type='set' id='s1'><vcard xmlns='urn:ietf:params:xml:ns:vcard-4.0'>\
                   <fn><text>Alice Liddell</text></fn><tel><uri>tel:1</uri></tel></vcard></iq>";
        ask_result(&mut alice, own, "s1");
        let since = seq(&server);
        expect(&set(&server, "alice", json!({"nickname": "Ally"})), 200, json!({}));
        assert_eq!(profile(&server, "alice"), json!({"nickname": "Ally", "name": "Alice Liddell"}));
        let changes = told(&server, &since);
        assert_eq!(changes.len(), 1, "once for all: {changes:?}");
        assert_eq!(
            (&changes[0]["localpart"], &changes[0]["nickname"]),
            (&json!("alice"), &json!("Ally"))
        );
        let mut bob = login(&server, "bob");
        let vcard = ask(
            &mut bob,
            "<iq type='get' id='v1' to='alice@example.org'><vcard xmlns='urn:ietf:params:xml:ns:vcard-4.0'/></iq>",
            "v1",
        );
        for has in ["Alice Liddell", "tel:1", "Ally"] {
            assert!(vcard.contains(has), "{has}: {vcard}");
        }
        let items = "<iq type='get' id='n1' to='alice@example.org'><pubsub xmlns='http://jabber.org/protocol/pubsub'>\
                     <items node='http://jabber.org/protocol/nick'/></pubsub></iq>";
        assert!(ask(&mut bob, items, "n1").contains(">Ally</nick>"));

        // What clients publish themselves is told, and the last one counts.
        let since = seq(&server);
        let nick = "<iq type='set' id='p1'><pubsub xmlns='http://jabber.org/protocol/pubsub'>\
                    <publish node='http://jabber.org/protocol/nick'><item><nick xmlns='http://jabber.org/protocol/nick'>\
                    Lissy</nick></item></publish></pubsub></iq>";
        ask(&mut alice, nick, "p1");
        assert_eq!(profile(&server, "alice")["nickname"], "Lissy");
        assert_eq!(told(&server, &since).last().unwrap()["nickname"], "Lissy");
        ask_result(
            &mut alice,
            &own.replace("<tel>", "<nickname><text>Al</text></nickname><tel>").replace("s1", "s2"),
            "s2",
        );
        assert_eq!(told(&server, &since).last().unwrap()["nickname"], "Al");
        // The same again is no news; none is none.
        let since = seq(&server);
        set(&server, "alice", json!({"nickname": ""}));
        assert_eq!(profile(&server, "alice"), json!({"name": "Alice Liddell"}));
        assert_eq!(told(&server, &since)[0].get("nickname"), None);
        let since = seq(&server);
        server.call("delete_account", of("alice", json!({})));
        assert_eq!(told(&server, &since), [] as [Value; 0], "a deleted account shows nothing");
        create(&server, "alice", "prosody:member");
        assert_eq!(profile(&server, "alice"), json!({}), "nothing of the first one is left");
    });
}

/// As [`ask`], of an answer without children.
fn ask_result(client: &mut Client, iq: &str, id: &str) {
    client.send(iq).unwrap();
    client.wait_for(&format!("id='{id}'")).unwrap();
}

#[test]
fn a_picture_is_shown_told_and_taken_away() {
    each(|mut server| {
        create(&server, "alice", "prosody:member");
        create(&server, "bob", "prosody:member");
        let avatar = |server: &Server| server.call("avatar", of("alice", json!({})));
        assert_eq!((avatar(&server).status, avatar(&server).error()), (404, "no_avatar"));
        let put = |server: &Server, bytes: &[u8]| {
            server.call("set_avatar", of("alice", json!({"picture": base64(bytes)})))
        };
        let since = seq(&server);
        let put_one = put(&server, &png(5000));
        let shown = avatar(&server).body;
        assert_eq!(put_one.body["id"], shown["id"]);
        assert_eq!(shown["picture"], base64(&png(5000)));
        assert_eq!((&shown["type"], &shown["bytes"]), (&json!("image/png"), &json!(5000)));
        let id = shown["id"].as_str().unwrap().to_owned();
        assert_eq!(told(&server, &since)[0]["avatar"]["id"], id);
        let mut bob = login(&server, "bob");
        let items = |node: &str, id: &str| {
            format!(
                "<iq type='get' id='{id}' to='alice@example.org'><pubsub xmlns='http://jabber.org/protocol/pubsub'>\
                 <items node='urn:xmpp:avatar:{node}'/></pubsub></iq>"
            )
        };
        let metadata = ask(&mut bob, &items("metadata", "m1"), "m1");
        assert!(metadata.contains(&id) && metadata.contains("image/png"), "{metadata}");
        assert!(ask(&mut bob, &items("data", "d1"), "d1").contains(&base64(&png(5000))));

        for kind in [b"GIF89a....".as_slice(), b"\xff\xd8\xff\xe0...."] {
            assert_eq!(put(&server, kind).body["bytes"], kind.len());
        }
        assert_eq!(avatar(&server).body["type"], "image/jpeg");
        server.restart(BOOTSTRAP_SECRET);
        assert_eq!(avatar(&server).body["type"], "image/jpeg");
        let since = seq(&server);
        expect(&put(&server, b""), 200, json!({}));
        assert_eq!(avatar(&server).error(), "no_avatar");
        assert_eq!(told(&server, &since)[0].get("avatar"), None);
        let mut bob = login(&server, "bob");
        assert!(!ask(&mut bob, &items("metadata", "m2"), "m2").contains("<item "));
        for (picture, status) in [
            (base64(&png(1 << 20)), 200),
            (base64(&png((1 << 20) + 1)), 400),
            ("A".repeat(1600 * 1024), 413),
            (base64(b"RIFF....WEBP"), 400),
            (base64(b"<svg/>"), 400),
            ("%%%".into(), 400),
        ] {
            let started = Instant::now();
            let answer = server.call("set_avatar", of("alice", json!({"picture": picture})));
            assert_eq!(answer.status, status, "{answer:?}");
            eprintln!("{} bytes of base64: {status} in {:?}", picture.len(), started.elapsed());
        }
        let started = Instant::now();
        assert_eq!(avatar(&server).body["bytes"], 1 << 20);
        eprintln!("read back in {:?}", started.elapsed());
        // No other verb takes so much.
        let long = json!({"nickname": "n".repeat(20_000)});
        assert_eq!(set(&server, "alice", long).error(), "too_large");
    });
}

#[test]
fn a_clients_own_picture_is_told() {
    each(|server| {
        create(&server, "alice", "prosody:member");
        let mut alice = login(&server, "alice");
        let since = seq(&server);
        let id = "0123456789abcdef0123456789abcdef01234567";
        let publish = format!(
            "<iq type='set' id='p1'><pubsub xmlns='http://jabber.org/protocol/pubsub'>\
             <publish node='urn:xmpp:avatar:metadata'><item id='{id}'><metadata xmlns='urn:xmpp:avatar:metadata'>\
             <info id='{id}' bytes='7' type='image/png'/></metadata></item></publish></pubsub></iq>"
        );
        ask(&mut alice, &publish, "p1");
        assert_eq!(
            told(&server, &since)[0]["avatar"],
            json!({"id": id, "bytes": 7, "type": "image/png"})
        );
        // What it says may be nonsense: then it isn't told.
        for (number, bytes) in
            ["1e999", "nan", "-1", "0x7", "9999999999999999999999"].into_iter().enumerate()
        {
            let nonsense = publish.replace("bytes='7'", &format!("bytes='{bytes}'"));
            let p = format!("n{number}");
            ask(&mut alice, &nonsense.replace("p1", &p), &p);
            let avatar = told(&server, &since).last().unwrap()["avatar"].clone();
            assert_eq!(avatar, json!({"id": id, "type": "image/png"}), "{bytes}");
        }
        // It said nothing of the data, so there is none.
        assert_eq!(server.call("avatar", of("alice", json!({}))).error(), "no_avatar");
        let retract = format!(
            "<iq type='set' id='p2'><pubsub xmlns='http://jabber.org/protocol/pubsub'>\
             <retract node='urn:xmpp:avatar:metadata'><item id='{id}'/></retract></pubsub></iq>"
        );
        ask_result(&mut alice, &retract, "p2");
        until(|| told(&server, &since).last().unwrap().get("avatar").is_none());
    });
}

#[test]
fn many_profiles_are_read_at_once() {
    each(|server| {
        let names: Vec<String> = (0..64).map(|number| format!("member{number:02}")).collect();
        for name in &names {
            create(&server, name, "prosody:member");
            set(&server, name, json!({"nickname": format!("Number {name}")}));
        }
        server.call("set_avatar", of("member07", json!({"picture": base64(&png(100))})));
        let mut asked = names.clone();
        asked[0] = "nobody".into();
        let started = Instant::now();
        let answer =
            server.call("profiles", json!({"host": DOMAIN, "localparts": asked}).to_string());
        eprintln!("64 profiles in {:?}", started.elapsed());
        let profiles = answer.body["profiles"].as_array().unwrap();
        assert_eq!((profiles.len(), &answer.body["seq"]), (63, &seq(&server)));
        assert_eq!(profiles[0], json!({"localpart": "member01", "nickname": "Number member01"}));
        assert_eq!(profiles[6]["avatar"]["type"], "image/png");
        for localparts in
            [json!([]), json!({}), json!("alice"), json!([1]), json!(vec!["a"; 65]), json!([["a"]])]
        {
            let body = json!({"host": DOMAIN, "localparts": localparts});
            assert_eq!(server.call("profiles", body.to_string()).error(), "malformed", "{body}");
        }
    });
}

#[test]
fn what_cannot_be_in_a_profile_is_refused_and_all_else_only_text() {
    each(|server| {
        create(&server, "alice", "prosody:member");
        create(&server, "bob", "prosody:member");
        for (more, status) in [
            (json!({}), 200),
            (json!({"nickname": 7}), 400),
            (json!({"nickname": null}), 400),
            (json!({"nickname": ["a"]}), 400),
            (json!({"nickname": "n".repeat(257)}), 400),
            (json!({"nickname": "\u{ffff}"}), 400),
            (json!({"kind": "robot"}), 400),
            (json!({"accent_color": "red"}), 400),
            (json!({"accent_color": "#1972f5;"}), 400),
            (json!({"api_url": "javascript:alert(1)"}), 400),
            (json!({"api_url": "https://a b"}), 400),
            (json!({"email": "a@b"}), 400),
        ] {
            assert_eq!(set(&server, "alice", more.clone()).status, status, "{more}");
        }
        assert_eq!(set(&server, "nobody", json!({"nickname": "x"})).error(), "no_such_account");
        let mut bob = login(&server, "bob");
        for (number, text) in HOSTILE.into_iter().enumerate() {
            let answer = set(&server, "alice", json!({"nickname": text}));
            let is_line = !text.contains(['\n', '\r', '\0', '\u{7f}']);
            assert_eq!(answer.status, if is_line { 200 } else { 400 }, "{text:?}");
            if is_line {
                assert_eq!(profile(&server, "alice")["nickname"], text);
            }
            // A client's stream survives to be shown it.
            let iq = format!(
                "<iq type='get' id='h{number}' to='alice@example.org'><vcard xmlns='urn:ietf:params:xml:ns:vcard-4.0'/></iq>"
            );
            ask(&mut bob, &iq, &format!("h{number}"));
        }
        assert!(!server.log().contains("traceback"), "{}", server.log());
    });
}
