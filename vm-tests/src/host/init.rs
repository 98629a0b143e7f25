//! A stand-in for `stele-init`, in the small: its control socket, the secrets that it leaves for the
//! Pod API, and what becomes of settings. As PID 1 it accepts first, and does it afterwards, in order.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use appliance::backup::Wish;
use appliance::control::{
    GateState, LONGEST, Machine, Phase, Refusal, Reply, Request, ServiceState, SettingsState,
    SettingsStep, Verb,
};
use appliance::secret::Secret;
use appliance::settings::{Settings, bootstrap, render};
use nix::sys::socket::sockopt::{ReceiveTimeout, SendTimeout};
use nix::sys::socket::{
    AddressFamily, Backlog, MsgFlags, Shutdown, SockFlag, SockType, UnixAddr, bind, listen, recv,
    send, setsockopt, shutdown, socket,
};
use nix::sys::time::TimeVal;

use crate::server::Server;

use super::backup::{self, Backups};
use super::program::Program;

/// The most bytes of the Server's configuration in a packet: in JSON each may take six.
const PART: usize = LONGEST / 8;
/// How long a caller may think, in seconds.
const SILENT_FOR: i64 = 2;
/// Before anything was submitted.
const UNSETTLED: SettingsState =
    SettingsState { of: None, step: SettingsStep::None, why: None, may_hold_lua: false };

/// The Server, of whoever needs it at the moment.
pub type Shared = Arc<Mutex<Server>>;

/// What it starts and stops.
#[derive(Debug, Clone)]
pub struct Services {
    /// The Server.
    pub server: Shared,
    /// The Pod API.
    pub api: Arc<Mutex<Program>>,
    /// What a machine's data is: see [`super::backup`].
    pub data: PathBuf,
}

/// Whoever panicked while holding it left it as it is.
pub fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// It answers until it is dropped.
#[derive(Debug)]
pub struct Init {
    state: Arc<Mutex<State>>,
    listener: UnixListener,
    threads: Vec<thread::JoinHandle<()>>,
}

/// What it knows.
#[derive(Debug)]
pub struct State {
    /// What becomes of backups.
    pub backups: Backups,
    started: Instant,
    credentials: PathBuf,
    bootstrap: String,
    pending: Option<Secret>,
    current: Option<Secret>,
    /// What was submitted, in order.
    settings: Vec<Settings>,
    /// What became of the last of them.
    settled: SettingsState,
    /// What the Server runs with.
    file: Option<String>,
}

/// What was accepted, for whoever does it.
pub struct Todo(Receiver<Work>);

/// What is done after it was accepted.
enum Work {
    Prove,
    Configure(Box<Settings>),
    Backup(Box<Wish>),
}

impl Init {
    /// Begins with the gate shut. The Pod API finds its secrets in `credentials`.
    pub fn start(socket: &Path, credentials: &Path, bootstrap: &str) -> Result<(Init, Todo)> {
        let state = State {
            backups: Backups::default(),
            started: Instant::now(),
            credentials: credentials.to_owned(),
            bootstrap: bootstrap.to_owned(),
            pending: None,
            current: None,
            settings: vec![],
            settled: UNSETTLED,
            file: None,
        };
        state.leave_secrets().context("cannot leave secrets")?;
        let state = Arc::new(Mutex::new(state));
        let listener = open(socket).context("cannot listen as stele-init")?;
        let (orders, todo) = channel();
        let (door, known) = (listener.try_clone()?, state.clone());
        let doorman = thread::spawn(move || answer_all(&door, &known, &orders));
        Ok((Init { state, listener, threads: vec![doorman] }, Todo(todo)))
    }

    /// From here on it does what it accepts.
    pub fn work(&mut self, Todo(todo): Todo, services: Services) {
        let state = self.state.clone();
        self.threads.push(thread::spawn(move || work(&todo, &state, &services)));
    }

    /// Has the Server been proved to take the new secret?
    pub fn is_open(&self) -> bool {
        lock(&self.state).current.is_some()
    }

    /// How often settings were submitted.
    pub fn submissions(&self) -> usize {
        lock(&self.state).settings.len()
    }

    /// The operator allows Lua.
    pub fn allow_lua(&self) {
        lock(&self.state).settled.may_hold_lua = true;
    }

