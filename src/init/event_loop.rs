//! PID 1's one loop: waits for something to happen, tells the supervisor, does what that orders.
//!
//! Nothing in here waits for anything but [`EventLoop::wait`], and that has a deadline.

mod backup;
mod configuration;
mod gate;
mod happenings;
mod health;
mod network;
mod orders;
mod requests;
mod time;
mod upgrade;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use appliance::boot::{Appliance, Volume};
use appliance::control::{CONTROL_SOCKET, Phase, VerbName};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use self::backup::Keeping;
use self::gate::Bootstrap;
use self::health::Probing;
use self::upgrade::Upgrading;
use crate::clock::{self, Moment};
use crate::control::socket::{Door, Key};
use crate::end::{self, End};
use crate::keep::Hourly;
use crate::kernel_log::KernelLog;
use crate::lifecycle::{Event, State};
use crate::log::{error, notice, warning};
use crate::network::Network;
use crate::output::Throttle;
use crate::power_button::PowerButton;
use crate::supervisor::{Id, Supervisor};
use crate::systems::Systems;
use crate::time::keeper::Keeper;
use crate::worker::Worker;
use crate::{last_failure, watchdog};
use appliance::failure::{Failure, OrCannot as _};

/// What services name that wait for the network.
const NETWORK: &str = "network";
/// The longest sleep, should a deadline be missed.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// Everything that the loop looks after.
#[derive(Debug)]
pub struct EventLoop {
    /// The appliance's.
    name: String,
    /// The appliance's.
    version: String,
    /// The date that its image is of, in seconds since 1970.
    built: u64,
    supervisor: Supervisor,
    /// By [`Id`].
    workers: Vec<Worker>,
    /// How often each was started, by [`Id`].
    starts: Vec<u32>,
    /// The services' users, and what these may ask.
    callers: Vec<(u32, BTreeSet<VerbName>)>,
    /// Where others may ask; a machine without still serves.
    door: Option<Door>,
    /// How often those who may not ask are mentioned.
    strangers: Throttle,
    /// The gate, if there is one.
    bootstrap: Option<Bootstrap>,
    backups: Keeping,
    /// Both systems of this machine, if it has two.
    upgrading: Option<Upgrading>,
    probing: Probing,
    volumes: Vec<Volume>,
    network: Network,
    is_network_ready: bool,
    /// The DHCP child of an interface, by its name.
    dhcp: BTreeMap<String, Id>,
    keeper: Keeper,
    /// The child that asks a time server, once there was one to ask.
    time: Option<Id>,
    signals: SignalFd,
    kernel_log: KernelLog,
    buttons: Vec<PowerButton>,
    end: Option<Leaving>,
    /// When the watchdog is due to be fed.
    feed_at: Moment,
    /// How often orphans may be mentioned.
    orphans: Throttle,
    /// What happened while an order was carried out.
    happened: VecDeque<(Id, Event)>,
    hourly: Hourly,
}

/// What was asked for, and the moment at which services are waited for no longer.
#[derive(Debug, Clone, Copy)]
struct Leaving {
    end: End,
    by: Moment,
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
    Callers,
    Caller(Key),
}

impl EventLoop {
    /// Takes over: signals, blocked so far, are read from here on.
    pub fn new(
        appliance: Appliance,
        network: Network,
        buttons: Vec<PowerButton>,
        systems: Option<Systems>,
    ) -> Result<EventLoop, Failure> {
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let signals = SignalFd::with_flags(&end::signals(), flags).or_cannot("read signals")?;
        let Appliance { name, version, services, volumes, clock: built, .. } = appliance;
        let bootstrap = Bootstrap::of(&services)?;
        let mut this = EventLoop {
            name,
            version,
            built,
            supervisor: Supervisor::default(),
            workers: vec![],
            starts: vec![],
            callers: services.iter().map(|of| (of.user.uid, of.control.clone())).collect(),
            door: open_door(),
            strangers: Throttle::default(),
            bootstrap,
            backups: Keeping::begin(&volumes),
            upgrading: systems.map(Upgrading::begin),
            probing: Probing::of(&services)?,
            volumes,
            network,
            is_network_ready: false,
            dhcp: BTreeMap::new(),
            keeper: Keeper::default(),
            time: None,
            signals,
            kernel_log: KernelLog::open()?,
            buttons,
            end: None,
            feed_at: Moment::ZERO,
            orphans: Throttle::default(),
            happened: VecDeque::new(),
            hourly: Hourly::default(),
        };
        for service in services {
            let worker = Worker::new(service)?;
            // Before anybody starts to whom they are granted.
            worker.make_runtime_folders()?;
            this.add(worker);
        }
        if this.bootstrap.is_none() {
            this.network.open()?;
        }
        Ok(this)
    }

