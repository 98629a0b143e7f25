//! Has a Pod start the system in its other slot, and waits for what becomes of that.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;
use serde::Serialize;

use crate::pod::client::{Error, Pod};
use crate::pod::state::{Failure, Slot, Stage, System, Watch};
use crate::progress::Progress;
use crate::quantity::Span;

/// How often a Pod is looked at.
const EVERY: Duration = Duration::from_secs(2);
/// How long a Pod that is back may take to say why: who asks is known only once its API runs.
const TOLD_WITHIN: Duration = Duration::from_secs(90);

/// How long somebody waits.
#[derive(Args)]
pub struct Patience {
    /// Leave the Pod running: the other system is tried whenever it reboots next.
    #[arg(long)]
    no_reboot: bool,
    /// How long to wait until one of the two systems runs for good.
    #[arg(long, value_name = "TIME", default_value = "45min")]
    within: Span,
}

/// What became of it.
#[derive(Debug, Serialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// It is the next boot's.
    Armed {
        /// Which.
        #[serde(flatten)]
        system: System,
    },
    /// It runs, and is trusted.
    Blessed {
        /// Which.
        #[serde(flatten)]
        system: System,
        /// From the reboot on.
        seconds: u64,
    },
    /// It didn't prove itself.
    Back {
        /// What was tried.
        #[serde(flatten)]
        system: System,
        /// The version that runs again.
        running: String,
        /// Why, if it left a word.
        why: Option<Failure>,
    },
}

/// The old system is back.
#[derive(Debug, thiserror::Error)]
#[error("{tried} did not prove itself, {running} is back: {why}")]
pub struct Back {
    tried: String,
    running: String,
    why: String,
}

/// Has `target` started, which holds this system, and waits.
pub fn switch(
    pod: &Pod,
    target: &Slot,
    system: System,
    options: &Patience,
    progress: &Progress,
) -> Result<Outcome> {
    if options.no_reboot {
        return Ok(Outcome::Armed { system });
    }
    let armed =
        || format!("cannot reboot {}\nhint: {system} is tried whenever it does", pod.address());
    let uptime = pod.state().with_context(armed)?.uptime;
    let start = Instant::now();
    pod.order("reboot").with_context(armed)?;
    let watch = Watch { side: target.name, uptime };
    let (is_blessed, running) = wait(pod, &watch, start, options.within.0, progress)?;
    if is_blessed {
        return Ok(Outcome::Blessed { system, seconds: start.elapsed().as_secs() });
    }
    let why = why(pod, &system);
    Ok(Outcome::Back { system, running, why })
}

/// Looks until one of the two runs for good: whether it is the new one, and the version that runs.
fn wait(
    pod: &Pod,
    watch: &Watch,
    start: Instant,
    within: Duration,
    progress: &Progress,
) -> Result<(bool, String)> {
    let mut last = String::new();
    while start.elapsed() < within {
        let seen = match pod.state() {
            Ok(state) => match watch.stage(&state, start.elapsed()) {
                Some(stage @ (Stage::Blessed | Stage::Back)) => {
                    return Ok((stage == Stage::Blessed, state.version));
                }
                Some(stage) => stage.to_string(),
                None => "the Pod does not tell of its slots".to_owned(),
            },
            Err(Error::Lost(_)) => "waiting until the Pod answers".to_owned(),
            Err(error) => format!("waiting until the Pod answers: {error}"),
        };
        if seen != last {
            progress.step(&seen);
            last = seen;
        }
        thread::sleep(EVERY.min(within.saturating_sub(start.elapsed())));
    }
    bail!("cannot tell what became of {}: after {} s, {last}", pod.address(), within.as_secs())
}

/// What the Pod says of that failure.
fn why(pod: &Pod, system: &System) -> Option<Failure> {
    let start = Instant::now();
    loop {
        match pod.last_failure() {
            Ok(failure) => return failure.filter(|it| it.system.root_hash == system.root_hash),
            Err(_) if start.elapsed() < TOLD_WITHIN => thread::sleep(EVERY),
            Err(_) => return None,
        }
    }
}

impl Outcome {
    /// For people.
    pub fn print(&self) {
        match self {
            Outcome::Armed { system } => println!("{system} is tried at the next boot"),
            Outcome::Blessed { system, seconds } => {
                println!("{system} runs and is trusted, {seconds} s after the reboot");
            }
            Outcome::Back { why: Some(failure), .. } => {
                for line in &failure.console_tail {
                    println!("| {line}");
                }
            }
            Outcome::Back { .. } => {}
        }
    }

    /// An error, if the old system is back.
    pub fn must_be_new(self) -> Result<()> {
        let Outcome::Back { system, running, why } = self else { return Ok(()) };
        let why = why.map_or("it left no word".to_owned(), |it| it.to_string());
        Err(Back { tried: system.to_string(), running, why }.into())
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(check) = &self.check {
            write!(f, "check {check}: ")?;
        }
        f.write_str(&self.reason)?;
        self.phase.as_ref().map_or(Ok(()), |phase| write!(f, " (phase {phase})"))
    }
}
