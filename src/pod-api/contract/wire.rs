//! The two ways out, as bytes: HTTP to the Server, packets to init. Each is let loose on a fake that
//! reads what was sent.

use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;
use std::thread;

use appliance::control::{Request, SettingsStep, Verb};
use appliance::settings::Settings;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::routing::post;
use nix::sys::socket::{
    AddressFamily, Backlog, MsgFlags, SockFlag, SockType, UnixAddr, bind, listen, recv, send,
    socket,
};
use serde_json::{Value, json};

use super::client::basic;
use super::server::FakeServer;
use crate::arguments::Arguments;
use crate::follow;
use crate::init::control::Control;
use crate::init::{self, Init};
use crate::member::Role;
use crate::secret;
use crate::serve::{Listener, serve};
use crate::server::http::Module;
use crate::server::{Connection, Error, Server};

const USER: &str = "prose-pod-api@admin.prose.local";

/// `mod_stele` over HTTP: takes the request apart, asks the fake, puts the answer together.
async fn answer(
    State(server): State<Arc<FakeServer>>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> (StatusCode, String) {
    let verbs = [
        "version",
        "rotate_secret",
        "accounts",
        "sessions",
        "changes",
        "create_account",
        "check_password",
        "set_role",
        "delete_account",
        "profiles",
        "set_profile",
        "avatar",
        "set_avatar",
    ];
    let verb = verbs.into_iter().find(|verb| uri.path() == format!("/stele/v1/{verb}"));
    assert_eq!(headers["content-type"], "application/json");
    assert!(headers.contains_key("content-length") && !headers.contains_key("via"));
    let sent = headers["authorization"].to_str().unwrap();
    // Whoever sends this user and this secret is let in.
    let secret = server.state().secret.clone();
    let secret = secret::of(if sent == basic(USER, &secret) { &secret } else { "wrong" });
    let with: Value = serde_json::from_slice(&body).unwrap();
    let asked = server.ask(&secret, verb.unwrap_or("nonsense"), with);
    let (status, json) = match asked.await {
        Ok(answer) => (200, answer),
        Err(Error::Unauthorized) => (401, json!({ "error": "unauthorized" })),
        Err(Error::Refused { status, error, message }) => {
            (status, json!({ "error": error, "message": message }))
        }
        Err(Error::Gone) => (410, json!({ "error": "gone" })),
        Err(Error::Busy) => (429, json!({ "error": "slow_down" })),
        Err(_) => (500, json!({ "error": "failed" })),
    };
    (StatusCode::from_u16(status).unwrap(), json.to_string())
}

/// Returns its URL.
async fn serve_module(server: Arc<FakeServer>) -> String {
    let router = Router::new().route("/stele/v1/{verb}", post(answer)).with_state(server);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(serve(Listener::Tcp(listener), router, std::future::pending()));
    url
}

#[tokio::test]
async fn every_verb_crosses_the_wire() {
    let fake = Arc::new(FakeServer::new("the secret, with a colon: here"));
    let module: Arc<dyn Server> = Arc::new(Module::at(&serve_module(fake.clone()).await).unwrap());
    let connect = |secret: &str| Connection::new(module.clone(), secret::of(secret));
    assert_eq!(connect("wrong").version().await, Err(Error::Unauthorized));
    let old = connect("the secret, with a colon: here");
    assert_eq!(old.version().await.unwrap().prosody, "13.0.2");
    let new = secret::random("").unwrap();
    old.rotate_secret(&new).await.unwrap();
    assert_eq!(old.version().await, Err(Error::Unauthorized));
    let connection = connect(new.reveal());
    let odd = secret::of("p'\"\\]]\u{e9}--");
    let alice = crate::jid::Localpart::parse("alice").unwrap();
    let create = || connection.create_account("example.org", &alice, &odd, Role::Admin);
    create().await.unwrap();
    let exists = create().await.unwrap_err();
    assert!(matches!(exists, Error::Refused { status: 409, .. }), "{exists}");
    for (password, ok) in [(&odd, true), (&new, false)] {
        let checked = connection.check_password("example.org", &alice, password).await;
        assert_eq!(checked, Ok(ok));
    }
    connection.set_nickname("example.org", &alice, "A\"]]\\").await.unwrap();
    assert_eq!(connection.avatar("example.org", &alice).await, Ok(None));
    let id = connection.set_avatar("example.org", &alice, b"GIF89a").await.unwrap();
    let picture = connection.avatar("example.org", &alice).await;
    assert_eq!(picture, Ok(Some(b"GIF89a".to_vec())));
    let shown = connection.profiles("example.org", std::slice::from_ref(&alice)).await.unwrap();
    let profile = &shown.profiles[0].profile;
    assert_eq!((profile.nickname.as_deref(), &profile.avatar), (Some("A\"]]\\"), &Some(id)));
    let accounts = connection.accounts("example.org").await.unwrap();
    fake.set_online("alice", true);
    assert_eq!(connection.sessions("example.org").await.unwrap()[0].localpart, "alice");
    let changes = connection.changes(accounts.seq).await.unwrap();
    assert_eq!((changes.changes.len(), changes.seq), (1, fake.seq()));
    connection.set_role("example.org", &alice, Role::Member).await.unwrap();
    connection.delete_account("example.org", &alice).await.unwrap();
    let gone = connection.delete_account("example.org", &alice).await.unwrap_err();
    assert!(matches!(gone, Error::Refused { status: 404, .. }), "{gone}");
    assert_eq!(connection.changes(0).await.unwrap_err(), Error::Gone);
    let elsewhere = connection.accounts("elsewhere.org").await.unwrap_err();
    assert!(matches!(elsewhere, Error::Refused { status: 404, .. }), "{elsewhere}");
}

#[tokio::test]
async fn a_long_poll_ends_when_something_happens() {
    let fake = Arc::new(FakeServer::new("secret"));
    let module: Arc<dyn Server> = Arc::new(Module::at(&serve_module(fake.clone()).await).unwrap());
    let connection = Connection::new(module, secret::of("secret"));
    let since = fake.seq();
    let poll = tokio::spawn(async move { connection.changes(since).await });
    super::until("it waits", || fake.state().asked == ["changes"]).await;
    fake.create("bob", "p", "prosody:member");
    assert_eq!(poll.await.unwrap().unwrap().changes.len(), 1);
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unreachable() {
    // Taken and let go: nobody listens there now.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let module: Arc<dyn Server> = Arc::new(Module::at(&format!("http://{free}")).unwrap());
    let answer = Connection::new(module, secret::of("s")).version().await;
    assert!(matches!(answer, Err(Error::Unreachable(_))), "{answer:?}");
}

/// PID 1's socket, for so many requests: what was sent, each answered as `reply` says.
fn serve_control(
    path: &Path,
    requests: usize,
    reply: &'static str,
) -> thread::JoinHandle<Vec<Verb>> {
    let kind = (AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC);
    let listener = socket(kind.0, kind.1, kind.2, None).unwrap();
    bind(listener.as_raw_fd(), &UnixAddr::new(path).unwrap()).unwrap();
    listen(&listener, Backlog::new(8).unwrap()).unwrap();
    let listener = UnixListener::from(listener);
    thread::spawn(move || {
        let one = |_| {
            let stream = OwnedFd::from(listener.accept().unwrap().0);
            let mut packet = vec![0; 65536];
            let length = recv(stream.as_raw_fd(), &mut packet, MsgFlags::empty()).unwrap();
            send(stream.as_raw_fd(), reply.as_bytes(), MsgFlags::MSG_NOSIGNAL).unwrap();
            Request::from_packet(&packet[..length]).unwrap().verb
        };
        (0..requests).map(one).collect()
    })
}

#[tokio::test]
async fn the_rotation_and_the_settings_cross_both_wires() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("control.sock");
    std::fs::write(folder.path().join("bootstrap"), "the bootstrap secret").unwrap();
    let fake = Arc::new(FakeServer::new("the bootstrap secret"));
    let module: Arc<dyn Server> = Arc::new(Module::at(&serve_module(fake.clone()).await).unwrap());
    let init = serve_control(&path, 3, "\"accepted\"");
    let control = Control::at(&path, folder.path());
    let connection = follow::log_in(&module, &control).await;
    assert!(connection.version().await.is_ok());
    let settings = Settings::new("example.org".parse().unwrap());
    control.settings(&settings).await.unwrap();
    let secret = secret::of(&fake.state().secret);
    assert_eq!(secret.reveal().len(), 64);
    let expected =
        [Verb::RotationPending { secret }, Verb::RotationDone, Verb::Settings(Box::new(settings))];
    assert_eq!(init.join().unwrap(), expected);
}

#[tokio::test]
async fn c30_a_damaged_database_ends_it_but_does_not_keep_the_gate_shut() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("bootstrap"), "the bootstrap secret").unwrap();
    let damaged = b"no database".repeat(100);
    std::fs::write(path("pod.sqlite"), &damaged).unwrap();
    let fake = Arc::new(FakeServer::new("the bootstrap secret"));
    let init = serve_control(&path("control.sock"), 2, "\"accepted\"");
    let arguments = Arguments {
        listen: path("http.sock").to_str().unwrap().to_owned(),
        server: serve_module(fake.clone()).await,
        data: folder.path().to_owned(),
        control: path("control.sock"),
        config: path("none"),
        credentials: folder.path().to_owned(),
    };
    assert!(crate::run(arguments).await.is_err());
    assert_eq!(init.join().unwrap().len(), 2);
    assert_ne!(fake.state().secret, "the bootstrap secret");
    assert!(std::fs::read(path("pod.sqlite")).unwrap() == damaged);
}

