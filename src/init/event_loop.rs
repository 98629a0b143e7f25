//! PID 1's one loop: waits for something to happen, tells the supervisor, does what that orders.
//!
//! Nothing in here waits for anything but [`EventLoop::wait`], and that has a deadline.

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::io::ErrorKind;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::thread::sleep;
use std::time::Duration;

use appliance::service::Service;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::Pid;

use crate::clock::{self, Moment};
use crate::end::End;
use crate::failure::{Failure, OrCannot as _};
use crate::keep::Hourly;
use crate::kernel_log::KernelLog;
use crate::lifecycle::{Effect, Event, Outcome, State};
use crate::log::{detail, error, notice, warning};
use crate::network::{Network, Wish};
use crate::output::{Throttle, Verdict};
use crate::power_button::{self, PowerButton};
use crate::supervisor::{Id, Order, Supervisor};
use crate::sys::{self, Ending};
use crate::worker::{Start, Worker};

/// What services name that wait for the network.
const NETWORK: &str = "network";
/// The longest sleep, should a deadline be missed.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// Everything that the loop looks after.
#[derive(Debug)]
pub struct EventLoop {
    supervisor: Supervisor,
    /// By [`Id`].
    workers: Vec<Worker>,
    network: Network,
    is_network_ready: bool,
    /// The DHCP child of an interface, by its name.
    dhcp: BTreeMap<String, Id>,
    signals: SignalFd,
    kernel_log: KernelLog,
    buttons: Vec<PowerButton>,
    end: Option<End>,
    /// How often orphans may be mentioned.
    orphans: Throttle,
    /// What happened while an order was carried out.
    happened: VecDeque<(Id, Event)>,
    hourly: Hourly,
}

/// Something to read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Signals,
    Links,
    Kernel,
    Button(usize),
    Output(Id),
    Exec(Id),
    Notices(Id),
    Answer(Id),
    Reports(Id),
}

impl EventLoop {
    /// Takes over: from here on signals are read, not delivered.
    pub fn new(services: Vec<Service>, network: Network) -> Result<EventLoop, Failure> {
        let what = "read signals";
        let mut signals = SigSet::all();
        sys::FAULTS.into_iter().for_each(|fault| signals.remove(fault));
        signals.thread_block().or_cannot(what)?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let signals = SignalFd::with_flags(&signals, flags).or_cannot(what)?;
        let mut this = EventLoop {
            supervisor: Supervisor::default(),
            workers: vec![],
            network,
            is_network_ready: false,
            dhcp: BTreeMap::new(),
            signals,
            kernel_log: KernelLog::open()?,
            buttons: power_button::find(),
            end: None,
            orphans: Throttle::default(),
            happened: VecDeque::new(),
            hourly: Hourly::default(),
        };
        for service in services {
            this.add(Worker::new(service)?);
        }
        Ok(this)
    }

    /// Runs the services until the machine shall end, and has stopped them.
    pub fn run(mut self) -> End {
        notice!("root: starts {} services", self.workers.len());
        let orders = self.supervisor.start();
        self.obey(orders);
        loop {
            if let Some(end) = self.end.filter(|_| self.supervisor.has_ended()) {
                notice!("system: services stopped");
                self.kernel_log.read(clock::now(), clock::date());
                return end;
            }
            for source in self.wait() {
                self.on(source);
            }
            self.on_time();
        }
    }

    fn add(&mut self, worker: Worker) -> Id {
        let id = self.supervisor.add(worker.name(), worker.after(), worker.policy());
        self.workers.push(worker);
        id
    }

    /// Sleeps until something can be read or a deadline is due; returns what can be read.
    fn wait(&self) -> Vec<Source> {
        let (sources, mut files): (Vec<Source>, Vec<PollFd>) = self
            .sources()
            .into_iter()
            .map(|(source, file)| (source, PollFd::new(file, PollFlags::POLLIN)))
            .unzip();
        match poll(&mut files, self.timeout()) {
            Ok(_) => {
                let ready = sources.into_iter().zip(files);
                ready
                    .filter(|(_, file)| file.any() != Some(false))
                    .map(|(source, _)| source)
                    .collect()
            }
            Err(Errno::EINTR) => vec![],
            Err(errno) => {
                error!("cannot wait for events: {errno}");
                sleep(Duration::from_secs(1));
                vec![]
            }
        }
    }