    /// What a Server that starts now takes: a function of the gate.
    pub fn secret_of_a_new_server(&self) -> String {
        lock(&self.state).secret().to_owned()
    }

    /// The machine has been off: all secrets are gone, and there is a new one to begin with.
    pub fn begin_anew(&self, bootstrap: &str) -> Result<()> {
        let mut state = lock(&self.state);
        (state.pending, state.current) = (None, None);
        state.bootstrap = bootstrap.to_owned();
        state.leave_secrets().context("cannot leave secrets")
    }
}

impl Drop for Init {
    fn drop(&mut self) {
        // It wakes the one who waits for callers; the other ends when nobody orders any more.
        let _ = shutdown(self.listener.as_raw_fd(), Shutdown::Both);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl State {
    /// What a Server that starts now takes.
    pub fn secret(&self) -> &str {
        self.current.as_ref().map_or(&self.bootstrap, Secret::reveal)
    }

    /// The domain of the last settings.
    pub fn domain(&self) -> Option<String> {
        self.settings.last().map(|settings| settings.domain.to_string())
    }

    /// What was submitted is given up, with all that it was about.
    pub fn forget_settings(&mut self) {
        let may_hold_lua = self.settled.may_hold_lua;
        (self.settled, self.file) = (SettingsState { may_hold_lua, ..UNSETTLED }, None);
    }

    fn leave_secrets(&self) -> io::Result<()> {
        let leave = |name: &str, secret: Option<&str>| {
            let path = self.credentials.join(name);
            match secret {
                Some(secret) => fs::write(path, secret),
                None if path.exists() => fs::remove_file(path),
                None => Ok(()),
            }
        };
        leave("bootstrap", Some(&self.bootstrap))?;
        leave("pending", self.pending.as_ref().map(Secret::reveal))?;
        leave("current", self.current.as_ref().map(Secret::reveal))
    }

    fn machine(&self) -> Machine {
        let open = self.current.is_some();
        let service = |name: &str| ServiceState {
            name: name.to_owned(),
            state: "ready".into(),
            restarts: 0,
            pid: None,
            memory: None,
            resident: None,
        };
        Machine {
            name: "prose-pod".into(),
            version: "1.0.0".into(),
            uptime: self.started.elapsed().as_secs(),
            phase: if open { Phase::Running } else { Phase::Starting },
            services: ["prosody", "pod-api", "front"].map(service).into(),
            gate: Some(GateState { open, step: "rotation".into(), why: None }),
            ..Machine::default()
        }
    }

    /// A part of the Server's configuration.
    fn part(&self, from: usize) -> Reply {
        let Some(text) = &self.file else { return Reply::Refused(Refusal::NoSettings) };
        let rest = text.get(from..).unwrap_or_default();
        let end = (0..=PART.min(rest.len())).rev().find(|end| rest.is_char_boundary(*end));
        let text_part = rest[..end.unwrap_or_default()].to_owned();
        Reply::ServerFile { text: text_part, length: text.len() as u32 }
    }

    /// The last settings have come so far, if these are still the last.
    fn settle(&mut self, settings: &Settings, outcome: Result<String, String>) {
        if self.settled.of != Some(settings.digest()) {
            return;
        }
        (self.settled.step, self.settled.why) = match &outcome {
            Ok(_) => (SettingsStep::Applied, None),
            Err(why) => (SettingsStep::Refused, Some(why.clone())),
        };
        self.file = outcome.ok().or(self.file.take());
    }

    /// What a caller gets, and what is to be done then.
    fn answer(&mut self, packet: &[u8]) -> io::Result<(Reply, Option<Work>)> {
        let verb = match Request::from_packet(packet) {
            Ok(request) => request.verb,
            Err(refusal) => return Ok((Reply::Refused(refusal), None)),
        };
        Ok(match verb {
            Verb::State => (Reply::State(Box::new(self.machine())), None),
            Verb::RotationPending { secret } => {
                self.pending = Some(secret);
                self.leave_secrets()?;
                (Reply::Accepted, None)
            }
            Verb::RotationDone => (Reply::Accepted, Some(Work::Prove)),
            Verb::SettingsState => (Reply::SettingsState(self.settled.clone()), None),
            Verb::ServerFile { from } => (self.part(from as usize), None),
            Verb::Settings(settings)
                if settings.prosody_overrides_raw.is_some() && !self.settled.may_hold_lua =>
            {
                (Reply::Refused(Refusal::Lua), None)
            }
            Verb::Settings(settings) => {
                self.settled.of = Some(settings.digest());
                self.settled.step = SettingsStep::Rendering;
                self.settings.push((*settings).clone());
                (Reply::Accepted, Some(Work::Configure(settings)))
            }
            Verb::Backup(wish) => {
                let reply = self.backups.answer(&wish);
                let work = (reply == Reply::Accepted).then_some(Work::Backup(wish));
                (reply, work)
            }
            _ => (Reply::Refused(Refusal::Forbidden), None),
        })
    }
}

fn open(path: &Path) -> Result<UnixListener> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let listener = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)?;
    bind(listener.as_raw_fd(), &UnixAddr::new(path)?)?;
    listen(&listener, Backlog::new(8)?)?;
    // Of packets, though std knows only the other kind by name: accepting is the same.
    Ok(UnixListener::from(listener))
}

