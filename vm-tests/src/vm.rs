//! A running VM. Dropped, it is gone; what it leaves is kept if the story failed.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::json;

use crate::console::{self, Line};
use crate::machine::{FORWARDED, HTTP, Machine, READS, XMPP};
use crate::peer::{self, Asked, Cable, Heard, Peer};
use crate::process;
use crate::qmp::{self, Event, Qmp};
use crate::reads::Read;
use crate::scratch::{self, Turn};
use crate::watch::{Seen, Watch};

/// How long until something that can't announce itself is looked at again.
const AGAIN: Duration = Duration::from_millis(250);
/// The threads that report to the [`Watch`]: console and QMP.
const SOURCES: usize = 2;

/// A machine that runs, or has run.
#[derive(Debug)]
pub struct Vm {
    watch: Arc<Watch>,
    qmp: Qmp,
    process: Arc<Mutex<Child>>,
    pid: u32,
    started: Instant,
    folder: PathBuf,
    /// Where this host reaches ports of the guest.
    ports: BTreeMap<u16, SocketAddr>,
    /// Where its serial line begins.
    keyboard: UnixStream,
    /// To the neighbour of the harness's, if it has that.
    cable: Option<Cable>,
    threads: Vec<JoinHandle<()>>,
    /// Dropped, it ends the thread that minds the deadline.
    minded: Option<mpsc::Sender<()>>,
    _turn: Turn,
}

impl Vm {
    pub(crate) fn start(machine: Machine) -> Result<Vm> {
        let turn = Turn::take()?;
        let folder = scratch::evidence()?;
        let pair = || UnixStream::pair().context("cannot make sockets for QEMU");
        let ((qmp, qemus_qmp), (console, qemus_console)) = (pair()?, pair()?);
        let file = |name| create(&folder, name);
        let (cable, qemus_cable) =
            machine.neighbour().cloned().map(Cable::new).transpose()?.unzip();
        let mut command = machine.prepare(&folder, qemus_cable.as_ref())?;
        command.stdin(Stdio::from(OwnedFd::from(qemus_qmp)));
        command.stdout(Stdio::from(OwnedFd::from(qemus_console)));
        command.stderr(file("qemu-errors.txt")?);
        let started = Instant::now();
        let process = command
            .spawn()
            .context("cannot start QEMU\nhint: install qemu-system-x86 and util-linux")?;
        drop((command, qemus_cable)); // and with them our copies of QEMU's ends of the sockets
        let pid = process.id();
        let process = Arc::new(Mutex::new(process));
        let watch = Arc::new(Watch::new(SOURCES));
        let (minded, deadline) = mpsc::channel();
        let (log, words) = (file("console.log")?, file("qmp.log")?);
        let qmp_copy = words.try_clone()?;
        let (replies, keyboard) = (qmp.try_clone()?, console.try_clone()?);
        let mut threads = vec![
            thread::spawn({
                let (watch, expected) = (Arc::clone(&watch), machine.expected.clone());
                move || console::read(console, log, started, pid, &expected, &watch)
            }),
            thread::spawn({
                let watch = Arc::clone(&watch);
                move || qmp::read(replies, qmp_copy, started, &watch)
            }),
            thread::spawn({
                let (watch, process) = (Arc::clone(&watch), Arc::clone(&process));
                move || mind(machine.deadline, &deadline, &watch, &process)
            }),
        ];
        if let Some(cable) = &cable {
            let (cable, watch, copy) = (cable.try_clone()?, Arc::clone(&watch), file("peer.log")?);
            threads.push(thread::spawn(move || peer::serve(&cable, copy, started, &watch)));
        }
        let qmp = Qmp::new(qmp, words, Arc::clone(&watch));
        let minded = Some(minded);
        let mut vm = Vm {
            watch,
            qmp,
            process,
            pid,
            started,
            folder,
            ports: BTreeMap::new(),
            keyboard,
            cable,
            threads,
            minded,
            _turn: turn,
        };
        vm.greet(machine.is_reachable()).with_context(|| vm.qemus_errors())?;
        Ok(vm)
    }

    fn greet(&mut self, is_reachable: bool) -> Result<()> {
        self.qmp.execute("qmp_capabilities", json!({}))?;
        if is_reachable { self.find_ports() } else { Ok(()) }
    }

