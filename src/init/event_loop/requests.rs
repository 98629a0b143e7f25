//! What callers of the control socket ask for.

use appliance::backup::Wish;
use appliance::control::{ClockState, Machine, Phase, Refusal, Reply, ServiceState};
use appliance::upgrade;

use super::EventLoop;
use super::gate::Bootstrap;
use crate::control::socket::Key;
use crate::control::{self, Backups, Caller, Effect, Papers, Upgrades};
use crate::lifecycle::{Event, State};
use crate::log::{notice, warning};
use crate::output::Verdict;
use crate::supervisor::Id;
use crate::worker::Worker;
use crate::{backup, clock, last_failure, memory};

impl EventLoop {
    /// Somebody knocks.
    pub(super) fn on_callers(&mut self) {
        let now = clock::now();
        let callers = &self.callers;
        let who = |user| Caller::of(user, callers);
        let Some(door) = &mut self.door else { return };
        for user in door.admit(now, who) {
            if let Verdict::Show { .. } = self.strangers.ask(now) {
                warning!("control: user {user} may not ask");
            }
        }
    }

    /// Somebody who was let in has a request.
    pub(super) fn on_request(&mut self, key: Key) {
        let now = clock::now();
        let Some((caller, request)) = self.door.as_mut().and_then(|door| door.read(key)) else {
            return;
        };
        let (reply, effect) = control::answer(&caller, request, &self.machine(), self);
        // What it is answered with is there only once it is done.
        if let Some(Effect::Upgrade(wish)) = effect {
            let (reply, gift) = match self.upgrade(wish) {
                Ok(gift) => (reply, gift),
                Err(refusal) => (Reply::Refused(refusal), None),
            };
            if let Some(door) = &mut self.door {
                door.reply(key, &reply, gift.as_ref(), now);
            }
            return;
        }
        if let Some(door) = &mut self.door {
            door.reply(key, &reply, None, now);
        }
        match effect {
            Some(Effect::Gate(event)) => self.tell_gate(event),
            Some(Effect::Settings(settings)) => self.settle(*settings),
            Some(Effect::Backup(wish)) => self.tell_backups(backup::Event::Asked(*wish)),
            Some(Effect::End(end)) => self.end(end, "control"),
            Some(Effect::Restart(name)) => self.restart(&name),
            Some(Effect::Upgrade(_)) | None => {}
        }
    }

    fn restart(&mut self, name: &str) {
        let id = self.workers.iter().position(|worker| worker.name() == name).map(Id);
        if let Some(id) = id {
            notice!("service {name}: restart (control)");
            self.tell(id, Event::Stop);
            // It starts when it has stopped.
            self.tell(id, Event::Start);
        }
    }

    fn machine(&self) -> Machine {
        // The appliance's own: init's children come and go with the network.
        let states = (0..self.callers.len()).map(|index| self.supervisor.state(Id(index)));
        Machine {
            name: self.name.clone(),
            version: self.version.clone(),
            uptime: clock::now().as_secs(),
            phase: phase(self.end.is_some(), states),
            services: self.services(),
            addresses: self.network.addresses(),
            clock: ClockState { date: clock::date().as_secs(), is_synced: self.keeper.is_synced() },
            memory: memory::now(),
            gate: self.bootstrap.as_ref().map(Bootstrap::state),
            settings: self.bootstrap.as_ref().map(|bootstrap| bootstrap.configured.state()),
            last_failure: last_failure::last().cloned(),
        }
    }

    fn services(&self) -> Vec<ServiceState> {
        let state = |(index, worker): (usize, &Worker)| ServiceState {
            name: worker.name().to_owned(),
            state: self.supervisor.state(Id(index)).to_string(),
            restarts: self.starts.get(index).map_or(0, |starts| starts.saturating_sub(1)),
            pid: worker.pid().map(|pid| pid.as_raw()),
            memory: worker.memory(),
            resident: worker.pid().and_then(memory::resident_of),
        };
        self.workers.iter().enumerate().map(state).collect()
    }
}

impl Papers for EventLoop {
    fn last(&self, name: &str, lines: usize) -> Option<Vec<String>> {
        let worker = self.workers.iter().find(|worker| worker.name() == name);
        let journal = worker.map(Worker::journal).or_else(|| self.kernel_log.journal(name));
        journal.map(|journal| journal.last(lines))
    }

    fn server_file(&self) -> Option<&str> {
        self.bootstrap.as_ref()?.configured.text()
    }
}

impl Backups for EventLoop {
    fn state(&self) -> appliance::backup::State {
        self.backups.state()
    }

    fn may(&self, wish: &Wish) -> Result<(), Refusal> {
        self.may_back_up(wish)
    }
}

impl Upgrades for EventLoop {
    fn state(&self) -> upgrade::State {
        self.upgrade_state()
    }

    fn may(&self, wish: &upgrade::Wish) -> Result<(), Refusal> {
        self.may_upgrade(wish)
    }
}

/// How far a boot is whose services are in these states.
fn phase(is_ending: bool, states: impl Iterator<Item = State>) -> Phase {
    if is_ending {
        return Phase::Ending;
    }
    // The later, the worse.
    let rank = |state| match state {
        State::Ready | State::Done | State::Stopped => 0,
        State::Waiting | State::Starting | State::Stopping | State::Killing => 1,
        State::Failing | State::Backoff(_) | State::CrashLoop => 2,
    };
    match states.map(rank).max() {
        Some(2) => Phase::Degraded,
        Some(1) => Phase::Starting,
        _ => Phase::Running,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_worst_service_says_how_far_the_boot_is() {
        use State::*;
        let backoff = Backoff(Duration::from_secs(1));
        for (states, expected) in [
            (vec![], Phase::Running),
            (vec![Ready, Done, Stopped], Phase::Running),
            (vec![Ready, Waiting], Phase::Starting),
            (vec![Starting, backoff, Ready], Phase::Degraded),
            (vec![Failing, Ready], Phase::Degraded),
            (vec![Ready, CrashLoop], Phase::Degraded),
        ] {
            assert_eq!(phase(false, states.iter().copied()), expected, "{states:?}");
            assert_eq!(phase(true, states.into_iter()), Phase::Ending);
        }
    }
}
