//! How the appliance is, as anybody may know: `GET /api/v1/appliance`.
//!
//! ```text
//! {"name":"pod","version":"1.0.0","uptime":42,"phase":"running",
//!  "gate":{"open":true,"step":null,"why":null},"services":[{"name":"prosody","state":"ready"}]}
//! ```
//!
//! `stele-init` says more (addresses, memory, why the last boot ended): that is for operators, and
//! stays inside.

use std::path::Path;
use std::sync::Arc;

use appliance::control::{Phase, Verb};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use tokio::time::timeout;

use crate::control;
use crate::fresh::Fresh;
use crate::limits::Limits;

/// What is told of a machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// The appliance's name.
    pub name: String,
    /// The appliance's version.
    pub version: String,
    /// Seconds since the kernel started.
    pub uptime: u64,
    /// Where it is between start and end.
    pub phase: Phase,
    /// Whether anybody outside reaches it; absent where there is no gate.
    #[serde(default)]
    pub gate: Option<Gate>,
    /// In start order.
    pub services: Vec<Service>,
}

/// The bootstrap gate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gate {
    /// Is it open?
    pub open: bool,
    /// Where it stands, if it isn't open.
    #[serde(default, deserialize_with = "words")]
    pub step: Option<String>,
    /// Why it stands there, if it isn't open.
    #[serde(default)]
    pub why: Option<String>,
}

/// A name, or a number as it is written; anything else is not for us.
fn words<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Ok(match Value::deserialize(deserializer)? {
        Value::String(name) => Some(name),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    })
}

/// A service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// As on the console.
    pub state: String,
}

/// What comes from `stele-init`; fields that aren't told are passed over.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Reply {
    State(Box<State>),
    #[serde(other)]
    Other,
}

/// Asks `stele-init`, and not too often.
#[derive(Debug)]
pub struct Appliance(Fresh<Option<Arc<State>>>);

impl Appliance {
    /// Not asked yet.
    pub fn new(limits: &Limits) -> Appliance {
        Appliance(Fresh::new(limits.state_for))
    }

    /// How it is, by the control socket at `path`. `None`: it doesn't say.
    pub async fn state(&self, path: &Path, limits: &Limits) -> Option<Arc<State>> {
        let (path, within) = (path.to_owned(), limits.state_within);
        let ask = async move {
            let packet = timeout(within, control::ask(&path, Verb::State)).await;
            let state = match packet {
                Ok(Ok(packet)) => read(&packet).ok_or_else(|| "its reply is none".to_owned()),
                Ok(Err(error)) => Err(error.to_string()),
                Err(_) => Err("it takes too long".to_owned()),
            };
            if let Err(why) = &state {
                eprintln!("cannot ask stele-init at {}: {why}", path.display());
            }
            state.ok().map(Arc::new)
        };
        self.0.get(ask).await.flatten()
    }
}

/// What a packet tells of the machine.
pub fn read(packet: &[u8]) -> Option<State> {
    match serde_json::from_slice(packet) {
        Ok(Reply::State(state)) => Some(told(*state)),
        Ok(Reply::Other) | Err(_) => None,
    }
}

/// An open gate has no step to be at.
fn told(mut state: State) -> State {
    if let Some(gate) = state.gate.as_mut().filter(|gate| gate.open) {
        (gate.step, gate.why) = (None, None);
    }
    state
}

#[cfg(test)]
mod tests {
    use super::*;
    use appliance::control::{Machine, Refusal, ServiceState};

    fn machine() -> Machine {
        let service = ServiceState {
            name: "prosody".into(),
            state: "ready".into(),
            restarts: 3,
            pid: Some(77),
            memory: Some(9_999_999),
            resident: Some(8_888_888),
        };
        Machine {
            name: "pod".into(),
            version: "1.0.0".into(),
            uptime: 42,
            phase: Phase::Running,
            services: vec![service],
            ..Machine::default()
        }
    }

    /// What init serialises is what is read, and of it this much is told.
    #[test]
    fn anybody_is_told_this_much() {
        let reply = appliance::control::Reply::State(Box::new(machine()));
        let state = read(&reply.to_packet()).unwrap();
        assert_eq!(state.services, [Service { name: "prosody".into(), state: "ready".into() }]);
        let told = serde_json::to_string(&state).unwrap();
        assert!(
            told.starts_with(r#"{"name":"pod","version":"1.0.0","uptime":42,"phase":"running","#)
        );
        for hidden in ["77", "9999999", "memory", "addresses", "last_failure", "clock"] {
            assert!(!told.contains(hidden), "{told}");
        }
    }

    #[test]
    fn the_gate_is_told() {
        let with = |gate: &str| {
            let packet = format!(
                r#"{{"state":{{"name":"p","version":"1","uptime":1,"phase":"starting","services":[],"gate":{gate}}}}}"#
            );
            read(packet.as_bytes()).map(|state| serde_json::to_string(&state.gate).unwrap())
        };
        for (gate, expected) in [
            (r#"null"#, Some(r#"null"#)),
            (r#"{"open":false}"#, Some(r#"{"open":false,"step":null,"why":null}"#)),
            (
                r#"{"open":false,"step":"rotate","why":"x","since":1}"#,
                Some(r#"{"open":false,"step":"rotate","why":"x"}"#),
            ),
            (
                r#"{"open":false,"step":3,"why":null}"#,
                Some(r#"{"open":false,"step":"3","why":null}"#),
            ),
            (r#"{"open":false,"step":{"x":1}}"#, Some(r#"{"open":false,"step":null,"why":null}"#)),
            (
                r#"{"open":true,"step":"proved","why":"at last"}"#,
                Some(r#"{"open":true,"step":null,"why":null}"#),
            ),
            (r#"{"step":1}"#, None),
        ] {
            assert_eq!(with(gate).as_deref(), expected, "{gate}");
        }
    }

    #[test]
    fn what_is_no_state_is_none() {
        let refused = appliance::control::Reply::Refused(Refusal::Forbidden).to_packet();
        let accepted = appliance::control::Reply::Accepted.to_packet();
        for packet in [&refused[..], &accepted[..], b"", b"{}", b"null", br#"{"state":{}}"#] {
            assert_eq!(read(packet), None, "{packet:?}");
        }
    }
}
