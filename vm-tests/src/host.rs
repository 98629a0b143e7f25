//! A whole Pod on this host, without a machine around it: the real Server, Pod API and front, and a
//! stand-in for `stele-init` between them. For the contract with real clients, in seconds.
//!
//! ```text
//! test ─ HTTP ─► front ─► pod-api ─ HTTP ─► Prosody ◄─ XMPP ─ Session, Client
//!                  └─ control socket ─┴─► Init: secrets, settings ─ renders, reloads ─► Prosody
//! ```
//!
//! Everything is on free ports of loopback and in folders of its own, and ends with the value.

mod backup;
mod init;
mod mail;
mod program;

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use appliance::backup::{INCOMING, KEPT};
use appliance::settings::Prosody;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::images;
use crate::scratch::judge;
use crate::server::{Answer, Asked, BOOTSTRAP_SECRET, Client, Server, VERSIONS};
use crate::session::Session;

pub use init::Init;
use init::Services;
pub use mail::{Letter, MailServer};
pub use program::Program;
use program::View;

/// The domain of its members.
pub const DOMAIN: &str = "example.org";
/// The password of all of them.
pub const PASSWORD: &str = "correct horse battery";
/// The first admin.
pub const ADMIN: &str = "alice";
/// What its operator wrote: clients may also log in without TLS.
const CONFIGURATION: &str = "\
[server]
domain = \"example.org\"
[debug_use_at_your_own_risk]
c2s_unencrypted = true
";

/// The volume of the API's own things.
const API_DATA: &str = "/var/lib/prose-pod-api";
/// The longest that anything may take here.
const WITHIN: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(10);

/// See above.
#[derive(Debug)]
pub struct Pod {
    /// What clients reach.
    pub front: Program,
    /// PID 1's stand-in.
    pub init: Init,
    address: SocketAddr,
    services: Services,
    /// Their paths must be short.
    sockets: TempDir,
}

/// Waits until `what` is there.
#[track_caller]
pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + WITHIN;
    loop {
        match look() {
            Some(found) => return found,
            None if Instant::now() < deadline => thread::sleep(PAUSE),
            None => panic!("never: {what}"),
        }
    }
}

/// Passes a test with the Pod of either version.
pub fn each(test: impl Fn(Pod)) {
    each_with("", test);
}

/// The same, with more in the operator's configuration.
pub fn each_with(more: &str, test: impl Fn(Pod)) {
    each_of(&format!("{CONFIGURATION}{more}"), test);
}

/// The same, with this for the operator's configuration.
pub fn each_of(configuration: &str, test: impl Fn(Pod)) {
    for version in VERSIONS {
        eprintln!("--- {version:?}");
        test(Pod::configured(version, configuration));
    }
}

impl Pod {
    /// Starts one; it answers. Nobody has an account yet. `more` is of the operator's configuration.
    #[track_caller]
    pub fn start(version: Prosody, more: &str) -> Pod {
        Pod::configured(version, &format!("{CONFIGURATION}{more}"))
    }

    /// The same, with this for the operator's configuration.
    #[track_caller]
    pub fn configured(version: Prosody, configuration: &str) -> Pod {
        let pod = start(version, configuration).unwrap_or_else(|error| panic!("{error:#}"));
        pod.wait_until_healthy();
        pod
    }

    /// Waits until it serves.
    #[track_caller]
    pub fn wait_until_healthy(&self) {
        let deadline = Instant::now() + WITHIN;
        while !self.try_ask(&Asked::get("/api/health")).is_ok_and(|answer| answer.status == 200) {
            let logs = || format!("{}{}", self.api().log(), self.server().log());
            assert!(Instant::now() < deadline, "it isn't healthy:\n{}", logs());
            thread::sleep(PAUSE);
        }
    }

