//! The members page: lists, searches, profiles, roles, and the end of an account.

use serde_json::{Value, json};
use vm_tests::host::{ADMIN, DOMAIN, PASSWORD, Pod, each, jid, wait_for};
use vm_tests::server::{Answer, Asked, base64};

use crate::workspace::{DATA, METADATA, PNG, VCARD, items};

const COUNT: &str = "pagination-item-count";

/// Makes so many members, all at once; the API has heard of them.
fn crowd(pod: &Pod, admin: &str, names: &[&str]) {
    for name in names {
        pod.make_account(name, PASSWORD, "prosody:member");
    }
    let last = names.last().copied().unwrap_or(ADMIN);
    wait_for("the API's notice of them", || {
        (pod.get(&format!("/v1/members/{last}@{DOMAIN}"), admin).status == 200).then_some(())
    });
}

fn jids(answer: &Answer) -> Vec<&str> {
    answer.body.as_array().unwrap().iter().map(|it| it["jid"].as_str().unwrap()).collect()
}

/// Its events, each a name, an id and the data; comments are left out.
pub fn events(answer: &Answer) -> Vec<(String, String, Value)> {
    let text = answer.body.as_str().unwrap();
    let blocks = text.split("\n\n").filter(|block| block.contains("event: "));
    let events = blocks.map(|block| {
        let field = |name: &str| {
            let mut found = block.lines().filter_map(|line| line.strip_prefix(name));
            found.next().unwrap_or_else(|| panic!("no {name}in {block}")).to_owned()
        };
        let data = serde_json::from_str(&field("data: ")).unwrap();
        (field("event: "), field("id: "), data)
    });
    events.collect()
}

#[test]
fn the_dashboard_shows_its_members() {
    each(|pod| {
        let admin = pod.make_admin();
        crowd(&pod, &admin, &["bob", "carol"]);
        let _bob = pod.client("bob").unwrap();
        let page = pod.get("/v1/members?page_number=1&page_size=40", &admin);
        assert_eq!((page.status, page.header(COUNT)), (200, Some("3")));
        assert_eq!(jids(&page), ["alice@example.org", "bob@example.org", "carol@example.org"]);
        wait_for("Bob's presence", || {
            let bob = pod.get("/v1/members/bob@example.org", &admin);
            (bob.body["online"] == true).then_some(())
        });
        let query = "jids=alice%40example.org&jids=bob%40example.org&jids=carol%40example.org";
        let stream = pod.events(&format!("/v1/enrich-members?{query}"), &admin);
        assert_eq!(stream.header("content-type"), Some("text/event-stream"));
        let events = events(&stream);
        assert_eq!(events.len(), 4);
        let bob = events.iter().find(|(_, id, _)| id == "bob@example.org").unwrap();
        assert_eq!((&bob.0[..], &bob.2["jid"]), ("enriched-member", &json!("bob@example.org")));
        assert_eq!((&bob.2["online"], &bob.2["role"]), (&json!(true), &json!("MEMBER")));
    });
}

#[test]
fn c07_a_demotion_and_the_end_of_an_account_take_effect_at_once() {
    each(|pod| {
        let admin = pod.make_admin();
        let bob = pod.make_member("bob");
        let role = |role: &str| pod.put("/v1/members/bob@example.org/role", &admin, json!(role));
        let promoted = role("ADMIN");
        assert_eq!((promoted.status, promoted.body), (200, json!("ADMIN")));
        assert_eq!(pod.get("/v1/pod/config", &bob).status, 200);
        let mut client = pod.client("bob").unwrap();
        assert_eq!(role("MEMBER").status, 200);
        let refused = pod.get("/v1/pod/config", &bob);
        assert_eq!((refused.status, refused.error()), super::AFTER_DEMOTION);
        // His client was let go: what it may do is another now.
        client.wait_for("</stream:stream>").unwrap();
        assert_eq!(role("MEMBER").status, 200, "the same again");
        let bob = pod.log_in("bob");
        assert_eq!(pod.get("/v1/pod/config", &bob).error(), "forbidden");
        let mut client = pod.client("bob").unwrap();
        assert_eq!(pod.delete("/v1/members/bob@example.org", &admin).status, 204);
        let gone = pod.get("/v1/members", &bob);
        assert_eq!((gone.status, gone.error()), (401, "unauthorized"));
        client.wait_for("</stream:stream>").unwrap();
        assert!(pod.client("bob").is_err(), "he can't come back");
        assert_eq!(pod.delete("/v1/members/bob@example.org", &admin).status, 204, "once more");
        assert_eq!(pod.try_log_in(&jid("bob"), PASSWORD).error(), "invalid_credentials");
    });
}

