//! What one may ask `stele-init`, and what it answers: one request per packet of a unix
//! `SOCK_SEQPACKET` socket, one reply to each, both JSON and never longer than [`LONGEST`].
//!
//! ```text
//! {"version":1,"verb":"state"}                                     → {"state":{"name":"pod",…}}
//! {"version":1,"verb":"services"}                                  → {"services":[{"name":…},…]}
//! {"version":1,"verb":{"logs":{"service":"prosody","lines":100}}}  → {"logs":["…","…"]}
//! {"version":1,"verb":{"restart":{"service":"prosody"}}}           → "accepted"
//! {"version":1,"verb":"reboot"}, {"version":1,"verb":"power_off"}  → "accepted"
//! {"version":1,"verb":{"rotation_pending":{"secret":"…"}}}        → "accepted"
//! {"version":1,"verb":"rotation_done"}                            → "accepted"
//! {"version":1,"verb":{"settings":{"domain":"example.org"}}}      → "accepted"
//! {"version":1,"verb":"settings_state"}                           → {"settings_state":{"step":"applied",…}}
//! {"version":1,"verb":{"server_file":{"from":0}}}                 → {"server_file":{"text":"…","length":9}}
//! {"version":1,"verb":{"backup":"state"}}                         → {"backup":{"task":…,…}}
//! {"version":1,"verb":{"backup":{"create":{"id":…,"lock":…}}}}    → "accepted"
//! {"version":1,"verb":{"upgrade":"install"}}                       → "accepted", and a descriptor
//! {"version":1,"verb":"upgrade_state"}                             → {"upgrade":{"slots":[…],…}}
//! ```
//!
//! What isn't granted is answered by `{"refused":…}`, a [`Refusal`], and the connection is closed.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::backup::{self, Wish};
use crate::hash::{Digest, RootHash};
use crate::secret::Secret;
use crate::settings::Settings;
use crate::upgrade;

/// Where the socket is. A service sees it only if it is granted a verb.
pub const CONTROL_SOCKET: &str = "/run/stele/control.sock";
/// The most bytes in a packet, of either direction.
pub const LONGEST: usize = 64 * 1024;
/// The version of the protocol that this is.
pub const VERSION: u32 = 1;

/// One packet to `stele-init`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// [`VERSION`].
    pub version: u32,
    /// What is asked for.
    pub verb: Verb,
}

/// What can be asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Verb {
    /// How the machine is: [`Reply::State`].
    State,
    /// How its services are: [`Reply::Services`].
    Services,
    /// What a service printed: [`Reply::Logs`].
    Logs {
        /// Its name; or `kernel`, or `stele-init`.
        service: String,
        /// How many of its last lines, at most.
        lines: u32,
    },
    /// Stop a service and start it again: [`Reply::Accepted`] before that is done.
    Restart {
        /// Its name.
        service: String,
    },
    /// End orderly and start anew.
    Reboot,
    /// End orderly and go off.
    PowerOff,
    /// The bootstrap secret is about to be changed to this one: it is kept, should the caller end
    /// meanwhile.
    RotationPending {
        /// The new one.
        secret: Secret,
    },
    /// It has been changed: [`Reply::Accepted`] before that is proved.
    RotationDone,
    /// What the Server shall be like: [`Reply::Accepted`] before that is checked. The same again
    /// changes nothing.
    Settings(Box<Settings>),
    /// What became of the last ones: [`Reply::SettingsState`].
    SettingsState,
    /// The configuration that the Server runs with: [`Reply::ServerFile`].
    ServerFile {
        /// From this byte on.
        from: u32,
    },
    /// What shall be done about backups: [`Reply::Accepted`] before that is done, or
    /// [`Reply::Backup`] to [`Wish::State`].
    Backup(Box<Wish>),
    /// Which system shall boot: see [`upgrade::Wish`].
    Upgrade(upgrade::Wish),
    /// How both slots are: [`Reply::Upgrade`].
    UpgradeState,
}

