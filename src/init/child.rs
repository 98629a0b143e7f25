//! Children of init's own, which do what PID 1 itself must not: parse what comes from elsewhere.

use std::collections::{BTreeMap, BTreeSet};

use appliance::boot::INIT_PROGRAM;
use appliance::service::{Kind, Limits, Memory, Millis, Ready, Service, User};

/// `stele-init ARGUMENTS` as a service, so that it is supervised like any other; with a user of its
/// own and next to nothing besides.
pub fn service(name: &str, arguments: &[&str], user: &str, uid: u32) -> Service {
    let run = [INIT_PROGRAM].iter().chain(arguments);
    Service {
        name: name.into(),
        run: run.map(ToString::to_string).collect(),
        user: User { name: user.into(), uid, gid: uid, home: "/".into() },
        env: BTreeMap::new(),
        after: vec![],
        kind: Kind::Daemon { ready: Ready::Started, ready_within: Millis(10_000) },
        alive: None,
        runtime: vec![],
        grants: BTreeMap::new(),
        control: BTreeSet::new(),
        gate: None,
        limits: Limits { memory: Memory::Bytes(16 << 20), pids: 2, cpu_weight: 100 },
        open_files: 16,
        stop_within: Millis(1_000),
    }
}
