//! Invitations, as the invited see them.

use serde_json::json;
use tokio::join;

use super::invitations::{BOB, MAIL, invite, token_in_letter, world};
use super::{PASSWORD, World, until};

fn acceptance(more: &str) -> String {
    format!(r#"{{"nickname":"Bob","password":"{PASSWORD}"{more}}}"#)
}

/// Bob is invited; alice's token, and his.
async fn invited(environment: &[(&str, &str)]) -> (World, String, [String; 2]) {
    let environment: Vec<_> = MAIL.iter().chain(environment).copied().collect();
    let (world, alice) = world(&environment).await;
    invite(&world, &alice, BOB).await;
    let tokens = ["accept", "reject"].map(|kind| token_in_letter(&world, "bob@corp.example", kind));
    (world, alice, tokens)
}

fn path(token: &str, verb: &str) -> String {
    format!("/v1/invitation-tokens/{token}/{verb}")
}

#[tokio::test]
async fn the_invited_become_a_member_as_the_dashboard_does_it() {
    let (world, alice, [accept, _]) = invited(&[]).await;
    let details = world.ask("GET", &path(&accept, "details?token_type=accept")).await;
    let expected =
        json!({ "jid": "bob@example.org", "pre_assigned_role": "MEMBER", "is_expired": false });
    assert_eq!((details.status, details.json()), (200, expected));
    let joined = world.put(&path(&accept, "accept"), &acceptance("")).await;
    assert_eq!((joined.status, joined.body.as_str()), (200, ""));
    let bob = world.token("bob").await;
    let shown = world.ask_as(&bob, "GET", "/v1/members/bob@example.org").await.json();
    let expected = json!({
        "jid": "bob@example.org", "role": "MEMBER", "online": false, "nickname": "Bob",
        "email": "bob@corp.example", "avatar": null,
    });
    assert_eq!(shown, expected);
    let list = world.ask_as(&alice, "GET", "/v1/invitations").await;
    assert_eq!((list.json(), list.header("pagination-item-count")), (json!([]), Some("0")));
    // His address is his own and admins' business.
    let dave = world.token("dave").await;
    let shown = world.ask_as(&dave, "GET", "/v1/members/bob@example.org").await.json();
    assert_eq!(shown["email"], json!(null));
    for verb in ["accept", "details"] {
        let method = if verb == "accept" { "PUT" } else { "GET" };
        let headers = [("content-type", "application/json")];
        let body = acceptance("");
        let again = world.client.ask(method, &path(&accept, verb), &headers, Some(&body)).await;
        assert_eq!((again.status, again.error().as_str()), (410, "invitation_not_found"));
    }
}

#[tokio::test]
async fn another_address_may_be_given() {
    let (world, alice, [accept, _]) = invited(&[]).await;
    for (more, status) in [(r#","email":"bob""#, 422), (r#","email":"b@home.example""#, 200)] {
        let answer = world.put(&path(&accept, "accept"), &acceptance(more)).await;
        assert_eq!(answer.status, status, "{more}");
    }
    let shown = world.ask_as(&alice, "GET", "/v1/members/bob@example.org").await.json();
    assert_eq!(shown["email"], "b@home.example");
}

#[tokio::test]
async fn after_a_bad_password_the_token_still_works() {
    let (world, _, [accept, _]) = invited(&[("PROSE_AUTH__MIN_PASSWORD_LENGTH", "20")]).await;
    let with = |nickname: &str, password: &str| {
        json!({ "nickname": nickname, "password": password }).to_string()
    };
    let long = "p".repeat(1025);
    for (body, status, error) in [
        (with("Bob", "nineteen characters"), 400, "invalid_password"),
        (with("Bob", ""), 400, "invalid_password"),
        (with("Bob", &long), 400, "invalid_password"),
        (with("", PASSWORD), 422, "unknown"),
        (with(&long[..49], PASSWORD), 422, "unknown"),
        ("{}".into(), 422, "unknown"),
        ("{".into(), 400, "unknown"),
    ] {
        let answer = world.put(&path(&accept, "accept"), &body).await;
        assert_eq!((answer.status, answer.error().as_str()), (status, error), "{body:.80}");
        if body.contains("nineteen") {
            assert!(answer.body.contains("at least 20 characters"), "{}", answer.body);
        }
    }
    assert_eq!(world.put(&path(&accept, "accept"), &acceptance("")).await.status, 200);
}

#[tokio::test]
async fn a_rejection_is_one_however_often_it_is_said() {
    let (world, alice, [accept, reject]) = invited(&[]).await;
    // The other link can't.
    assert_eq!(world.put(&path(&accept, "reject"), "null").await.status, 204);
    assert_eq!(world.ask("GET", &path(&accept, "details")).await.status, 200);
    // And this one can't accept.
    let answer = world.put(&path(&reject, "accept"), &acceptance("")).await;
    assert_eq!((answer.status, answer.error().as_str()), (410, "invitation_not_found"));
    for body in ["null", "", "{"] {
        let answer = world.put(&path(&reject, "reject"), body).await;
        assert_eq!((answer.status, answer.body.as_str()), (204, ""), "{body}");
    }
    assert_eq!(world.ask("GET", &path(&accept, "details")).await.status, 410);
    assert_eq!(world.ask_as(&alice, "GET", "/v1/invitations").await.json(), json!([]));
}

#[tokio::test]
async fn what_has_expired_is_listed_but_its_links_are_dead() {
    let (world, alice, [accept, _]) = invited(&[("PROSE_AUTH__INVITATION_TTL", "PT1S")]).await;
    let is_expired =
        |world: &World| world.pod.invitations(|all| all.all()[0].is_expired(crate::pod::now()));
    until("it has expired", || is_expired(&world)).await;
    for (method, verb) in [("GET", "details"), ("PUT", "accept")] {
        let headers = [("content-type", "application/json")];
        let body = acceptance("");
        let answer = world.client.ask(method, &path(&accept, verb), &headers, Some(&body)).await;
        assert_eq!((answer.status, answer.error().as_str()), (410, "invitation_not_found"));
    }
    let list = world.ask_as(&alice, "GET", "/v1/invitations").await.json();
    assert_eq!(
        (&list[0]["jid"], &list[0]["is_expired"]),
        (&json!("bob@example.org"), &json!(true))
    );
    // It stands in nobody's way.
    let again = invite(&world, &alice, BOB).await;
    assert_eq!(again["is_expired"], false);
    let list = world.ask_as(&alice, "GET", "/v1/invitations").await.json();
    assert_eq!(list.as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn one_token_makes_one_account() {
    let (world, alice, [accept, reject]) = invited(&[]).await;
    let (url, body) = (path(&accept, "accept"), acceptance(""));
    let (one, other) = join!(world.put(&url, &body), world.put(&url, &body));
    let mut statuses = [one.status, other.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 410]);
    let members = world.ask_as(&alice, "HEAD", "/v1/members").await;
    assert_eq!(members.header("pagination-item-count"), Some("3"));
    // Who rejects now comes too late, and it does no harm.
    assert_eq!(world.put(&path(&reject, "reject"), "null").await.status, 204);
    assert_eq!(world.ask_as(&alice, "GET", "/v1/members/bob@example.org").await.status, 200);
}

#[tokio::test]
async fn accepted_and_cancelled_at_once_it_is_one_or_the_other() {
    let (world, alice, [accept, _]) = invited(&[]).await;
    let id = world.pod.invitations(|all| all.all()[0].id);
    let (url, body, cancel) =
        (path(&accept, "accept"), acceptance(""), format!("/v1/invitations/{id}"));
    let (accepted, cancelled) =
        join!(world.put(&url, &body), world.ask_as(&alice, "DELETE", &cancel));
    let member = world.ask_as(&alice, "GET", "/v1/members/bob@example.org").await.status;
    let all = (accepted.status, cancelled.status, member);
    assert!([(200, 410, 200), (410, 204, 404)].contains(&all), "{all:?}");
}

#[tokio::test]
async fn an_answer_that_gets_lost_makes_no_second_account() {
    let (world, _, [accept, _]) = invited(&[]).await;
    world.server.state().is_mute = true;
    world.server.state().loses_to = Some("create_account");
    let lost = world.put(&path(&accept, "accept"), &acceptance("")).await;
    assert_eq!((lost.status, lost.error().as_str()), (500, "internal_server_error"));
    // The account is there, with his password.
    let other = acceptance("").replace(PASSWORD, "another horse battery");
    let again = world.put(&path(&accept, "accept"), &other).await;
    assert_eq!((again.status, again.error().as_str()), (409, "member_already_exists"));
    assert_eq!(world.put(&path(&accept, "accept"), &other).await.status, 410);
    world.server.state().is_mute = false;
    world.server.set_online("bob", true);
    world.caught_up().await;
    assert_eq!(world.login("bob@example.org", PASSWORD).await.status, 200);
}

#[tokio::test]
async fn while_the_server_is_away_nothing_is_lost() {
    let (world, _, [accept, _]) = invited(&[]).await;
    world.server.go_down();
    until("it is out of step", || !world.pod.is_linked()).await;
    let answer = world.put(&path(&accept, "accept"), &acceptance("")).await;
    assert_eq!((answer.status, answer.error().as_str()), (503, "internal_server_error"));
    world.server.restart(&world.init.secret_of_a_new_server());
    world.in_step().await;
    assert_eq!(world.put(&path(&accept, "accept"), &acceptance("")).await.status, 200);
}

#[tokio::test]
async fn at_the_limit_nobody_joins() {
    let (world, alice, [accept, _]) = invited(&[("PROSE_LICENSING__USER_LIMIT", "2")]).await;
    // A service takes no seat.
    world.server.create("prose-workspace", PASSWORD, "prosody:registered");
    world.caught_up().await;
    let (url, body) = (path(&accept, "accept"), acceptance(""));
    let answer = world.put(&url, &body).await;
    assert_eq!((answer.status, answer.error().as_str()), (403, "user_limit_reached"));
    assert_eq!(world.login("bob@example.org", PASSWORD).await.status, 401);
    let answer = world.ask_as(&alice, "DELETE", "/v1/members/dave@example.org").await;
    assert_eq!(answer.status, 204);
    assert_eq!(world.put(&url, &body).await.status, 200);
}
