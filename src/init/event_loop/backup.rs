//! Backups among services: what their events are here, and how their effects are carried out.

use std::path::Path;
use std::time::Duration;

use appliance::backup::{Job, KEPT, Line, Order, Origin, PROGRAM, State, Wish};
use appliance::boot::{BACKUP_USER, Volume};
use appliance::control::Refusal;
use appliance::service::{Access, Kind, Limits, Memory, Millis, Service};

use super::EventLoop;
use super::upgrade::Upgrading;
use crate::backup::{Backups, Effect, Event};
use crate::clock::{self, Moment};
use crate::exchange::{self, Exchange};
use crate::lifecycle;
use crate::log::{error, notice};
use crate::supervisor::Id;
use crate::volumes::{self, make_folder_of};
use crate::worker::{Input, Worker};
use crate::{aside, backup, child, data};
use appliance::failure::{Failure, OrCannot as _};

/// As long as the largest of disks takes.
const WITHIN: Millis = Millis(6 * 3600 * 1000);
/// The cipher's key takes 64 MiB of it, once; the rest is for files on their way.
const MEMORY: u64 = 128 << 20;
/// Services that are about to freeze are looked at so often.
const LOOKED_AT_EVERY: Duration = Duration::from_millis(2);
/// What only the children use, on the data.
const WORK: &str = "backup";

/// What is done about backups, and by whom.
#[derive(Debug)]
pub struct Keeping {
    backups: Backups,
    /// Who reads, and who changes, once there was something to do.
    children: [Option<Id>; 2],
    /// Who has the last order.
    child: Option<Id>,
    /// The number of the last order.
    ordered: u32,
    wake_at: Option<Moment>,
}

impl Keeping {
    /// Makes the places that the children use, if this machine keeps backups.
    pub fn begin(volumes: &[Volume]) -> Keeping {
        if let Err(failure) = make_places(volumes) {
            error!("backup: {failure}");
        }
        let (children, child) = ([None, None], None);
        Keeping { backups: Backups::new(), children, child, ordered: 0, wake_at: None }
    }

    /// When it shall be looked at again.
    pub fn deadline(&self) -> Option<Moment> {
        let soon = self.backups.is_freezing().then(|| clock::now() + LOOKED_AT_EVERY);
        soon.into_iter().chain(self.wake_at).min()
    }

    /// As the control socket tells it.
    pub fn state(&self) -> State {
        self.backups.state()
    }
}

/// The Pod API's group may read what is kept, and so may what is made there be.
fn make_places(volumes: &[Volume]) -> Result<(), Failure> {
    let Some(kept) = volumes.iter().find(|volume| volume.path == KEPT) else { return Ok(()) };
    let work = Path::new(data::AT).join(WORK);
    let what = format_args!("make folder {}", work.display());
    make_folder_of(&work, 0o700, BACKUP_USER, BACKUP_USER).or_cannot(what)?;
    let what = format_args!("make folder {KEPT}");
    make_folder_of(Path::new(KEPT), 0o2750, BACKUP_USER, kept.gid).or_cannot(what)
}

fn service(input: Input) -> Service {
    let name = if input == Input::Backup { "backup" } else { "restore" };
    let service = child::service(name, &[], "stele-backup", BACKUP_USER);
    Service {
        run: vec![PROGRAM.into()],
        kind: Kind::Task { creates: None, done_within: WITHIN },
        grants: [(data::AT.into(), Access::Write)].into(),
        limits: Limits { memory: Memory::Bytes(MEMORY), pids: 2, cpu_weight: 50 },
        open_files: 64,
        ..service
    }
}

impl EventLoop {
    /// What an earlier boot didn't get to.
    pub(super) fn clear_what_is_left(&mut self) {
        if self.bootstrap.is_some() && exchange::has_left_something(Path::new(data::AT)) {
            self.tell_backups(Event::Left);
        }
    }

    /// May this be done now? One who has said what came of it may not have ended yet.
    pub(super) fn may_back_up(&self, wish: &Wish) -> Result<(), Refusal> {
        if self.upgrading.as_ref().is_some_and(Upgrading::is_unproven) {
            backup::may_on_trial(wish)?;
        }
        let child = self.backups.child.and_then(|id| self.workers.get(id.0));
        match child.and_then(Worker::pid) {
            Some(_) if *wish != Wish::State => Err(Refusal::Busy),
            _ => self.backups.backups.may(wish),
        }
    }

    /// A child has something to say.
    pub(super) fn on_backup_line(&mut self, line: &str) {
        match serde_json::from_str::<Line>(line) {
            Ok(Line { number, report }) if number == self.backups.ordered => {
                self.tell_backups(Event::Reported(report));
            }
            Ok(_) => {}
            Err(error) => error!("backup: cannot accept what its child says: {error}"),
        }
    }

    /// A process has ended, and what it said has been read.
    pub(super) fn backup_sees_end(&mut self, id: Id) {
        if self.backups.child == Some(id) {
            // It isn't needed any more, and it may hold a passphrase.
            self.with(id, |worker| worker.hand(vec![]));
            self.tell_backups(Event::Ended);
        }
    }