fn answer_all(door: &UnixListener, state: &Mutex<State>, orders: &Sender<Work>) {
    while let Ok((caller, _)) = door.accept() {
        if let Err(error) = answer_one(&OwnedFd::from(caller), state, orders) {
            eprintln!("the stand-in for stele-init cannot answer: {error:#}");
        }
    }
}

fn answer_one(caller: &OwnedFd, state: &Mutex<State>, orders: &Sender<Work>) -> Result<()> {
    let within = TimeVal::new(SILENT_FOR, 0);
    setsockopt(caller, ReceiveTimeout, &within)?;
    setsockopt(caller, SendTimeout, &within)?;
    let mut packet = vec![0; LONGEST];
    let length = recv(caller.as_raw_fd(), &mut packet, MsgFlags::empty())?;
    let (reply, work) = lock(state).answer(&packet[..length])?;
    send(caller.as_raw_fd(), &reply.to_packet(), MsgFlags::MSG_NOSIGNAL)?;
    if let Some(work) = work {
        orders.send(work).context("nobody does it")?;
    }
    Ok(())
}

fn work(todo: &Receiver<Work>, state: &Mutex<State>, services: &Services) {
    let server = &services.server;
    for work in todo {
        let done = match work {
            Work::Prove => prove(state, server),
            Work::Configure(settings) => {
                let outcome = configure(&settings, &mut lock(server));
                lock(state).settle(&settings, outcome);
                Ok(())
            }
            Work::Backup(wish) => backup::grant(*wish, state, services),
        };
        if let Err(error) = done {
            eprintln!("the stand-in for stele-init: {error:#}");
        }
    }
}

/// It believes nothing: the Server itself must refuse the old secret and take the new one.
fn prove(state: &Mutex<State>, server: &Mutex<Server>) -> Result<()> {
    let (pending, old) = {
        let state = lock(state);
        (state.pending.clone(), state.secret().to_owned())
    };
    let Some(new) = pending else { return Ok(()) };
    let mut server = lock(server);
    let status = |secret: &str| server.call_with(secret, "version", "{}").status;
    let statuses = (status(&old), status(new.reveal()));
    ensure!(statuses == (401, 200), "the rotation isn't proved: {statuses:?}");
    server.secret = new.reveal().to_owned();
    drop(server);
    let mut state = lock(state);
    (state.current, state.pending) = (Some(new), None);
    state.leave_secrets().context("cannot leave secrets")
}

/// What the Server can't take over while it runs, it gets by a restart. Returns its configuration.
fn configure(settings: &Settings, server: &mut Server) -> Result<String, String> {
    let answer = server.apply(settings);
    if answer.body["restart"] == true {
        let secret = server.secret.clone();
        server.restart(&secret);
    } else if answer.status != 200 {
        return Err(format!("the Server refuses its configuration: {answer:?}"));
    }
    Ok(render(settings, &server.place))
}

/// What the Server begins with while the gate is shut.
pub fn shut(server: &mut Server, secret: &str) {
    server.configure(&bootstrap(&server.place));
    server.restart(secret);
}