/// A [`Verb`] without what it takes: what a service is granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VerbName {
    /// [`Verb::State`]
    State,
    /// [`Verb::Services`]
    Services,
    /// [`Verb::Logs`]
    Logs,
    /// [`Verb::Restart`]
    Restart,
    /// [`Verb::Reboot`]
    Reboot,
    /// [`Verb::PowerOff`]
    PowerOff,
    /// [`Verb::RotationPending`] and [`Verb::RotationDone`]
    Rotation,
    /// [`Verb::Settings`], [`Verb::SettingsState`] and [`Verb::ServerFile`]
    Settings,
    /// [`Verb::Backup`]
    Backup,
    /// [`Verb::Upgrade`]
    Upgrade,
    /// [`Verb::UpgradeState`]
    UpgradeState,
}

impl Verb {
    /// What a service must be granted to use it.
    pub fn name(&self) -> VerbName {
        match self {
            Verb::State => VerbName::State,
            Verb::Services => VerbName::Services,
            Verb::Logs { .. } => VerbName::Logs,
            Verb::Restart { .. } => VerbName::Restart,
            Verb::Reboot => VerbName::Reboot,
            Verb::PowerOff => VerbName::PowerOff,
            Verb::RotationPending { .. } | Verb::RotationDone => VerbName::Rotation,
            Verb::Settings(_) | Verb::SettingsState | Verb::ServerFile { .. } => VerbName::Settings,
            Verb::Backup(_) => VerbName::Backup,
            Verb::Upgrade(_) => VerbName::Upgrade,
            Verb::UpgradeState => VerbName::UpgradeState,
        }
    }
}

/// One packet from `stele-init`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Reply {
    /// To [`Verb::State`].
    State(Box<Machine>),
    /// To [`Verb::Services`], in start order.
    Services(Vec<ServiceState>),
    /// To [`Verb::Logs`], each `<unix-ms> <priority> <text>`, the oldest first. Where they would be
    /// too long, the oldest are left out.
    Logs(Vec<String>),
    /// To [`Verb::SettingsState`].
    SettingsState(SettingsState),
    /// To [`Verb::ServerFile`]: as much of it as goes into a packet.
    ServerFile {
        /// A part.
        text: String,
        /// The bytes of the whole.
        length: u32,
    },
    /// To [`Wish::State`].
    Backup(Box<backup::State>),
    /// To [`Verb::UpgradeState`].
    Upgrade(Box<upgrade::State>),
    /// It will be done.
    Accepted,
    /// It won't.
    Refused(Refusal),
}

/// Why a request isn't granted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Refusal {
    /// It isn't a [`Request`], or its verb is unknown: what the parser says.
    Malformed(String),
    /// The packet has more than [`LONGEST`] bytes, or its reply would.
    TooLong,
    /// It is of another version than this one.
    Version(u32),
    /// The caller may not use this verb, or none at all.
    Forbidden,
    /// There is no service of this name.
    NoSuchService(String),
    /// This service hasn't been started: it waits for others, or for nobody.
    NotStarted(String),
    /// The machine is about to end; nothing is started any more.
    Ending,
    /// This appliance has no gate.
    NoGate,
    /// The Server has no settings yet.
    NoSettings,
    /// They hold Lua, which the operator doesn't allow: see [`SettingsState::may_hold_lua`].
    Lua,
    /// Something else is being backed up, restored or erased; or what runs is on trial, and what would
    /// be restored or erased now be set back should that fail.
    Busy,
    /// This backup isn't what was prepared last.
    NotPrepared,
    /// Not now, or not here: why.
    Upgrade(upgrade::Refused),
}

/// The whole machine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    /// The appliance's name.
    pub name: String,
    /// The appliance's version.
    pub version: String,
    /// Seconds since the kernel started.
    pub uptime: u64,
    /// Where it is between start and end.
    pub phase: Phase,
    /// In start order.
    pub services: Vec<ServiceState>,
    /// Addresses that others can reach it by.
    pub addresses: Vec<Address>,
    /// Its date.
    pub clock: ClockState,
    /// How much memory it has, and takes.
    pub memory: Memory,
    /// Where the bootstrap gate is, if there is one.
    pub gate: Option<GateState>,
    /// What became of the Server's settings, if there is a gate.
    pub settings: Option<SettingsState>,
    /// Why the boot before this one ended, if that wasn't orderly.
    pub last_failure: Option<LastFailure>,
}