    /// The Server. What needs it waits until this is given back.
    pub fn server(&self) -> MutexGuard<'_, Server> {
        init::lock(&self.services.server)
    }

    /// The API itself. It isn't stopped or started until this is given back.
    pub fn api(&self) -> MutexGuard<'_, Program> {
        init::lock(&self.services.api)
    }

    /// Which one it is.
    pub fn version(&self) -> Prosody {
        self.server().version()
    }

    /// Where the front listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where the API listens.
    pub fn api_socket(&self) -> PathBuf {
        socket(&self.sockets, "http")
    }

    /// Where the API's own things are.
    pub fn data(&self) -> PathBuf {
        backup::volume(&self.services.data, API_DATA)
    }

    /// The operator writes more into the configuration than there was to begin with.
    #[track_caller]
    pub fn operator_writes(&self, more: &str) {
        let written = fs::write(config(&self.services.data), format!("{CONFIGURATION}{more}"));
        written.expect("it is written");
    }

    // Requests: paths are the API's, without `/api`; an empty token is none

    /// Asks for anything, by the front's paths.
    #[track_caller]
    pub fn ask(&self, asked: &Asked) -> Answer {
        let answer = self.try_ask(asked);
        answer.unwrap_or_else(|error| panic!("{asked:?}: {error:#}\n{}", self.api().log()))
    }

    /// The same, for who goes on without an answer.
    pub fn try_ask(&self, asked: &Asked) -> Result<Answer> {
        asked.send(self.address)
    }

    /// A request without a body.
    #[track_caller]
    pub fn bare(&self, method: &str, path: &str, token: &str) -> Answer {
        self.ask(&by(Asked::new(method, &format!("/api{path}"), ""), token))
    }

    /// `GET`
    #[track_caller]
    pub fn get(&self, path: &str, token: &str) -> Answer {
        self.bare("GET", path, token)
    }

    /// `HEAD`
    #[track_caller]
    pub fn head(&self, path: &str, token: &str) -> Answer {
        self.bare("HEAD", path, token)
    }

    /// `DELETE`
    #[track_caller]
    pub fn delete(&self, path: &str, token: &str) -> Answer {
        self.bare("DELETE", path, token)
    }

    /// Events, all of them, as text.
    #[track_caller]
    pub fn events(&self, path: &str, token: &str) -> Answer {
        let asked = Asked::get(&format!("/api{path}")).with("Accept: text/event-stream");
        self.ask(&by(asked, token))
    }

    /// A request with a document.
    #[track_caller]
    pub fn send(&self, method: &str, path: &str, token: &str, document: Value) -> Answer {
        self.ask(&by(Asked::json(method, &format!("/api{path}"), &document), token))
    }

    /// `PUT`
    #[track_caller]
    pub fn put(&self, path: &str, token: &str, document: Value) -> Answer {
        self.send("PUT", path, token, document)
    }

    // People

    /// The answer to a login.
    #[track_caller]
    pub fn try_log_in(&self, jid: &str, password: &str) -> Answer {
        self.ask(&Asked::new("POST", "/api/v1/login", "").by(jid, password))
    }

    /// The token of somebody.
    #[track_caller]
    pub fn log_in(&self, name: &str) -> String {
        let answer = self.try_log_in(&jid(name), PASSWORD);
        let token = answer.body["token"].as_str();
        token.unwrap_or_else(|| panic!("{answer:?}")).to_owned()
    }

    /// Names the workspace and makes the first account, as the Dashboard does; returns its token.
    #[track_caller]
    pub fn make_admin(&self) -> String {
        let answer = self.put("/v1/workspace", "", json!({"name": "Acme"}));
        assert_eq!(answer.status, 201, "{answer:?}");
        let account = json!({"username": ADMIN, "password": PASSWORD, "nickname": "Alice"});
        let answer = self.put("/v1/init/first-account", "", account);
        assert_eq!(answer.status, 201, "{answer:?}");
        self.log_in(ADMIN)
    }

    /// Makes an account behind the API's back, with Prosody's word for its role.
    #[track_caller]
    pub fn make_account(&self, name: &str, password: &str, role: &str) {
        let account =
            json!({"host": DOMAIN, "localpart": name, "password": password, "role": role});
        let answer = self.server().call("create_account", account.to_string());
        assert_eq!(answer.status, 200, "{answer:?}");
    }

    /// Makes a member so, and waits until the API knows; returns its token.
    #[track_caller]
    pub fn make_member(&self, name: &str) -> String {
        self.make_account(name, PASSWORD, "prosody:member");
        wait_for("a login of whom the API knows", || {
            let answer = self.try_log_in(&jid(name), PASSWORD);
            answer.body["token"].as_str().map(str::to_owned)
        })
    }

    /// Somebody comes online, with a real client.
    #[track_caller]
    pub fn session(&self, name: &str) -> Session {
        let certificate = self.certificate();
        let c2s = self.server().c2s();
        let session = Session::open(c2s, &jid(name), PASSWORD, &certificate);
        session.unwrap_or_else(|error| panic!("{error:#}\n{}", self.server().log()))
    }

    /// Somebody comes online, with the least of a client.
    pub fn client(&self, name: &str) -> Result<Client> {
        let c2s = self.server().c2s();
        Client::login(c2s, DOMAIN, name, PASSWORD, "test")
    }

    fn certificate(&self) -> PathBuf {
        certificates(&self.server()).join(format!("{DOMAIN}.crt"))
    }

    // Deaths

    /// The API dies and is started again.
    #[track_caller]
    pub fn restart_api(&self) {
        self.api().restart().unwrap_or_else(|error| panic!("{error:#}"));
        self.wait_until_healthy();
    }

    /// The Server dies and is started again.
    pub fn restart_server(&self) {
        let secret = self.init.secret_of_a_new_server();
        self.server().restart(&secret);
    }

    /// The machine goes off, and on with another secret to begin with: the gate is shut again.
    #[track_caller]
    pub fn reboot(&self, bootstrap: &str) {
        self.api().kill();
        self.init.begin_anew(bootstrap).unwrap_or_else(|error| panic!("{error:#}"));
        init::shut(&mut self.server(), bootstrap);
        self.restart_api();
    }
}

