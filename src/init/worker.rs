//! The hands of one service: its process, what it prints, its timers. What they shall do is decided
//! in [`crate::lifecycle`].

use std::fs::{self, File};
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use appliance::service::{Kind, Ready, Service};
use nix::mount::{MsFlags, mount};
use nix::sys::signal::Signal;
use nix::unistd::Pid;

use crate::cgroup::Cgroup;
use crate::clock::{self, Moment};
use crate::dhcp;
use crate::journal::Journal;
use crate::launch::{Launch, Streams};
use crate::lifecycle::Policy;
use crate::log::{self, Priority, error, warning};
use crate::mounts::make_folder;
use crate::notify::Notices;
use crate::output::{Output, Throttle, Verdict};
use crate::pulse::Pulse;
use crate::sys::Capability;
use crate::{child, probe, sys, time};
use appliance::failure::{Failure, OrCannot as _};

/// One service's.
#[derive(Debug)]
pub struct Worker {
    service: Service,
    launch: Launch,
    cgroup: Cgroup,
    output: Output,
    throttle: Throttle,
    journal: Journal,
    /// Only a child of init's own has it.
    child: Option<Child>,
    process: Option<Process>,
    /// Only one that notifies has it.
    notices: Option<Notices>,
    /// Open until exec.
    trouble: Option<OwnedFd>,
    wake_at: Option<Moment>,
    probe_at: Option<Moment>,
    /// Only one that is to be asked has it.
    pulse: Option<Pulse>,
}

/// Its main process.
#[derive(Debug)]
struct Process {
    pid: Pid,
    /// What signals are sent to.
    handle: OwnedFd,
}

/// What a child of init's own has besides: an input of its own, and somebody who listens.
#[derive(Debug)]
struct Child {
    input: Input,
    reports: Output,
    /// What one that asks or renders is handed at its start.
    document: Vec<u8>,
    /// What it was handed that in.
    paper: Option<File>,
    /// What it is given at its next start: its standard input, then what it finds from descriptor
    /// 3 on.
    gifts: Vec<OwnedFd>,
}

/// What a child of init's own is given as its standard input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// A socket: to everybody on this interface, of DHCP only.
    Dhcp(u32),
    /// A socket: to this time server.
    Time(Ipv4Addr),
    /// A question to the Server.
    Ask,
    /// Settings to be rendered.
    Render,
    /// An order about backups: it reads whatever there is, and changes what is its own.
    Backup,
    /// Another: it changes whatever there is.
    Restore,
    /// A bundle, and besides that what it is written to.
    Install,
    /// The root's device.
    Read,
    /// The number of a try to write to the data.
    TryData,
    /// A question to the services, or to the Server about the probe's account.
    Probe,
}

impl Input {
    /// What the child may do for it that no service may.
    fn rights(self) -> &'static [Capability] {
        use Capability::{Chown, DacOverride, DacReadSearch, Fowner};
        match self {
            // Giving a file of another's a second name takes the right to do its owner's things.
            Input::Backup => &[DacReadSearch, Fowner],
            Input::Restore => &[Chown, DacOverride, Fowner],
            Input::Dhcp(_) | Input::Time(_) | Input::Ask | Input::Render => &[],
            Input::Install | Input::Read | Input::TryData | Input::Probe => &[],
        }
    }

    /// Is there nobody that the child may speak to?
    fn is_alone(self) -> bool {
        !self.rights().is_empty() || matches!(self, Input::Install | Input::Read | Input::TryData)
    }

    /// Does the child come and go so often that nobody needs to be told?
    fn is_quiet(self) -> bool {
        matches!(self, Input::TryData | Input::Probe)
    }
}

/// What came of [`Worker::start`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// There is a process.
    Running,
    /// There is nothing to do: what the task would create is there.
    NothingToDo,
}

impl Worker {
    /// For a service of the appliance.
    pub fn new(service: Service) -> Result<Worker, Failure> {
        let what = format_args!("prepare service {}", service.name);
        Ok(Worker {
            launch: Launch::new(&service)?,
            cgroup: Cgroup::make(&service.name, service.limits)?,
            notices: Notices::of(&service)?,
            output: Output::new().or_cannot(what)?,
            throttle: Throttle::default(),
            journal: Journal::of(&service.name),
            child: None,
            process: None,
            trouble: None,
            wake_at: None,
            probe_at: None,
            pulse: service.alive.clone().map(Pulse::of),
            service,
        })
    }