#[tokio::test]
async fn what_init_says_is_understood() {
    let folder = tempfile::tempdir().unwrap();
    for (number, (reply, said)) in [
        (r#"{"refused":"forbidden"}"#, "stele-init refuses the end of the rotation: Forbidden"),
        (r#"{"services":[]}"#, "it answers another question"),
        ("nonsense", "its reply: "),
    ]
    .into_iter()
    .enumerate()
    {
        let path = folder.path().join(number.to_string());
        let served = serve_control(&path, 1, reply);
        let error = Control::at(&path, folder.path()).rotation_done().await.unwrap_err();
        assert!(error.to_string().contains(said), "{error}");
        served.join().unwrap();
    }
    let state = r#"{"settings_state":{"of":null,"step":"loading","why":null,"may_hold_lua":true}}"#;
    for (number, (reply, expected)) in [
        (r#"{"server_file":{"text":"x = 1","length":5}}"#, Ok(Some("x = 1".to_owned()))),
        (r#"{"refused":"no_settings"}"#, Ok(None)),
        (r#"{"server_file":{"text":"","length":5}}"#, Err("a part of it is missing")),
        (state, Err("it answers another question")),
    ]
    .into_iter()
    .enumerate()
    {
        let path = folder.path().join(format!("file-{number}"));
        let served = serve_control(&path, 1, reply);
        let file = Control::at(&path, folder.path()).server_file().await;
        match (file, expected) {
            (Ok(file), Ok(expected)) => assert_eq!(file, expected),
            (Err(error), Err(said)) => assert!(error.to_string().contains(said), "{error}"),
            (file, expected) => panic!("{file:?}, but expected {expected:?}"),
        }
        assert_eq!(served.join().unwrap(), [Verb::ServerFile { from: 0 }]);
    }
    let path = folder.path().join("state");
    let served = serve_control(&path, 1, state);
    let state = Control::at(&path, folder.path()).settings_state().await.unwrap();
    assert_eq!((state.step, state.may_hold_lua), (SettingsStep::Loading, true));
    assert_eq!(served.join().unwrap(), [Verb::SettingsState]);
    let absent = Control::at(&folder.path().join("absent"), folder.path());
    let error = absent.rotation_done().await.unwrap_err();
    assert!(matches!(error, init::Error::Unreachable(..)), "{error}");
}