/// The address of one of its members.
pub fn jid(name: &str) -> String {
    format!("{name}@{DOMAIN}")
}

fn by(asked: Asked, token: &str) -> Asked {
    if token.is_empty() { asked } else { asked.bearer(token) }
}

fn socket(folder: &TempDir, name: &str) -> PathBuf {
    folder.path().join(name)
}

fn certificates(server: &Server) -> PathBuf {
    PathBuf::from(&server.place.certificates)
}

fn start(version: Prosody, configuration: &str) -> Result<Pod> {
    let server = Server::start(version);
    certify(&server)?;
    let machine = server.folder().to_owned();
    backup::make_volumes(&machine)?;
    let volume = |path| backup::volume(&machine, path);
    let config = config(&machine);
    fs::write(&config, configuration).context("cannot write Prose.toml")?;
    let own = machine.join("pod-api");
    let credentials = own.join("credentials");
    fs::create_dir_all(&credentials).context("cannot make a folder for secrets")?;
    let sockets = tempfile::tempdir().context("cannot make a folder")?;
    let (control, http) = (socket(&sockets, "control"), socket(&sockets, "http"));
    let (mut init, todo) = Init::start(&control, &credentials, BOOTSTRAP_SECRET)?;
    let url = format!("http://{}", server.http());
    let text = |path: PathBuf| path.display().to_string();
    let (data, config, credentials) = (text(volume(API_DATA)), text(config), text(credentials));
    let (control, http) = (text(control), text(http));
    let arguments = [
        ["--listen", &http],
        ["--server", &url],
        ["--data", &data],
        ["--control", &control],
        ["--config", &config],
        ["--credentials", &credentials],
    ];
    let (kept, incoming) = (volume(KEPT), volume(INCOMING));
    let view = View { over: "/var/lib", shown: &[(&kept, KEPT), (&incoming, INCOMING)] };
    let api = Program::start("pod-api", arguments.as_flattened(), Some(&view), &own.join("log"))?;
    let (server, api) = (Arc::new(Mutex::new(server)), Arc::new(Mutex::new(api)));
    let services = Services { server, api, data: machine };
    init.work(todo, services.clone());
    let arguments = ["--listen", "127.0.0.1:0", "--pod-api", &http, "--control", &control];
    let mut front = Program::start("front", &arguments, None, &own.join("front-log"))?;
    let address = front.told("listens at ", WITHIN)?;
    let address = address.parse().context("the front listens at no address")?;
    Ok(Pod { front, init, address, services, sockets })
}

/// Where the operator's configuration is.
fn config(machine: &Path) -> PathBuf {
    backup::volume(machine, "/etc/prose-pod-api").join("Prose.toml")
}

/// Gives it a certificate for its domain, where it looks for one.
fn certify(server: &Server) -> Result<()> {
    let folder = certificates(server);
    let mut make = judge("openssl", 60);
    make.args(["req", "-x509", "-noenc", "-newkey", "ec", "-pkeyopt"]);
    make.args(["ec_paramgen_curve:prime256v1", "-subj", &format!("/CN={DOMAIN}")]);
    make.args(["-addext", &format!("subjectAltName=DNS:{DOMAIN}"), "-keyout"]);
    make.arg(folder.join(format!("{DOMAIN}.key"))).arg("-out");
    images::run(make.arg(folder.join(format!("{DOMAIN}.crt"))), "make a certificate")?;
    ensure!(folder.join(format!("{DOMAIN}.crt")).is_file(), "openssl made no certificate");
    Ok(())
}