    fn sources(&self) -> Vec<(Source, BorrowedFd<'_>)> {
        let mut sources = vec![
            (Source::Signals, self.signals.as_fd()),
            (Source::Links, self.network.as_fd()),
            (Source::Kernel, self.kernel_log.as_fd()),
        ];
        for (index, button) in self.buttons.iter().enumerate() {
            sources.push((Source::Button(index), button.as_fd()));
        }
        for (index, worker) in self.workers.iter().enumerate() {
            let id = Id(index);
            sources.push((Source::Output(id), worker.output()));
            sources.extend(worker.trouble().map(|file| (Source::Exec(id), file)));
            sources.extend(worker.notices().map(|file| (Source::Notices(id), file)));
            sources.extend(worker.answer().map(|file| (Source::Answer(id), file)));
            sources.extend(worker.reports().map(|file| (Source::Reports(id), file)));
        }
        sources
    }

    fn timeout(&self) -> PollTimeout {
        let network = (!self.is_network_ready).then(|| self.network.deadline());
        let next = self.workers.iter().filter_map(Worker::deadline).chain(network).min();
        let left = next.map_or(LONGEST_WAIT, |moment| moment.saturating_sub(clock::now()));
        // Rounded up: a wait that ends before its deadline would be repeated in vain.
        let left = left.min(LONGEST_WAIT) + Duration::from_micros(999);
        PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO)
    }

    fn on(&mut self, source: Source) {
        let now = clock::now();
        match source {
            Source::Signals => self.on_signals(),
            Source::Links => {
                for wish in self.network.read() {
                    self.grant(wish);
                }
            }
            Source::Kernel => self.kernel_log.read(now, clock::date()),
            Source::Button(index) => self.on_button(index),
            Source::Output(id) => self.with(id, |worker| worker.on_output(now)),
            Source::Exec(id) => {
                let mut is_ready = false;
                self.with(id, |worker| is_ready = worker.on_exec());
                if is_ready {
                    self.tell(id, Event::Ready);
                }
            }
            Source::Notices(id) => {
                if self.workers.get(id.0).is_some_and(Worker::on_notice) {
                    self.tell(id, Event::Ready);
                }
            }
            Source::Answer(id) => self.with(id, |worker| worker.on_answer(now)),
            Source::Reports(id) => {
                let reports = self.workers.get_mut(id.0).and_then(Worker::on_reports);
                if let Some((interface, lines)) = reports {
                    lines.iter().for_each(|line| self.network.apply(interface, line));
                }
            }
        }
    }

    /// Whatever is due.
    fn on_time(&mut self) {
        let now = clock::now();
        self.hourly.on_time(now);
        if !self.is_network_ready && self.network.is_ready(now) {
            self.is_network_ready = true;
            notice!("network: ready");
            let orders = self.supervisor.reached(NETWORK);
            self.obey(orders);
        }
        for id in (0..self.workers.len()).map(Id) {
            let Some(worker) = self.workers.get_mut(id.0) else { continue };
            let (is_ready, is_overdue) = (worker.is_ready(now), worker.is_overdue(now));
            if is_overdue && self.supervisor.state(id) == State::Starting && !is_ready {
                warning!("service {}: not ready in time", worker.name());
            }
            if is_ready {
                self.tell(id, Event::Ready);
            } else if is_overdue {
                self.tell(id, Event::Timeout);
            }
            if self.workers.get_mut(id.0).is_some_and(|worker| worker.is_hung(now)) {
                self.with(id, |worker| warning!("service {}: gives no answer", worker.name()));
                self.tell(id, Event::Hung);
            }
        }
    }

    fn on_signals(&mut self) {
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
    fn on_exit(&mut self, pid: Pid, ending: Ending) {
        let (id, now) = (self.worker_of(pid), clock::now());
        if id.is_none() {
            self.on_orphan(pid);
        }
        sys::reap(pid);
        let Some(id) = id else { return };
        self.with(id, |worker| {
            worker.on_exit(now);
            notice!("service {}: ended: {ending}", worker.name());
        });
        let is_success = ending == Ending::Exited(0);
        let outcome = if is_success { Outcome::Success } else { Outcome::Failure };
        self.tell(id, Event::Exit(outcome, now));
    }

    /// A process that some service left behind; it is in that service's cgroup to the last.
    fn on_orphan(&mut self, pid: Pid) {
        let Verdict::Show { withheld } = self.orphans.ask(clock::now()) else { return };
        let read = |file| fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
        let (name, cgroup) = (read("comm"), read("cgroup"));
        let service = cgroup.trim_end().rsplit('/').next().unwrap_or_default();
        detail!("reaped orphan {pid} ({}) of {service}", name.trim_end());
        if withheld > 0 {
            detail!("reaped {withheld} other orphans");
        }
    }

    fn on_button(&mut self, index: usize) {
        match self.buttons.get_mut(index).map(PowerButton::was_pressed) {
            Some(Ok(true)) => self.end(End::PowerOff, "power button"),
            Some(Err(error)) if error.kind() != ErrorKind::WouldBlock => {
                warning!("cannot read the power button: {error}");
                self.buttons.remove(index);
            }
            _ => {}
        }
    }

    /// The first to ask decides how it ends.
    fn end(&mut self, end: End, why: &str) {
        if self.end.is_none() {
            notice!("system: {end} ({why})");
            self.end = Some(end);
            let orders = self.supervisor.end();
            self.obey(orders);
        }
    }

    /// An interface has somebody to ask, or nobody any more.
    fn grant(&mut self, wish: Wish) {
        match wish {
            Wish::Ask(name, interface) => match self.dhcp.get(&name).copied() {
                Some(id) => {
                    self.with(id, |worker| worker.move_to(interface));
                    self.tell(id, Event::Start);
                }
                None => match Worker::for_dhcp(interface, &name) {
                    Ok(worker) => {
                        let id = self.add(worker);
                        self.dhcp.insert(name, id);
                        self.tell(id, Event::Start);
                    }
                    Err(failure) => error!("{failure}"),
                },
            },
            Wish::Leave(name) => {
                if let Some(id) = self.dhcp.get(&name) {
                    self.tell(*id, Event::Stop);
                }
            }
        }
    }

    fn tell(&mut self, id: Id, event: Event) {
        let orders = self.supervisor.on(id, event);
        self.obey(orders);
    }

    /// Carries orders out, and those that follow from what happens meanwhile.
    fn obey(&mut self, orders: Vec<Order>) {
        orders.into_iter().for_each(|order| self.carry_out(order));
        while let Some((id, event)) = self.happened.pop_front() {
            self.supervisor.on(id, event).into_iter().for_each(|order| self.carry_out(order));
        }
    }

    fn carry_out(&mut self, order: Order) {
        let now = clock::now();
        match order {
            Order::Say(id, state) => {
                self.with(id, |worker| {
                    notice!("service {}: {state}", worker.name());
                    if state == State::Ready {
                        worker.on_ready(now);
                    }
                });
            }
            Order::Do(id, Effect::Spawn) => self.start(id, now),
            Order::Do(id, Effect::Terminate) => self.with(id, |worker| worker.terminate()),
            Order::Do(id, Effect::Kill) => self.with(id, |worker| worker.kill()),
            Order::Do(id, Effect::WakeIn(delay)) => {
                self.with(id, |worker| worker.wake_at(now + delay))
            }
        }
    }

    fn start(&mut self, id: Id, now: Moment) {
        let Some(worker) = self.workers.get_mut(id.0) else { return };
        match worker.start(now) {
            Ok(Start::Running) => {}
            Ok(Start::NothingToDo) => {
                self.happened.push_back((id, Event::Exit(Outcome::Success, now)));
            }
            Err(failure) => {
                error!("service {}: {failure}", worker.name());
                self.happened.push_back((id, Event::Exit(Outcome::Failure, now)));
            }
        }
    }

    fn with(&mut self, id: Id, act: impl FnOnce(&mut Worker)) {
        if let Some(worker) = self.workers.get_mut(id.0) {
            act(worker);
        }
    }
}
