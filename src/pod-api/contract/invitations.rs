//! Invitations, as admins see them.

use serde_json::{Value, json};
use tokio::join;

use super::{PASSWORD, World, until};

/// A Pod that can send letters.
pub const MAIL: [(&str, &str); 1] = [("PROSE_NOTIFIERS__EMAIL__SMTP_HOST", "smtp.example.org")];
pub const BOB: &str = r#"{"username":"Bob","channel":"email","email_address":"bob@corp.example"}"#;
const CAROL: &str = r#"{"username":"carol","channel":"link","pre_assigned_role":"ADMIN"}"#;
const ALL: &str = "/v1/invitations";

/// Alice is an admin, dave isn't.
pub async fn world(environment: &[(&str, &str)]) -> (World, String) {
    let accounts = [("alice", "prosody:admin"), ("dave", "prosody:member")];
    let world = World::with_environment(&accounts, environment).await;
    let alice = world.token("alice").await;
    (world, alice)
}

/// Invites; returns what was answered.
pub async fn invite(world: &World, token: &str, body: &str) -> Value {
    let answer = world.post_as(token, ALL, body).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    answer.json()
}

/// The token in the last letter's link of this kind: `accept`, `reject`, `recover`.
pub fn token_in_letter(world: &World, address: &str, kind: &str) -> String {
    let letters = world.outside.letters_to(address);
    token_of(&letters.last().expect("no letter").text, kind)
}

/// The token in a URL of this kind.
pub fn token_of(text: &str, kind: &str) -> String {
    let (_, rest) = text.split_once(&format!("/{kind}/")).expect("no such link");
    rest.chars().take_while(char::is_ascii_alphanumeric).collect()
}

fn path(invitation: &Value) -> String {
    format!("{ALL}/{}", invitation["invitation_id"])
}

async fn ids(world: &World, token: &str) -> Vec<i64> {
    let answer = world.ask_as(token, "GET", ALL).await.json();
    let ids = answer.as_array().unwrap().iter().map(|it| it["invitation_id"].as_i64().unwrap());
    ids.collect()
}

#[tokio::test]
async fn whether_one_may_invite_is_asked_first() {
    for (environment, status) in [(&MAIL[..], 204), (&[], 412)] {
        let (world, alice) = world(environment).await;
        let dave = world.token("dave").await;
        for (token, status) in [(alice.as_str(), status), (&dave, 403), ("null", 403), ("x", 403)] {
            let answer = world.ask_as(token, "HEAD", ALL).await;
            assert_eq!((answer.status, answer.body.as_str()), (status, ""), "{token}");
        }
        assert_eq!(world.ask("HEAD", ALL).await.status, 403);
    }
}

#[tokio::test]
async fn somebody_is_invited_by_letter() {
    let (world, alice) = world(&MAIL).await;
    let answer = world.post_as(&alice, ALL, BOB).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    let bob = answer.json();
    assert_eq!(answer.header("location"), Some(&*path(&bob)));
    assert!(bob["invitation_id"].is_i64());
    let expected = json!({
        "invitation_id": bob["invitation_id"], "created_at": bob["created_at"],
        "jid": "bob@example.org", "pre_assigned_role": "MEMBER",
        "contact": { "channel": "email", "email_address": "bob@corp.example" },
        "accept_token_expires_at": bob["accept_token_expires_at"], "is_expired": false,
    });
    assert_eq!(bob, expected);
    let letter = &world.outside.letters_to("bob@corp.example")[0];
    assert_eq!(letter.subject, "You have been invited to example.org's Prose server!");
    for url in ["/invitations/accept/", "/invitations/reject/"] {
        let url = format!("https://admin.prose.example.org{url}");
        assert!(letter.text.contains(&url) && letter.html.contains(&url));
    }
    let tokens = ["accept", "reject"].map(|kind| token_in_letter(&world, "bob@corp.example", kind));
    assert!(tokens[0] != tokens[1] && tokens[0].len() == 64);
    // What is told of it never holds a token; neither does the database.
    for answer in
        [world.ask_as(&alice, "GET", ALL).await, world.ask_as(&alice, "GET", &path(&bob)).await]
    {
        assert_eq!(answer.status, 200);
        assert!(tokens.iter().all(|token| !answer.body.contains(token)));
    }
    for file in ["pod.sqlite", "pod.sqlite-wal"] {
        let bytes = std::fs::read(world.folder.path().join(file)).unwrap();
        let holds = |token: &String| bytes.windows(64).any(|window| window == token.as_bytes());
        assert!(!tokens.iter().any(holds), "{file}");
    }
}

