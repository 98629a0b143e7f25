//! Where members are reached.

use serde_json::json;

use super::invitations::{MAIL, world};
use super::{PASSWORD, World};

const PATHS: [&str; 3] = ["recovery-email-address", "recovery-email", "email-address"];

fn path(name: &str, last: &str) -> String {
    format!("/v1/members/{name}@example.org/{last}")
}

#[tokio::test]
async fn an_address_has_three_paths_and_two_who_may_set_it() {
    let (world, alice) = world(&[]).await;
    let dave = world.token("dave").await;
    for (token, address) in [(&dave, "dave@home.example"), (&alice, "dave@corp.example")] {
        for last in PATHS {
            let answer = world.put_as(token, &path("dave", last), &format!("{address:?}")).await;
            assert_eq!((answer.status, answer.body.as_str()), (200, ""), "{last}");
        }
        for (token, last) in [&dave, &alice].into_iter().flat_map(|it| PATHS.map(|last| (it, last)))
        {
            let answer = world.ask_as(token, "GET", &path("dave", last)).await;
            assert_eq!((answer.status, answer.json()), (200, json!(address)), "{last}");
        }
    }
    let shown = world.ask_as(&dave, "GET", "/v1/members/dave@example.org").await.json();
    assert_eq!(shown["email"], "dave@corp.example");
    // It may be taken back, and outlives a restart until then.
    let world = world.restart().await;
    world.in_step().await;
    let read =
        async |world: &World| world.ask_as(&dave, "GET", &path("dave", PATHS[0])).await.json();
    assert_eq!(read(&world).await, json!("dave@corp.example"));
    assert_eq!(world.put_as(&dave, &path("dave", PATHS[0]), "null").await.status, 200);
    assert_eq!(read(&world).await, json!(null));
}

#[tokio::test]
async fn it_is_nobody_elses() {
    let (world, alice) = world(&[]).await;
    let dave = world.token("dave").await;
    for last in PATHS {
        for name in ["alice", "nobody", "%00"] {
            let answer = world.ask_as(&dave, "GET", &path(name, last)).await;
            assert_eq!((answer.status, answer.error().as_str()), (403, "forbidden"), "{name}");
            let answer = world.put_as(&dave, &path(name, last), "1").await;
            assert_eq!((answer.status, answer.error().as_str()), (403, "forbidden"), "{name}");
        }
        assert_eq!(world.ask("GET", &path("dave", last)).await.status, 401);
        assert_eq!(world.put(&path("dave", last), "\"a@b.example\"").await.status, 401);
        let answer = world.ask_as(&alice, "GET", &path("nobody", last)).await;
        assert_eq!((answer.status, answer.error().as_str()), (404, "member_not_found"));
        for body in ["\"dave\"", "\"\"", "1", "[]", "\"a@b.example\\r\\nBcc: x@y.example\""] {
            let answer = world.put_as(&dave, &path("dave", last), body).await;
            assert_eq!((answer.status, answer.error().as_str()), (422, "unknown"), "{body}");
        }
    }
    let elsewhere = "/v1/members/dave@elsewhere.org/email-address";
    assert_eq!(world.ask_as(&dave, "GET", elsewhere).await.status, 403);
    assert_eq!(world.ask_as(&alice, "GET", elsewhere).await.status, 404);
}

#[tokio::test]
async fn it_goes_with_the_account() {
    for is_watched in [true, false] {
        let (world, alice) = world(&MAIL).await;
        let url = path("dave", PATHS[0]);
        assert_eq!(world.put_as(&alice, &url, "\"dave@corp.example\"").await.status, 200);
        if is_watched {
            let answer = world.ask_as(&alice, "DELETE", "/v1/members/dave@example.org").await;
            assert_eq!(answer.status, 204);
        } else {
            world.server.delete("dave");
            world.caught_up().await;
        }
        world.server.create("dave", PASSWORD, "prosody:member");
        world.caught_up().await;
        super::until("it is gone", || {
            world.pod.address(&crate::jid::Localpart::parse("dave").unwrap()).is_none()
        })
        .await;
        let world = world.restart_with(&MAIL).await;
        world.in_step().await;
        assert_eq!(world.ask_as(&alice, "GET", &url).await.json(), json!(null), "{is_watched}");
    }
}

#[tokio::test]
async fn the_first_account_may_have_one() {
    for (email, status, expected) in [
        (r#","email":"alice@corp.example""#, 201, json!("alice@corp.example")),
        (r#","email":null"#, 201, json!(null)),
        ("", 201, json!(null)),
        (r#","email":"alice""#, 422, json!(null)),
    ] {
        let world = World::start().await;
        let body =
            format!(r#"{{"username":"alice","password":"{PASSWORD}","nickname":"Alice"{email}}}"#);
        let answer = world.put("/v1/init/first-account", &body).await;
        assert_eq!(answer.status, status, "{email}");
        if status == 201 {
            let alice = world.token("alice").await;
            let shown = world.ask_as(&alice, "GET", &path("alice", PATHS[2])).await;
            assert_eq!(shown.json(), expected);
        }
    }
}