    /// For a child of init's own.
    pub fn for_child(service: Service, input: Input) -> Result<Worker, Failure> {
        let reports = Output::of_reports().or_cannot(format_args!("prepare {}", service.name))?;
        let mut worker = Worker::new(service)?;
        if input.is_alone() {
            worker.launch = worker.launch.with(input.rights());
        }
        Ok(Worker {
            child: Some(Child { input, reports, document: vec![], paper: None, gifts: vec![] }),
            ..worker
        })
    }

    /// What all messages call it.
    pub fn name(&self) -> &str {
        &self.service.name
    }

    /// How important it is that it comes and goes.
    pub fn priority(&self) -> Priority {
        let is_quiet = self.child.as_ref().is_some_and(|child| child.input.is_quiet());
        if is_quiet { Priority::Detail } else { Priority::Notice }
    }

    /// What it starts after.
    pub fn after(&self) -> &[String] {
        &self.service.after
    }

    /// How long it may take.
    pub fn policy(&self) -> Policy {
        Policy::from(&self.service)
    }

    /// Its process, while there is one.
    pub fn pid(&self) -> Option<Pid> {
        self.process.as_ref().map(|process| process.pid)
    }

    /// What its processes take, in bytes.
    pub fn memory(&self) -> Option<u64> {
        self.cgroup.memory()
    }

    /// The next moment at which [`Worker::is_overdue`], [`Worker::is_ready`] or [`Worker::is_hung`]
    /// is worth asking.
    pub fn deadline(&self) -> Option<Moment> {
        let pulse = self.pulse.as_ref().and_then(Pulse::deadline);
        self.wake_at.into_iter().chain(self.probe_at).chain(pulse).min()
    }

    /// Starts its process.
    pub fn start(&mut self, now: Moment) -> Result<Start, Failure> {
        if let Kind::Task { creates: Some(path), .. } = &self.service.kind
            && Path::new(path).exists()
        {
            return Ok(Start::NothingToDo);
        }
        self.make_runtime_folders()?;
        let what = "start it";
        let mut gifts = self.take_gifts();
        let input: OwnedFd = match self.child.as_ref().map(|child| child.input) {
            Some(Input::Dhcp(interface)) => {
                sys::packet_socket(interface, &dhcp::FILTER).or_cannot(what)?
            }
            Some(Input::Time(server)) => time::socket(server).or_cannot(what)?,
            Some(
                Input::Ask
                | Input::Render
                | Input::Backup
                | Input::Restore
                | Input::TryData
                | Input::Probe,
            ) => self.paper_anew()?.into(),
            Some(Input::Install | Input::Read) if gifts.is_empty() => {
                return Err(Failure::new(what, "it was given nothing"));
            }
            Some(Input::Install | Input::Read) => gifts.remove(0),
            None => File::open("/dev/null").or_cannot(what)?.into(),
        };
        let streams = Streams {
            input: input.as_fd(),
            output: self.child.as_ref().map_or(&self.output, |child| &child.reports).writer(),
            errors: self.output.writer(),
        };
        let cgroup = self.cgroup.open()?;
        self.notices.iter().for_each(Notices::forget);
        let started = self.launch.start(streams, &gifts, &cgroup).or_cannot(what)?;
        self.process = Some(Process { pid: started.pid, handle: started.process });
        self.trouble = Some(started.trouble);
        self.probe_at = self.is_probed().then(|| now + probe::AGAIN_IN);
        Ok(Start::Running)
    }

    /// Does its readiness show only to who looks for it?
    fn is_probed(&self) -> bool {
        let looked_for = |ready: &Ready| matches!(ready, Ready::Tcp(_) | Ready::File(_));
        matches!(&self.service.kind, Kind::Daemon { ready, .. } if looked_for(ready))
    }

