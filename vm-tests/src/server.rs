//! The real Server on this host, without a machine around it: Prosody of either version, on free
//! ports of loopback, with our module and a configuration of ours. For what is between programs:
//! the module's verbs, configurations, the Pod API's contract.
//!
//! ```text
//! tree (the root of a built image) ────┐
//! Place, bootstrap ─► prosody.cfg.lua ─┴─► prosody ◄─ call (HTTP), Client (XMPP)
//! ```
//!
//! ```no_run
//! # use vm_tests::server::{Server, VERSIONS};
//! let mut server = Server::start(VERSIONS[0]);
//! server.apply(&Server::plain_settings("example.org"));
//! assert_eq!(server.call("accounts", r#"{"host":"example.org"}"#).status, 200);
//! ```
//!
//! | variable: a folder with a root in it | else |
//! |---|---|
//! | `STELE_PROSODY_0_12` | that of the image of `prose-pod-0.12`, unpacked |
//! | `STELE_PROSODY_13_0` | that of the image of `prose-pod` |

mod chat;
mod tree;

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use appliance::settings::{self, Certificate, INTERNAL_HOST, Place, Prosody, Settings};

use crate::scratch;

pub use crate::http::{Answer, Asked, base64};
pub use chat::Client;
pub use tree::Tree;

/// Both, the older first.
pub const VERSIONS: [Prosody; 2] = [Prosody::V0_12, Prosody::V13_0];
/// What the Server shares with the Pod API at its start.
pub const BOOTSTRAP_SECRET: &str = "the bootstrap secret";

const START_WITHIN: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(20);

/// A Server that runs. It ends with this value.
#[derive(Debug)]
pub struct Server {
    /// Where its modules find everything.
    pub place: Place,
    /// The secret that [`Server::call`] uses.
    pub secret: String,
    tree: Tree,
    folder: PathBuf,
    process: Child,
}

impl Server {
    /// Starts one with the bootstrap configuration, as init does; it answers.
    #[track_caller]
    pub fn start(version: Prosody) -> Server {
        let started = Tree::find(version).and_then(|tree| start(tree, BOOTSTRAP_SECRET));
        started.unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// Settings with which clients of this host can log in without certificates.
    pub fn plain_settings(domain: &str) -> Settings {
        let mut settings = Settings::new(domain.parse().expect("a domain"));
        settings.c2s_unencrypted = true;
        settings
    }

    /// A port that nobody listens on at this moment.
    pub fn free_port() -> u16 {
        let [port] = free_ports().expect("there is a port");
        port
    }

    /// Which version it is.
    pub fn version(&self) -> Prosody {
        self.place.prosody
    }

    /// Asks for a verb, as the Pod API.
    #[track_caller]
    pub fn call(&self, verb: &str, body: impl AsRef<[u8]>) -> Answer {
        self.call_with(&self.secret, verb, body)
    }

    /// The same, with another secret.
    #[track_caller]
    pub fn call_with(&self, secret: &str, verb: &str, body: impl AsRef<[u8]>) -> Answer {
        let asked = Asked::verb(verb, body).by(&format!("prose-pod-api@{INTERNAL_HOST}"), secret);
        self.ask(&asked)
    }

    /// Sends any request at all.
    #[track_caller]
    pub fn ask(&self, asked: &Asked) -> Answer {
        let answer = asked.send(self.http());
        answer.unwrap_or_else(|error| panic!("{asked:?}: {error:#}\n{}", self.log()))
    }

    /// Gives it the configuration of these settings, which it reads without being restarted.
    #[track_caller]
    pub fn apply(&self, settings: &Settings) -> Answer {
        self.configure(&settings::render(settings, &self.place));
        self.call("reload", "{}")
    }

    /// Writes its configuration.
    pub fn configure(&self, text: &str) {
        write_configuration(&self.folder, text).expect("it is written");
    }

    /// Kills it, and starts it anew in the same place with this secret and its last configuration.
    #[track_caller]
    pub fn restart(&mut self, secret: &str) {
        self.stop();
        let restarted = fs::write(credentials(&self.folder).join("bootstrap"), secret)
            .context("cannot write the secret")
            .and_then(|()| spawn(&self.tree, &self.folder));
        self.process = restarted.unwrap_or_else(|error| panic!("{error:#}"));
        self.secret = secret.to_owned();
        wait_until_up(&mut self.process, &self.place, &self.folder)
            .unwrap_or_else(|error| panic!("{error:#}"));
    }

    /// What `prosodyctl check config` says of its configuration, and whether it is content.
    pub fn check_configuration(&self) -> (bool, String) {
        let file = configuration(&self.folder);
        let mut command = self.tree.command("prosodyctl");
        command.arg("--config").arg(file).args(["check", "config"]);
        let output = command.output().expect("prosodyctl runs");
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&text).into_owned())
    }

    /// What it has printed.
    pub fn log(&self) -> String {
        fs::read(log_file(&self.folder))
            .map(|log| String::from_utf8_lossy(&log).into_owned())
            .unwrap_or_default()
    }

    /// Its process's number.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Where its things are: in its volumes, as on a machine's data, and beside them.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where it answers HTTP.
    pub fn http(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.place.http_port).into()
    }

    /// Where it answers clients.
    pub fn c2s(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.place.c2s_port).into()
    }

    /// Kills it.
    pub fn stop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
        if thread::panicking() {
            eprintln!("the Server's folder is {}", self.folder.display());
        } else {
            scratch::forget(&self.folder);
        }
    }
}

