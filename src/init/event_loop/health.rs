//! Whether services serve, found out from outside while there is a trial: what the events of that
//! are here, and how its effects are carried out.

use std::path::Path;

use appliance::boot::PROBE_USER;
use appliance::probe::{API, DATA, Line, Login, PROGRAM, Question, XMPP};
use appliance::secret::Secret;
use appliance::service::{Kind, Limits, Memory, Millis, Ready, Service};
use appliance::upgrade::Check;
use serde::Serialize;

use super::EventLoop;
use super::upgrade::Upgrading;
use crate::ask::{self, About, Answer, Probe};
use crate::clock::{self, Moment};
use crate::health::{Effect, Event, Parts, Prober, Step, WITHIN};
use crate::log::error;
use crate::supervisor::Id;
use crate::worker::Input;
use crate::{child, credentials, lifecycle, try_data};
use appliance::failure::{Failure, OrCannot as _};

/// The front's port.
const FRONT: u16 = 3030;
/// The Server's for clients.
const CLIENTS: u16 = 5222;
/// Of who asks the services: TLS takes a quarter of it.
const MEMORY: u64 = 32 << 20;
/// Without an answer by then, nobody logs in any more.
const LET_IN_FOR: u64 = WITHIN.as_secs() + 5;

/// Finds it out, by children of its own: one for each step.
#[derive(Debug)]
pub struct Probing {
    parts: Parts,
    /// Of the probe's account, in this boot.
    password: Secret,
    /// While there is a trial.
    prober: Option<Prober>,
    children: Vec<(Step, Id)>,
    /// The number of the last question.
    asked: u32,
    wake_at: Option<Moment>,
}

impl Probing {
    /// What there is to ask among these services.
    pub fn of(services: &[Service]) -> Result<Probing, Failure> {
        let is_front = |service: &Service| {
            matches!(service.kind, Kind::Daemon { ready: Ready::Tcp(FRONT), .. })
        };
        let has_gate = services.iter().any(|service| service.gate.is_some());
        let xmpp = has_gate && Path::new(PROGRAM).exists();
        Ok(Probing {
            parts: Parts { xmpp, api: xmpp && services.iter().any(is_front) },
            password: credentials::fresh()?,
            prober: None,
            children: vec![],
            asked: 0,
            wake_at: None,
        })
    }

    /// When it shall be looked at again.
    pub fn deadline(&self) -> Option<Moment> {
        self.wake_at
    }

    fn child_of(&self, step: Step) -> Option<Id> {
        self.children.iter().find(|(of, _)| *of == step).map(|(_, id)| *id)
    }
}

fn service(step: Step) -> Service {
    let kind = Kind::Task { creates: None, done_within: Millis(WITHIN.as_millis() as u64) };
    match step {
        Step::Resting | Step::Data => try_data::service("probe-data"),
        Step::Arming => Service { kind, ..ask::service("probe-ask") },
        Step::Asking => Service {
            run: vec![PROGRAM.into()],
            kind,
            limits: Limits { memory: Memory::Bytes(MEMORY), pids: 2, cpu_weight: 100 },
            ..child::service("probe", &[], "stele-probe", PROBE_USER)
        },
    }
}

impl EventLoop {
    /// Is it time for the next round, or to wait no longer?
    pub(super) fn on_probe_time(&mut self, now: Moment) {
        let is_on_trial = self.upgrading.as_ref().is_some_and(Upgrading::is_on_trial);
        match (&self.probing.prober, is_on_trial && self.end.is_none()) {
            (None, true) => self.begin_probing(now),
            (Some(_), false) => self.end_probing(),
            _ => {}
        }
        if self.probing.wake_at.take_if(|at| *at <= now).is_some() {
            self.tell_prober(Event::Timeout);
        }
    }

    fn begin_probing(&mut self, now: Moment) {
        let prober = Prober::new(self.probing.parts);
        self.on_health(prober.checks());
        (self.probing.prober, self.probing.wake_at) = (Some(prober), Some(now));
    }

    fn end_probing(&mut self) {
        (self.probing.prober, self.probing.wake_at) = (None, None);
        self.on_health(vec![]);
        let children: Vec<Id> = self.probing.children.iter().map(|(_, id)| *id).collect();
        children.into_iter().for_each(|id| self.stop_probe(id));
    }

    /// It isn't started again by itself, and keeps no secret.
    fn stop_probe(&mut self, id: Id) {
        self.with(id, |worker| worker.hand(vec![]));
        self.tell(id, lifecycle::Event::Stop);
    }

