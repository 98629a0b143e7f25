//! A new password for who forgot theirs.

use serde_json::json;
use tokio::join;

use super::invitations::{MAIL, token_in_letter, token_of, world as empty};
use super::{PASSWORD, World, until};

const NEW: &str = r#"{"password":"another horse battery"}"#;
const DAVES: &str = "dave@corp.example";

fn path(name: &str) -> String {
    format!("/v1/members/{name}@example.org/password")
}

fn use_path(token: &str) -> String {
    format!("/v1/password-reset-tokens/{token}/use")
}

/// Dave can be reached.
async fn world(environment: &[(&str, &str)]) -> (World, String) {
    let environment: Vec<_> = MAIL.iter().chain(environment).copied().collect();
    let (world, alice) = empty(&environment).await;
    let url = "/v1/members/dave@example.org/email-address";
    assert_eq!(world.put_as(&alice, url, &format!("{DAVES:?}")).await.status, 200);
    (world, alice)
}

/// An admin lets dave have a new password.
async fn start(world: &World, alice: &str) -> String {
    let answer = world.ask_as(alice, "DELETE", &path("dave")).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    answer.json()["token"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_link_gives_a_new_password_once() {
    let (world, alice) = world(&[]).await;
    let dave = world.token("dave").await;
    world.server.set_online("dave", true);
    world.caught_up().await;
    let other = start(&world, &alice).await;
    let answer = world.ask_as(&alice, "DELETE", &path("dave")).await;
    let link = answer.json();
    let token = link["token"].as_str().unwrap();
    let url = format!("https://admin.prose.example.org/start/recover/{token}");
    assert_eq!((answer.status, &link["url"]), (202, &json!(url)));
    let expires = crate::moment::parse(link["expires_at"].as_str().unwrap()).unwrap();
    assert!((890..=900).contains(&(expires - crate::pod::now())), "{expires}");
    assert_eq!(token_in_letter(&world, DAVES, "recover"), token);
    assert!(world.outside.letters_to(DAVES)[1].html.contains(&url));
    // Until then nothing has changed, and it is no invitation.
    assert_eq!(world.login("dave@example.org", PASSWORD).await.status, 200);
    assert_eq!(world.ask_as(&alice, "GET", "/v1/invitations").await.json(), json!([]));
    for body in [r#"{"password":"fourteen chars"}"#, r#"{"password":""}"#] {
        let answer = world.put(&use_path(token), body).await;
        assert_eq!((answer.status, answer.error().as_str()), (400, "invalid_password"), "{body}");
        assert!(answer.body.contains("at least 15 characters"), "{}", answer.body);
    }
    assert_eq!(world.put(&use_path(token), "{}").await.status, 422);
    let answer = world.put(&use_path(token), NEW).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, ""));
    assert_eq!(world.ask_as(&dave, "GET", "/v1/members").await.status, 401);
    assert_eq!(world.login("dave@example.org", PASSWORD).await.status, 401);
    assert_eq!(world.login("dave@example.org", "another horse battery").await.status, 200);
    // Neither this one nor the other one works again, now or later.
    world.caught_up().await;
    let world = world.restart_with(&MAIL).await;
    world.in_step().await;
    for token in [token, &other, "unknown", "%00"] {
        let answer = world.put(&use_path(token), NEW).await;
        let expected = (404, "password_reset_token_expired");
        assert_eq!((answer.status, answer.error().as_str()), expected, "{token}");
    }
}

#[tokio::test]
async fn several_may_be_under_way_and_a_restart_does_no_harm() {
    let (world, alice) = world(&[]).await;
    let tokens = [start(&world, &alice).await, start(&world, &alice).await];
    let world = world.restart_with(&MAIL).await;
    world.in_step().await;
    // The first one works, though another was made after it.
    assert_eq!(world.put(&use_path(&tokens[0]), NEW).await.status, 200);
    assert_eq!(world.put(&use_path(&tokens[1]), NEW).await.status, 404);
    let made = world.server.state().asked.iter().filter(|it| **it == "set_password").count();
    assert_eq!(made, 1);
}

