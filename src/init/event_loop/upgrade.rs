//! Upgrades among services: what their events are here, and how their effects are carried out.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use appliance::boot::INSTALL_USER;
use appliance::control::Refusal;
use appliance::service::{Kind, Limits, Memory, Millis, Service};
use appliance::upgrade::{Check, Code, Line, PROGRAM, Refused, State, Wish};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

use super::EventLoop;
use crate::clock::{self, Moment};
use crate::end::End;
use crate::lifecycle;
use crate::log::{error, notice, warning};
use crate::supervisor::Id;
use crate::sys::Ending;
use crate::systems::{self, Systems};
use crate::upgrade::steady::Steady;
use crate::upgrade::trial::CRASH_LOOP;
use crate::upgrade::{Boot, Effect, Event};
use crate::worker::{Input, Worker};
use crate::{aside, child, data, read_through, second_net};
use appliance::failure::{Failure, OrCannot as _};

/// As long as the slowest of uplinks takes.
const WITHIN: Millis = Millis(6 * 3600 * 1000);
/// One chunk and a few buffers, and what the kernel keeps of what is being written.
const MEMORY: u64 = 48 << 20;
/// The check that services are up.
const SERVICES: &str = "services";
/// What is looked at from outside must have been looked at within so long.
const PROBED_WITHIN: Duration = Duration::from_secs(90);

/// What is done about upgrades, and by whom.
#[derive(Debug)]
pub struct Upgrading {
    systems: Systems,
    /// Who installs, once there was something to install.
    installer: Option<Id>,
    /// Who reads the root, once it had to be.
    reader: Option<Id>,
    /// What was found from outside, and when.
    probed: Option<(Moment, Vec<Check>)>,
    steady: Steady,
}

impl Upgrading {
    /// Nothing is done yet.
    pub fn begin(systems: Systems) -> Upgrading {
        let (installer, reader, probed) = (None, None, None);
        Upgrading { systems, installer, reader, probed, steady: Steady::default() }
    }

    /// When it shall be looked at again.
    pub fn deadline(&self) -> Option<Moment> {
        let steady = self.steady.deadline(self.is_on_trial());
        steady.into_iter().chain(self.systems.upgrade.deadline()).min()
    }

    /// What was found from outside, if it is still true.
    fn probed(&self, now: Moment) -> Vec<Check> {
        let recent = self.probed.as_ref().filter(|(at, _)| now < *at + PROBED_WITHIN);
        match recent {
            Some((_, checks)) => checks.clone(),
            None => vec![check("probe", Some("nothing was tried from outside of late".into()))],
        }
    }

    /// Is this boot one that has to prove itself?
    pub fn is_on_trial(&self) -> bool {
        self.systems.upgrade.is_on_trial()
    }

    /// Would the data be set back, should the next boot be the other system's?
    pub fn is_unproven(&self) -> bool {
        self.systems.upgrade.is_unproven()
    }
}

fn service() -> Service {
    let service = child::service("install", &[], "stele-install", INSTALL_USER);
    Service {
        run: vec![PROGRAM.into()],
        kind: Kind::Task { creates: None, done_within: WITHIN },
        limits: Limits { memory: Memory::Bytes(MEMORY), pids: 2, cpu_weight: 50 },
        ..service
    }
}

impl EventLoop {
    /// As the control socket tells it.
    pub(super) fn upgrade_state(&self) -> State {
        let upgrading = self.upgrading.as_ref();
        upgrading.map(|it| it.systems.upgrade.state(clock::now())).unwrap_or_default()
    }

    /// May this be done now?
    pub(super) fn may_upgrade(&self, wish: &Wish) -> Result<(), Refusal> {
        let refused = |code, message: &str| {
            Err(Refusal::Upgrade(Refused { code, message: message.to_owned() }))
        };
        let Some(upgrading) = &self.upgrading else {
            return refused(Code::Disk, "this machine has no second slot, or not as it was made");
        };
        let installer = upgrading.installer.and_then(|id| self.workers.get(id.0));
        if installer.and_then(Worker::pid).is_some() {
            return refused(Code::Busy, "a bundle is being installed");
        }
        if matches!(wish, Wish::Install { .. }) && !upgrading.systems.has_keys() {
            return refused(Code::NoKeys, "this image was built without keys: it believes nobody");
        }
        upgrading.systems.upgrade.may(wish).map_err(Refusal::Upgrade)?;
        match wish {
            Wish::Install { .. } => Ok(()),
            Wish::Rollback => {
                aside::may_roll_back(Path::new(data::AT), &self.volumes).map_err(Refusal::Upgrade)
            }
        }
    }