    /// QEMU chose free ports of this host by itself, and tells which.
    fn find_ports(&mut self) -> Result<()> {
        let table = self.qmp.monitor("info usernet")?;
        for guest in FORWARDED {
            let port = qmp::forwarded_port(&table, guest).with_context(|| {
                format!("cannot find the port that QEMU forwards to {guest}: it says {table}")
            })?;
            self.ports.insert(guest, SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        }
        Ok(())
    }

    fn qemus_errors(&self) -> String {
        let said = fs::read_to_string(self.folder.join("qemu-errors.txt")).unwrap_or_default();
        format!("QEMU does not run; it says: {}", said.trim_end())
    }

    /// Waits for a line with `text` in it, also if it has come already.
    #[track_caller]
    pub fn wait_for(&self, text: &str, within: Duration) -> Line {
        self.wait_from(0, text, within)
    }

    /// Waits for the next line with `text` in it, after the line `previous`.
    #[track_caller]
    pub fn wait_for_next(&self, previous: &Line, text: &str, within: Duration) -> Line {
        self.wait_from(previous.number + 1, text, within)
    }

    #[track_caller]
    fn wait_from(&self, first: usize, text: &str, within: Duration) -> Line {
        let what = format!("`{text}` on the console");
        self.wait(&what, within, |seen| {
            let lines = seen.lines.get(first..)?;
            lines.iter().find(|line| line.text.contains(text)).cloned()
        })
    }

    /// Waits for the machine's end, and returns the reason: `guest-shutdown` or `guest-reset`.
    #[track_caller]
    pub fn wait_for_end(&self, within: Duration) -> String {
        self.wait("the machine's end", within, |seen| {
            seen.events.iter().find_map(Event::shutdown_reason)
        })
    }

    /// Waits until `look` finds `what`.
    #[track_caller]
    pub fn wait<T>(&self, what: &str, within: Duration, look: impl FnMut(&Seen) -> Option<T>) -> T {
        self.watch.wait(what, within, look).unwrap_or_else(|missed| panic!("{missed}"))
    }

    /// What a probe that runs as the service `name` has answered: lines `what: answer`, up to `end`.
    #[track_caller]
    pub fn answers(&self, name: &str, within: Duration) -> BTreeMap<String, String> {
        let prefix = format!("] {name}: ");
        self.wait_for(&format!("{prefix}end"), within);
        let lines = self.lines_with(&prefix);
        let answers = lines.iter().filter_map(|line| line.rest_after(&prefix)?.split_once(": "));
        answers.map(|(what, answer)| (what.to_owned(), answer.to_owned())).collect()
    }

    /// All lines so far with `text` in them.
    pub fn lines_with(&self, text: &str) -> Vec<Line> {
        let seen = self.watch.seen();
        seen.lines.iter().filter(|line| line.text.contains(text)).cloned().collect()
    }

    /// The newest line of its console.
    #[track_caller]
    pub fn last_line(&self) -> Line {
        self.wait("a line on the console", Duration::ZERO, |seen| seen.lines.last().cloned())
    }

    /// When the guest has reset the machine so far, since QEMU's start.
    pub fn resets(&self) -> Vec<Duration> {
        let events = &self.watch.seen().events;
        events.iter().filter(|event| event.is_guests_reset()).map(|event| event.at).collect()
    }

    /// Waits until the guest has reset the machine `count` times; returns when it did.
    #[track_caller]
    pub fn wait_for_resets(&self, count: usize, within: Duration) -> Duration {
        self.wait(&format!("{count} resets"), within, |seen| {
            let resets = seen.events.iter().filter(|event| event.is_guests_reset());
            resets.map(|event| event.at).nth(count.checked_sub(1)?)
        })
    }

    /// Types on its serial line.
    #[track_caller]
    pub fn type_in(&self, bytes: &[u8]) {
        let typed = (&self.keyboard).write_all(bytes);
        typed.unwrap_or_else(|error| panic!("cannot type on the console: {error}"));
    }

    /// Presses the power button.
    #[track_caller]
    pub fn press_power_button(&self) {
        let pressed = self.qmp.execute("system_powerdown", json!({}));
        pressed.unwrap_or_else(|error| panic!("{error:#}"));
    }

    /// Presses the power button, and waits until the machine has ended in order.
    #[track_caller]
    pub fn power_off(self, within: Duration) {
        self.press_power_button();
        assert_eq!(self.wait_for_end(within), "guest-shutdown");
    }

    /// Ends it between two instructions. What it gave to its disk is there; what it still held in
    /// memory is lost.
    pub fn cut_power(self) {
        drop(self);
    }

    /// Plugs the network cable in, or out.
    #[track_caller]
    pub fn set_link(&self, up: bool) {
        let set = self.qmp.execute("set_link", json!({ "name": "net", "up": up }));
        set.unwrap_or_else(|error| panic!("{error:#}"));
    }

    /// The conduct of its neighbour, for [`Machine::peer`]: it may be changed at any time.
    #[track_caller]
    pub fn peer(&self) -> MutexGuard<'_, Peer> {
        self.cable.as_ref().expect("the machine was started with a peer").peer()
    }

