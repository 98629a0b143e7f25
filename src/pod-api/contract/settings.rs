//! The Server's settings, one by one and in groups.

use std::time::{Duration, Instant};

use appliance::settings::{Retention, Settings, TlsProfile};
use serde_json::{Value, json};

use super::{World, until};

const SETTINGS: [(&str, Value, &str); 10] = [
    ("message-archive-enabled", Value::Bool(true), "false"),
    ("message-archive-retention", Value::Null, r#""P1Y""#),
    ("file-upload-allowed", Value::Bool(true), "false"),
    ("file-storage-retention", Value::Null, r#""P2Y""#),
    ("push-notification-with-body", Value::Bool(true), "false"),
    ("push-notification-with-sender", Value::Bool(true), "false"),
    ("tls-profile", Value::Null, r#""intermediate""#),
    ("federation-enabled", Value::Bool(false), "true"),
    ("federation-whitelist-enabled", Value::Bool(false), "true"),
    ("federation-friendly-servers", Value::Null, r#"["b.example","a.example"]"#),
];

/// With an admin; and her token.
async fn world() -> (World, String) {
    let world = World::with(&[("alice", "prosody:admin"), ("bob", "prosody:member")]).await;
    let token = world.token("alice").await;
    (world, token)
}

fn path(setting: &str) -> String {
    format!("/v1/server/config/{setting}")
}

/// What the Server was told last.
fn submitted(world: &World) -> (usize, Settings) {
    let settings = &world.init.state().settings;
    (settings.len(), settings.last().unwrap().clone())
}

#[tokio::test]
async fn each_setting_is_chosen_read_and_reset() {
    let (world, alice) = world().await;
    let before = world.ask_as(&alice, "GET", "/v1/server/config").await.json();
    for (name, default, chosen) in SETTINGS {
        let key = name.replace('-', "_");
        let default = if default.is_null() { before[&key].clone() } else { default };
        let read = async || world.ask_as(&alice, "GET", &path(name)).await;
        let first = read().await;
        assert_eq!((first.status, first.json()), (200, default.clone()), "{name}");
        let (count, _) = submitted(&world);
        let put = world.put_as(&alice, &path(name), chosen).await;
        let chosen: Value = serde_json::from_str(chosen).unwrap();
        assert_eq!((put.status, put.json()), (200, chosen.clone()), "{name}");
        assert_eq!(put.header("content-type"), Some("application/json"));
        assert_eq!(read().await.json(), chosen, "{name}");
        let all = world.ask_as(&alice, "GET", "/v1/server/config").await.json();
        assert_eq!(all[&key], chosen, "{name}");
        assert_eq!(submitted(&world).0, count + 1, "{name}");
        let delete = world.ask_as(&alice, "DELETE", &path(name)).await;
        assert_eq!((delete.status, delete.json()), (200, default), "{name}");
        assert_eq!(submitted(&world).0, count + 2, "{name}");
    }
    assert_eq!(submitted(&world).1, Settings::new("example.org".parse().unwrap()));
    assert_eq!(world.ask_as(&alice, "GET", "/v1/server/config").await.json(), before);
}

#[tokio::test]
async fn c18_the_same_again_is_not_submitted() {
    let (world, alice) = world().await;
    let retention = path("message-archive-retention");
    let (first, _) = submitted(&world);
    for (value, shown, submissions) in [
        ("\"infinite\"", "infinite", 0),
        ("\"P52W\"", "P364D", 1),
        ("\"P1Y\"", "P1Y", 2),
        ("\"P1Y\"", "P1Y", 2),
        // As long.
        ("\"P365D\"", "P365D", 2),
    ] {
        let answer = world.put_as(&alice, &retention, value).await;
        assert_eq!((answer.status, answer.json()), (200, json!(shown)));
        assert_eq!(submitted(&world).0, first + submissions, "{value}");
    }
    assert_eq!(submitted(&world).1.message_archive_retention, Retention::Years(1));
}

#[tokio::test]
async fn a_choice_outlives_restarts_and_wins() {
    let (world, alice) = world().await;
    for (name, value) in [("tls-profile", "\"old\""), ("message-archive-enabled", "true")] {
        assert_eq!(world.put_as(&alice, &path(name), value).await.status, 200);
    }
    let world = world.restart().await;
    world.in_step().await;
    assert_eq!(submitted(&world).1.tls_profile, TlsProfile::Old);
    let answer = world.ask_as(&alice, "GET", &path("tls-profile")).await;
    assert_eq!((answer.status, answer.json()), (200, json!("old")));
    // Also over what the operator writes later, even where it said the same.
    let world = world.restart_with(&[
        ("PROSE_SERVER__DEFAULTS__TLS_PROFILE", "intermediate"),
        ("PROSE_SERVER__DEFAULTS__MESSAGE_ARCHIVE_ENABLED", "false"),
    ]);
    let world = world.await;
    world.in_step().await;
    let settings = submitted(&world).1;
    assert_eq!((settings.tls_profile, settings.message_archive_enabled), (TlsProfile::Old, true));
    let answer = world.ask_as(&alice, "DELETE", &path("tls-profile")).await;
    assert_eq!((answer.status, answer.json()), (200, json!("intermediate")));
    assert_eq!(submitted(&world).1.tls_profile, TlsProfile::Intermediate);
}

#[tokio::test]
async fn c17_a_group_is_reset_as_a_whole() {
    let (world, alice) = world().await;
    let before = world.ask_as(&alice, "GET", "/v1/server/config").await.json();
    for (group, settings) in [
        ("messaging", &SETTINGS[0..2]),
        ("files", &SETTINGS[2..4]),
        ("push-notifications", &SETTINGS[4..6]),
        ("network-encryption", &SETTINGS[6..7]),
        ("server-federation", &SETTINGS[7..10]),
    ] {
        for (name, _, value) in settings {
            assert_eq!(world.put_as(&alice, &path(name), value).await.status, 200, "{name}");
        }
        let (count, _) = submitted(&world);
        for _ in 0..2 {
            let answer = world.ask_as(&alice, "DELETE", &path(group)).await;
            assert_eq!((answer.status, answer.json()), (200, before.clone()), "{group}");
            assert_eq!(answer.header("content-location"), Some("/v1/server/config"));
            assert_eq!(submitted(&world).0, count + 1, "{group}");
        }
    }
    let world = world.restart().await;
    world.in_step().await;
    assert_eq!(world.ask_as(&alice, "GET", "/v1/server/config").await.json(), before);
}

#[tokio::test]
async fn what_is_wrong_is_refused_and_changes_nothing() {
    let (world, alice) = world().await;
    let count = submitted(&world).0;
    for (name, body, status) in [
        ("message-archive-enabled", "\"true\"", 422),
        ("message-archive-enabled", "null", 422),
        ("message-archive-enabled", "tru", 400),
        ("message-archive-retention", "\"PT5M\"", 422),
        ("message-archive-retention", "\"P0D\"", 422),
        ("message-archive-retention", "\"P1Y6M\"", 422),
        ("file-storage-retention", "365", 422),
        ("tls-profile", "\"newest\"", 422),
        ("federation-friendly-servers", r#"["not a domain"]"#, 422),
        ("federation-friendly-servers", r#"["a.example","A.example"]"#, 422),
    ] {
        let answer = world.put_as(&alice, &path(name), body).await;
        assert_eq!((answer.status, answer.error().as_str()), (status, "unknown"), "{name} {body}");
    }
    let bearer = format!("Bearer {alice}");
    let untyped = [("authorization", bearer.as_str())];
    let answer = world.client.ask("PUT", &path("tls-profile"), &untyped, Some("\"old\"")).await;
    assert_eq!((answer.status, answer.error().as_str()), (415, "unknown"));
    let scheme = world.put_as(&alice, &path("file-storage-encryption-scheme"), "\"AES-256\"").await;
    assert_eq!((scheme.status, scheme.error().as_str()), (501, "not_implemented"));
    for (method, name, status) in
        [("GET", "nothing", 404), ("GET", "files", 405), ("POST", "tls-profile", 405)]
    {
        let answer = world.ask_as(&alice, method, &path(name)).await;
        assert_eq!((answer.status, answer.body.as_str()), (status, ""), "{method} {name}");
    }
    assert_eq!(submitted(&world).0, count);
}

#[tokio::test]
async fn c19_settings_are_for_admins_whatever_the_body_is() {
    let (world, _) = world().await;
    let bob = world.token("bob").await;
    let count = submitted(&world).0;
    let names = SETTINGS.map(|(name, ..)| name);
    for name in names {
        for method in ["GET", "PUT", "DELETE"] {
            let answer = world.ask_as(&bob, method, &path(name)).await;
            assert_eq!((answer.status, answer.error().as_str()), (403, "forbidden"), "{name}");
            let answer = world.ask(method, &path(name)).await;
            assert_eq!((answer.status, answer.error().as_str()), (401, "unauthorized"), "{name}");
        }
    }
    for name in ["messaging", "server-federation"] {
        let answer = world.ask_as(&bob, "DELETE", &path(name)).await;
        assert_eq!((answer.status, answer.error().as_str()), (403, "forbidden"), "{name}");
    }
    let scheme = path("file-storage-encryption-scheme");
    assert_eq!(world.put_as(&bob, &scheme, "1").await.status, 403);
    assert_eq!(submitted(&world).0, count);
}

#[tokio::test]
async fn what_init_refuses_is_not_kept() {
    let (world, alice) = world().await;
    world.init.state().is_busy = true;
    let refused = world.put_as(&alice, &path("federation-enabled"), "true").await;
    assert_eq!((refused.status, refused.error().as_str()), (500, "internal_server_error"));
    let answer = world.ask_as(&alice, "GET", &path("federation-enabled")).await;
    assert_eq!(answer.json(), json!(false));
    // Nobody knows what it goes by now: it is told, even what it is told to be like already.
    let count = submitted(&world).0;
    assert_eq!(world.put_as(&alice, &path("federation-enabled"), "false").await.status, 200);
    assert_eq!(submitted(&world).0, count + 1);
}

#[tokio::test]
async fn a_change_is_answered_after_its_effect() {
    let (world, alice) = world().await;
    world.init.state().loads_after = Duration::from_millis(300);
    let both = ["false", "true"].map(|value| {
        let (name, alice) = (path("file-upload-allowed"), alice.clone());
        let world = &world;
        async move {
            let started = Instant::now();
            let answer = world.put_as(&alice, &name, value).await;
            (answer.status, started.elapsed())
        }
    });
    let [first, second] = both;
    let (first, second, before) = tokio::join!(first, second, async {
        until("it is being loaded", || submitted(&world).0 == 2).await;
        world.ask_as(&alice, "GET", &path("file-upload-allowed")).await.json()
    });
    // `true` holds from the start: whichever comes first, one of them changes something.
    assert_eq!((first.0, second.0, before), (200, 200, json!(true)));
    let longest = first.1.max(second.1);
    assert!(longest >= Duration::from_millis(300), "{longest:?}");
    let last = submitted(&world).1.file_upload_allowed;
    assert_eq!(world.pod.server_config().defaults.file_upload_allowed, last);
}

#[tokio::test]
async fn what_the_server_refuses_is_taken_back() {
    let (world, alice) = world().await;
    let (count, before) = submitted(&world);
    world.init.state().refuses = true;
    let failed = world.put_as(&alice, &path("federation-enabled"), "true").await;
    assert_eq!((failed.status, failed.error().as_str()), (500, "internal_server_error"));
    assert!(!failed.body.contains("lua"), "{failed:?}");
    assert_eq!(submitted(&world), (count + 2, before));
    let read =
        async |world: &World| world.ask_as(&alice, "GET", &path("federation-enabled")).await.json();
    assert_eq!(read(&world).await, json!(false));
    let world = world.restart().await;
    world.in_step().await;
    assert_eq!(read(&world).await, json!(false));
    assert_eq!(world.put_as(&alice, &path("federation-enabled"), "true").await.status, 200);
}

#[tokio::test]
async fn a_server_that_is_started_anew_for_it_is_waited_for() {
    let (world, alice) = world().await;
    world.init.state().restarts = true;
    let answer = world.put_as(&alice, &path("federation-enabled"), "true").await;
    assert_eq!((answer.status, answer.json()), (200, json!(true)));
    // It is in step already.
    let answer = world.ask_as(&alice, "GET", &path("federation-enabled")).await;
    assert_eq!((answer.status, answer.json()), (200, json!(true)));
}

#[tokio::test]
async fn what_cannot_be_kept_is_taken_back() {
    let (world, alice) = world().await;
    let (count, before) = submitted(&world);
    let database = rusqlite::Connection::open(world.folder.path().join("pod.sqlite")).unwrap();
    database.execute_batch("ALTER TABLE setting RENAME TO elsewhere").unwrap();
    let failed = world.put_as(&alice, &path("federation-enabled"), "true").await;
    assert_eq!((failed.status, failed.error().as_str()), (500, "database_error"));
    assert_eq!(submitted(&world), (count + 2, before));
    let answer = world.ask_as(&alice, "GET", &path("federation-enabled")).await;
    assert_eq!(answer.json(), json!(false));
    database.execute_batch("ALTER TABLE elsewhere RENAME TO setting").unwrap();
    let answer = world.put_as(&alice, &path("federation-enabled"), "true").await;
    assert_eq!((answer.status, answer.json()), (200, json!(true)));
}
