//! What is done with a member: their role, their nickname, the end of their account.

use std::sync::Arc;

use serde_json::json;
use tokio::join;

use super::server::FakeServer;
use super::{PASSWORD, World, until};

const ACCOUNTS: [(&str, &str); 4] = [
    ("alice", "prosody:admin"),
    ("bob", "prosody:member"),
    ("carol", "prosody:admin"),
    ("prose-workspace", "prosody:registered"),
];

/// With two admins; and the token of one.
async fn world() -> (World, String) {
    let world = World::with(&ACCOUNTS).await;
    let token = world.token("alice").await;
    (world, token)
}

fn path(name: &str) -> String {
    format!("/v1/members/{name}@example.org")
}

fn role(name: &str) -> String {
    format!("/v1/members/{name}@example.org/role")
}

fn asked(server: &Arc<FakeServer>, verb: &str) -> usize {
    server.state().asked.iter().filter(|it| **it == verb).count()
}

#[tokio::test]
async fn an_admin_makes_admins() {
    let (world, alice) = world().await;
    let bob = world.token("bob").await;
    for _ in 0..2 {
        let answer = world.put_as(&alice, &role("bob"), "\"ADMIN\"").await;
        assert_eq!((answer.status, answer.json()), (200, json!("ADMIN")));
        assert_eq!(answer.header("content-type"), Some("application/json"));
        // At once, before the Server tells.
        let shown = world.ask_as(&alice, "GET", &path("bob")).await;
        assert_eq!(shown.json()["role"], json!("ADMIN"));
    }
    assert_eq!(asked(&world.server, "set_role"), 1);
    // More than before: the token stays, and may more.
    assert_eq!(world.put_as(&bob, &role("carol"), "\"MEMBER\"").await.status, 200);
}

/// What only admins may ask for, and what any member may.
const FOR_ADMINS: &str = "/v1/server/config/tls-profile";
const FOR_MEMBERS: &str = "/v1/members";

#[tokio::test]
async fn c07_a_demoted_admins_token_is_void_and_they_are_told_where_admins_are() {
    let (world, alice) = world().await;
    let carol = world.token("carol").await;
    let is_void = async |world: &World| {
        let answer = world.ask_as(&carol, "GET", FOR_ADMINS).await;
        assert_eq!((answer.status, answer.error().as_str()), (403, "forbidden"));
        let answer = world.ask_as(&carol, "GET", FOR_MEMBERS).await;
        assert_eq!((answer.status, answer.error().as_str()), (401, "unauthorized"));
        let anybodys = world.ask_as(&carol, "GET", "/v1/server/config").await;
        assert_eq!((anybodys.status, anybodys.json()), (200, json!({ "domain": "example.org" })));
    };
    assert_eq!(world.ask_as(&carol, "GET", FOR_ADMINS).await.status, 200);
    let answer = world.put_as(&alice, &role("carol"), "\"MEMBER\"").await;
    assert_eq!(answer.status, 200);
    is_void(&world).await;
    // An admin again: the old token stays void.
    let answer = world.put_as(&alice, &role("carol"), "\"ADMIN\"").await;
    assert_eq!(answer.status, 200);
    is_void(&world).await;
    let again = world.token("carol").await;
    assert_eq!(world.ask_as(&again, "GET", FOR_ADMINS).await.status, 200);
    let world = world.restart().await;
    world.in_step().await;
    is_void(&world).await;
    // A member who is deleted has nothing that was ever good.
    let answer = world.ask_as(&alice, "DELETE", &path("carol")).await;
    assert_eq!(answer.status, 204);
    for path in [FOR_ADMINS, FOR_MEMBERS] {
        let answer = world.ask_as(&carol, "GET", path).await;
        assert_eq!((answer.status, answer.error().as_str()), (401, "unauthorized"));
    }
}

#[tokio::test]
async fn c07_a_demotion_by_others_voids_tokens_too() {
    let (world, alice) = world().await;
    let (bob, carol) = (world.token("bob").await, world.token("carol").await);
    world.server.set_role("carol", "prosody:member");
    world.server.set_role("bob", "prosody:admin");
    world.caught_up().await;
    let void = async |world: &World, token: &str| {
        let asked = async |path| world.ask_as(token, "GET", path).await.status;
        (asked(FOR_ADMINS).await, asked(FOR_MEMBERS).await)
    };
    assert_eq!(void(&world, &carol).await, (403, 401));
    assert_eq!(void(&world, &bob).await, (200, 200));
    // While nobody looked; what they were is remembered.
    world.server.go_down();
    until("it is out of step", || !world.pod.is_linked()).await;
    world.server.set_role("alice", "prosody:registered");
    world.server.set_role("bob", "prosody:member");
    world.server.restart(&world.init.secret_of_a_new_server());
    let world = world.restart().await;
    world.in_step().await;
    for token in [&alice, &bob, &carol] {
        assert_eq!(void(&world, token).await, (403, 401));
    }
}

