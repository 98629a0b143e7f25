//! The roster that every member has without doing anything.

use std::fs;
use std::path::Path;

use appliance::settings::Prosody;
use serde_json::json;
use vm_tests::server::{BOOTSTRAP_SECRET, Client, Server};

use super::{DOMAIN, create, each, of};

const ROSTER: &str = "<iq type='get' id='r'><query xmlns='jabber:iq:roster'/></iq>";

fn login(server: &Server, name: &str, resource: &str) -> Client {
    let password = format!("{name}'s password");
    Client::login(server.c2s(), DOMAIN, name, &password, resource).unwrap()
}

/// Its roster, from here on with pushes.
fn roster(client: &mut Client) -> String {
    client.send(&ROSTER.replace("'r'", "'roster'")).unwrap();
    client.wait_for("id='roster'").unwrap();
    client.wait_for("</query></iq>").unwrap()
}

/// The item of somebody.
fn item<'a>(roster: &'a str, name: &str) -> Option<&'a str> {
    let jid = format!("jid='{name}@{DOMAIN}'");
    roster.split("<item").find(|item| item.contains(&jid))
}

fn is_colleague(roster: &str, name: &str) -> bool {
    item(roster, name).is_some_and(|item| {
        item.contains("subscription='both'") && item.contains("<group>Team</group>")
    })
}

/// All that comes up to the end of one.
fn removal(client: &mut Client) -> String {
    let before = client.wait_for("subscription='remove'").unwrap();
    before + &client.wait_for("</iq>").unwrap()
}

fn available(client: &mut Client) {
    client.send("<presence/>").unwrap();
}

#[test]
fn members_see_each_other_without_a_request() {
    each(|mut server| {
        for (name, role) in [
            ("alice", "prosody:admin"),
            ("bob", "prosody:member"),
            ("prose-workspace", "prosody:registered"),
            ("probe", "prosody:registered"),
        ] {
            create(&server, name, role);
        }
        let mut alice = login(&server, "alice", "a");
        let seen = roster(&mut alice);
        assert!(is_colleague(&seen, "bob") && is_colleague(&seen, "prose-workspace"), "{seen}");
        assert!(item(&seen, "probe").is_none() && item(&seen, "alice").is_none(), "{seen}");
        available(&mut alice);
        alice.wait_for("from='alice@example.org/a'").unwrap();
        let mut bob = login(&server, "bob", "b");
        assert!(is_colleague(&roster(&mut bob), "alice"));
        available(&mut bob);
        // Both are told of the other's presence.
        bob.wait_for("from='alice@example.org/a'").unwrap();
        alice.wait_for("from='bob@example.org/b'").unwrap();

        // Who comes is pushed to those who are there, and sees them.
        create(&server, "carol", "prosody:member");
        let push = alice.wait_for("</iq>").unwrap();
        assert!(is_colleague(&push, "carol") && push.contains("type='set'"), "{push}");
        let mut carol = login(&server, "carol", "c");
        let seen = roster(&mut carol);
        assert!(is_colleague(&seen, "alice") && is_colleague(&seen, "bob"), "{seen}");
        available(&mut carol);
        alice.wait_for("from='carol@example.org/c'").unwrap();
        // Who is no member any more is gone, and who becomes one comes.
        server.call("set_role", of("carol", json!({"role": "prosody:registered"})));
        let left = removal(&mut alice);
        assert!(
            left.contains("jid='carol@example.org'") && left.contains("type='unavailable'"),
            "{left}"
        );
        server.call("set_role", of("carol", json!({"role": "prosody:member"})));
        assert!(is_colleague(&alice.wait_for("</iq>").unwrap(), "carol"));
        server.call("delete_account", of("bob", json!({})));
        let left = removal(&mut alice);
        assert!(
            left.contains("type='unavailable'") && left.contains("jid='bob@example.org'"),
            "{left}"
        );
        assert!(!left.contains("unsubscribe"), "{left}");

        let mut again = login(&server, "alice", "again");
        let seen = roster(&mut again);
        assert!(is_colleague(&seen, "carol") && item(&seen, "bob").is_none(), "{seen}");
        assert!(!has_rosters(&server), "nothing of it is kept");
        server.restart(BOOTSTRAP_SECRET);
        let seen = roster(&mut login(&server, "alice", "a"));
        assert!(is_colleague(&seen, "carol") && is_colleague(&seen, "prose-workspace"), "{seen}");
        assert!(!server.log().contains("traceback"), "{}", server.log());
    });
}

