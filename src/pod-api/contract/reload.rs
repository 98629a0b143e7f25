//! The program around the Pod: a configuration that is wrong, is mended, is read anew; and the
//! domain, which whoever sets the Pod up may choose.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use appliance::settings::TlsProfile;
use serde_json::json;
use tempfile::TempDir;
use tokio::task::JoinHandle;

use super::client::{Answer, Client, basic};
use super::gate::FakeInit;
use super::outside::FakeOutside;
use super::server::FakeServer;
use super::{PASSWORD, until};
use crate::app::{App, Desk};
use crate::config::Config;
use crate::serve::{Listener, serve};
use crate::store::Store;

/// The whole program, but for signals and words.
struct Program {
    server: Arc<FakeServer>,
    init: Arc<FakeInit>,
    client: Client,
    desk: Desk,
    file: PathBuf,
    folder: TempDir,
    tasks: Vec<JoinHandle<()>>,
}

impl Program {
    /// With this file.
    async fn start(text: &str) -> Program {
        let server = Arc::new(FakeServer::new("bootstrap-secret"));
        let init = FakeInit::new("bootstrap-secret", server.clone());
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("Prose.toml"), text).unwrap();
        Program::around(server, init, folder).await
    }

    async fn around(server: Arc<FakeServer>, init: Arc<FakeInit>, folder: TempDir) -> Program {
        let (store, kept) = Store::open(folder.path()).unwrap();
        let file = folder.path().join("Prose.toml");
        let (path, desk) = (file.clone(), Desk::new());
        let app = App {
            server: server.clone(),
            init: init.clone(),
            store,
            load: Box::new(move |chosen| Config::load(&[&path], std::iter::empty(), chosen)),
            outside: |_| FakeOutside::seen(&Arc::default()),
            desk: desk.clone(),
        };
        let socket = folder.path().join("http.sock");
        let listener = Listener::bind(socket.to_str().unwrap()).await.unwrap();
        let client = Client::at(&socket);
        let tasks = vec![
            tokio::spawn(serve(listener, desk.router(), std::future::pending())),
            tokio::spawn(async move { match app.run(kept).await {} }),
        ];
        Program { server, init, client, desk, file, folder, tasks }
    }

    async fn restart(self) -> Program {
        for task in self.tasks {
            task.abort();
            let _ = task.await;
        }
        Program::around(self.server, self.init, self.folder).await
    }

    async fn ask(&self, method: &str, path: &str) -> Answer {
        self.client.ask(method, path, &[], None).await
    }

    async fn put(&self, path: &str, body: &str) -> Answer {
        let json = [("content-type", "application/json")];
        self.client.ask("PUT", path, &json, Some(body)).await
    }

    async fn ask_as(&self, token: &str, method: &str, path: &str, body: &str) -> Answer {
        let bearer = format!("Bearer {token}");
        let headers = [("content-type", "application/json"), ("authorization", &bearer)];
        self.client.ask(method, path, &headers, Some(body)).await
    }

    async fn token(&self, name: &str) -> String {
        let basic = basic(&format!("{name}@example.org"), PASSWORD);
        let answer = self.client.ask("POST", "/v1/login", &[("authorization", &basic)], None).await;
        answer.json()["token"].as_str().unwrap_or_else(|| panic!("{answer:?}")).to_owned()
    }

    /// Until it answers so to this.
    async fn answers(&self, path: &str, status: u16) {
        for _ in 0..2000 {
            if self.ask("GET", path).await.status == status {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        panic!("{path} never answers {status}");
    }
}

const RIGHT: &str = "[server]\ndomain = \"example.org\"\n";
const WRONG: &str =
    "[server]\ndomain = \"example.org\"\n[notifiers.email]\nsmtp_password = hunter2\n";

#[tokio::test]
async fn a_wrong_configuration_is_told_and_heals_by_being_read_anew() {
    let program = Program::start(WRONG).await;
    // The gate doesn't depend on it.
    until("the gate is open", || program.init.state().is_open).await;
    let api = env!("CARGO_PKG_VERSION");
    for path in ["/version", "/v1/version"] {
        let answer = program.ask("GET", path).await;
        assert_eq!((answer.status, &answer.json()["version"]), (200, &json!(api)), "{path}");
    }
    for path in ["/pod/version", "/v1/pod/version"] {
        let answer = program.ask("GET", path).await;
        assert_eq!((answer.status, &answer.json()["api"]["version"]), (200, &json!(api)));
        assert_eq!(answer.json()["server"]["version"], json!("unknown"));
    }
    for path in ["/health", "/healthz", "/v1/health"] {
        assert_eq!(program.ask("GET", path).await.status, 503, "{path}");
    }
    for (method, path) in
        [("GET", "/v1/workspace"), ("POST", "/v1/login"), ("GET", "/nothing"), ("DELETE", "/")]
    {
        let answer = program.ask(method, path).await;
        assert_eq!((answer.status, answer.error().as_str()), (503, "internal_server_error"));
        let message = answer.json()["message"].as_str().unwrap().to_owned();
        assert!(message.contains("Prose.toml: line 4: "), "{message}");
        assert!(!message.contains("hunter2"), "{message}");
        assert_eq!(answer.header("cache-control"), Some("no-store"));
    }
    for (method, path) in [("POST", "/version"), ("GET", "/reload"), ("PUT", "/v1/health")] {
        let answer = program.ask(method, path).await;
        assert_eq!((answer.status, answer.body.as_str()), (405, ""), "{method} {path}");
    }
    assert_eq!(program.ask("HEAD", "/version").await.body, "");
    // Read anew as it is, it is as wrong; and anybody may.
    assert_eq!(program.ask("POST", "/reload").await.status, 202);
    assert_eq!(program.ask("GET", "/v1/workspace").await.status, 503);
    fs::write(&program.file, RIGHT).unwrap();
    let answer = program.ask("POST", "/reload").await;
    assert_eq!((answer.status, answer.body.as_str()), (202, ""));
    program.answers("/health", 200).await;
    assert_eq!(program.ask("POST", "/reload").await.status, 401);
    let answer = program.ask("GET", "/v1/server/config").await;
    assert_eq!((answer.status, answer.json()), (200, json!({ "domain": "example.org" })));
}

#[tokio::test]
async fn what_is_read_anew_holds_and_what_is_known_stays() {
    let program = Program::start(RIGHT).await;
    program.answers("/health", 200).await;
    program.server.create("alice", PASSWORD, "prosody:admin");
    program.server.create("bob", PASSWORD, "prosody:member");
    until("they are known", || !program.server.state().asked.is_empty()).await;
    let first = r#"{"name":"Acme"}"#;
    while program.put("/v1/workspace", first).await.status != 409 {}
    let (alice, bob) = (program.token("alice").await, program.token("bob").await);
    let answer = program.ask_as(&bob, "POST", "/reload", "").await;
    assert_eq!((answer.status, answer.error().as_str()), (403, "forbidden"));
    let wish = "\"intermediate\"";
    let chosen = "/v1/server/config/push-notification-with-body";
    assert_eq!(program.ask_as(&alice, "PUT", chosen, "false").await.status, 200);

    fs::write(&program.file, format!("{RIGHT}[server.defaults]\ntls_profile = {wish}\n")).unwrap();
    let count = program.init.state().settings.len();
    assert_eq!(program.ask_as(&alice, "POST", "/reload", "").await.status, 202);
    // Nobody who asks meanwhile is refused.
    while program.init.state().settings.len() == count {
        assert_eq!(program.ask("GET", "/health").await.status, 200);
    }
    let last = || program.init.state().settings.last().cloned().unwrap();
    assert_eq!(last().tls_profile, TlsProfile::Intermediate);
    assert!(!last().push_notification_with_body);
    program.answers("/health", 200).await;
    // Whoever was logged in is.
    let answer = program.ask_as(&alice, "GET", "/v1/server/config", "").await.json();
    assert_eq!(answer["tls_profile"], json!("intermediate"));
    assert_eq!(answer["push_notification_with_body"], json!(false));

    // One that is wrong changes nothing; by the signal, too.
    fs::write(&program.file, WRONG).unwrap();
    assert_eq!(program.ask_as(&alice, "POST", "/reload", "").await.status, 202);
    program.desk.reload();
    let answer = program.ask_as(&alice, "GET", "/v1/server/config", "").await;
    assert_eq!((answer.status, &answer.json()["tls_profile"]), (200, &json!("intermediate")));
}

#[tokio::test]
async fn the_domain_is_chosen_until_there_is_a_member() {
    const PATH: &str = "/v1/server/config";
    let program = Program::start("").await;
    program.answers("/health", 200).await;
    let settled = async |program: &Program, value: &str| {
        program.client.ask("HEAD", PATH, &[("if-match", value)], None).await.status
    };
    assert_eq!(program.ask("HEAD", PATH).await.status, 400);
    assert_eq!(settled(&program, "\"a\"").await, 428);
    assert_eq!(settled(&program, "*").await, 412);
    for (body, status) in [
        (r#"{"domain":"not a domain"}"#, 422),
        (r#"{"domain":"admin.prose.local"}"#, 422),
        ("{}", 422),
        ("{", 400),
    ] {
        let answer = program.put(PATH, body).await;
        assert_eq!((answer.status, answer.error().as_str()), (status, "unknown"), "{body}");
    }
    // One that the Server doesn't take changes nothing.
    program.init.state().refuses = true;
    let refused = program.put(PATH, r#"{"domain":"a.example"}"#).await;
    assert_eq!((refused.status, refused.error().as_str()), (500, "internal_server_error"));
    assert_eq!(program.ask("GET", PATH).await.json(), json!({ "domain": "prose.local" }));
    for domain in ["other.example", "example.org", "example.org"] {
        let answer = program.put(PATH, &format!("{{\"domain\":\"{domain}\"}}")).await;
        assert_eq!((answer.status, answer.json()), (201, json!({ "domain": domain })));
        assert_eq!(answer.header("location"), Some(PATH));
        // It is in step with it already.
        assert_eq!(program.ask("GET", "/health").await.status, 200);
        assert_eq!(program.ask("GET", PATH).await.json(), json!({ "domain": domain }));
        assert_eq!(program.init.state().settings.last().unwrap().domain.as_ref(), domain);
    }
    assert_eq!(settled(&program, "*").await, 204);
    let program = program.restart().await;
    program.answers("/health", 200).await;
    assert_eq!(program.ask("GET", PATH).await.json(), json!({ "domain": "example.org" }));
    let first = r#"{"username":"alice","password":"correct horse battery","nickname":"Alice"}"#;
    let made = program.put("/v1/init/first-account", first).await;
    assert_eq!((made.status, &made.json()["jid"]), (201, &json!("alice@example.org")));
    let late = program.put(PATH, r#"{"domain":"b.example"}"#).await;
    assert_eq!((late.status, late.error().as_str()), (409, "server_config_already_initialized"));

    let program = Program::start(RIGHT).await;
    program.answers("/health", 200).await;
    assert_eq!(settled(&program, "*").await, 204);
    let late = program.put(PATH, r#"{"domain":"b.example"}"#).await;
    assert_eq!((late.status, late.error().as_str()), (409, "server_config_already_initialized"));
}

#[tokio::test]
async fn there_are_seats_for_all_or_as_the_operator_says() {
    for (more, limit) in [("", 1_000_000), ("[licensing]\nuser_limit = 3\n", 3)] {
        let program = Program::start(&format!("{RIGHT}{more}")).await;
        program.answers("/health", 200).await;
        program.server.create("alice", PASSWORD, "prosody:admin");
        program.server.create("prose-workspace", PASSWORD, "prosody:registered");
        while program.put("/v1/workspace", r#"{"name":"Acme"}"#).await.status != 409 {}
        let alice = program.token("alice").await;
        let license = json!({
            "id": "Y29tbXVuaXR5", "name": "Community", "user_limit": limit, "expiry": null,
            "ttl_ms": null,
        });
        let ask = async |method, path| program.ask_as(&alice, method, path, "").await;
        assert_eq!(ask("GET", "/v1/licensing/license").await.json(), license);
        let status = json!({ "license": license, "user_count": 1, "remaining_seats": limit - 1 });
        assert_eq!(ask("GET", "/v1/licensing/status").await.json(), status);
        let bought = ask("PUT", "/v1/licensing/license").await;
        assert_eq!((bought.status, bought.error().as_str()), (400, "bad_request"));
        assert_eq!(program.ask("GET", "/v1/licensing/license").await.error(), "unauthorized");
    }
}