fn start(tree: Tree, secret: &str) -> Result<Server> {
    let folder = scratch::evidence()?;
    let place = place(tree.version(), &folder)?;
    for path in [place.data.as_ref(), place.certificates.as_ref(), &*credentials(&folder)] {
        fs::create_dir_all(path).with_context(|| format!("cannot make {}", path.display()))?;
    }
    fs::write(credentials(&folder).join("bootstrap"), secret).context("cannot write the secret")?;
    write_configuration(&folder, &settings::bootstrap(&place))?;
    let mut process = spawn(&tree, &folder)?;
    let up = wait_until_up(&mut process, &place, &folder);
    let server = Server { place, secret: secret.to_owned(), tree, folder, process };
    up.map(|()| server)
}

fn place(version: Prosody, folder: &Path) -> Result<Place> {
    let path = |name: &str| folder.join(name).display().to_string();
    let [http_port, c2s_port, s2s_port] = free_ports()?;
    Ok(Place {
        prosody: version,
        data: path("volumes/var/lib/prosody"),
        certificates: path("volumes/etc/prosody/certs"),
        modules: scratch::workspace().join("layers/prosody-pod").display().to_string(),
        pid_file: path("prosody.pid"),
        authorities: "/etc/ssl/certs/ca-certificates.crt".into(),
        certificate: Certificate::Discovered,
        http_port,
        c2s_port,
        s2s_port,
    })
}

/// Ports that nobody listens on at this moment.
fn free_ports<const COUNT: usize>() -> Result<[u16; COUNT]> {
    let mut held = Vec::new();
    let mut ports = [0; COUNT];
    for port in &mut ports {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("cannot find a port")?;
        *port = listener.local_addr()?.port();
        held.push(listener);
    }
    Ok(ports)
}

fn configuration(folder: &Path) -> PathBuf {
    folder.join("prosody.cfg.lua")
}

fn credentials(folder: &Path) -> PathBuf {
    folder.join("credentials")
}

fn log_file(folder: &Path) -> PathBuf {
    folder.join("log")
}

/// What a test on this host needs besides: it may be root's.
fn write_configuration(folder: &Path, text: &str) -> Result<()> {
    let path = configuration(folder);
    fs::write(&path, format!("run_as_root = true\n{text}"))
        .with_context(|| format!("cannot write {}", path.display()))
}

fn spawn(tree: &Tree, folder: &Path) -> Result<Child> {
    let log = File::create(log_file(folder)).context("cannot make the log")?;
    let mut command = tree.command("prosody");
    command.args(["-F", "--config"]).arg(configuration(folder));
    command.env("CREDENTIALS_DIRECTORY", credentials(folder));
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    command.spawn().with_context(|| format!("cannot start {command:?}"))
}

fn wait_until_up(process: &mut Child, place: &Place, folder: &Path) -> Result<()> {
    let deadline = Instant::now() + START_WITHIN;
    let asked = Asked::verb("version", "{}");
    let address = (Ipv4Addr::LOCALHOST, place.http_port).into();
    while !asked.send(address).is_ok_and(|answer| answer.status == 401) {
        let log = || fs::read_to_string(log_file(folder)).unwrap_or_default();
        let end = process.try_wait().context("cannot ask for the Server's state")?;
        ensure!(end.is_none(), "the Server ended: {end:?}\n{}", log());
        ensure!(Instant::now() < deadline, "the Server doesn't answer\n{}", log());
        thread::sleep(PAUSE);
    }
    Ok(())
}