    /// Runs the services until the machine shall end, and has stopped them.
    pub fn run(mut self) -> End {
        // An end that was asked for meanwhile: then nothing starts.
        self.on_signals();
        (0..self.buttons.len()).rev().for_each(|index| self.on_button(index));
        if self.end.is_none() {
            last_failure::reached(Phase::Running);
            notice!("root: starts {} services", self.workers.len());
            let orders = self.supervisor.start();
            self.obey(orders);
            self.settle_as_before();
            self.clear_what_is_left();
        }
        watchdog::bite_after(watchdog::SHORT);
        loop {
            if let Some(end) = self.has_ended() {
                self.kernel_log.read(clock::now(), clock::date());
                return end;
            }
            self.feed();
            for source in self.wait() {
                self.on(source);
            }
            self.on_time();
        }
    }

    /// A turn is done: that, and nothing else, feeds the watchdog.
    fn feed(&mut self) {
        let now = clock::now();
        if now >= self.feed_at {
            watchdog::feed();
            self.feed_at = now + watchdog::FED_EVERY;
        }
    }

    fn has_ended(&self) -> Option<End> {
        let Leaving { end, by } = self.end?;
        if self.supervisor.has_ended() {
            notice!("system: services stopped");
        } else if clock::now() >= by {
            error!("system: services not stopped in time");
            last_failure::keep("services not stopped in time");
        } else {
            return None;
        }
        Some(end)
    }

    fn add(&mut self, worker: Worker) -> Id {
        let id = self.supervisor.add(worker.name(), worker.after(), worker.policy());
        self.workers.push(worker);
        self.starts.push(0);
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
        if let Some(door) = &self.door {
            sources.extend(door.listener(clock::now()).map(|file| (Source::Callers, file)));
            sources.extend(door.connections().map(|(key, file)| (Source::Caller(key), file)));
        }
        sources
    }

    fn timeout(&self) -> PollTimeout {
        let now = clock::now();
        let others = [
            (!self.is_network_ready).then(|| self.network.deadline()),
            self.network.next_end(),
            self.bootstrap.as_ref().and_then(Bootstrap::deadline),
            self.backups.deadline(),
            // Whoever is about to end has nothing to prove any more.
            self.upgrading.as_ref().filter(|_| self.end.is_none()).and_then(Upgrading::deadline),
            self.probing.deadline(),
            self.door.as_ref().and_then(|door| door.deadline(now)),
            self.end.map(|leaving| leaving.by),
            watchdog::is_armed().then_some(self.feed_at),
        ];
        let workers = self.workers.iter().filter_map(Worker::deadline);
        let next = workers.chain(others.into_iter().flatten()).min();
        let left = next.map_or(LONGEST_WAIT, |moment| moment.saturating_sub(now));
        // Rounded up: a wait that ends before its deadline would be repeated in vain.
        let left = left.min(LONGEST_WAIT) + Duration::from_micros(999);
        PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO)
    }

    fn on(&mut self, source: Source) {
        let now = clock::now();
        match source {
            Source::Signals => self.on_signals(),
            Source::Links => self.on_links(),
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
            Source::Reports(id) => self.on_reports(id),
            Source::Callers => self.on_callers(),
            Source::Caller(key) => self.on_request(key),
        }
    }

    /// Whatever is due.
    fn on_time(&mut self) {
        let now = clock::now();
        self.hourly.on_time(now);
        self.on_leases(now);
        self.on_gate_time(now);
        self.on_configuration_time(now);
        self.on_backup_time(now);
        self.on_probe_time(now);
        self.on_upgrade_time(now);
        if let Some(door) = &mut self.door {
            door.on_time(now);
        }
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

    /// The first to ask decides how it ends.
    fn end(&mut self, end: End, why: &str) {
        if self.end.is_none() {
            notice!("system: {end} ({why})");
            last_failure::reached(Phase::Ending);
            self.tell_backups(crate::backup::Event::Ending);
            self.end = Some(Leaving { end, by: clock::now() + end::SERVICES_WITHIN });
            let orders = self.supervisor.end();
            self.obey(orders);
        }
    }
}

fn open_door() -> Option<Door> {
    match Door::open(Path::new(CONTROL_SOCKET)) {
        Ok(door) => Some(door),
        Err(failure) => {
            error!("{failure}");
            None
        }
    }
}
