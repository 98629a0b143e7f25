//! One service's life, as a pure state machine: nothing here blocks, fails or looks at the world.
//!
//! ```text
//!            Start              Ready             Exit
//!  Waiting ────────► Starting ────────► Ready ──────────────┐
//!                     │ │ ▲  │ Exit (a task that succeeded) │
//!             Timeout │ │ │  └──────────► Done              ▼
//!                     │ │ └────────── Timeout ──────────  Backoff, or CrashLoop after five
//!  (also Ready, Hung) ▼ └──────────── Exit ────────────►    ▲  deaths within two minutes
//!                    Failing ──────── Exit ─────────────────┘
//!
//!  Starting, Ready ── Stop ──► Stopping ── Timeout ──► Killing ── Exit, Timeout ──► Stopped
//!  Failing ────────── Stop ──────────────────────────► Killing
//!  Waiting, Backoff, CrashLoop, Done ── Stop ──► Stopped     Stopping ── Exit ──► Stopped
//!  Done ── Start ──► Starting: a task that is wanted once more
//! ```

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use appliance::service::{Kind, Service};

use crate::clock::Moment;

/// The first wait before a service that failed is started again; it doubles with each failure.
const FIRST_DELAY: Duration = Duration::from_millis(500);
/// The longest such wait.
const LONGEST_DELAY: Duration = Duration::from_secs(60);
/// Ready for so long, a service's failures are forgotten.
const HEALTHY_AFTER: Duration = Duration::from_secs(300);
/// So many deaths within so long are a crash loop: from then on it is tried again at the longest
/// delay, until it has been healthy.
const LOOP_DEATHS: usize = 5;
/// See [`LOOP_DEATHS`].
const LOOP_WITHIN: Duration = Duration::from_secs(120);
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
    /// It wasn't ready in time, or it hangs: it is being killed, and its exit will be a failure.
    Failing,
    /// It failed; after so long it is started again.
    Backoff(Duration),
    /// It fails again and again; it is started again after the longest delay.
    CrashLoop,
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
    /// Its main process ended, or could not be started, at this moment.
    Exit(Outcome, Moment),
    /// Its main process is there but does nothing.
    Hung,
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
    /// When it died, of late: at most [`LOOP_DEATHS`].
    deaths: VecDeque<Moment>,
    /// It has been seen in a crash loop, and not healthy since.
    is_looping: bool,
    /// A process was started and has not ended. It may outlive [`State::Killing`], hanging in the
    /// kernel: then no second one is started beside it.
    has_process: bool,
    /// Start it again once its process has ended.
    again: bool,
}

impl Lifecycle {
    /// A service that hasn't run yet.
    pub fn new(policy: Policy) -> Lifecycle {
        Lifecycle {
            policy,
            state: State::Waiting,
            failures: 0,
            deaths: VecDeque::with_capacity(LOOP_DEATHS),
            is_looping: false,
            has_process: false,
            again: false,
        }
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
        self.has_process &= !matches!(event, Event::Exit(..));
        let (next, effects) = match (self.state, event) {
            (Stopped, Event::Start) if self.has_process => {
                self.again = true;
                return vec![];
            }
            (Waiting | Stopped | Done, Event::Start) | (Backoff(_) | CrashLoop, Event::Timeout) => {
                self.start(vec![])
            }
            (Starting, Event::Ready) => (Ready, vec![WakeIn(HEALTHY_AFTER)]),
            (Ready, Event::Timeout) => {
                self.forget_failures();
                return vec![];
            }
            (Starting | Failing, Event::Timeout) | (Starting | Ready, Event::Hung) => {
                (Failing, vec![Kill, WakeIn(KILL_WITHIN)])
            }
            (Starting, Event::Exit(Outcome::Success, _)) if self.policy.is_task => {
                (Done, vec![Kill])
            }
            // With its main process goes whatever else that has left in the cgroup.
            (Starting | Ready | Failing, Event::Exit(_, at)) => {
                let (state, delay) = self.died(at);
                (state, vec![Kill, WakeIn(delay)])
            }
            (Starting | Ready, Event::Stop) => {
                self.again = false;
                (Stopping, vec![Terminate, WakeIn(self.policy.stop_within)])
            }
            (Failing, Event::Stop) | (Stopping, Event::Timeout) => {
                (Killing, vec![Kill, WakeIn(KILL_WITHIN)])
            }
            (Stopping | Killing, Event::Start | Event::Stop) | (Stopped, Event::Stop) => {
                self.again = event == Event::Start;
                return vec![];
            }
            (Stopping | Killing | Stopped, Event::Exit(..)) if self.again => self.start(vec![Kill]),
            (Stopping | Killing, Event::Exit(..)) | (Killing, Event::Timeout) => {
                (Stopped, vec![Kill])
            }
            (Waiting | Backoff(_) | CrashLoop | Done, Event::Stop) => (Stopped, vec![]),
            // Late or repeated: a timer that fired after the exit, a second stop.
            _ => return vec![],
        };
        self.state = next;
        effects
    }

    fn start(&mut self, mut effects: Vec<Effect>) -> (State, Vec<Effect>) {
        self.again = false;
        self.has_process = true;
        effects.extend([Effect::Spawn, Effect::WakeIn(self.policy.ready_within)]);
        (State::Starting, effects)
    }

    fn forget_failures(&mut self) {
        self.failures = 0;
        self.is_looping = false;
        self.deaths.clear();
    }

    /// Where a death leads, and how long until the next start.
    fn died(&mut self, at: Moment) -> (State, Duration) {
        self.deaths.push_back(at);
        self.deaths.retain(|death| at.saturating_sub(*death) <= LOOP_WITHIN);
        self.is_looping |= self.deaths.len() >= LOOP_DEATHS;
        let delay = self.next_delay();
        match self.is_looping {
            true => (State::CrashLoop, LONGEST_DELAY),
            false => (State::Backoff(delay), delay),
        }
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
            State::Failing => write!(f, "failing"),
            State::CrashLoop => {
                write!(f, "crash-loop, tried again in {} s", LONGEST_DELAY.as_secs())
            }
            State::Backoff(delay) => write!(f, "backoff {:.1} s", delay.as_secs_f32()),
            State::Stopping => write!(f, "stopping"),
            State::Killing => write!(f, "killed"),
            State::Stopped => write!(f, "stopped"),
        }
    }
}

#[cfg(test)]
mod tests;