    /// A child has something to say.
    pub(super) fn on_probe_line(&mut self, line: &str) {
        let asked = self.probing.asked;
        match (ask::from_line(line), serde_json::from_str::<Line>(line)) {
            (Some((number, Answer::Probe(true))), _) if number == asked => {
                self.tell_prober(Event::Armed(Ok(())));
            }
            (Some((number, Answer::Probe(false))), _) if number == asked => {
                let why = "the Server doesn't let the probe's account in";
                self.tell_prober(Event::Armed(Err(why.to_owned())));
            }
            (None, Ok(Line { number, check })) if number == asked => {
                self.tell_prober(Event::Checked(check));
            }
            // To an older question.
            (Some(_), _) | (None, Ok(_)) => {}
            (None, Err(error)) => error!("health: cannot accept what a child says: {error}"),
        }
    }

    /// A process has ended, and what it said has been read.
    pub(super) fn probe_sees_end(&mut self, id: Id) {
        let ended = self.probing.children.iter().find(|(_, child)| *child == id);
        if let Some((step, _)) = ended.copied() {
            self.stop_probe(id);
            self.tell_prober(Event::Ended(step));
        }
    }

    fn tell_prober(&mut self, event: Event) {
        let effects = self.probing.prober.as_mut().map(|prober| prober.on(event));
        for effect in effects.into_iter().flatten() {
            match effect {
                Effect::WakeIn(wait) => self.probing.wake_at = Some(clock::now() + wait),
                Effect::Tell => {
                    let checks = self.probing.prober.as_ref().map(Prober::checks);
                    self.on_health(checks.unwrap_or_default());
                }
                Effect::Stop(step) => {
                    if let Some(child) = self.probing.child_of(step) {
                        self.stop_probe(child);
                    }
                }
                Effect::Begin(step) => {
                    if let Err(failure) = self.begin_step(step) {
                        self.not_begun(step, failure.to_string());
                    }
                }
            }
        }
    }

    /// What a step would have found out isn't so.
    fn not_begun(&mut self, step: Step, why: String) {
        if step == Step::Arming {
            return self.tell_prober(Event::Armed(Err(why)));
        }
        let names = if step == Step::Data { &[DATA][..] } else { &[API, XMPP] };
        for name in names {
            let check = Check { name: name.to_string(), passes: false, why: Some(why.clone()) };
            self.tell_prober(Event::Checked(check));
        }
        self.tell_prober(Event::Ended(step));
    }

    /// Starts the child of this step, with its question.
    fn begin_step(&mut self, step: Step) -> Result<(), Failure> {
        self.probing.asked += 1;
        let (input, document) = match step {
            Step::Resting | Step::Data => {
                try_data::make_place()?;
                (Input::TryData, document(&self.probing.asked)?)
            }
            Step::Arming => (Input::Probe, document(&self.arming()?)?),
            Step::Asking => (Input::Probe, document(&self.asking())?),
        };
        let known = self.probing.child_of(step);
        let id = self.child(known, input, || service(step))?;
        if known.is_none() {
            self.probing.children.push((step, id));
        }
        self.hand(id, document);
        Ok(())
    }

    fn arming(&self) -> Result<ask::Question, Failure> {
        let what = "log in";
        let bootstrap = self.bootstrap.as_ref().ok_or("there is no Server").or_cannot(what)?;
        let host = bootstrap.configured.served_domain().cloned();
        let host = host.ok_or("the Server has no settings that it serves by").or_cannot(what)?;
        let password = self.probing.password.clone();
        let probe = Probe { host, password, seconds: LET_IN_FOR };
        let about = About::Probe { secret: bootstrap.secret().clone(), probe };
        Ok(ask::Question { number: self.probing.asked, about })
    }

    fn asking(&self) -> Question {
        let Probing { asked, password, prober, .. } = &self.probing;
        let asks_for = |name| prober.as_ref().is_some_and(|prober| prober.asks_for(name));
        let served = self.bootstrap.as_ref().and_then(|all| all.configured.served_domain());
        let login = |domain| Login { port: CLIENTS, domain, password: password.clone() };
        Question {
            number: *asked,
            api: asks_for(API).then_some(FRONT),
            xmpp: served.filter(|_| asks_for(XMPP)).cloned().map(login),
        }
    }
}

fn document(question: &impl Serialize) -> Result<Vec<u8>, Failure> {
    serde_json::to_vec(question).or_cannot("hand over a question")
}