#[tokio::test]
async fn a_token_used_twice_at_once_is_used_once() {
    let (world, alice) = world(&[]).await;
    let tokens = [start(&world, &alice).await, start(&world, &alice).await];
    let other = NEW.replace("another", "yet another");
    let urls = [use_path(&tokens[0]), use_path(&tokens[1])];
    let answers = join!(
        world.put(&urls[0], NEW),
        world.put(&urls[0], &other),
        world.put(&urls[1], NEW),
        world.put(&urls[1], &other),
    );
    let mut statuses = [answers.0.status, answers.1.status, answers.2.status, answers.3.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 404, 404, 404]);
}

#[tokio::test]
async fn many_at_once_each_get_theirs() {
    let (world, alice) = world(&[]).await;
    let mut made = tokio::task::JoinSet::new();
    let (client, bearer) = (world.client.clone(), format!("Bearer {alice}"));
    for _ in 0..12 {
        let (client, bearer) = (client.clone(), bearer.clone());
        made.spawn(async move {
            client.ask("DELETE", &path("dave"), &[("authorization", &bearer)], None).await
        });
    }
    let answers = made.join_all().await;
    assert!(answers.iter().all(|answer| answer.status == 202), "{answers:?}");
    assert_eq!(world.outside.letters_to(DAVES).len(), 12);
}

#[tokio::test]
async fn it_expires() {
    let (world, alice) = world(&[("PROSE_AUTH__PASSWORD_RESET_TOKEN_TTL", "PT1S")]).await;
    let token = start(&world, &alice).await;
    let digest = crate::token::Digest::of_text(&token);
    until("it has expired", || world.pod.reset_of(digest).is_none()).await;
    assert_eq!(world.put(&use_path(&token), NEW).await.status, 404);
    assert_eq!(world.login("dave@example.org", PASSWORD).await.status, 200);
}

#[tokio::test]
async fn what_else_changes_the_account_voids_it() {
    let (world, alice) = world(&[]).await;
    let digest = |token: &str| crate::token::Digest::of_text(token);
    // Another password.
    let token = start(&world, &alice).await;
    world.server.set_password("dave", "dave's own new password");
    world.caught_up().await;
    until("it is void", || world.pod.reset_of(digest(&token)).is_none()).await;
    // Another address.
    let token = start(&world, &alice).await;
    let url = "/v1/members/dave@example.org/email-address";
    assert_eq!(world.put_as(&alice, url, "\"d@home.example\"").await.status, 200);
    assert_eq!(world.put(&use_path(&token), NEW).await.status, 404);
    // Another account.
    let token = start(&world, &alice).await;
    assert_eq!(world.ask_as(&alice, "DELETE", "/v1/members/dave@example.org").await.status, 204);
    world.server.create("dave", PASSWORD, "prosody:member");
    world.caught_up().await;
    assert_eq!(world.put(&use_path(&token), NEW).await.status, 404);
}

#[tokio::test]
async fn a_lost_answer_leaves_nothing_that_works_twice() {
    let (world, alice) = world(&[]).await;
    let dave = world.token("dave").await;
    let token = start(&world, &alice).await;
    world.server.state().loses_to = Some("set_password");
    let lost = world.put(&use_path(&token), NEW).await;
    assert_eq!((lost.status, lost.error().as_str()), (500, "internal_server_error"));
    assert_eq!(world.put(&use_path(&token), NEW).await.status, 404);
    assert_eq!(world.ask_as(&dave, "GET", "/v1/members").await.status, 401);
    assert_eq!(world.login("dave@example.org", "another horse battery").await.status, 200);
}