/// The bootstrap gate: the network is down until it is open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GateState {
    /// Is it open?
    pub open: bool,
    /// What it waits for.
    pub step: String,
    /// What went wrong last, if something did.
    pub why: Option<String>,
}

/// What the Server is configured with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SettingsState {
    /// Which [`Settings`] were submitted last ([`Settings::digest`]), if any were.
    pub of: Option<Digest>,
    /// Where they are.
    pub step: SettingsStep,
    /// Why they aren't what the Server runs with, if they were refused: it goes on with the ones
    /// before.
    pub why: Option<String>,
    /// Does the operator allow [`Settings::prosody_overrides_raw`]?
    pub may_hold_lua: bool,
}

/// Where settings are between being submitted and having an effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SettingsStep {
    /// None were submitted.
    None,
    /// A configuration is made of them, and checked.
    Rendering,
    /// It waits for the gate, or for the Server.
    Waiting,
    /// The Server loads it, or is started anew with it.
    Loading,
    /// It failed to; it is tried again after a while.
    Resting,
    /// The Server runs with it.
    Applied,
    /// It won't.
    Refused,
}

/// Memory by the kernel's count (`/proc/meminfo`), in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Memory {
    /// What the kernel manages.
    pub total: u64,
    /// What nobody uses.
    pub free: u64,
    /// What could be had without swapping.
    pub available: u64,
    /// What is kept of files.
    pub cached: u64,
    /// What of it is `stele-init`'s own: its resident set.
    pub init: u64,
}

/// Where a boot is between its start and its end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// In the initrd.
    Initrd,
    /// The root is being prepared.
    Setup,
    /// Some service isn't ready yet.
    #[default]
    Starting,
    /// All are.
    Running,
    /// Some service failed, and will be started again.
    Degraded,
    /// Services are being stopped.
    Ending,
}

/// A service, as its supervisor sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceState {
    /// Its name.
    pub name: String,
    /// As on the console: `waiting`, `starting`, `ready`, `done`, `failing`,
    /// `backoff 0.5 s`, `crash-loop, tried again in 60 s`, `stopping`, `killed`, `stopped`.
    pub state: String,
    /// How often it was started, after the first time.
    pub restarts: u32,
    /// Its main process.
    pub pid: Option<i32>,
    /// What its processes take, in bytes, if the kernel tells: with what is kept of its files.
    pub memory: Option<u64>,
    /// The resident set of its main process, in bytes.
    pub resident: Option<u64>,
}

/// An address of an interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Address {
    /// The interface.
    pub interface: String,
    /// The address and the length of its network's prefix: `10.0.2.15/24`.
    pub address: String,
}

/// The date.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClockState {
    /// Seconds since 1970.
    pub date: u64,
    /// Has a time server confirmed it in this boot?
    pub is_synced: bool,
}

/// Why a boot ended before its time. Kept on the data volume, where the next boot finds it, which
/// may be one of another version: it reads what it knows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastFailure {
    /// Seconds since 1970, by that boot's clock; absent where there was no time to look.
    pub when: Option<u64>,
    /// How far it had come; absent likewise.
    pub phase: Option<Phase>,
    /// Which version it was of; absent likewise.
    #[serde(default)]
    pub version: Option<String>,
    /// Which root; absent likewise.
    #[serde(default)]
    pub root_hash: Option<RootHash>,
    /// The check that failed, if it was one: see [`upgrade::Check`].
    #[serde(default)]
    pub check: Option<String>,
    /// What was said last.
    pub reason: String,
    /// What the console showed before that, the oldest first.
    #[serde(default)]
    pub console_tail: Vec<String>,
}

impl Request {
    /// Reads a packet that anybody may have sent.
    pub fn from_packet(packet: &[u8]) -> Result<Request, Refusal> {
        /// What every version has.
        #[derive(Deserialize)]
        struct Any {
            version: u32,
        }
        if packet.len() > LONGEST {
            return Err(Refusal::TooLong);
        }
        let malformed = |error: serde_json::Error| Refusal::Malformed(error.to_string());
        // First, so that a newer client learns why, not what is odd in its request.
        let Any { version } = serde_json::from_slice(packet).map_err(malformed)?;
        match version {
            VERSION => serde_json::from_slice(packet).map_err(malformed),
            other => Err(Refusal::Version(other)),
        }
    }

