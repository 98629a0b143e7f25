//! What signals and buttons say, and which processes ended.

use std::fs;
use std::io::ErrorKind;

use nix::sys::signal::Signal;
use nix::unistd::Pid;

use super::EventLoop;
use crate::end::End;
use crate::lifecycle::{Event, Outcome};
use crate::log::{detail, warning};
use crate::output::Verdict;
use crate::power_button::PowerButton;
use crate::supervisor::Id;
use crate::sys::{self, Ending};
use crate::{clock, log};

impl EventLoop {
    pub(super) fn on_signals(&mut self) {
        while let Ok(Some(info)) = self.signals.read_signal() {
            match i32::try_from(info.ssi_signo).map(Signal::try_from) {
                Ok(Ok(Signal::SIGINT)) => self.end(End::Reboot, "Ctrl-Alt-Del"),
                Ok(Ok(Signal::SIGTERM)) => self.end(End::PowerOff, "SIGTERM"),
                Ok(Ok(Signal::SIGPWR)) => self.end(End::PowerOff, "SIGPWR"),
                // SIGCHLD, several of which may have become one; the others mean nothing here.
                _ => {}
            }
        }
        while let Some(pid) = sys::stopped_child() {
            self.on_stopped(pid);
        }
        while let Ok(Some((pid, ending))) = sys::ended_child() {
            self.on_exit(pid, ending);
        }
    }

    fn worker_of(&self, pid: Pid) -> Option<Id> {
        self.workers.iter().position(|worker| worker.pid() == Some(pid)).map(Id)
    }

    /// Somebody suspended a process. Nobody is there to continue it, so a service is killed.
    fn on_stopped(&mut self, pid: Pid) {
        if let Some(id) = self.worker_of(pid) {
            self.with(id, |worker| warning!("service {}: suspended by a signal", worker.name()));
            self.tell(id, Event::Hung);
        }
    }

    /// A process ended: its name can still be read, its number is still its own.
    pub(super) fn on_exit(&mut self, pid: Pid, ending: Ending) {
        let (id, now) = (self.worker_of(pid), clock::now());
        if id.is_none() {
            self.on_orphan(pid);
        }
        sys::reap(pid);
        let Some(id) = id else { return };
        // What it said last may not have been read yet.
        self.on_reports(id);
        self.with(id, |worker| {
            worker.on_exit(now);
            let name = worker.name();
            log::own(worker.priority(), format_args!("service {name}: ended: {ending}"));
        });
        self.gate_sees_end(id);
        let is_success = ending == Ending::Exited(0);
        let outcome = if is_success { Outcome::Success } else { Outcome::Failure };
        self.tell(id, Event::Exit(outcome, now));
        self.backup_sees_end(id);
        self.upgrade_sees_end(id, ending);
        self.probe_sees_end(id);
    }

    /// A process that some service left behind; it is in that service's cgroup to the last.
    pub(super) fn on_orphan(&mut self, pid: Pid) {
        let Verdict::Show { withheld } = self.orphans.ask(clock::now()) else { return };
        let read = |file| fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
        let (name, cgroup) = (read("comm"), read("cgroup"));
        let service = cgroup.trim_end().rsplit('/').next().unwrap_or_default();
        detail!("reaped orphan {pid} ({}) of {service}", name.trim_end());
        if withheld > 0 {
            detail!("reaped {withheld} other orphans");
        }
    }

    pub(super) fn on_button(&mut self, index: usize) {
        match self.buttons.get_mut(index).map(PowerButton::was_pressed) {
            Some(Ok(true)) => self.end(End::PowerOff, "power button"),
            Some(Err(error)) if error.kind() != ErrorKind::WouldBlock => {
                warning!("cannot read the power button: {error}");
                self.buttons.remove(index);
            }
            _ => {}
        }
    }
}