#[tokio::test]
async fn invitations_outlive_a_restart() {
    let (world, alice) = world(&MAIL).await;
    let bob = invite(&world, &alice, BOB).await;
    let accept = token_in_letter(&world, "bob@corp.example", "accept");
    let world = world.restart_with(&MAIL).await;
    world.in_step().await;
    assert!(world.pod.onboarding().at_least_one_invitation_sent);
    assert_eq!(world.ask_as(&alice, "GET", &path(&bob)).await.json(), bob);
    let details = world.ask("GET", &format!("/v1/invitation-tokens/{accept}/details")).await;
    assert_eq!(details.status, 200);
}

#[tokio::test]
async fn without_a_mail_server_the_admin_is_given_the_links() {
    let (world, alice) = world(&[]).await;
    let answer = world.post_as(&alice, ALL, BOB).await;
    assert_eq!((answer.status, answer.error().as_str()), (500, "missing_config"));
    assert!(answer.body.contains("smtp_host"), "{}", answer.body);
    assert!(!world.pod.onboarding().at_least_one_invitation_sent);
    let carol = invite(&world, &alice, CAROL).await;
    assert_eq!(carol["contact"], json!({ "channel": "link" }));
    assert_eq!(carol["pre_assigned_role"], "ADMIN");
    assert!(world.pod.onboarding().at_least_one_invitation_sent);
    let accept = token_of(carol["accept_url"].as_str().unwrap(), "accept");
    token_of(carol["reject_url"].as_str().unwrap(), "reject");
    let shown = world.ask_as(&alice, "GET", &path(&carol)).await;
    assert!(shown.json().get("accept_url").is_none() && !shown.body.contains(&accept));
    // Sent again, the links are others, and the old ones are dead.
    let again = world.post_as(&alice, &format!("{}/resend", path(&carol)), "").await;
    let other = token_of(again.json()["accept_url"].as_str().unwrap(), "accept");
    assert_eq!(again.status, 200);
    for (token, status) in [(accept, 410), (other.clone(), 200)] {
        let answer = world.ask("GET", &format!("/v1/invitation-tokens/{token}/details")).await;
        assert_eq!(answer.status, status);
    }
    let body = format!(r#"{{"nickname":"Carol","password":"{PASSWORD}"}}"#);
    let joined = world.put(&format!("/v1/invitation-tokens/{other}/accept"), &body).await;
    assert_eq!(joined.status, 200);
    let shown = world.ask_as(&alice, "GET", "/v1/members/carol@example.org").await.json();
    assert_eq!((&shown["role"], &shown["email"]), (&json!("ADMIN"), &json!(null)));
}

#[tokio::test]
async fn one_that_could_not_be_sent_is_taken_back() {
    let (world, alice) = world(&MAIL).await;
    world.outside.state().refuses_letters = true;
    let answer = world.post_as(&alice, ALL, BOB).await;
    assert_eq!((answer.status, answer.error().as_str()), (502, "internal_server_error"));
    assert!(answer.body.contains("could not be sent"), "{}", answer.body);
    assert!(
        ids(&world, &alice).await.is_empty()
            && !world.pod.onboarding().at_least_one_invitation_sent
    );
    world.outside.state().refuses_letters = false;
    let bob = invite(&world, &alice, BOB).await;
    // One that can't be sent again stays as it was.
    let accept = token_in_letter(&world, "bob@corp.example", "accept");
    world.outside.state().refuses_letters = true;
    let answer = world.post_as(&alice, &format!("{}/resend", path(&bob)), "").await;
    assert_eq!((answer.status, answer.error().as_str()), (502, "internal_server_error"));
    assert_eq!(world.ask_as(&alice, "GET", &path(&bob)).await.json(), bob);
    let world = world.restart_with(&MAIL).await;
    let details = world.ask("GET", &format!("/v1/invitation-tokens/{accept}/details")).await;
    assert_eq!(details.status, 200);
}

#[tokio::test]
async fn one_that_is_sent_again_has_other_links() {
    let (world, alice) = world(&MAIL).await;
    let bob = invite(&world, &alice, BOB).await;
    let old = ["accept", "reject"].map(|kind| token_in_letter(&world, "bob@corp.example", kind));
    let answer = world.post_as(&alice, &format!("{}/resend", path(&bob)), "").await;
    assert_eq!((answer.status, answer.body.as_str()), (204, ""));
    let new = ["accept", "reject"].map(|kind| token_in_letter(&world, "bob@corp.example", kind));
    for (tokens, status) in [(&old, 410), (&new, 200)] {
        for token in tokens {
            let answer = world.ask("GET", &format!("/v1/invitation-tokens/{token}/details")).await;
            assert_eq!(answer.status, status);
        }
    }
    // The old link doesn't reject either.
    assert_eq!(
        world.put(&format!("/v1/invitation-tokens/{}/reject", old[1]), "null").await.status,
        204
    );
    assert_eq!(ids(&world, &alice).await.len(), 1);
}

#[tokio::test]
async fn they_are_listed_page_by_page() {
    let (world, alice) = world(&[]).await;
    for number in 0..5 {
        let body = format!(r#"{{"username":"m{number}","channel":"link"}}"#);
        invite(&world, &alice, &body).await;
    }
    for (query, status, rows) in [
        ("", 200, 5),
        ("?page_size=2", 206, 2),
        ("?page_size=2&page_number=3", 200, 1),
        ("?page_size=2&page_number=9", 200, 0),
        ("?until=2001-01-01T00:00:00Z", 200, 0),
        ("?until=2999-01-01T00:00:00.5%2B02:00", 200, 5),
    ] {
        let answer = world.ask_as(&alice, "GET", &format!("{ALL}{query}")).await;
        assert_eq!(answer.status, status, "{query}");
        assert_eq!(answer.json().as_array().unwrap().len(), rows, "{query}");
        let total = if query.contains("2001") { "0" } else { "5" };
        assert_eq!(answer.header("pagination-item-count"), Some(total), "{query}");
    }
    let first = &world.ask_as(&alice, "GET", ALL).await.json()[0]["jid"];
    assert_eq!(first, "m0@example.org");
    for query in ["?until=yesterday", "?page_size=0", "?page_number=x"] {
        let answer = world.ask_as(&alice, "GET", &format!("{ALL}{query}")).await;
        assert_eq!((answer.status, answer.error().as_str()), (400, "unknown"), "{query}");
    }
}

#[tokio::test]
async fn cancelled_its_links_are_dead() {
    let (world, alice) = world(&MAIL).await;
    let bob = invite(&world, &alice, BOB).await;
    let accept = token_in_letter(&world, "bob@corp.example", "accept");
    let answer = world.ask_as(&alice, "DELETE", &path(&bob)).await;
    assert_eq!((answer.status, answer.body.as_str()), (204, ""));
    assert!(ids(&world, &alice).await.is_empty());
    let details = world.ask("GET", &format!("/v1/invitation-tokens/{accept}/details")).await;
    assert_eq!((details.status, details.error().as_str()), (410, "invitation_not_found"));
    let number = path(&bob);
    for (method, path) in [
        ("GET", number.clone()),
        ("DELETE", number.clone()),
        ("POST", format!("{number}/resend")),
        ("GET", format!("{ALL}/-1")),
    ] {
        let answer = world.ask_as(&alice, method, &path).await;
        assert_eq!(
            (answer.status, answer.error().as_str()),
            (410, "invitation_not_found"),
            "{path}"
        );
    }
    let answer = world.ask_as(&alice, "GET", &format!("{ALL}/u0VZ")).await;
    assert_eq!((answer.status, answer.error().as_str()), (400, "unknown"));
    // A number isn't given twice.
    let again = invite(&world, &alice, BOB).await;
    assert!(again["invitation_id"].as_i64() > bob["invitation_id"].as_i64());
}

#[tokio::test]
async fn what_cannot_be_an_invitation_is_refused() {
    let (world, alice) = world(&MAIL).await;
    invite(&world, &alice, BOB).await;
    let letter = |name: &str| json!({ "username": name, "channel": "email", "email_address": "x@corp.example" });
    let with = |key: &str, value: Value| {
        let mut body = letter("erin");
        body[key] = value;
        body.to_string()
    };
    for (body, status, error) in [
        (letter("bob").to_string(), 409, "invitation_already_exists"),
        (letter("BOB").to_string(), 409, "invitation_already_exists"),
        (letter("dave").to_string(), 409, "member_already_exists"),
        (letter("a b").to_string(), 422, "unknown"),
        (letter("").to_string(), 422, "unknown"),
        (letter("erin@example.org").to_string(), 422, "unknown"),
        (with("pre_assigned_role", json!("OWNER")), 422, "unknown"),
        (with("channel", json!("sms")), 422, "unknown"),
        (with("email_address", json!("erin")), 422, "unknown"),
        (with("email_address", json!("erin@corp.example\r\nBcc: x@y.example")), 422, "unknown"),
        (with("email_address", json!(null)), 422, "unknown"),
        ("{}".into(), 422, "unknown"),
        ("{".into(), 400, "unknown"),
    ] {
        let answer = world.post_as(&alice, ALL, &body).await;
        assert_eq!((answer.status, answer.error().as_str()), (status, error), "{body}");
    }
    assert_eq!((ids(&world, &alice).await.len(), world.outside.state().letters.len()), (1, 1));
    // What isn't known does no harm, and neither does what is left to its default.
    let body = r#"{"username":"erin","pre_assigned_role":null,"channel":"link","more":1}"#;
    assert_eq!(invite(&world, &alice, body).await["pre_assigned_role"], "MEMBER");
}

#[tokio::test]
async fn only_admins_invite() {
    let (world, alice) = world(&MAIL).await;
    let bob = invite(&world, &alice, BOB).await;
    let dave = world.token("dave").await;
    let (one, again) = (path(&bob), format!("{}/resend", path(&bob)));
    for (method, path) in [
        ("GET", ALL),
        ("POST", ALL),
        ("GET", &*one),
        ("DELETE", &*one),
        ("POST", &*again),
        ("GET", "/v1/invitations/odd"),
    ] {
        let answer = world.ask_as(&dave, method, path).await;
        assert_eq!((answer.status, answer.error().as_str()), (403, "forbidden"), "{path}");
        let answer = world.ask(method, path).await;
        assert_eq!((answer.status, answer.error().as_str()), (401, "unauthorized"), "{path}");
    }
    assert_eq!((ids(&world, &alice).await.len(), world.outside.state().letters.len()), (1, 1));
}

#[tokio::test]
async fn two_at_once_of_one_name_are_one() {
    let (world, alice) = world(&MAIL).await;
    let (one, other) = join!(world.post_as(&alice, ALL, BOB), world.post_as(&alice, ALL, BOB));
    let mut statuses = [one.status, other.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 409]);
    assert_eq!((ids(&world, &alice).await.len(), world.outside.state().letters.len()), (1, 1));
}

#[tokio::test]
async fn an_account_made_otherwise_ends_its_invitation() {
    let (world, alice) = world(&[]).await;
    let carol = invite(&world, &alice, CAROL).await;
    let frank = invite(&world, &alice, r#"{"username":"frank","channel":"link"}"#).await;
    world.server.create("carol", PASSWORD, "prosody:member");
    world.caught_up().await;
    until("it is gone", || world.pod.invitations(|all| all.all().len() == 1)).await;
    let accept = token_of(carol["accept_url"].as_str().unwrap(), "accept");
    let details = world.ask("GET", &format!("/v1/invitation-tokens/{accept}/details")).await;
    assert_eq!(details.status, 410);
    // Also while nobody looked.
    world.server.go_down();
    world.server.create("frank", PASSWORD, "prosody:member");
    let world = world.restart().await;
    world.server.restart(&world.init.secret_of_a_new_server());
    world.in_step().await;
    let answer = world.ask_as(&alice, "GET", &path(&frank)).await;
    assert_eq!(answer.status, 410);
}
