//! The gate among services: what its events are here, and how its effects are carried out.

use std::time::Duration;

use appliance::control::GateState;
use appliance::secret::Secret;
use appliance::service::{Service, Side};

use super::EventLoop;
use super::configuration::Configured;
use crate::ask::{self, About, Answer, Question};
use crate::clock::{self, Moment};
use crate::configuration;
use crate::credentials::{self, Credentials, Environment};
use crate::gate::{Effect, Event, Gate, Generation, Step};
use crate::lifecycle::{self, State};
use crate::log::{error, notice, warning};
use crate::supervisor::Id;
use crate::worker::{Input, Worker};
use appliance::failure::{Failure, OrCannot as _};

/// The wait before what PID 1 itself could not do is tried again.
const AGAIN_IN: Duration = Duration::from_secs(1);
/// What the secrets are called in a service's `CREDENTIALS_DIRECTORY`.
const BOOTSTRAP: &str = "bootstrap";
const PENDING: &str = "pending";
const CURRENT: &str = "current";
/// What the operator's variables for the Pod API are called there.
const ENVIRONMENT: &str = "environment";
/// What the operator's file of settings, of the newer place, is called there.
const SETTINGS: &str = "prose.toml";
/// The name of the child that asks the Server.
const ASKER: &str = "ask";

/// The gate of an appliance that has one, who takes part, and what the Server is configured with.
#[derive(Debug)]
pub struct Bootstrap {
    gate: Gate,
    pub(super) server: Party,
    pub(super) api: Party,
    pub(super) configured: Configured,
    wake_at: Option<Moment>,
    /// What could not be done, and what comes after it.
    undone: Vec<Effect>,
    /// The child that asks the Server, once there was something to ask.
    asker: Option<Id>,
    /// The number of its last question.
    asked: u32,
    /// Whom the last proof is of.
    proof_of: Generation,
    /// What was said last.
    told: (Option<Step>, Option<&'static str>),
}

/// One of the two.
#[derive(Debug)]
pub struct Party {
    pub(super) id: Id,
    credentials: Credentials,
}

impl Party {
    /// The group of its user.
    pub fn gid(&self) -> u32 {
        self.credentials.gid()
    }

    /// What the operator wrote for it where it doesn't see it.
    fn give_configuration(&self, environment: &Environment) -> Result<(), Failure> {
        self.credentials.give_file(ENVIRONMENT, &environment.of_the_api()?)?;
        match credentials::operators_settings() {
            Some(settings) => self.credentials.give_file(SETTINGS, &settings),
            None => self.credentials.give(SETTINGS, None),
        }
    }
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
        let environment = Environment::read();
        let secret = environment.bootstrap()?;
        api.give_configuration(&environment)?;
        server.credentials.give(BOOTSTRAP, Some(&secret))?;
        api.credentials.give(BOOTSTRAP, Some(&secret))?;
        Ok(Some(Bootstrap {
            gate: Gate::new(secret),
            configured: Configured::begin(server.gid(), environment.allows_lua()),
            server,
            api,
            wake_at: None,
            undone: vec![],
            asker: None,
            asked: 0,
            proof_of: Generation(0),
            told: (None, None),
        }))
    }

    /// When the gate shall be looked at again.
    pub fn deadline(&self) -> Option<Moment> {
        self.wake_at.into_iter().chain(self.configured.deadline()).min()
    }

    /// What the Server's account has now.
    pub(super) fn secret(&self) -> &Secret {
        self.gate.server_secret()
    }

    /// The operator's files and the Server's data may be others now; the secret isn't.
    pub(super) fn begin_anew(&mut self) -> Result<(), Failure> {
        let environment = Environment::read();
        self.api.give_configuration(&environment)?;
        self.configured.begin_anew(self.server.gid(), environment.allows_lua());
        Ok(())
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
        for party in [&self.server, &self.api] {
            party.credentials.give(CURRENT, Some(secret))?;
        }
        self.server.credentials.give(BOOTSTRAP, None)?;
        self.api.credentials.give(BOOTSTRAP, None)
    }
}