    /// What was allowed is done. With it comes where a bundle goes.
    pub(super) fn upgrade(&mut self, wish: Wish) -> Result<Option<OwnedFd>, Refusal> {
        let done = match wish {
            Wish::Rollback => self.roll_back().map(|()| None),
            Wish::Install { announced } => self.install(announced).map(Some),
        };
        done.map_err(|failure| {
            error!("upgrade: {failure}");
            let message = failure.to_string();
            Refusal::Upgrade(Refused { code: Code::Disk, message })
        })
    }

    /// Has the other slot's system tried.
    fn roll_back(&mut self) -> Result<(), Failure> {
        if let Some(upgrading) = &self.upgrading {
            upgrading.systems.forget_trial()?;
        }
        self.tell_upgrade(Event::Asked(Wish::Rollback));
        let is_armed = self.upgrading.as_ref().is_some_and(|it| it.systems.upgrade.is_armed());
        let failed = || Failure::new("have the other system tried", "the ESP can't be written");
        is_armed.then_some(()).ok_or_else(failed)
    }

    /// Starts the child that installs; returns the other end of its stream.
    fn install(&mut self, announced: Option<u64>) -> Result<OwnedFd, Failure> {
        let what = "take a bundle";
        let upgrading = self.upgrading.as_mut().ok_or("there is no second slot").or_cannot(what)?;
        // A full disk may have kept that from being written. The next system would take what was kept
        // aside for this one's failed trial, and set the data back.
        upgrading.systems.adopt_data()?;
        upgrading.systems.forget_trial()?;
        let [esp, slot] = upgrading.systems.devices()?;
        let space = aside::space(Path::new(data::AT), &self.volumes)?;
        let order = upgrading.systems.order(announced, space);
        let order = child::paper(&serde_json::to_vec(&order).or_cannot(what)?).or_cannot(what)?;
        let (ours, theirs) =
            socketpair(AddressFamily::Unix, SockType::Stream, None, SockFlag::SOCK_CLOEXEC)
                .or_cannot(what)?;
        let known = upgrading.installer;
        let id = self.child(known, Input::Install, service)?;
        if let Some(upgrading) = &mut self.upgrading {
            upgrading.installer = Some(id);
        }
        self.with(id, |worker| worker.give(vec![theirs, esp, slot, order.into()]));
        self.tell(id, lifecycle::Event::Start);
        if self.workers.get(id.0).and_then(Worker::pid).is_none() {
            // Else it would be started again, without what it works on, or keep that from others.
            self.tell(id, lifecycle::Event::Stop);
            self.with(id, |worker| worker.give(vec![]));
            return Err(Failure::new(what, "what installs it can't be started"));
        }
        self.tell_upgrade(Event::Asked(Wish::Install { announced }));
        Ok(ours)
    }

    /// The child that installs has something to say.
    pub(super) fn on_install_line(&mut self, line: &str) {
        match serde_json::from_str::<Line>(line) {
            Ok(line) => {
                match &line {
                    Line::Begun { version, .. } => notice!("upgrade: {version} is being written"),
                    Line::Armed { version, .. } => {
                        notice!("upgrade: {version} is tried at the next boot");
                    }
                    Line::Failed(refused) => warning!("upgrade: refused: {}", refused.message),
                    Line::Progress { .. } => {}
                }
                self.tell_upgrade(Event::Said(line));
            }
            Err(error) => error!("upgrade: cannot accept what its child says: {error}"),
        }
    }

    /// A process has ended, and what it said has been read.
    pub(super) fn upgrade_sees_end(&mut self, id: Id, ending: Ending) {
        let Some(upgrading) = &self.upgrading else { return };
        if upgrading.installer == Some(id) {
            // Failed or not, it isn't started again by itself.
            self.tell(id, lifecycle::Event::Stop);
            let listed = self.upgrading.as_ref().and_then(|it| it.systems.listed());
            self.tell_upgrade(Event::Ended(listed));
        } else if upgrading.reader == Some(id) {
            self.tell(id, lifecycle::Event::Stop);
            let read = match ending {
                Ending::Exited(0) => Ok(()),
                other => Err(format!("its root cannot be read: {other}")),
            };
            self.tell_upgrade(Event::Read(read));
        }
    }