    /// Makes its directories in `/run`, which may be granted to others.
    pub fn make_runtime_folders(&self) -> Result<(), Failure> {
        const RUNTIME_SIZE: &str = "size=16m,nr_inodes=4k";
        let user = &self.service.user;
        self.service.runtime.iter().try_for_each(|path| {
            let what = format_args!("make folder {path}");
            // Any deeper, and somebody else's folder could lead elsewhere by a link.
            let folder = Path::new(path);
            if folder.parent() != Some(Path::new("/run")) {
                return Err(Failure::new(what, "it isn't directly in /run"));
            }
            make_folder(folder)?;
            if is_mounted(folder).or_cannot(what)? {
                return Ok(());
            }
            // Memory of its own: what it fills is not all of `/run`. Only whoever is granted it sees it.
            let options = format!("mode=0755,uid={},gid={},{RUNTIME_SIZE}", user.uid, user.gid);
            let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
            mount(Some("tmpfs"), folder, Some("tmpfs"), flags, Some(options.as_str()))
                .or_cannot(what)
        })
    }

    /// Open from the start of its process until exec has succeeded or failed.
    pub fn trouble(&self) -> Option<BorrowedFd<'_>> {
        self.trouble.as_ref().map(OwnedFd::as_fd)
    }

    /// Exec has succeeded or failed. True: it runs, and that is all the proof it needs.
    pub fn on_exec(&mut self) -> bool {
        let Some(trouble) = self.trouble.take() else { return false };
        if let Some(failure) = self.launch.trouble(&trouble) {
            error!("service {}: {failure}", self.name());
            return false;
        }
        matches!(self.service.kind, Kind::Daemon { ready: Ready::Started, .. })
    }

    /// Asks it to end; one that was stopped couldn't listen.
    pub fn terminate(&self) {
        let Some(process) = &self.process else { return };
        for signal in [Signal::SIGTERM, Signal::SIGCONT] {
            if let Err(errno) = sys::send_signal(process.handle.as_fd(), signal) {
                warning!("service {}: cannot stop it: {errno}", self.name());
            }
        }
    }

    /// Kills all of its processes.
    pub fn kill(&self) {
        if let Err(error) = self.cgroup.kill() {
            warning!("service {}: cannot kill its cgroup: {error}", self.name());
            let process = self.process.as_ref().map(|process| process.handle.as_fd());
            let _ = process.map(|process| sys::send_signal(process, Signal::SIGKILL));
        }
    }

    /// Lets its processes run, or none of them, from soon on.
    pub fn freeze(&self, is_frozen: bool) {
        if let Err(error) = self.cgroup.freeze(is_frozen) {
            let verb = if is_frozen { "freeze" } else { "thaw" };
            warning!("service {}: cannot {verb} it: {error}", self.name());
        }
    }

    /// Does none of them run?
    pub fn is_frozen(&self) -> bool {
        self.cgroup.is_frozen()
    }

    /// Is it a task, and has what it makes gone?
    pub fn is_to_be_made(&self) -> bool {
        matches!(&self.service.kind, Kind::Task { creates: Some(path), .. } if !Path::new(path).exists())
    }

    /// Sets its one timer.
    pub fn wake_at(&mut self, moment: Moment) {
        self.wake_at = Some(moment);
    }

    /// Is its timer over? Asked once.
    pub fn is_overdue(&mut self, now: Moment) -> bool {
        self.wake_at.take_if(|moment| *moment <= now).is_some()
    }

    /// Looks, if it is time to, whether it serves.
    pub fn is_ready(&mut self, now: Moment) -> bool {
        let Kind::Daemon { ready, .. } = &self.service.kind else { return false };
        if self.probe_at.take_if(|moment| *moment <= now).is_none() {
            return false;
        }
        let is_ready = probe::is_ready(ready);
        self.probe_at = (!is_ready).then(|| now + probe::AGAIN_IN);
        is_ready
    }

    /// Where it may say that it is ready.
    pub fn notices(&self) -> Option<BorrowedFd<'_>> {
        self.notices.as_ref().map(Notices::as_fd)
    }

    /// It said something: that it is ready?
    pub fn on_notice(&self) -> bool {
        self.notices.as_ref().is_some_and(Notices::say_ready)
    }

    /// It serves: from now on it is asked whether it still does.
    pub fn on_ready(&mut self, now: Moment) {
        self.pulse.iter_mut().for_each(|pulse| pulse.begin(now));
    }

    /// Where it may answer.
    pub fn answer(&self) -> Option<BorrowedFd<'_>> {
        self.pulse.as_ref().and_then(Pulse::answer)
    }

    /// It answered.
    pub fn on_answer(&mut self, now: Moment) {
        self.pulse.iter_mut().for_each(|pulse| pulse.on_answer(now));
    }

    /// Has it left a question without an answer?
    pub fn is_hung(&mut self, now: Moment) -> bool {
        self.pulse.as_mut().is_some_and(|pulse| pulse.is_hung(now))
    }

    /// Its process has been reaped.
    pub fn on_exit(&mut self, now: Moment) {
        // What kept it from exec may not have been read yet.
        self.on_exec();
        for incident in self.cgroup.incidents() {
            warning!("service {}: {incident}", self.name());
        }
        self.process = None;
        self.probe_at = None;
        self.pulse.iter_mut().for_each(Pulse::end);
        let last = self.output.finish();
        self.show(last, now);
    }

    /// What it prints.
    pub fn output(&self) -> BorrowedFd<'_> {
        self.output.as_fd()
    }

    /// Passes on what it printed.
    pub fn on_output(&mut self, now: Moment) {
        let lines = self.output.read();
        self.show(lines, now);
    }

    /// All of it is remembered; as much of it as a person can read goes to the console.
    fn show(&mut self, lines: Vec<String>, now: Moment) {
        let (name, date) = (&self.service.name, clock::date());
        for line in lines {
            self.journal.add(now, date, Priority::Notice as u8, &line);
            let Verdict::Show { withheld } = self.throttle.ask(now) else { continue };
            if withheld > 0 {
                warning!("service {name}: {withheld} lines not shown");
            }
            log::write(Priority::Notice, name, line);
        }
        self.journal.flush(date);
    }

    /// What it printed.
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// When it starts next, it shall be handed this.
    pub fn hand(&mut self, document: Vec<u8>) {
        if let Some(child) = &mut self.child {
            child.document = document;
        }
    }

    /// When it starts next, it gets these: its standard input, and what it finds from descriptor 3
    /// on. Nobody else keeps them open.
    pub fn give(&mut self, gifts: Vec<OwnedFd>) {
        if let Some(child) = &mut self.child {
            child.gifts = gifts;
        }
    }

    fn take_gifts(&mut self) -> Vec<OwnedFd> {
        self.child.as_mut().map(|child| std::mem::take(&mut child.gifts)).unwrap_or_default()
    }

    /// What it was handed its document in: it may have written there.
    pub fn paper(&mut self) -> Option<&mut File> {
        self.child.as_mut().and_then(|child| child.paper.as_mut())
    }

    fn paper_anew(&mut self) -> Result<File, Failure> {
        let what = "hand over a document";
        let child = self.child.as_mut().ok_or("it is no child").or_cannot(what)?;
        let paper = child::paper(&child.document).or_cannot(what)?;
        child.paper = Some(paper.try_clone().or_cannot(what)?);
        Ok(paper)
    }

    /// When it starts next, it shall speak to somebody else: another server, an interface that
    /// came back under another number.
    pub fn move_to(&mut self, input: Input) {
        if let Some(child) = &mut self.child {
            child.input = input;
        }
    }

    /// Where its reports come, if it is a child of init's own.
    pub fn reports(&self) -> Option<BorrowedFd<'_>> {
        self.child.as_ref().map(|child| child.reports.as_fd())
    }

    /// Whom it speaks to, and what it reported.
    pub fn on_reports(&mut self) -> Option<(Input, Vec<String>)> {
        self.child.as_mut().map(|child| (child.input, child.reports.read()))
    }
}

/// Is something mounted at this folder of `/run`?
fn is_mounted(folder: &Path) -> io::Result<bool> {
    Ok(fs::symlink_metadata(folder)?.dev() != fs::symlink_metadata("/run")?.dev())
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use appliance::service::{Limits, Millis, User};
    use std::collections::{BTreeMap, BTreeSet};

    pub fn service(name: &str) -> Service {
        Service {
            name: name.into(),
            run: vec!["/bin/true".into()],
            user: User { name: "u".into(), uid: 1, gid: 1, home: "/".into() },
            env: BTreeMap::new(),
            after: vec![],
            kind: Kind::Task { creates: None, done_within: Millis(1) },
            alive: None,
            runtime: vec![],
            grants: BTreeMap::new(),
            control: BTreeSet::new(),
            gate: None,
            limits: Limits::default(),
            open_files: 1024,
            stop_within: Millis(1),
        }
    }
}