impl EventLoop {
    /// A service has come to another state: is that of interest here?
    pub(super) fn gate_sees(&mut self, id: Id, state: State) {
        let is_server = self.bootstrap.as_ref().is_some_and(|bootstrap| bootstrap.server.id == id);
        if is_server && state == State::Ready {
            let generation = self.generation(id);
            self.tell_gate(Event::Ready(generation));
            self.tell_configuration(configuration::Event::Ready);
        }
    }

    /// A service's process has ended.
    pub(super) fn gate_sees_end(&mut self, id: Id) {
        if self.bootstrap.as_ref().is_some_and(|bootstrap| bootstrap.server.id == id) {
            self.tell_gate(Event::Ended);
            self.tell_configuration(configuration::Event::Ended);
        }
    }

    /// The child that asks the Server has something to say.
    pub(super) fn on_answer(&mut self, line: &str) {
        let Some(bootstrap) = &self.bootstrap else { return };
        let (asked, server) = (bootstrap.asked, bootstrap.proof_of);
        match ask::from_line(line) {
            Some((number, Answer::Rotation(verdict))) if number == asked => {
                self.tell_gate(Event::Proved(server, verdict));
            }
            Some((number, Answer::Load(loaded))) if number == asked => {
                self.tell_configuration(configuration::Event::Loaded(loaded));
            }
            // To an older question.
            Some(_) => {}
            None => error!("gate: cannot accept what the child says that asks the Server"),
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
        let undone = std::mem::take(&mut bootstrap.undone);
        self.do_in_order(undone.into_iter().chain(effects).collect());
    }

    /// Nothing overtakes what fails: the network isn't opened before the secret has been given.
    fn do_in_order(&mut self, effects: Vec<Effect>) {
        let mut left = effects.into_iter();
        while let Some(effect) = left.next() {
            if let Err(failure) = self.do_gate(effect.clone()) {
                error!("gate: {failure}");
                if let Some(bootstrap) = &mut self.bootstrap {
                    bootstrap.undone = std::iter::once(effect).chain(left).collect();
                    bootstrap.wake_at = Some(clock::now() + AGAIN_IN);
                }
                return;
            }
        }
    }

    fn do_gate(&mut self, effect: Effect) -> Result<(), Failure> {
        let Some(bootstrap) = &mut self.bootstrap else { return Ok(()) };
        match effect {
            Effect::GivePending(secret) => bootstrap.api.credentials.give(PENDING, secret.as_ref()),
            Effect::GiveCurrent(secret) => bootstrap.give_current(&secret),
            Effect::Open => {
                self.network.open()?;
                self.tell_configuration(configuration::Event::Opened);
                Ok(())
            }
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
            Effect::Prove { server, old, new } => {
                bootstrap.proof_of = server;
                self.ask(About::Rotation { old, new })
            }
        }
    }

    /// Asks the Server, and forgets what was asked before.
    pub(super) fn ask(&mut self, about: About) -> Result<(), Failure> {
        let Some(bootstrap) = &mut self.bootstrap else { return Ok(()) };
        bootstrap.asked += 1;
        let (number, known) = (bootstrap.asked, bootstrap.asker);
        let document = serde_json::to_vec(&Question { number, about });
        let document = document.or_cannot("hand over a question")?;
        let id = self.child(known, Input::Ask, || ask::service(ASKER))?;
        if let Some(bootstrap) = &mut self.bootstrap {
            bootstrap.asker = Some(id);
        }
        self.hand(id, document);
        Ok(())
    }

    /// The child that is known already, or a new one.
    pub(super) fn child(
        &mut self,
        known: Option<Id>,
        input: Input,
        service: impl Fn() -> Service,
    ) -> Result<Id, Failure> {
        match known {
            Some(id) => Ok(id),
            None => Ok(self.add(Worker::for_child(service(), input)?)),
        }
    }

    /// Starts a child with this document, whatever it was at.
    pub(super) fn hand(&mut self, id: Id, document: Vec<u8>) {
        self.with(id, |worker| worker.hand(document));
        if !matches!(self.supervisor.state(id), State::Waiting | State::Done) {
            self.tell(id, lifecycle::Event::Stop);
        }
        self.tell(id, lifecycle::Event::Start);
    }

    /// Which start of it this is.
    fn generation(&self, id: Id) -> Generation {
        Generation(self.starts.get(id.0).copied().unwrap_or_default())
    }
}