    /// Is it time, or has come to be what was waited for?
    pub(super) fn on_backup_time(&mut self, now: Moment) {
        if self.backups.wake_at.take_if(|at| *at <= now).is_some() {
            self.tell_backups(Event::Timeout);
        }
        let backups = &self.backups.backups;
        if backups.is_freezing() && self.are(|worker, _| worker.is_frozen()) {
            self.tell_backups(Event::Frozen);
        } else if backups.is_stopping() {
            let is_stopped = |_: &Worker, state| state == lifecycle::State::Stopped;
            match self.are(is_stopped) {
                true => self.tell_backups(Event::Stopped),
                false => self.stop_again(),
            }
        } else if backups.is_making() && self.missing().next().is_none() {
            self.tell_backups(Event::Made);
        }
    }

    pub(super) fn tell_backups(&mut self, event: Event) {
        for effect in self.backups.backups.on(event) {
            self.do_backup(effect);
        }
    }

    fn do_backup(&mut self, effect: Effect) {
        match effect {
            Effect::Freeze => self.freeze(true),
            Effect::Thaw => self.freeze(false),
            Effect::Order(job) => {
                if let Err(failure) = self.order(job) {
                    error!("backup: {failure}");
                    self.tell_backups(Event::Ended);
                }
            }
            Effect::StopChild => {
                if let Some(child) = self.backups.child {
                    self.tell(child, lifecycle::Event::Stop);
                }
            }
            Effect::StopServices => {
                notice!("backup: the data is exchanged; services stop for that");
                self.stop_again();
            }
            Effect::Exchange => {
                let result = self.exchange().map_err(|failure| failure.to_string());
                match &result {
                    Ok(()) => notice!("backup: the data has been exchanged"),
                    Err(why) => error!("backup: {why}"),
                }
                self.tell_backups(Event::Exchanged(result));
            }
            Effect::Make => {
                let missing: Vec<Id> = self.missing().collect();
                missing.into_iter().for_each(|id| self.tell(id, lifecycle::Event::Start));
            }
            Effect::StartServices => {
                for id in self.parties() {
                    self.tell(id, lifecycle::Event::Start);
                }
            }
            Effect::WakeIn(wait) => self.backups.wake_at = Some(clock::now() + wait),
        }
    }

    /// Whose data it is.
    fn parties(&self) -> Vec<Id> {
        let both = self.bootstrap.iter().flat_map(|all| [all.api.id, all.server.id]);
        both.collect()
    }

    fn are(&self, is_so: impl Fn(&Worker, lifecycle::State) -> bool) -> bool {
        self.parties().iter().all(|id| {
            let worker = self.workers.get(id.0);
            worker.is_some_and(|worker| is_so(worker, self.supervisor.state(*id)))
        })
    }

    /// Tasks that once made what isn't there any more.
    fn missing(&self) -> impl Iterator<Item = Id> {
        use lifecycle::State::{Stopped, Waiting};
        let own = self.workers.iter().take(self.callers.len()).enumerate();
        let missing = own.filter(|(_, worker)| worker.is_to_be_made());
        let ids = missing.map(|(index, _)| Id(index));
        ids.filter(|id| !matches!(self.supervisor.state(*id), Waiting | Stopped))
    }

    fn freeze(&mut self, is_frozen: bool) {
        for id in self.parties() {
            self.with(id, |worker| worker.freeze(is_frozen));
        }
    }

    /// Somebody else may have wanted one of them started meanwhile.
    fn stop_again(&mut self) {
        use lifecycle::State::{Killing, Stopped, Stopping};
        for id in self.parties() {
            if !matches!(self.supervisor.state(id), Stopping | Killing | Stopped) {
                self.tell(id, lifecycle::Event::Stop);
            }
        }
    }

    fn order(&mut self, job: Job) -> Result<(), Failure> {
        if matches!(job, Job::Erase) {
            aside::forget(Path::new(data::AT));
        }
        let (input, place) = match job.changes() {
            false => (Input::Backup, 0),
            true => (Input::Restore, 1),
        };
        self.backups.ordered += 1;
        let domain = self.bootstrap.as_ref().and_then(|all| all.configured.domain());
        let order = Order {
            number: self.backups.ordered,
            job,
            volumes: self.volumes.clone(),
            origin: Origin {
                name: self.name.clone(),
                version: self.version.clone(),
                date: clock::date().as_secs(),
                domain,
            },
        };
        let document = serde_json::to_vec(&order).or_cannot("hand over an order")?;
        let known = self.backups.children.get(place).copied().flatten();
        let id = self.child(known, input, || service(input))?;
        if let Some(child) = self.backups.children.get_mut(place) {
            *child = Some(id);
        }
        self.backups.child = Some(id);
        self.hand(id, document);
        Ok(())
    }

    fn exchange(&mut self) -> Result<(), Failure> {
        let place = Path::new(data::AT);
        let exchange = Exchange::of_what_was_laid_out(place, &self.volumes)?;
        exchange.begin(place)?;
        // From here on there is no way back: what fails is tried again by the next boot.
        if let Err(failure) = self.carry_out_exchange(&exchange) {
            error!("backup: {failure}");
            self.end(crate::end::End::Reboot, "the data is half exchanged");
        }
        Ok(())
    }

    fn carry_out_exchange(&mut self, exchange: &Exchange) -> Result<(), Failure> {
        exchange.carry_out(Path::new(data::AT))?;
        let others = self.volumes.iter().filter(|volume| exchange.changes(volume));
        others.into_iter().try_for_each(volumes::mount_again)?;
        match &mut self.bootstrap {
            Some(bootstrap) => bootstrap.begin_anew(),
            None => Ok(()),
        }
    }
}
