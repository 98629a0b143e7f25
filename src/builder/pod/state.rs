//! How a Pod says it is, and what that means to somebody who waits for another system. Pure.

use std::fmt;
use std::time::Duration;

use appliance::upgrade::{Side, SlotTrust};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A machine's clock runs as ours does, but for so much.
const DRIFT: u64 = 5;

/// Of `GET /api/v1/appliance`, what matters here.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct State {
    /// The version that runs.
    pub version: String,
    /// Seconds since its kernel started.
    pub uptime: u64,
    /// Both, or none where its disk has none.
    #[serde(default)]
    pub slots: Vec<Slot>,
    /// What became of the last bundle, as [`appliance::upgrade::Line`].
    #[serde(default)]
    pub upgrade: Value,
    /// The checks of a trial.
    #[serde(default)]
    pub health: Vec<Check>,
}

/// A slot.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Slot {
    /// Which.
    pub name: Side,
    /// Does it run?
    pub running: bool,
    /// As the loader sees it.
    pub trust: SlotTrust,
    /// Of its system, if that is known.
    pub version: Option<String>,
    /// Its system's root, if that is known.
    pub root_hash: Option<String>,
}

/// Something that a healthy system does.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Check {
    /// Its name.
    pub name: String,
    /// Does it?
    pub passes: bool,
}

/// A system, and its root, if they are known.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub struct System {
    /// Its version.
    pub version: Option<String>,
    /// Its root.
    pub root_hash: Option<String>,
}

/// Why a system didn't prove itself: of [`appliance::upgrade::Verdict`], what is shown.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub struct Failure {
    /// Which.
    #[serde(flatten)]
    pub system: System,
    /// How far it came, if it left a word.
    pub phase: Option<String>,
    /// The check that failed, if one did.
    pub check: Option<String>,
    /// What was said last.
    pub reason: String,
    /// What the console showed before that, the oldest first.
    #[serde(default)]
    pub console_tail: Vec<String>,
}

/// What is waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watch {
    /// Where the system is that is to run.
    pub side: Side,
    /// How long the other one had run when it was told to end.
    pub uptime: u64,
}

/// How far it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stage {
    /// The other one still runs.
    Ending,
    /// It runs, and has to prove itself: these checks don't pass yet.
    Trial(Vec<String>),
    /// It runs, and didn't prove itself: it is about to end.
    Failed,
    /// It runs, and is trusted.
    Blessed,
    /// The other one runs again.
    Back,
}

impl State {
    /// The slot that runs.
    pub fn running(&self) -> Option<&Slot> {
        self.slots.iter().find(|slot| slot.running)
    }

    /// The slot that doesn't.
    pub fn other(&self) -> Option<&Slot> {
        self.running()?;
        self.slots.iter().find(|slot| !slot.running)
    }
}

impl State {
    /// What is said of the last bundle, for people.
    pub fn task(&self) -> Option<String> {
        let (step, told) = self.upgrade.as_object()?.iter().next()?;
        let text = |name: &str| told[name].as_str().map(str::to_owned);
        match step.as_str() {
            "failed" => text("message"),
            "armed" => Some(format!("{} is armed for the next boot", text("version")?)),
            _ => Some("it is still being taken".to_owned()),
        }
    }
}

impl Slot {
    /// What is in it.
    pub fn system(&self) -> System {
        System { version: self.version.clone(), root_hash: self.root_hash.clone() }
    }
}

impl Watch {
    /// How far it is, so long after the reboot was asked for. `None`: it doesn't tell.
    pub fn stage(&self, state: &State, after: Duration) -> Option<Stage> {
        let running = state.running()?;
        let is_anew = state.uptime + DRIFT < self.uptime + after.as_secs();
        Some(match (running.name == self.side, running.trust) {
            (true, SlotTrust::Blessed) => Stage::Blessed,
            (true, SlotTrust::Trial) => Stage::Trial(failing(state)),
            (true, SlotTrust::Bad | SlotTrust::Empty) => Stage::Failed,
            (false, _) if is_anew => Stage::Back,
            (false, _) => Stage::Ending,
        })
    }
}

fn failing(state: &State) -> Vec<String> {
    let failing = state.health.iter().filter(|check| !check.passes);
    failing.map(|check| check.name.clone()).collect()
}

impl fmt::Display for System {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.version, &self.root_hash) {
            (Some(version), _) => f.write_str(version),
            (None, Some(root_hash)) => write!(f, "the system with root {root_hash}"),
            (None, None) => f.write_str("the other slot's system"),
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Stage::Ending => f.write_str("waiting until the Pod has ended"),
            Stage::Trial(failing) if failing.is_empty() => f.write_str("on trial: it does well"),
            Stage::Trial(failing) => write!(f, "on trial: not yet {}", failing.join(", ")),
            Stage::Failed => f.write_str("it failed, and ends"),
            Stage::Blessed => f.write_str("blessed"),
            Stage::Back => f.write_str("the old system is back"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(running: Side, trust: &str, uptime: u64) -> State {
        let slot = |name: Side, trust: &str| {
            let running = name == running;
            serde_json::json!({
                "name": name, "running": running, "trust": trust, "tries_left": null,
                "version": null, "root_hash": null,
            })
        };
        let other = slot(running.other(), "blessed");
        serde_json::from_value(serde_json::json!({
            "name": "pod", "version": "1", "uptime": uptime, "phase": "running", "more": 1,
            "slots": [slot(running, trust), other],
            "health": [{"name": "api", "passes": false}, {"name": "data", "passes": true}],
        }))
        .unwrap()
    }

    #[test]
    fn who_waits_knows_how_far_it_is() {
        let trial = || Stage::Trial(vec!["api".into()]);
        // The old one, in slot A, had run for 100 s.
        let watch = Watch { side: Side::B, uptime: 100 };
        for (state, after, expected) in [
            (state(Side::A, "blessed", 100), 0, Stage::Ending),
            (state(Side::A, "blessed", 103), 4, Stage::Ending),
            (state(Side::A, "blessed", 101), 5, Stage::Ending),
            (state(Side::A, "blessed", 5), 30, Stage::Back),
            (state(Side::A, "blessed", 500), 700, Stage::Back),
            (state(Side::B, "trial", 5), 30, trial()),
            (state(Side::B, "blessed", 60), 90, Stage::Blessed),
            (state(Side::B, "bad", 60), 90, Stage::Failed),
        ] {
            let stage = watch.stage(&state, Duration::from_secs(after));
            assert_eq!(stage, Some(expected), "{state:?} after {after} s");
        }
        let task = |task: &str| {
            let upgrade = serde_json::from_str(task).unwrap();
            State { upgrade, ..state(Side::A, "blessed", 1) }.task()
        };
        for (told, expected) in [
            ("null", None),
            (
                r#"{"failed":{"code":"chunk","message":"chunk 3 is another"}}"#,
                Some("chunk 3 is another"),
            ),
            (r#"{"armed":{"version":"2","root_hash":"x"}}"#, Some("2 is armed for the next boot")),
            (r#"{"progress":{"done":5}}"#, Some("it is still being taken")),
        ] {
            assert_eq!(task(told).as_deref(), expected, "{told}");
        }
        let nothing = State { slots: vec![], ..state(Side::A, "blessed", 1) };
        assert_eq!(watch.stage(&nothing, Duration::ZERO), None);
        assert_eq!((nothing.running(), nothing.other()), (None, None));
    }
}