#[tokio::test]
async fn a_demotion_ends_the_tokens_at_once() {
    let (world, alice) = world().await;
    let carol = world.token("carol").await;
    assert_eq!(world.ask_as(&carol, "GET", "/v1/members").await.status, 200);
    let answer = world.put_as(&alice, &role("carol"), "\"MEMBER\"").await;
    assert_eq!((answer.status, answer.json()), (200, json!("MEMBER")));
    let answer = world.ask_as(&carol, "GET", "/v1/members").await;
    assert_eq!((answer.status, answer.error().as_str()), (401, "unauthorized"));
    let again = world.token("carol").await;
    let answer = world.put_as(&again, &role("bob"), "\"ADMIN\"").await;
    assert_eq!((answer.status, answer.error().as_str()), (403, "forbidden"));
    let world = world.restart().await;
    world.in_step().await;
    assert_eq!(world.ask_as(&carol, "GET", "/v1/members").await.status, 401);
    assert_eq!(world.ask_as(&again, "GET", "/v1/members").await.status, 200);
}

#[tokio::test]
async fn a_demotion_whose_answer_gets_lost_ends_them_too() {
    let (world, alice) = world().await;
    let carol = world.token("carol").await;
    world.server.state().loses_to = Some("set_role");
    let lost = world.put_as(&alice, &role("carol"), "\"MEMBER\"").await;
    assert_eq!((lost.status, lost.error().as_str()), (500, "internal_server_error"));
    assert_eq!(world.ask_as(&carol, "GET", "/v1/members").await.status, 401);
    // Said again, it is done already.
    assert_eq!(world.put_as(&alice, &role("carol"), "\"MEMBER\"").await.status, 200);
}

#[tokio::test]
async fn a_deleted_member_is_gone_with_all_their_tokens() {
    let (world, alice) = world().await;
    let bob = world.token("bob").await;
    for _ in 0..2 {
        let answer = world.ask_as(&alice, "DELETE", &path("bob")).await;
        assert_eq!((answer.status, answer.body.as_str()), (204, ""));
        let answer = world.ask_as(&alice, "GET", &path("bob")).await;
        assert_eq!((answer.status, answer.error().as_str()), (404, "member_not_found"));
        let answer = world.ask_as(&bob, "GET", "/v1/members").await;
        assert_eq!((answer.status, answer.error().as_str()), (401, "unauthorized"));
    }
    assert_eq!(asked(&world.server, "delete_account"), 1);
    assert_eq!(world.login("bob@example.org", PASSWORD).await.status, 401);
    // Another one of that name has nothing of theirs.
    world.server.create("bob", PASSWORD, "prosody:member");
    world.caught_up().await;
    assert_eq!(world.ask_as(&bob, "GET", "/v1/members").await.status, 401);
}

#[tokio::test]
async fn an_admin_is_always_left() {
    let (world, alice) = world().await;
    for body in ["\"MEMBER\"", "\"ADMIN\""] {
        let answer = world.put_as(&alice, &role("alice"), body).await;
        assert_eq!((answer.status, answer.error().as_str()), (403, "cannot_change_own_role"));
    }
    let answer = world.ask_as(&alice, "DELETE", &path("Alice")).await;
    assert_eq!((answer.status, answer.error().as_str()), (403, "cannot_remove_self"));
    // Each the other, at the same moment: only one of them is granted.
    let carol = world.token("carol").await;
    let (of_carol, of_alice) = (role("carol"), role("alice"));
    let (one, other) = join!(
        world.put_as(&alice, &of_carol, "\"MEMBER\""),
        world.put_as(&carol, &of_alice, "\"MEMBER\""),
    );
    let (granted, refused) = if one.status == 200 { (one, other) } else { (other, one) };
    assert_eq!(granted.status, 200);
    assert!([401, 403].contains(&refused.status), "{refused:?}");
    let (by_alice, by_carol) = join!(
        world.ask_as(&alice, "GET", "/v1/server/config/tls-profile"),
        world.ask_as(&carol, "GET", "/v1/server/config/tls-profile"),
    );
    let mut statuses = [by_alice.status, by_carol.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 403]);
}

