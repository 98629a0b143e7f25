//! A service as an image ships it: everything resolved at build time, nothing looked up at boot.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::control::VerbName;

/// One supervised program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// Unique in the appliance; what logs and messages call it.
    pub name: String,
    /// Program (an absolute path) and its arguments.
    pub run: Vec<String>,
    /// Who it runs as.
    pub user: User,
    /// Environment, besides `PATH`, `HOME`, `LANG` and `TZ`.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Names of what must be ready (a service), done (a task) or up (`network`) before it starts.
    #[serde(default)]
    pub after: Vec<String>,
    /// A long-lived program, or a task that ends.
    pub kind: Kind,
    /// How one knows that a daemon, once ready, still serves.
    #[serde(default)]
    pub alive: Option<Alive>,
    /// Directories made for it, as its user's, mode 0750. Each lies directly in `/run`.
    #[serde(default)]
    pub runtime: Vec<String>,
    /// What it sees besides the read-only root and its own `runtime`: volumes, and directories
    /// that other services' `runtime` names. All else that the appliance keeps is hidden from it.
    #[serde(default)]
    pub grants: BTreeMap<String, Access>,
    /// What it may ask of `stele-init`.
    #[serde(default)]
    pub control: BTreeSet<VerbName>,
    /// Its part in the bootstrap, if it has one.
    #[serde(default)]
    pub gate: Option<Side>,
    /// How much of the machine it may take.
    #[serde(default)]
    pub limits: Limits,
    /// The most open files (`RLIMIT_NOFILE`).
    pub open_files: u64,
    /// After SIGTERM, how long until SIGKILL.
    pub stop_within: Millis,
}

/// An account of the appliance, by its numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct User {
    /// Its name in `/etc/passwd`.
    pub name: String,
    /// Its number.
    pub uid: u32,
    /// Its group's number.
    pub gid: u32,
    /// Its home directory, the service's working directory.
    pub home: String,
}

/// Who shares the bootstrap secret. The network stays down until the one has changed it at the
/// other, and that has been proved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// The Server, which starts with it: the files `bootstrap` and `current` of its
    /// `CREDENTIALS_DIRECTORY`.
    Server,
    /// The Pod API, which changes it: the files `bootstrap`, `pending` and `current`.
    Api,
}

/// What a service may do with a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Access {
    /// Read it.
    #[serde(rename = "ro")]
    Read,
    /// Read and change it.
    #[serde(rename = "rw")]
    Write,
}

/// The bounds of a service's cgroup: of all its processes together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Past this its processes are killed, all at once.
    pub memory: Memory,
    /// The most processes and threads.
    pub pids: u32,
    /// Its share of a busy processor, where 100 is everybody's; from 1 to 10000.
    pub cpu_weight: u32,
}

impl Default for Limits {
    /// What most services never reach.
    fn default() -> Limits {
        Limits { memory: Memory::Percent(50), pids: 256, cpu_weight: 100 }
    }
}

/// An amount of memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Memory {
    /// So many bytes.
    Bytes(u64),
    /// A share of what the machine has.
    Percent(u8),
}

impl Memory {
    /// In bytes, on a machine that has `total`.
    pub fn of(self, total: u64) -> u64 {
        match self {
            Memory::Bytes(bytes) => bytes,
            Memory::Percent(share) => total / 100 * u64::from(share),
        }
    }
}

/// How long a service lives, and how one knows that it serves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Kind {
    /// Runs for as long as the appliance; restarted when it ends.
    Daemon {
        /// The proof that it is up.
        ready: Ready,
        /// Not ready by then is a failure.
        ready_within: Millis,
    },
    /// Runs once a boot, to the end; repeated until it succeeds.
    Task {
        /// Nothing is run when this path exists.
        creates: Option<String>,
        /// Not done by then is a failure.
        done_within: Millis,
    },
}

/// The proof that a daemon is up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Ready {
    /// As soon as it has been started.
    Started,
    /// A TCP connection to this loopback port is accepted.
    Tcp(u16),
    /// This path exists.
    File(String),
    /// It says so: `READY=1` to the socket that `NOTIFY_SOCKET` names, as sd_notify does.
    Notify,
}

/// What a daemon is asked from time to time. Any answer will do; with none it is killed, and started
/// again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Alive {
    /// The loopback port it is asked at.
    pub tcp: u16,
    /// What it is told there.
    pub send: String,
    /// How long between two questions.
    pub every: Millis,
    /// How long it may take to answer.
    pub within: Millis,
}

/// A duration in milliseconds, as it stands in JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Millis(pub u64);

impl From<Millis> for Duration {
    fn from(millis: Millis) -> Duration {
        Duration::from_millis(millis.0)
    }
}

/// The order in which services start: each after all that it names, else by name.
///
/// Names that are no service of `services` (such as `network`) don't order anything here.
/// `Err` holds the services of a circle.
pub fn start_order(services: Vec<Service>) -> Result<Vec<Service>, Vec<String>> {
    let mut waiting: BTreeMap<String, Service> =
        services.into_iter().map(|service| (service.name.clone(), service)).collect();
    let mut ordered = Vec::with_capacity(waiting.len());
    while !waiting.is_empty() {
        let next = waiting
            .values()
            .find(|service| !service.after.iter().any(|name| waiting.contains_key(name)))
            .map(|service| service.name.clone());
        match next.and_then(|name| waiting.remove(&name)) {
            Some(service) => ordered.push(service),
            None => return Err(waiting.into_keys().collect()),
        }
    }
    Ok(ordered)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(name: &str, after: &[&str]) -> Service {
        Service {
            name: name.into(),
            run: vec!["/bin/true".into()],
            user: User { name: "u".into(), uid: 1, gid: 1, home: "/".into() },
            env: BTreeMap::new(),
            after: after.iter().map(|&name| name.into()).collect(),
            kind: Kind::Task { creates: None, done_within: Millis(1) },
            alive: None,
            runtime: vec![],
            grants: [("/var/lib/a".into(), Access::Write)].into(),
            control: BTreeSet::new(),
            gate: None,
            limits: Limits::default(),
            open_files: 1024,
            stop_within: Millis(1),
        }
    }

    fn names(services: &[Service]) -> Vec<&str> {
        services.iter().map(|service| service.name.as_str()).collect()
    }

    #[test]
    fn a_service_starts_after_what_it_names() {
        let services =
            vec![service("a", &["c", "network"]), service("b", &[]), service("c", &["b"])];
        assert_eq!(names(&start_order(services).unwrap()), ["b", "c", "a"]);
    }

    #[test]
    fn a_circle_is_named() {
        let services = vec![service("a", &["b"]), service("b", &["a"]), service("c", &[])];
        assert_eq!(start_order(services).unwrap_err(), ["a", "b"]);
    }

    #[test]
    fn a_service_survives_its_own_json() {
        let service = service("a", &["b"]);
        let json = serde_json::to_string(&service).unwrap();
        assert_eq!(serde_json::from_str::<Service>(&json).unwrap(), service);
    }

    #[test]
    fn memory_is_an_amount_or_a_share() {
        assert_eq!(Memory::Bytes(7).of(1000), 7);
        assert_eq!(Memory::Percent(60).of(1 << 30), (1 << 30) / 100 * 60);
    }
}
