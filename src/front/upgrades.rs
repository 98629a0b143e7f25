//! Slots and trials: what anybody may know of them, and what admins may.
//!
//! ```text
//! "slots":[{"name":"a","running":true,"trust":"blessed","tries_left":null,"version":"1.0.0","root_hash":"…"},…],
//! "counting":"proved","upgrade":{"progress":{"done":1048576}},"health":[{"name":"api","passes":true}],
//! "trial_ends_in":null
//! ```
//!
//! Why a check fails may quote what isn't everybody's: that, and consoles, are for admins.

use std::path::Path;
use std::sync::Arc;

use appliance::control::{Reply, Verb};
use appliance::upgrade::{Counting, Line, Slot, State, Verdict};
use serde::Serialize;
use tokio::time::timeout;

use crate::control;
use crate::fresh::Fresh;
use crate::limits::Limits;

/// What anybody may know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Told {
    /// Both slots, or none where the disk has none.
    pub slots: Vec<Slot>,
    /// Does the loader count tries?
    pub counting: Counting,
    /// What became of the last bundle in this boot.
    pub upgrade: Option<Line>,
    /// How a trial does.
    pub health: Vec<Check>,
    /// Seconds until the trial ends, if this is one.
    pub trial_ends_in: Option<u64>,
}

/// A check, and whether it passed last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Its name.
    pub name: String,
    /// Did it?
    pub passes: bool,
}

/// Asks `stele-init`, and not too often.
#[derive(Debug)]
pub struct Upgrades(Fresh<Option<Arc<State>>>);

impl Upgrades {
    /// Not asked yet.
    pub fn new(limits: &Limits) -> Upgrades {
        Upgrades(Fresh::new(limits.state_for))
    }

    /// All that is known, by the control socket at `path`. `None`: it isn't told.
    pub async fn state(&self, path: &Path, limits: &Limits) -> Option<Arc<State>> {
        let (path, within) = (path.to_owned(), limits.state_within);
        let ask = async move {
            let packet = timeout(within, control::ask(&path, Verb::UpgradeState)).await;
            read(&packet.ok()?.ok()?).map(Arc::new)
        };
        self.0.get(ask).await.flatten()
    }
}

/// What a packet tells of upgrades.
fn read(packet: &[u8]) -> Option<State> {
    match serde_json::from_slice(packet) {
        Ok(Reply::Upgrade(state)) => Some(*state),
        Ok(_) | Err(_) => None,
    }
}

/// What anybody may know of this.
pub fn told(state: &State) -> Told {
    let check = |check: &appliance::upgrade::Check| Check {
        name: check.name.clone(),
        passes: check.passes,
    };
    Told {
        slots: state.slots.clone(),
        counting: state.counting,
        upgrade: state.task.clone(),
        health: state.health.iter().map(check).collect(),
        trial_ends_in: state.trial_ends_in,
    }
}

/// Why the last trial that failed did.
pub fn last_failure(state: &State) -> Option<&Verdict> {
    state.verdicts.first()
}

#[cfg(test)]
mod tests {
    use super::*;
    use appliance::hash::RootHash;
    use appliance::upgrade::{self, Side, SlotTrust};

    fn state() -> State {
        let root = RootHash([7; 32]);
        let verdict = |version: &str| Verdict {
            version: Some(version.into()),
            root_hash: root,
            when: 1,
            phase: None,
            check: Some("api".into()),
            reason: "said last".into(),
            console_tail: vec!["a line".into()],
        };
        let slot = Slot {
            name: Side::B,
            running: true,
            trust: SlotTrust::Trial,
            tries_left: Some(2),
            version: Some("2.0.0".into()),
            root_hash: Some(root),
        };
        let check = upgrade::Check {
            name: "api".into(),
            passes: false,
            why: Some("10.0.2.15 says no".into()),
        };
        State {
            slots: vec![slot],
            counting: Counting::Proved,
            health: vec![check],
            trial_ends_in: Some(250),
            verdicts: vec![verdict("1.9.0"), verdict("1.8.0")],
            ..State::default()
        }
    }

    #[test]
    fn anybody_is_told_this_much() {
        let told = serde_json::to_value(told(&state())).unwrap();
        let expected = serde_json::json!({
            "slots": [{
                "name": "b", "running": true, "trust": "trial", "tries_left": 2,
                "version": "2.0.0", "root_hash": RootHash([7; 32]).to_string(),
            }],
            "counting": "proved", "upgrade": null,
            "health": [{"name": "api", "passes": false}], "trial_ends_in": 250,
        });
        assert_eq!(told, expected);
    }

    #[test]
    fn the_newest_failure_is_the_last() {
        let version = |state: &State| last_failure(state).and_then(|it| it.version.clone());
        assert_eq!(version(&state()).as_deref(), Some("1.9.0"));
        assert_eq!(version(&State::default()), None);
    }

    #[test]
    fn what_is_no_state_is_none() {
        let packet = Reply::Upgrade(Box::new(state())).to_packet();
        assert_eq!(read(&packet), Some(state()));
        for packet in [&Reply::Accepted.to_packet()[..], b"", b"{}", br#"{"upgrade":{}}"#] {
            assert_eq!(read(packet), None, "{packet:?}");
        }
    }
}
