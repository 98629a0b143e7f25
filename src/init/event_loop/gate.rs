//! The gate among services: what its events are here, and how its effects are carried out.

use appliance::control::GateState;
use appliance::secret::Secret;
use appliance::service::{Service, Side};

use super::EventLoop;
use crate::clock::{self, Moment};
use crate::credentials::{self, Credentials};
use crate::failure::{Failure, OrCannot as _};
use crate::gate::{Effect, Event, Gate, Generation, Step};
use crate::lifecycle::{self, State};
use crate::log::{error, notice, warning};
use crate::prove::{self, Question};
use crate::supervisor::Id;
use crate::worker::{Input, Worker};

/// The gate of an appliance that has one, and who takes part.
#[derive(Debug)]
pub struct Bootstrap {
    gate: Gate,
    server: Party,
    api: Party,
    wake_at: Option<Moment>,
    /// The child that proves, once there was something to prove.
    prover: Option<Id>,
    /// What was said last.
    told: (Option<Step>, Option<&'static str>),
}

/// One of the two.
#[derive(Debug)]
struct Party {
    id: Id,
    credentials: Credentials,
}

impl Bootstrap {
    /// Shut, if two of these services take part in one; each finds the bootstrap secret.
    pub fn of(services: &[Service]) -> Result<Option<Bootstrap>, Failure> {
        let party = |side| -> Result<Option<Party>, Failure> {
            let mut all = services.iter().enumerate();
            let Some((index, service)) = all.find(|(_, service)| service.gate == Some(side)) else {
                return Ok(None);
            };
            Ok(Some(Party { id: Id(index), credentials: Credentials::make(service)? }))
        };
        let (Some(server), Some(api)) = (party(Side::Server)?, party(Side::Api)?) else {
            return Ok(None);
        };
        let secret = credentials::bootstrap()?;
        server.credentials.give("secret", Some(&secret))?;
        api.credentials.give("bootstrap", Some(&secret))?;
        let gate = Gate::new(secret);
        Ok(Some(Bootstrap { gate, server, api, wake_at: None, prover: None, told: (None, None) }))
    }

    /// When the gate shall be looked at again.
    pub fn deadline(&self) -> Option<Moment> {
        self.wake_at
    }

    /// As the control socket tells it.
    pub fn state(&self) -> GateState {
        let step = self.gate.step();
        GateState {
            open: step == Step::Open,
            step: step.to_string(),
            why: self.gate.trouble().map(str::to_owned),
        }
    }

    /// Should anything be started anew in between: what is given comes before what is taken away.
    fn give_current(&self, secret: &Secret) -> Result<(), Failure> {
        self.server.credentials.give("secret", Some(secret))?;
        self.api.credentials.give("current", Some(secret))?;
        self.api.credentials.give("bootstrap", None)
    }
}

impl EventLoop {
    /// A service has come to another state: is that of interest here?
    pub(super) fn gate_sees(&mut self, id: Id, state: State) {
        let is_server = self.bootstrap.as_ref().is_some_and(|bootstrap| bootstrap.server.id == id);
        if is_server && state == State::Ready {
            let generation = self.generation(id);
            self.tell_gate(Event::Ready(generation));
        }
    }

    /// A service's process has ended.
    pub(super) fn gate_sees_end(&mut self, id: Id) {
        if self.bootstrap.as_ref().is_some_and(|bootstrap| bootstrap.server.id == id) {
            self.tell_gate(Event::Ended);
        }
    }

    /// The prover has something to say.
    pub(super) fn on_proof(&mut self, server: Generation, line: &str) {
        match prove::from_line(line) {
            Some(verdict) => self.tell_gate(Event::Proved(server, verdict)),
            None => error!("gate: cannot accept what the prover says"),
        }
    }

    /// Is it time to try again?
    pub(super) fn on_gate_time(&mut self, now: Moment) {
        let due = |bootstrap: &mut Bootstrap| bootstrap.wake_at.take_if(|at| *at <= now);
        if self.bootstrap.as_mut().and_then(due).is_some() {
            self.tell_gate(Event::Timeout);
        }
    }

    pub(super) fn tell_gate(&mut self, event: Event) {
        let Some(bootstrap) = &mut self.bootstrap else { return };
        let effects = bootstrap.gate.on(event);
        let now = (Some(bootstrap.gate.step()), bootstrap.gate.trouble());
        if now != bootstrap.told {
            bootstrap.told = now;
            let step = bootstrap.gate.step();
            match bootstrap.gate.trouble() {
                Some(trouble) => warning!("gate: {step} ({trouble})"),
                None => notice!("gate: {step}"),
            }
        }
        for effect in effects {
            if let Err(failure) = self.do_gate(effect) {
                error!("gate: {failure}");
            }
        }
    }

    fn do_gate(&mut self, effect: Effect) -> Result<(), Failure> {
        let Some(bootstrap) = &mut self.bootstrap else { return Ok(()) };
        match effect {
            Effect::GivePending(secret) => {
                bootstrap.api.credentials.give("pending", secret.as_ref())
            }
            Effect::GiveCurrent(secret) => bootstrap.give_current(&secret),
            Effect::Open => self.network.open(),
            Effect::WakeIn(wait) => {
                bootstrap.wake_at = Some(clock::now() + wait);
                Ok(())
            }
            Effect::RestartApi => {
                let api = bootstrap.api.id;
                self.tell(api, lifecycle::Event::Stop);
                self.tell(api, lifecycle::Event::Start);
                Ok(())
            }
            Effect::Prove { server, old, new } => self.prove(server, Question { old, new }),
        }
    }

    fn prove(&mut self, server: Generation, question: Question) -> Result<(), Failure> {
        let known = self.bootstrap.as_ref().and_then(|bootstrap| bootstrap.prover);
        let id = match known {
            Some(id) => id,
            None => {
                let worker = Worker::for_child(prove::service(), Input::Proof(server));
                let id = self.add(worker.or_cannot("prove the change")?);
                if let Some(bootstrap) = &mut self.bootstrap {
                    bootstrap.prover = Some(id);
                }
                id
            }
        };
        self.with(id, |worker| {
            worker.move_to(Input::Proof(server));
            worker.ask(question);
        });
        self.tell(id, lifecycle::Event::Stop);
        self.tell(id, lifecycle::Event::Start);
        Ok(())
    }

    /// Which start of it this is.
    fn generation(&self, id: Id) -> Generation {
        Generation(self.starts.get(id.0).copied().unwrap_or_default())
    }
}
