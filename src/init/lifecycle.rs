//! One service's life, as a pure state machine: nothing here blocks, fails or looks at the world.
//!
//! ```text
//!            Start              Ready              Exit
//!  Waiting ────────► Starting ────────► Ready ─────────────┐
//!                     │ ▲  │ Exit (a task that succeeded)  │
//!                     │ │  └──────────► Done               ▼
//!                     │ └──────────────────────────────  Backoff
//!                     └── Exit ────────────────────────►  (Timeout: Starting again)
//!
//!  Starting, Ready ── Stop ──► Stopping ── Timeout ──► Killing ── Exit, Timeout ──► Stopped
//!  Waiting, Backoff, Done ── Stop ──► Stopped          Stopping ── Exit ──► Stopped
//! ```

use std::fmt;
use std::time::Duration;

use appliance::service::{Kind, Service};

/// The first wait before a service that failed is started again; it doubles with each failure.
const FIRST_DELAY: Duration = Duration::from_millis(500);
/// The longest such wait. Ready for as long, a service's failures are forgotten.
const LONGEST_DELAY: Duration = Duration::from_secs(60);
/// After SIGKILL: a process still there by then hangs in the kernel, and is not waited for.
const KILL_WITHIN: Duration = Duration::from_secs(2);

/// Where a service is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// For what it starts after.
    Waiting,
    /// Its process runs; the proof that it serves is outstanding.
    Starting,
    /// It serves.
    Ready,
    /// A task that has succeeded.
    Done,
    /// It failed; after so long it is started again.
    Backoff(Duration),
    /// It was asked to end.
    Stopping,
    /// It did not, and was killed.
    Killing,
    /// No process is left, and none will be started unasked.
    Stopped,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// All that it starts after is there; or somebody wants it to run.
    Start,
    /// The proof that it serves.
    Ready,
    /// Its main process ended, or could not be started.
    Exit(Outcome),
    /// The time set by the last [`Effect::WakeIn`] is over.
    Timeout,
    /// It shall not run any more.
    Stop,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Exit status 0.
    Success,
    /// Anything else.
    Failure,
}

/// What shall be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Start its process.
    Spawn,
    /// SIGTERM to its main process.
    Terminate,
    /// SIGKILL to every process of its cgroup.
    Kill,
    /// Set the service's **one** timer, replacing the last.
    WakeIn(Duration),
}

/// How long this service may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Does it end by itself?
    pub is_task: bool,
    /// Ready (a daemon) or done (a task) later than this is a failure.
    pub ready_within: Duration,
    /// How long after SIGTERM comes SIGKILL.
    pub stop_within: Duration,
}

impl From<&Service> for Policy {
    fn from(service: &Service) -> Policy {
        let (is_task, ready_within) = match service.kind {
            Kind::Daemon { ready_within, .. } => (false, ready_within),
            Kind::Task { done_within, .. } => (true, done_within),
        };
        let (ready_within, stop_within) = (ready_within.into(), service.stop_within.into());
        Policy { is_task, ready_within, stop_within }
    }
}

/// One service: its state, and what decides the next.
#[derive(Debug, Clone)]
pub struct Lifecycle {
    policy: Policy,
    state: State,
    /// Failures since it was last healthy.
    failures: u32,
    /// Start it again once it has stopped.
    again: bool,
}

impl Lifecycle {
    /// A service that hasn't run yet.
    pub fn new(policy: Policy) -> Lifecycle {
        Lifecycle { policy, state: State::Waiting, failures: 0, again: false }
    }

    /// Where it is.
    pub fn state(&self) -> State {
        self.state
    }

    /// Is what starts after it free to start?
    pub fn is_up(&self) -> bool {
        matches!(self.state, State::Ready | State::Done)
    }

    /// Takes in what happened, and says what shall be done.
    pub fn on(&mut self, event: Event) -> Vec<Effect> {
        use {Effect::*, State::*};
        let start = [Spawn, WakeIn(self.policy.ready_within)];
        let (next, effects) = match (self.state, event) {
            (Waiting | Stopped, Event::Start) | (Backoff(_), Event::Timeout) => {
                (Starting, start.to_vec())
            }
            (Starting, Event::Ready) if !self.policy.is_task => {
                (Ready, vec![WakeIn(LONGEST_DELAY)])
            }
            // The exit that follows is the failure.
            (Starting, Event::Timeout) => (Starting, vec![Kill]),
            (Ready, Event::Timeout) => {
                self.failures = 0;
                (Ready, vec![])
            }
            (Starting, Event::Exit(Outcome::Success)) if self.policy.is_task => (Done, vec![Kill]),
            // With its main process goes whatever else that has left in the cgroup.
            (Starting | Ready, Event::Exit(_)) => {
                let delay = self.next_delay();
                (Backoff(delay), vec![Kill, WakeIn(delay)])
            }
            (Starting | Ready, Event::Stop) => {
                self.again = false;
                (Stopping, vec![Terminate, WakeIn(self.policy.stop_within)])
            }
            (Stopping, Event::Timeout) => (Killing, vec![Kill, WakeIn(KILL_WITHIN)]),
            (Stopping | Killing, Event::Start | Event::Stop) => {
                self.again = event == Event::Start;
                return vec![];
            }
            (Stopping | Killing, Event::Exit(_)) | (Killing, Event::Timeout) => {
                if std::mem::take(&mut self.again) {
                    (Starting, [vec![Kill], start.to_vec()].concat())
                } else {
                    (Stopped, vec![Kill])
                }
            }
            (Waiting | Backoff(_) | Done, Event::Stop) => (Stopped, vec![]),
            // Late or repeated: a timer that fired after the exit, a second stop.
            (Waiting | Starting | Ready | Done | Backoff(_) | Stopping | Stopped, _)
            | (Killing, Event::Ready) => return vec![],
        };
        self.state = next;
        effects
    }

    /// Doubles with each failure, up to [`LONGEST_DELAY`].
    fn next_delay(&mut self) -> Duration {
        let doublings = self.failures.min(LONGEST_DELAY.as_secs() as u32);
        self.failures = self.failures.saturating_add(1);
        FIRST_DELAY.saturating_mul(2u32.saturating_pow(doublings)).min(LONGEST_DELAY)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            State::Waiting => write!(f, "waiting"),
            State::Starting => write!(f, "starting"),
            State::Ready => write!(f, "ready"),
            State::Done => write!(f, "done"),
            State::Backoff(delay) => write!(f, "backoff {:.1} s", delay.as_secs_f32()),
            State::Stopping => write!(f, "stopping"),
            State::Killing => write!(f, "killed"),
            State::Stopped => write!(f, "stopped"),
        }
    }
}

#[cfg(test)]
mod tests;
