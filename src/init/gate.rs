//! The bootstrap gate: nothing answers on the network before the secret that the Pod API and the
//! Server share has been changed from the one that they started with, and the change been proved.
//!
//! ```text
//!  Shut: the network is down; the Server starts with the bootstrap secret
//!    Unserved ── the Server is ready ──► Unrotated ── "pending", then "done" ──► Proving
//!       ▲                                    ▲                                   │    │
//!       └──────── the Server ends ───────────┴──────── not proved ───────────────┘    │ proved
//!  Open: one way, for this boot; the Server starts with the current secret  ◄─────────┘
//! ```
//!
//! The proof is asked of the very process that the API changed: a Server that was started anew
//! meanwhile has forgotten the change, since its internal accounts live in memory. Pure; what is
//! asked for here is done by [`crate::event_loop`].
//!
//! Each restart heals, at any moment: of the Server, since it then starts with what the state says;
//! of the API, since it finds the secrets that may be valid among its credentials.

use std::fmt;
use std::time::Duration;

use appliance::secret::Secret;

/// The wait before what failed is tried again; it doubles.
const FIRST_WAIT: Duration = Duration::from_millis(500);
/// The longest such wait.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// One start of the Server: another number each time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Generation(pub u32);

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The Server serves, as this generation.
    Ready(Generation),
    /// The Server's process ended.
    Ended,
    /// The API will change the secret to this one.
    Pending(Secret),
    /// The API has changed it.
    Done,
    /// What the proof of this generation found.
    Proved(Generation, Verdict),
    /// The time set by the last [`Effect::WakeIn`] is over.
    Timeout,
}

/// What the Server said to the old secret and to the new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It refuses the old, and accepts the new.
    Rotated,
    /// It still accepts the old one.
    OldAccepted,
    /// It refuses the new one.
    NewRefused,
    /// It gave no answer that says either.
    Unclear,
}

/// What shall be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Give the API this secret as the pending one; `None`: there is none any more.
    GivePending(Option<Secret>),
    /// Give both this secret as the current one, and take the bootstrap secret away.
    GiveCurrent(Secret),
    /// Ask the Server of this generation: does it refuse `old`, and accept `new`?
    Prove {
        /// Whom.
        server: Generation,
        /// What it must refuse.
        old: Secret,
        /// What it must accept.
        new: Secret,
    },
    /// Bring the network up.
    Open,
    /// Set the one timer, replacing the last.
    WakeIn(Duration),
    /// Start the API anew: it has to change the secret again.
    RestartApi,
}

/// Where the gate is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The Server isn't up.
    Unserved,
    /// The API has not said that it changed the secret.
    Unrotated,
    /// The change is being proved, or will be.
    Proving,
    /// It is open.
    Open,
}

/// Why the last try failed, for people.
pub type Trouble = Option<&'static str>;

/// The gate of one boot.
#[derive(Debug)]
pub struct Gate {
    step: Step,
    bootstrap: Secret,
    pending: Option<Secret>,
    current: Option<Secret>,
    server: Option<Generation>,
    trouble: Trouble,
    wait: Duration,
    /// The API was done before the Server was seen to be ready.
    is_done_early: bool,
}

impl Gate {
    /// Shut; both sides start with this secret.
    pub fn new(bootstrap: Secret) -> Gate {
        Gate {
            step: Step::Unserved,
            bootstrap,
            pending: None,
            current: None,
            server: None,
            trouble: None,
            wait: FIRST_WAIT,
            is_done_early: false,
        }
    }

    /// Where it is.
    pub fn step(&self) -> Step {
        self.step
    }

    /// Why it isn't further, if something went wrong.
    pub fn trouble(&self) -> Trouble {
        self.trouble
    }

    /// What the Server starts with: a function of the gate, and of nothing else.
    pub fn server_secret(&self) -> &Secret {
        self.current.as_ref().unwrap_or(&self.bootstrap)
    }

    /// Something happened.
    pub fn on(&mut self, event: Event) -> Vec<Effect> {
        match event {
            Event::Ready(server) => self.on_ready(server),
            Event::Ended => self.on_ended(),
            Event::Pending(secret) => self.on_pending(secret),
            Event::Done => self.on_done(),
            Event::Proved(server, verdict) => self.on_proved(server, verdict),
            Event::Timeout => self.prove(),
        }
    }

    fn on_ready(&mut self, server: Generation) -> Vec<Effect> {
        self.server = Some(server);
        if self.step == Step::Unserved {
            self.step = Step::Unrotated;
            if std::mem::take(&mut self.is_done_early) {
                return self.on_done();
            }
        }
        vec![]
    }

    /// Before the gate is open the change is lost with the process. Not so the pending secret: the
    /// API may already be trying it.
    fn on_ended(&mut self) -> Vec<Effect> {
        self.server = None;
        match self.step {
            Step::Open => return vec![],
            Step::Unserved if !std::mem::take(&mut self.is_done_early) => return vec![],
            Step::Unrotated => {
                self.step = Step::Unserved;
                return vec![];
            }
            Step::Unserved | Step::Proving => {}
        }
        self.step = Step::Unserved;
        self.trouble = Some("the Server ended before the change was proved");
        // It believes that it is done.
        vec![Effect::RestartApi]
    }

    fn on_pending(&mut self, secret: Secret) -> Vec<Effect> {
        if self.step == Step::Open || secret == self.bootstrap {
            return vec![];
        }
        self.pending = Some(secret.clone());
        vec![Effect::GivePending(Some(secret))]
    }

    fn on_done(&mut self) -> Vec<Effect> {
        match self.step {
            Step::Unrotated if self.pending.is_some() => {
                self.step = Step::Proving;
                self.wait = FIRST_WAIT;
                self.prove()
            }
            Step::Unserved => {
                self.is_done_early = self.pending.is_some();
                vec![]
            }
            _ => vec![],
        }
    }

    fn prove(&self) -> Vec<Effect> {
        match (self.step, self.server, &self.pending) {
            (Step::Proving, Some(server), Some(new)) => {
                vec![Effect::Prove { server, old: self.bootstrap.clone(), new: new.clone() }]
            }
            _ => vec![],
        }
    }

    fn on_proved(&mut self, server: Generation, verdict: Verdict) -> Vec<Effect> {
        if self.step != Step::Proving || self.server != Some(server) {
            return vec![];
        }
        self.trouble = match verdict {
            Verdict::Rotated => return self.open(),
            Verdict::Unclear => {
                self.trouble = Some("the Server gave no answer to either secret");
                let wait = self.wait;
                self.wait = (wait * 2).min(LONGEST_WAIT);
                return vec![Effect::WakeIn(wait)];
            }
            Verdict::OldAccepted => Some("the Server still accepts the bootstrap secret"),
            Verdict::NewRefused => Some("the Server refuses the secret that the API gave it"),
        };
        self.step = Step::Unrotated;
        vec![Effect::RestartApi]
    }

    fn open(&mut self) -> Vec<Effect> {
        let Some(secret) = self.pending.take() else { return vec![] };
        self.step = Step::Open;
        self.trouble = None;
        self.current = Some(secret.clone());
        // What is given first: should anything be started anew in between, it finds the secret.
        vec![Effect::GiveCurrent(secret), Effect::GivePending(None), Effect::Open]
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Step::Unserved => "shut: the Server isn't ready",
            Step::Unrotated => "shut: the Pod API has not changed the bootstrap secret",
            Step::Proving => "shut: the change is being proved",
            Step::Open => "open",
        })
    }
}

#[cfg(test)]
mod tests;