/// Has it stored any roster?
fn has_rosters(server: &Server) -> bool {
    let folder = Path::new(&server.place.data).join("example%2eorg/roster");
    fs::read_dir(folder).is_ok_and(|entries| {
        entries.flatten().any(|entry| fs::read_to_string(entry.path()).unwrap().contains('@'))
    })
}

#[test]
fn what_members_make_of_it_is_kept_and_the_rest_stays() {
    each(|mut server| {
        for name in ["alice", "bob", "carol"] {
            create(&server, name, "prosody:member");
        }
        let mut alice = login(&server, "alice", "a");
        roster(&mut alice);
        let set = |item: &str, id: &str| {
            format!("<iq type='set' id='{id}'><query xmlns='jabber:iq:roster'>{item}</query></iq>")
        };
        let renamed = "<item jid='bob@example.org' name='Bobby'><group>Friends</group></item>";
        alice.send(&set(renamed, "s1")).unwrap();
        let push = alice.wait_for("</query></iq>").unwrap();
        assert!(
            is_colleague(&push, "bob") && push.contains("Friends") && push.contains("Bobby"),
            "{push}"
        );
        // Nobody leaves the team by a client.
        alice.send(&set("<item jid='bob@example.org' subscription='remove'/>", "s2")).unwrap();
        let refused = alice.wait_for("</iq>").unwrap();
        assert!(refused.contains("type='error'") && refused.contains("not-allowed"), "{refused}");
        for kind in ["unsubscribe", "unsubscribed", "subscribed"] {
            alice.send(&format!("<presence type='{kind}' to='carol@example.org'/>")).unwrap();
            assert!(is_colleague(&alice.wait_for("</iq>").unwrap(), "carol"), "{kind}");
        }
        // Strangers are as ever.
        alice.send(&set("<item jid='dora@elsewhere.example' name='Dora'/>", "s3")).unwrap();
        alice.wait_for("</query></iq>").unwrap();
        let kept = |server: &Server| {
            let path = Path::new(&server.place.data).join("example%2eorg/roster/alice.dat");
            fs::read_to_string(path).unwrap()
        };
        let text = kept(&server);
        assert!(
            text.contains("Bobby") && text.contains("Dora") && !text.contains("carol"),
            "{text}"
        );
        assert!(!text.contains("Team") && !text.contains("both"), "{text}");
        server.restart(BOOTSTRAP_SECRET);
        let mut alice = login(&server, "alice", "a");
        let seen = roster(&mut alice);
        let bob = item(&seen, "bob").unwrap();
        assert!(
            is_colleague(&seen, "bob") && bob.contains("name='Bobby'") && bob.contains("Friends")
        );
        assert!(item(&seen, "dora@elsewhere").is_none() && seen.contains("Dora"), "{seen}");
        // Who is gone leaves nothing, not even what was made of them.
        drop(alice);
        server.call("delete_account", of("bob", json!({})));
        server.restart(BOOTSTRAP_SECRET);
        let mut alice = login(&server, "alice", "a");
        assert!(item(&roster(&mut alice), "bob").is_none());
    });
}

#[test]
fn a_client_is_told_of_the_teams_nicknames_and_the_workspace() {
    each(|server| {
        create(&server, "alice", "prosody:member");
        create(&server, "prose-workspace", "prosody:registered");
        let picture = "iVBORw0KGgoAAAANSUhEUg==";
        server.call("set_avatar", of("prose-workspace", json!({"picture": picture})));
        // One that may read what only contacts may: it is subscribed.
        let mut alice = login(&server, "alice", "a");
        roster(&mut alice);
        let items = "<iq type='get' id='i1' to='prose-workspace@example.org'>\
                     <pubsub xmlns='http://jabber.org/protocol/pubsub'><items node='urn:xmpp:avatar:data'/></pubsub></iq>";
        alice.send(items).unwrap();
        let said = alice.wait_for("</iq>").unwrap();
        assert!(said.contains(picture), "{said}");
    });
}

#[test]
fn a_team_of_many_costs_little() {
    each(|server| {
        // Hashing passwords takes the longest: 0.12 and 13.0 alike.
        let many = if server.version() == Prosody::V0_12 { 60 } else { 120 };
        for number in 0..many {
            create(&server, &format!("member{number}"), "prosody:member");
        }
        let started = std::time::Instant::now();
        let mut one = login(&server, "member0", "r");
        let seen = roster(&mut one);
        eprintln!("a roster of {many} after {:?}", started.elapsed());
        assert_eq!(seen.matches("<item").count(), many - 1);
        assert!(!has_rosters(&server), "nothing of it is kept");
    });
}