#[tokio::test]
async fn the_servers_word_holds_for_who_is_an_admin() {
    let (world, alice) = world().await;
    // Demoted by the operator's own hand, which isn't known here yet.
    world.server.state().is_mute = true;
    world.server.set_role("alice", "prosody:member");
    for answer in [
        world.put_as(&alice, &role("carol"), "\"MEMBER\"").await,
        world.ask_as(&alice, "DELETE", &path("carol")).await,
    ] {
        assert_eq!((answer.status, answer.error().as_str()), (403, "forbidden"));
    }
}

#[tokio::test]
async fn what_cannot_be_done_with_a_member_is_refused() {
    let (world, alice) = world().await;
    let bob = world.token("bob").await;
    for (name, body, status, error) in [
        ("bob", "\"OWNER\"", 422, "unknown"),
        ("bob", "\"admin\"", 422, "unknown"),
        ("bob", "1", 422, "unknown"),
        ("bob", "ADMIN", 400, "unknown"),
        ("nobody", "\"ADMIN\"", 404, "member_not_found"),
        ("prose-workspace", "\"ADMIN\"", 404, "member_not_found"),
        ("%00", "\"ADMIN\"", 400, "unknown"),
    ] {
        let answer = world.put_as(&alice, &role(name), body).await;
        assert_eq!((answer.status, answer.error().as_str()), (status, error), "{name} {body}");
    }
    for (jid, status, error) in [
        ("prose-workspace@example.org", 404, "member_not_found"),
        ("bob@elsewhere.org", 404, "member_not_found"),
        ("alice@elsewhere.org", 404, "member_not_found"),
        ("bob", 400, "unknown"),
    ] {
        let answer = world.ask_as(&alice, "DELETE", &format!("/v1/members/{jid}")).await;
        assert_eq!((answer.status, answer.error().as_str()), (status, error), "{jid}");
    }
    for name in ["bob", "alice", "nobody", "%00"] {
        let answer = world.put_as(&bob, &role(name), "1").await;
        assert_eq!((answer.status, answer.error().as_str()), (403, "forbidden"), "{name}");
        let answer = world.ask_as(&bob, "DELETE", &path(name)).await;
        assert_eq!((answer.status, answer.error().as_str()), (403, "forbidden"), "{name}");
    }
    assert_eq!(world.ask("DELETE", &path("bob")).await.status, 401);
    assert_eq!(world.put(&role("bob"), "\"ADMIN\"").await.status, 401);
    assert_eq!(asked(&world.server, "delete_account") + asked(&world.server, "set_role"), 0);
}

#[tokio::test]
async fn a_nickname_is_its_owners() {
    let (world, alice) = world().await;
    let bob = world.token("bob").await;
    let url = format!("{}/nickname", path("bob"));
    let long = format!("{:?}", "n".repeat(48));
    for (body, expected) in [
        ("\"Bob\"", "Bob"),
        ("2024", "2024"),
        ("true", "true"),
        (long.as_str(), &long[1..49]),
        (r#""]]'\"\\ Ünal""#, "]]'\"\\ Ünal"),
    ] {
        let answer = world.put_as(&bob, &url, body).await;
        assert_eq!((answer.status, answer.body.as_str()), (204, ""), "{body}");
        let shown = world.ask_as(&alice, "GET", &path("bob")).await.json();
        assert_eq!(shown["nickname"], json!(expected));
    }
    let longer = format!("{:?}", "\u{fc}".repeat(25));
    for body in ["\"\"", "\" \"", "\"a\\nb\"", "null", "[]", &longer] {
        let answer = world.put_as(&bob, &url, body).await;
        assert_eq!((answer.status, answer.error().as_str()), (422, "unknown"), "{body}");
    }
    assert_eq!(world.put_as(&bob, &url, "Bob").await.status, 400);
    // An admin neither, and whatever the body is.
    for jid in ["bob@example.org", "alice@elsewhere.org", "nobody@example.org"] {
        let answer = world.put_as(&alice, &format!("/v1/members/{jid}/nickname"), "[]").await;
        assert_eq!((answer.status, answer.error().as_str()), (403, "forbidden"), "{jid}");
    }
    assert_eq!(world.put(&url, "\"Bob\"").await.status, 401);
    let world = world.restart().await;
    world.in_step().await;
    let shown = world.ask_as(&alice, "GET", &path("bob")).await.json();
    assert_eq!(shown["nickname"], json!("]]'\"\\ Ünal"));
}