    /// Waits until the guest asks its neighbour this, also if it has asked already.
    #[track_caller]
    pub fn wait_to_hear(&self, what: Asked, within: Duration) -> Heard {
        self.hear_from(0, what, within)
    }

    /// Waits until the guest asks its neighbour this, after `previous`.
    #[track_caller]
    pub fn wait_to_hear_next(&self, previous: &Heard, what: Asked, within: Duration) -> Heard {
        self.hear_from(previous.number + 1, what, within)
    }

    #[track_caller]
    fn hear_from(&self, first: usize, what: Asked, within: Duration) -> Heard {
        self.wait(&format!("the guest's question {what:?}"), within, |seen| {
            let heard = seen.heard.get(first..)?;
            heard.iter().find(|heard| heard.what == what).cloned()
        })
    }

    /// When the guest's first frame came to its neighbour, whatever it was.
    pub fn first_frame(&self) -> Option<Duration> {
        self.watch.seen().first_frame
    }

    /// All that the guest has asked its neighbour so far.
    pub fn heard(&self) -> Vec<Heard> {
        self.watch.seen().heard.clone()
    }

    /// QEMU's machine protocol, for anything else.
    pub fn qmp(&self) -> &Qmp {
        &self.qmp
    }

    /// Where the Server's client port is reached from this host.
    #[track_caller]
    pub fn xmpp(&self) -> SocketAddr {
        self.port(XMPP)
    }

    /// Where its web front is reached from this host.
    #[track_caller]
    pub fn http(&self) -> SocketAddr {
        self.port(HTTP)
    }

    /// Where this port of the guest is reached from this host.
    #[track_caller]
    pub fn port(&self, guest: u16) -> SocketAddr {
        *self.ports.get(&guest).expect("this host reaches that port of the machine")
    }

    /// Since QEMU's start: how long, and how much CPU time it took.
    pub fn age(&self) -> (Duration, Duration) {
        (self.started.elapsed(), process::cpu_time(self.pid).unwrap_or_default())
    }

    /// Nothing ends it for so long.
    #[track_caller]
    pub fn must_live_for(&self, time: Duration) {
        let until = self.started.elapsed() + time;
        let lived = self.watch.retry("some more life", 2 * time, AGAIN, || {
            ensure!(self.started.elapsed() >= until, "it is younger");
            Ok(())
        });
        lived.unwrap_or_else(|missed| panic!("{missed}"));
    }

    /// What the guest has read from its disk, if the machine was told to trace that.
    pub fn reads(&self) -> Vec<Read> {
        let trace = fs::read_to_string(self.folder.join(READS)).unwrap_or_default();
        trace.lines().filter_map(Read::parse).collect()
    }

    pub(crate) fn watch(&self) -> &Watch {
        &self.watch
    }

    /// QEMU's process.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The folder with all that is kept if the story fails.
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        drop(self.minded.take());
        {
            let mut process = self.process.lock().unwrap_or_else(PoisonError::into_inner);
            let _ = process.kill();
            let _ = process.wait();
        }
        self.cable.iter().for_each(Cable::unplug);
        self.threads.drain(..).for_each(|thread| drop(thread.join()));
        let trouble = self.watch.seen().trouble.clone();
        if trouble.is_none() && !thread::panicking() {
            return scratch::forget(&self.folder);
        }
        eprintln!("kept for you: {}", self.folder.display());
        if let Some(trouble) = trouble.filter(|_| !thread::panicking()) {
            panic!("the console shows `{trouble}`");
        }
    }
}

fn create(folder: &Path, name: &str) -> Result<File> {
    let path = folder.join(name);
    File::create(&path).with_context(|| format!("cannot write {}", path.display()))
}

/// Kills a VM that gets too old.
fn mind(age: Duration, over: &mpsc::Receiver<()>, watch: &Watch, process: &Mutex<Child>) {
    if over.recv_timeout(age) == Err(mpsc::RecvTimeoutError::Timeout) {
        watch.tell(|seen| seen.killed = Some(format!("killed after its {age:?}")));
        let _ = process.lock().unwrap_or_else(PoisonError::into_inner).kill();
    }
}