    /// What was found from outside; nothing, once nobody looks any more.
    pub(super) fn on_health(&mut self, checks: Vec<Check>) {
        if let Some(upgrading) = &mut self.upgrading {
            upgrading.probed = (!checks.is_empty()).then(|| (clock::now(), checks));
        }
    }

    /// How healthy is it now, and for how long has it been?
    pub(super) fn on_upgrade_time(&mut self, now: Moment) {
        // Whoever is asked to end doesn't have to be healthy.
        if self.end.is_some() || self.upgrading.is_none() {
            return;
        }
        let checks = self.checks(now);
        let own = [SERVICES, CRASH_LOOP];
        let is_up = checks.iter().all(|it| it.passes || !own.contains(&it.name.as_str()));
        self.tell_upgrade(Event::Checks(checks));
        let Some(upgrading) = &mut self.upgrading else { return };
        let effects = upgrading.systems.upgrade.on_time(now);
        let is_on_trial = upgrading.is_on_trial();
        let is_news = upgrading.steady.on_services(is_up, is_on_trial, now);
        self.do_upgrade(effects);
        if is_news {
            self.is_good();
        }
    }

    /// This boot is one to measure others by.
    fn is_good(&mut self) {
        second_net::proved();
        let has = self.network.has_device();
        if let Some(upgrading) = &mut self.upgrading {
            let effects = upgrading.systems.upgrade.has_network(has);
            self.do_upgrade(effects);
        }
    }

    fn tell_upgrade(&mut self, event: Event) {
        if let Some(upgrading) = &mut self.upgrading {
            let effects = upgrading.systems.upgrade.on(event, clock::now());
            self.do_upgrade(effects);
        }
    }

    fn do_upgrade(&mut self, effects: Vec<Effect>) {
        let mut left = VecDeque::from(effects);
        while let Some(effect) = left.pop_front() {
            match effect {
                Effect::ReadRoot => {
                    if let Err(failure) = self.read_root() {
                        error!("upgrade: {failure}");
                        self.tell_upgrade(Event::Read(Err(failure.to_string())));
                    }
                }
                Effect::Reboot(why) => {
                    error!("upgrade: this trial is given up: {why}");
                    self.end(End::Reboot, "the trial has failed");
                }
                other => {
                    let Some(upgrading) = &mut self.upgrading else { return };
                    left.extend(upgrading.systems.carry_out(&other, clock::now()));
                }
            }
        }
    }

    /// Starts the child that reads every block of the root.
    fn read_root(&mut self) -> Result<(), Failure> {
        let device = systems::root_device()?;
        let known = self.upgrading.as_ref().and_then(|it| it.reader);
        let id = self.child(known, Input::Read, read_through::service)?;
        if let Some(upgrading) = &mut self.upgrading {
            upgrading.reader = Some(id);
        }
        self.with(id, |worker| worker.give(vec![device.into()]));
        self.tell(id, lifecycle::Event::Start);
        Ok(())
    }

    /// All that is looked at.
    fn checks(&self, now: Moment) -> Vec<Check> {
        use lifecycle::State::{CrashLoop, Done, Ready};
        let Some(upgrading) = &self.upgrading else { return vec![] };
        let not = |is_bad: fn(lifecycle::State) -> bool| {
            let own = self.workers.iter().take(self.callers.len()).enumerate();
            let states = own.map(|(index, worker)| (worker, self.supervisor.state(Id(index))));
            let bad = states.filter(|(_, state)| is_bad(*state));
            let said: Vec<String> =
                bad.map(|(worker, state)| format!("{} is {state}", worker.name())).collect();
            (!said.is_empty()).then(|| said.join(", "))
        };
        let lacks_network = upgrading.systems.upgrade.had_network() && !self.network.has_device();
        let mut checks = vec![
            check(SERVICES, not(|state| !matches!(state, Ready | Done))),
            check(CRASH_LOOP, not(|state| state == CrashLoop)),
            check("network", lacks_network.then(|| "there is no network device any more".into())),
            check(
                "loader",
                (upgrading.systems.upgrade.boot() == Boot::NotBooted)
                    .then(|| "this boot did not come through the loader".into()),
            ),
        ];
        if upgrading.is_on_trial() {
            checks.extend(upgrading.probed(now));
        }
        checks
    }
}

fn check(name: &str, why: Option<String>) -> Check {
    Check { name: name.to_owned(), passes: why.is_none(), why }
}
