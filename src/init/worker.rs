//! The hands of one service: its process, what it prints, its timers. What they shall do is decided
//! in [`crate::lifecycle`].

use std::fs::File;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use appliance::service::{Kind, Ready, Service};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::cgroup::Cgroup;
use crate::clock::Moment;
use crate::dhcp;
use crate::failure::{Failure, OrCannot as _};
use crate::launch::{Launch, Streams};
use crate::lifecycle::Policy;
use crate::log::{self, Priority, error, warning};
use crate::output::{Output, Throttle, Verdict};
use crate::volumes::make_folder_of;
use crate::{probe, sys, time};

/// One service's.
#[derive(Debug)]
pub struct Worker {
    service: Service,
    launch: Launch,
    cgroup: Cgroup,
    output: Output,
    throttle: Throttle,
    /// Only a child of init's own has it.
    child: Option<Child>,
    pid: Option<Pid>,
    /// Open until exec.
    trouble: Option<OwnedFd>,
    wake_at: Option<Moment>,
    probe_at: Option<Moment>,
}

/// What a child of init's own has besides: a socket as its input, and somebody who listens.
#[derive(Debug)]
struct Child {
    socket: Socket,
    reports: Output,
}

/// What a child of init's own is given to speak to the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Socket {
    /// To everybody on this interface, of DHCP only.
    Dhcp(u32),
    /// To this time server.
    Time(Ipv4Addr),
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
            cgroup: Cgroup::make(&service.name)?,
            output: Output::new().or_cannot(what)?,
            throttle: Throttle::default(),
            child: None,
            pid: None,
            trouble: None,
            wake_at: None,
            probe_at: None,
            service,
        })
    }

    /// For a child of init's own.
    pub fn for_child(service: Service, socket: Socket) -> Result<Worker, Failure> {
        let reports = Output::new().or_cannot(format_args!("prepare {}", service.name))?;
        let worker = Worker::new(service)?;
        Ok(Worker { child: Some(Child { socket, reports }), ..worker })
    }

    /// What all messages call it.
    pub fn name(&self) -> &str {
        &self.service.name
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
        self.pid
    }

    /// The next moment at which [`Worker::is_overdue`] or [`Worker::is_ready`] is worth asking.
    pub fn deadline(&self) -> Option<Moment> {
        self.wake_at.into_iter().chain(self.probe_at).min()
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
        let input: OwnedFd = match self.child.as_ref().map(|child| child.socket) {
            Some(Socket::Dhcp(interface)) => {
                sys::packet_socket(interface, &dhcp::FILTER).or_cannot(what)?
            }
            Some(Socket::Time(server)) => time::socket(server).or_cannot(what)?,
            None => File::open("/dev/null").or_cannot(what)?.into(),
        };
        let streams = Streams {
            input: input.as_fd(),
            output: self.child.as_ref().map_or(&self.output, |child| &child.reports).writer(),
            errors: self.output.writer(),
        };
        let door = self.cgroup.door().or_cannot(what)?;
        let started = self.launch.start(streams, &door).or_cannot(what)?;
        self.pid = Some(started.pid);
        self.trouble = Some(started.trouble);
        self.probe_at = self.is_probed().then(|| now + probe::AGAIN_IN);
        Ok(Start::Running)
    }

    /// Does its readiness show only to who looks for it?
    fn is_probed(&self) -> bool {
        let looked_for = |ready: &Ready| matches!(ready, Ready::Tcp(_) | Ready::File(_));
        matches!(&self.service.kind, Kind::Daemon { ready, .. } if looked_for(ready))
    }

    fn make_runtime_folders(&self) -> Result<(), Failure> {
        let user = &self.service.user;
        self.service.runtime.iter().try_for_each(|path| {
            let what = format_args!("make folder {path}");
            // Any deeper, and somebody else's folder could lead elsewhere by a link.
            let folder = Path::new(path);
            if folder.parent() != Some(Path::new("/run")) {
                return Err(Failure::new(what, "it isn't directly in /run"));
            }
            make_folder_of(folder, 0o750, user.uid, user.gid).or_cannot(what)
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

    /// Asks it to end.
    pub fn terminate(&self) {
        if let Some(pid) = self.pid
            && let Err(errno) = kill(pid, Signal::SIGTERM)
        {
            warning!("service {}: cannot stop it: {errno}", self.name());
        }
    }

    /// Kills all of its processes.
    pub fn kill(&self) {
        if let Err(error) = self.cgroup.kill() {
            warning!("service {}: cannot kill its cgroup: {error}", self.name());
            let _ = self.pid.map(|pid| kill(pid, Signal::SIGKILL));
        }
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

    /// Its process has been reaped.
    pub fn on_exit(&mut self, now: Moment) {
        // What kept it from exec may not have been read yet.
        self.on_exec();
        self.pid = None;
        self.probe_at = None;
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

    fn show(&mut self, lines: Vec<String>, now: Moment) {
        let name = &self.service.name;
        for line in lines {
            let Verdict::Show { withheld } = self.throttle.ask(now) else { continue };
            if withheld > 0 {
                warning!("service {name}: {withheld} lines not shown");
            }
            log::write(Priority::Notice, name, line);
        }
    }

    /// When it starts next, it shall speak to somebody else: another server, an interface that
    /// came back under another number.
    pub fn move_to(&mut self, socket: Socket) {
        if let Some(child) = &mut self.child {
            child.socket = socket;
        }
    }

    /// Where its reports come, if it is a child of init's own.
    pub fn reports(&self) -> Option<BorrowedFd<'_>> {
        self.child.as_ref().map(|child| child.reports.as_fd())
    }

    /// Whom it speaks to, and what it reported.
    pub fn on_reports(&mut self) -> Option<(Socket, Vec<String>)> {
        self.child.as_mut().map(|child| (child.socket, child.reports.read()))
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use appliance::service::{Millis, User};
    use std::collections::BTreeMap;

    pub fn service(name: &str) -> Service {
        Service {
            name: name.into(),
            run: vec!["/bin/true".into()],
            user: User { name: "u".into(), uid: 1, gid: 1, home: "/".into() },
            env: BTreeMap::new(),
            after: vec![],
            kind: Kind::Task { creates: None, done_within: Millis(1) },
            runtime: vec![],
            open_files: 1024,
            stop_within: Millis(1),
        }
    }
}
