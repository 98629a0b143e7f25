//! Do the services serve, as those see it who use them? Asked while a new version is on trial, again
//! and again. Pure; what is asked for here is done by [`crate::event_loop`].
//!
//! ```text
//!             Timeout           Ended          Armed, or not         Ended
//!  Resting ────────────► Data ────────► Arming ──────────────► Asking ──────► Resting: told
//!                         └─ no Server, no front ─────────────────────────────────►
//! ```
//!
//! A check that has passed still does after one failure and after two: then it is in doubt, and `why`
//! says so. A machine may be busy, and a Server that was killed by chance be back soon.

use std::collections::BTreeMap;
use std::time::Duration;

use appliance::probe::{API, DATA, XMPP};
use appliance::upgrade::Check;

/// How long between two rounds.
const EVERY: Duration = Duration::from_secs(10);
/// The same while something doesn't pass, or is in doubt.
const AGAIN: Duration = Duration::from_secs(2);
/// How long one step may take. Whoever takes longer is killed; an answer that comes later than the
/// grace after that isn't waited for: it hangs in the kernel.
pub const WITHIN: Duration = Duration::from_secs(20);
/// See [`WITHIN`].
const GRACE: Duration = Duration::from_secs(3);
/// So many failures in a row, and a check doesn't pass any more.
const FAILURES: u32 = 3;

/// What can be tried on an appliance, besides its data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parts {
    /// There is a Server that may be armed and logged in at.
    pub xmpp: bool,
    /// There is an API, and a front before it.
    pub api: bool,
}

/// Whom there is to wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Nobody.
    Resting,
    /// Who writes to the data.
    Data,
    /// Who asks the Server to let the probe's account in.
    Arming,
    /// Who asks the services.
    Asking,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The time set by the last [`Effect::WakeIn`] is over.
    Timeout,
    /// The account may log in; or not, for this reason.
    Armed(Result<(), String>),
    /// One check is known.
    Checked(Check),
    /// The child of this step has ended, or could not be started.
    Ended(Step),
}

/// What shall be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Start the child of this step.
    Begin(Step),
    /// It isn't waited for any more.
    Stop(Step),
    /// Set the one timer, replacing the last.
    WakeIn(Duration),
    /// [`Prober::checks`] are news.
    Tell,
}

/// All rounds of a trial.
#[derive(Debug)]
pub struct Prober {
    step: Step,
    tallies: Vec<Tally>,
    /// Of this round.
    answers: BTreeMap<String, Result<(), String>>,
}

/// One check, over the rounds.
#[derive(Debug)]
struct Tally {
    name: &'static str,
    passes: bool,
    failures: u32,
    why: Option<String>,
}

impl Tally {
    fn take(&mut self, answer: Result<(), String>) {
        match answer {
            Ok(()) => *self = Tally { name: self.name, passes: true, failures: 0, why: None },
            Err(why) => {
                self.failures = self.failures.saturating_add(1);
                self.passes &= self.failures < FAILURES;
                self.why = Some(why);
            }
        }
    }
}

impl Prober {
    /// Nothing has been tried, and so nothing passes. The first round begins with
    /// [`Event::Timeout`].
    pub fn new(parts: Parts) -> Prober {
        let names = [(DATA, true), (API, parts.api), (XMPP, parts.xmpp)];
        let names = names.into_iter().filter_map(|(name, is_there)| is_there.then_some(name));
        let why = || Some("it has not been tried yet".to_owned());
        let tally = |name| Tally { name, passes: false, failures: 0, why: why() };
        let tallies = names.map(tally).collect();
        Prober { step: Step::Resting, tallies, answers: BTreeMap::new() }
    }

    /// How it stands: what passes, and what doesn't or is in doubt.
    pub fn checks(&self) -> Vec<Check> {
        let check = |tally: &Tally| Check {
            name: tally.name.to_owned(),
            passes: tally.passes,
            why: tally.why.clone(),
        };
        self.tallies.iter().map(check).collect()
    }

    /// Shall this be asked for in the step that begins?
    pub fn asks_for(&self, name: &str) -> bool {
        self.has(name) && !self.answers.contains_key(name)
    }

    /// Something happened.
    pub fn on(&mut self, event: Event) -> Vec<Effect> {
        match (self.step, event) {
            (Step::Resting, Event::Timeout) => {
                self.answers.clear();
                self.begin(Step::Data)
            }
            (step, Event::Timeout) => {
                let mut effects = vec![Effect::Stop(step)];
                effects.extend(self.end_of(step));
                effects
            }
            (Step::Arming, Event::Armed(armed)) => {
                if let Err(why) = armed {
                    self.answers.insert(XMPP.to_owned(), Err(why));
                }
                self.begin(Step::Asking)
            }
            (step @ (Step::Data | Step::Asking), Event::Checked(check)) => {
                let is_of_it = (check.name == DATA) == (step == Step::Data);
                if is_of_it && self.asks_for(&check.name) {
                    let why = check.why.unwrap_or_else(|| "it doesn't say why".to_owned());
                    let answer = if check.passes { Ok(()) } else { Err(why) };
                    self.answers.insert(check.name, answer);
                }
                vec![]
            }
            (step, Event::Ended(of)) if of == step => self.end_of(step),
            // Late: to an older question.
            _ => vec![],
        }
    }

    fn has(&self, name: &str) -> bool {
        self.tallies.iter().any(|tally| tally.name == name)
    }

    fn end_of(&mut self, step: Step) -> Vec<Effect> {
        match step {
            Step::Resting => vec![],
            Step::Data if self.has(XMPP) => self.begin(Step::Arming),
            Step::Data if self.has(API) => self.begin(Step::Asking),
            Step::Arming => {
                self.answers.insert(XMPP.to_owned(), Err(no_answer("the Server")));
                self.begin(Step::Asking)
            }
            Step::Data | Step::Asking => self.conclude(),
        }
    }

    fn begin(&mut self, step: Step) -> Vec<Effect> {
        if step == Step::Asking && ![API, XMPP].into_iter().any(|name| self.asks_for(name)) {
            return self.conclude();
        }
        self.step = step;
        // First: should it not be started, there is an end to waiting for it all the same.
        vec![Effect::WakeIn(WITHIN + GRACE), Effect::Begin(step)]
    }

    fn conclude(&mut self) -> Vec<Effect> {
        self.step = Step::Resting;
        for tally in &mut self.tallies {
            let answer = self.answers.remove(tally.name);
            tally.take(answer.unwrap_or_else(|| Err(no_answer("whoever tries it"))));
        }
        let is_fine = self.tallies.iter().all(|tally| tally.why.is_none());
        vec![Effect::Tell, Effect::WakeIn(if is_fine { EVERY } else { AGAIN })]
    }
}

fn no_answer(whose: &str) -> String {
    format!("{whose} gives no answer within {} s", WITHIN.as_secs())
}

#[cfg(test)]
mod tests;