#[test]
fn c10_members_come_in_pages() {
    each(|pod| {
        let admin = pod.make_admin();
        let names: Vec<String> = (0..41).map(|number| format!("member{number:02}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        crowd(&pod, &admin, &names[..12]);
        let page = pod.get("/v1/members?page_number=2&page_size=2", &admin);
        assert_eq!(page.status, 206);
        assert_eq!(jids(&page), ["member01@example.org", "member02@example.org"]);
        for (name, value) in [
            ("pagination-current-page", "2"),
            ("pagination-page-size", "2"),
            ("pagination-page-count", "7"),
            (COUNT, "13"),
        ] {
            assert_eq!(page.header(name), Some(value), "{name}");
        }
        crowd(&pod, &admin, &names[12..]);
        let last = pod.get("/v1/members?page_number=3&page_size=20", &admin);
        assert_eq!((last.status, jids(&last).len()), (200, 2));
        let beyond = pod.get("/v1/members?page_number=9", &admin);
        assert_eq!((beyond.status, beyond.body), (200, json!([])));
        for query in ["page_number=0", "page_size=0", "page_number=x", "page_size=-1"] {
            let answer = pod.get(&format!("/v1/members?{query}"), &admin);
            assert_eq!((answer.status, answer.error()), (400, "unknown"), "{query}");
        }
        // All of a page at once: a long line.
        let asked: Vec<String> =
            names[..40].iter().map(|name| format!("jids={name}%40example.org")).collect();
        let enriched = pod.get(&format!("/v1/enrich-members?{}", asked.join("&")), &admin);
        assert_eq!(enriched.body.as_object().unwrap().len(), 40);
    });
}

#[test]
fn c11_how_many_there_are_is_told_to_members_alone() {
    each(|pod| {
        let admin = pod.make_admin();
        pod.make_member("bob");
        for (path, status) in [("/v1/members", 200), ("/v1/members?page_size=1", 206)] {
            let answer = pod.get(path, &admin);
            assert_eq!((answer.status, answer.header(COUNT)), (status, Some("2")), "{path}");
        }
        let head = pod.head("/v1/members", &admin);
        assert!([200, 206].contains(&head.status), "{head:?}");
        assert_eq!((head.header(COUNT), &head.body), (Some("2"), &json!("")));
        for answer in [pod.get("/v1/members", ""), pod.head("/v1/members", "null")] {
            assert_eq!((answer.status, answer.header(COUNT)), (401, None));
        }
    });
}

#[test]
fn c12_a_search_finds_names_whatever_their_accents() {
    each(|pod| {
        let admin = pod.make_admin();
        let bob = pod.make_member("bob");
        crowd(&pod, &admin, &["oliver", "dave"]);
        let named = pod.put("/v1/members/bob@example.org/nickname", &bob, json!("Bób Lindqvist"));
        assert_eq!(named.status, 204);
        for (search, found) in [
            ("li", &["alice", "bob", "oliver"][..]),
            ("LIND", &["bob"]),
            ("b%C3%B3b", &["bob"]),
            ("bob", &["bob"]),
            ("lindqvist%20dave", &["bob", "dave"]),
            ("nobody", &[]),
            ("", &["alice", "bob", "dave", "oliver"]),
            ("%25%27%22%3B--", &[]),
        ] {
            let answer = pod.get(&format!("/v1/members?q={search}"), &admin);
            let found: Vec<String> = found.iter().copied().map(jid).collect();
            assert_eq!(
                (answer.status, jids(&answer)),
                (200, found.iter().map(String::as_str).collect()),
                "{search}"
            );
        }
        let rows = pod.get("/v1/members?q=bob", &admin).body;
        for key in ["jid", "role", "online", "nickname", "email", "avatar"] {
            assert!(rows[0].get(key).is_some(), "{key}: {rows}");
        }
    });
}

#[test]
fn c13_some_are_enriched_one_after_the_other() {
    each(|pod| {
        let admin = pod.make_admin();
        pod.make_member("bob");
        for spelling in ["jids", "jids[]", "jids%5B%5D"] {
            let query = format!(
                "{spelling}=alice@example.org&{spelling}=nobody@example.org&\
                 {spelling}=bob%40example.org&{spelling}=bob@elsewhere.org&{spelling}=x"
            );
            let stream = pod.events(&format!("/v1/enrich-members?{query}"), &admin);
            let mut events = events(&stream);
            let end = events.pop().unwrap();
            assert_eq!((end.0.as_str(), end.1.as_str(), end.2), ("end", "end", json!({})));
            let ids: std::collections::BTreeSet<&str> =
                events.iter().map(|(_, id, _)| id.as_str()).collect();
            assert_eq!(ids, ["alice@example.org", "bob@example.org"].into(), "{spelling}");
            assert_eq!(events.len(), 2);
            for (event, id, data) in &events {
                assert_eq!((event.as_str(), &data["jid"]), ("enriched-member", &json!(id)));
            }
        }
    });
}

#[test]
fn c14_some_are_enriched_by_jid() {
    each(|pod| {
        let admin = pod.make_admin();
        pod.make_member("bob");
        let query = "jids=alice@example.org&jids[]=bob@example.org&jids=nobody@example.org";
        let answer = pod.get(&format!("/v1/enrich-members?{query}"), &admin);
        let by_jid = answer.body.as_object().unwrap();
        assert_eq!(by_jid.len(), 2);
        let alice = &by_jid["alice@example.org"];
        assert_eq!((&alice["nickname"], &alice["role"]), (&json!("Alice"), &json!("ADMIN")));
        assert_eq!(pod.get("/v1/enrich-members", &admin).body, json!({}));
        assert_eq!(pod.get(&format!("/v1/enrich-members?{query}"), "").status, 401);
    });
}

#[test]
fn c15_a_bare_number_is_a_name_too() {
    each(|pod| {
        let admin = pod.make_admin();
        for (body, shown) in [("2024", "2024"), ("true", "true"), ("1.50", "1.50"), ("\"x\"", "x")]
        {
            let put = |path: &str| {
                let asked = Asked::new("PUT", &format!("/api{path}"), body);
                pod.ask(&asked.with("Content-Type: application/json").bearer(&admin))
            };
            assert_eq!(put("/v1/members/alice@example.org/nickname").status, 204, "{body}");
            let nickname = &pod.get("/v1/members/alice@example.org", &admin).body["nickname"];
            assert_eq!(nickname, shown);
            let named = put("/v1/workspace/name");
            assert_eq!((named.status, named.body), (200, json!(shown)), "{body}");
            // What it isn't: a role.
            assert_eq!(put("/v1/members/bob@example.org/role").status, 422, "{body}");
        }
    });
}

#[test]
fn what_cannot_be_done_with_a_member_is_refused() {
    each(|pod| {
        let admin = pod.make_admin();
        let bob = pod.make_member("bob");
        let (alice_is, bob_is) = ("/v1/members/alice@example.org", "/v1/members/bob@example.org");
        let role = |path: &str| format!("{path}/role");
        let nickname = |path: &str| format!("{path}/nickname");
        for (method, path, token, body, status, error) in [
            ("PUT", role(alice_is), &admin, json!("ADMIN"), 403, "cannot_change_own_role"),
            ("PUT", role(alice_is), &admin, json!("MEMBER"), 403, "cannot_change_own_role"),
            ("PUT", role(bob_is), &admin, json!("OWNER"), 422, "unknown"),
            ("PUT", role(bob_is), &bob, json!("ADMIN"), 403, "forbidden"),
            (
                "PUT",
                role("/v1/members/x@example.org"),
                &admin,
                json!("ADMIN"),
                404,
                "member_not_found",
            ),
            ("PUT", role("/v1/members/bob"), &admin, json!("ADMIN"), 400, "unknown"),
            ("DELETE", alice_is.into(), &admin, json!(null), 403, "cannot_remove_self"),
            ("DELETE", bob_is.into(), &bob, json!(null), 403, "forbidden"),
            (
                "DELETE",
                "/v1/members/bob@elsewhere.org".into(),
                &admin,
                json!(null),
                404,
                "member_not_found",
            ),
            ("PUT", nickname(bob_is), &admin, json!("Bob"), 403, "forbidden"),
            ("PUT", nickname(alice_is), &bob, json!("Al"), 403, "forbidden"),
            ("PUT", nickname(bob_is), &bob, json!("x".repeat(49)), 422, "unknown"),
            ("PUT", nickname(bob_is), &bob, json!("a\u{7}b"), 422, "unknown"),
            (
                "GET",
                "/v1/members/nobody@example.org".into(),
                &bob,
                json!(null),
                404,
                "member_not_found",
            ),
            // This one doesn't get past the front.
            ("GET", "/v1/members/%00@example.org".into(), &bob, json!(null), 400, "bad_request"),
        ] {
            let answer = pod.send(method, &path, token, body);
            assert_eq!((answer.status, answer.error()), (status, error), "{method} {path}");
        }
    });
}

#[test]
fn members_see_each_other_without_a_request() {
    each(|pod| {
        let admin = pod.make_admin();
        let mut alice = pod.session(ADMIN);
        assert!(!alice.roster().contains("bob@example.org"));
        pod.make_member("bob");
        // She is told while she is online.
        let push = alice.wait_for("iq", "bob@example.org").unwrap();
        assert!(push.contains("subscription=\"both\""), "{push}");
        let mut bob = pod.session("bob");
        let roster = bob.roster();
        assert!(roster.contains("alice@example.org"), "{roster}");
        assert!(!roster.contains("subscription=\"none\""), "{roster}");
        for (who, whom) in [(&mut alice, "bob"), (&mut bob, "alice")] {
            let from = format!("from=\"{whom}@example.org/");
            who.wait_for("presence", &from).unwrap();
        }
        bob.message("alice@example.org", "hello from Bob");
        alice.wait_for("message", "hello from Bob").unwrap();
        assert_eq!(pod.delete("/v1/members/bob@example.org", &admin).status, 204);
        bob.wait_for("disconnected", "").unwrap();
        wait_for("the end of Bob in her roster", || {
            (!alice.roster().contains("bob@example.org")).then_some(())
        });
    });
}

#[test]
fn chat_clients_and_the_api_see_the_same_profile() {
    each(|pod| {
        let admin = pod.make_admin();
        let bob = pod.make_member("bob");
        let mut alice = pod.session(ADMIN);
        let named = pod.put("/v1/members/bob@example.org/nickname", &bob, json!("Bób \"]]\""));
        assert_eq!(named.status, 204);
        let asked = Asked::new("PUT", "/api/v1/members/bob@example.org/avatar", base64(PNG));
        let picture = |token: &str| asked.clone().with("Content-Type: text/plain").bearer(token);
        assert_eq!(pod.ask(&picture(&admin)).error(), "forbidden");
        let taken = pod.ask(&picture(&bob));
        assert_eq!((taken.status, &taken.body), (204, &json!("")));
        for (node, text) in [(VCARD, "Bób \"]]\""), (METADATA, "image/png"), (DATA, &base64(PNG))]
        {
            let xml = alice.iq("get", "bob@example.org", &items(node)).unwrap();
            assert!(xml.replace("&quot;", "\"").contains(text), "{node}: {xml}");
        }
        let shown = pod.get("/v1/members/bob@example.org", &admin).body;
        assert_eq!(shown["nickname"], "Bób \"]]\"");
        assert_eq!(shown["avatar"], json!({"base64": base64(PNG), "type": "image/png"}));
        // The other way round: what a client publishes, the API shows.
        let nick = "<pubsub xmlns='http://jabber.org/protocol/pubsub'>\
            <publish node='http://jabber.org/protocol/nick'><item id='current'>\
            <nick xmlns='http://jabber.org/protocol/nick'>Al of the client</nick>\
            </item></publish></pubsub>";
        alice.iq("set", "", nick).unwrap();
        wait_for("her nickname", || {
            let alice = pod.get("/v1/members/alice@example.org", &admin);
            (alice.body["nickname"] == "Al of the client").then_some(())
        });
        assert_eq!(pod.get("/v1/members?q=client", &admin).header(COUNT), Some("1"));
    });
}