    /// The packet that carries it.
    pub fn to_packet(&self) -> Vec<u8> {
        // Plain data: serialising it cannot fail.
        serde_json::to_vec(self).unwrap_or_default()
    }
}

impl Reply {
    /// The packet that carries it: if it would be too long, one that says so.
    pub fn to_packet(&self) -> Vec<u8> {
        let mut packet = serde_json::to_vec(self).unwrap_or_default();
        if packet.len() > LONGEST {
            packet = serde_json::to_vec(&Reply::Refused(Refusal::TooLong)).unwrap_or_default();
        }
        packet
    }
}

impl fmt::Display for SettingsStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SettingsStep::None => "none yet",
            SettingsStep::Rendering => "being checked",
            SettingsStep::Waiting => "waiting for the Server",
            SettingsStep::Loading => "being loaded",
            SettingsStep::Resting => "to be tried again",
            SettingsStep::Applied => "applied",
            SettingsStep::Refused => "refused",
        })
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Phase::Initrd => "initrd",
            Phase::Setup => "setup",
            Phase::Starting => "starting",
            Phase::Running => "running",
            Phase::Degraded => "degraded",
            Phase::Ending => "ending",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOGS: &str = r#"{"version":1,"verb":{"logs":{"service":"a","lines":9}}}"#;

    #[test]
    fn a_request_crosses_as_one_packet() {
        let logs = Verb::Logs { service: "a".into(), lines: 9 };
        for (verb, packet) in [
            (Verb::State, r#"{"version":1,"verb":"state"}"#),
            (Verb::PowerOff, r#"{"version":1,"verb":"power_off"}"#),
            (logs, LOGS),
        ] {
            let request = Request { version: VERSION, verb };
            assert_eq!(request.to_packet(), packet.as_bytes());
            assert_eq!(Request::from_packet(packet.as_bytes()), Ok(request));
        }
    }

    #[test]
    fn what_is_no_request_is_refused_for_its_reason() {
        let refusal = |packet: &str| Request::from_packet(packet.as_bytes()).unwrap_err();
        for packet in [
            "",
            "{}",
            "null",
            r#""state""#,
            r#"{"version":1}"#,
            r#"{"version":1,"verb":"format"}"#,
            r#"{"version":1,"verb":"state","more":1}"#,
            r#"{"version":1,"verb":{"logs":{"service":"a","lines":-1}}}"#,
            r#"{"version":1,"verb":{"restart":{}}}"#,
            r#"{"version":1,"verb":"state"} x"#,
            &"[".repeat(LONGEST),
        ] {
            assert!(matches!(refusal(packet), Refusal::Malformed(_)), "{packet}");
        }
        assert_eq!(refusal(r#"{"version":2,"verb":"dance"}"#), Refusal::Version(2));
        assert_eq!(refusal(&" ".repeat(LONGEST + 1)), Refusal::TooLong);
    }

    #[test]
    fn nothing_upsets_the_parser() {
        let mut random = fastrand::Rng::with_seed(1);
        let mut draw = |below: usize| random.usize(..below);
        for _ in 0..100_000 {
            let mut packet = LOGS.as_bytes().to_vec();
            for _ in 0..=draw(4) {
                let at = draw(packet.len());
                match draw(4) {
                    0 => packet[at] = draw(256) as u8,
                    1 => packet.insert(at, b"{}[]\",:0"[draw(8)]),
                    2 if packet.len() > 1 => drop(packet.remove(at)),
                    _ => packet.truncate(at + 1),
                }
            }
            if let Ok(request) = Request::from_packet(&packet) {
                assert_eq!(Request::from_packet(&request.to_packet()), Ok(request));
            }
        }
    }

    #[test]
    fn no_reply_is_too_long() {
        let long = Reply::Logs(vec!["x".repeat(LONGEST)]);
        assert_eq!(long.to_packet(), br#"{"refused":"too_long"}"#);
        let accepted = Reply::Accepted.to_packet();
        assert_eq!(accepted, br#""accepted""#);
    }
}
