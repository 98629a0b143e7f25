//! A guest that runs: its console is shown, and whoever wants it to end is heard.

use std::io::{self, Read as _, Write as _};
use std::path::Path;
use std::process::{ChildStdout, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::qemu::ending::{Effect, Event, State};
use crate::qemu::monitor::Monitor;
use crate::qemu::process::Process;

/// How long the console's last words may take to be shown.
const SHOWN_WITHIN: Duration = Duration::from_secs(2);
/// How often one looks whether QEMU has ended: where nobody reads standard output, its console
/// doesn't tell.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Between the end of QEMU's console and that of its process.
const CLOSED_BEFORE_END: Duration = Duration::from_millis(10);

/// What the threads beside the loop tell it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum News {
    /// Ctrl-C and its like.
    Signal,
    /// The console is closed: QEMU has ended, or is about to.
    ConsoleClosed,
}

/// How a guest ended.
#[derive(Debug)]
pub struct Ended {
    /// What QEMU said to that.
    pub status: ExitStatus,
    /// How far the ending had come.
    pub state: State,
}

/// Signals that end a guest. From here on they end nothing else. SIGHUP isn't one: it ends us, and
/// with us the guest, unless `nohup` has it ignored.
pub struct Stops {
    sender: Sender<News>,
    receiver: Receiver<News>,
}

impl Stops {
    /// Catches them.
    pub fn catch() -> Result<Stops> {
        let (sender, receiver) = channel();
        let mut signals = Signals::new([SIGINT, SIGTERM]).context("cannot catch signals")?;
        let to_loop = sender.clone();
        // Ends with the process: there is nothing to join.
        thread::spawn(move || {
            signals.forever().try_for_each(|_| to_loop.send(News::Signal).map_err(drop))
        });
        Ok(Stops { sender, receiver })
    }

    /// Did one come?
    pub fn came(&self) -> bool {
        self.receiver.try_recv() == Ok(News::Signal)
    }
}

/// Runs `command` to its end, and tells it to end when a signal comes or `timeout` is over. QEMU
/// takes orders at the socket `monitor`.
pub fn run(
    command: &[String],
    monitor: &Path,
    stops: &Stops,
    timeout: Option<Duration>,
) -> Result<Ended> {
    let mut process = Process::start(command, Stdio::piped(), Stdio::inherit())?;
    let console = process.take_stdout().context("internal error: the console is no pipe")?;
    let closed = stops.sender.clone();
    let shower = thread::spawn(move || {
        show(console);
        closed.send(News::ConsoleClosed)
    });
    let stop_at = timeout.map(|timeout| Instant::now() + timeout);
    let state = State::Running;
    let mut guest = Guest { process, monitor, connection: None, state, wake: None, stop_at };
    let status = loop {
        if let Some(status) = guest.process.end()? {
            break status;
        }
        match stops.receiver.recv_timeout(guest.patience(Instant::now())) {
            Ok(News::Signal) => guest.on(Event::Stop),
            Ok(News::ConsoleClosed) => thread::sleep(CLOSED_BEFORE_END),
            Err(_) => guest.on_time(Instant::now()),
        }
    };
    let deadline = Instant::now() + SHOWN_WITHIN;
    while !shower.is_finished() && Instant::now() < deadline {
        thread::sleep(CLOSED_BEFORE_END);
    }
    Ok(Ended { status, state: guest.state })
}

struct Guest<'a> {
    process: Process,
    monitor: &'a Path,
    connection: Option<Monitor>,
    state: State,
    /// When [`Event::Timeout`] is due.
    wake: Option<Instant>,
    /// When the time given to it is over.
    stop_at: Option<Instant>,
}

impl Guest<'_> {
    fn patience(&self, now: Instant) -> Duration {
        let next = [self.wake, self.stop_at].into_iter().flatten().min();
        next.map_or(LOOK_EVERY, |next| next.saturating_duration_since(now).min(LOOK_EVERY))
    }

    fn on_time(&mut self, now: Instant) {
        let is_over = self.stop_at.take_if(|moment| *moment <= now).is_some();
        if is_over && self.state == State::Running {
            say("the time is over");
            self.on(Event::Stop);
        }
        if self.wake.take_if(|moment| *moment <= now).is_some() {
            self.on(Event::Timeout);
        }
    }

    fn on(&mut self, event: Event) {
        let before = self.state;
        let (state, effects) = before.on(event);
        self.state = state;
        for effect in effects {
            match effect {
                Effect::PressPower => self.tell("system_powerdown"),
                Effect::Quit => self.tell("quit"),
                Effect::Kill => self.process.kill(),
                Effect::WakeIn(delay) => self.wake = Some(Instant::now() + delay),
            }
        }
        match (before, state) {
            (State::Running, State::PoweringOff(_)) => {
                say("powering off; Ctrl-C again ends it at once");
            }
            (State::PoweringOff(_), State::Quitting) => say("ending QEMU"),
            (State::Quitting, State::Killed) => say("killing QEMU"),
            _ => {}
        }
    }

    /// What can't be said now is said again, or something stronger is done, when the time comes.
    fn tell(&mut self, command: &str) {
        let connection = match self.connection.take() {
            Some(connection) => Ok(connection),
            None => Monitor::connect(self.monitor),
        };
        let told = connection.and_then(|mut connection| {
            connection.execute(command)?;
            Ok(connection)
        });
        match told {
            Ok(connection) => self.connection = Some(connection),
            Err(error) => tracing::debug!("{error:#}"),
        }
    }
}

/// Copies the console to standard output. When that is gone, QEMU must not wait for it.
fn show(mut console: ChildStdout) {
    let mut chunk = [0; 4096];
    let mut is_shown = true;
    while let Ok(length @ 1..) = console.read(&mut chunk) {
        let mut output = io::stdout().lock();
        is_shown =
            is_shown && output.write_all(&chunk[..length]).and_then(|()| output.flush()).is_ok();
    }
}

/// Tells the user; a terminal that has gone is no reason to fail.
fn say(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}