#[tokio::test]
async fn what_the_server_refuses_may_be_tried_again() {
    let (world, alice) = world(&[]).await;
    let token = start(&world, &alice).await;
    let odd = NEW.replace("another", "\u{fffe}");
    let answer = world.put(&use_path(&token), &odd).await;
    assert_eq!((answer.status, answer.error().as_str()), (422, "unknown"));
    world.server.go_down();
    until("it is out of step", || !world.pod.is_linked()).await;
    assert_eq!(world.put(&use_path(&token), NEW).await.status, 503);
    world.server.restart(&world.init.secret_of_a_new_server());
    world.in_step().await;
    assert_eq!(world.put(&use_path(&token), NEW).await.status, 200);
}

#[tokio::test]
async fn what_stands_in_the_way_is_told_to_admins() {
    let (world, alice) = world(&[]).await;
    let dave = world.token("dave").await;
    for (token, name, status, error) in [
        (&alice, "nobody", 404, "member_not_found"),
        (&alice, "alice", 412, "missing_email_address"),
        (&alice, "%00", 400, "unknown"),
        (&dave, "alice", 403, "forbidden"),
        (&dave, "dave", 403, "forbidden"),
        (&dave, "%00", 403, "forbidden"),
        (&"stale".to_owned(), "dave", 401, "unauthorized"),
    ] {
        let answer = world.ask_as(token, "DELETE", &path(name)).await;
        assert_eq!((answer.status, answer.error().as_str()), (status, error), "{name}");
    }
    world.outside.state().refuses_letters = true;
    let answer = world.ask_as(&alice, "DELETE", &path("dave")).await;
    assert_eq!((answer.status, answer.error().as_str()), (502, "internal_server_error"));
    let answer = world.ask_as(&alice, "DELETE", &(path("dave") + "?channel=sms")).await;
    assert_eq!((answer.status, answer.error().as_str()), (400, "unknown"));
}

#[tokio::test]
async fn without_a_mail_server_the_admin_is_given_the_link() {
    let (world, alice) = empty(&[]).await;
    let answer = world.ask_as(&alice, "DELETE", &path("dave")).await;
    assert_eq!((answer.status, answer.error().as_str()), (500, "missing_config"));
    let answer = world.ask_as(&alice, "DELETE", &(path("dave") + "?channel=link")).await;
    assert_eq!(answer.status, 202);
    let token = token_of(answer.json()["url"].as_str().unwrap(), "recover");
    assert_eq!(world.put(&use_path(&token), NEW).await.status, 200);
    assert!(world.outside.state().letters.is_empty());
}

#[tokio::test]
async fn anybody_may_ask_and_learns_nothing() {
    let (world, _) = world(&[]).await;
    for name in ["dave", "alice", "nobody", "prose-workspace"] {
        for answer in [
            world.ask("DELETE", &path(name)).await,
            world.ask_as("null", "DELETE", &(path(name) + "?channel=link")).await,
        ] {
            assert_eq!((answer.status, answer.body.as_str()), (202, "{}"), "{name}");
        }
    }
    let answer = world.ask("DELETE", "/v1/members/dave@elsewhere.org/password").await;
    assert_eq!((answer.status, answer.body.as_str()), (202, "{}"));
    until("they are sent", || world.outside.letters_to(DAVES).len() == 2).await;
    let token = token_in_letter(&world, DAVES, "recover");
    assert_eq!(world.put(&use_path(&token), NEW).await.status, 200);
    assert_eq!(world.outside.state().letters.len(), 2, "to nobody else");
}

#[tokio::test]
async fn nobody_gets_many_letters_that_nobody_asked_for() {
    let (world, alice) = world(&[]).await;
    for number in 0..20 {
        // From many places.
        let address = format!("192.0.2.{number}");
        let headers = [("x-real-ip", &*address)];
        let answer = world.client.ask("DELETE", &path("dave"), &headers, None).await;
        assert_eq!(answer.status, 202);
    }
    until("some are sent", || world.outside.letters_to(DAVES).len() == 3).await;
    // An admin's isn't counted.
    start(&world, &alice).await;
    assert_eq!(world.outside.letters_to(DAVES).len(), 4);
}
