//! Children of init's own, which do what PID 1 itself must not: parse what comes from elsewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write as _};

use appliance::boot::INIT_PROGRAM;
use appliance::service::{Kind, Limits, Memory, Millis, Ready, Service, User};
use nix::sys::memfd::{MFdFlags, memfd_create};
use serde::de::DeserializeOwned;

use appliance::failure::{Failure, OrCannot as _};

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

/// What a child is handed as its standard input: a file in memory, without a name.
pub fn paper(document: &[u8]) -> io::Result<File> {
    let mut file = File::from(memfd_create("document", MFdFlags::MFD_CLOEXEC)?);
    file.write_all(document)?;
    file.rewind()?;
    Ok(file)
}

/// In the child: what it was handed, which has no more bytes than that.
pub fn document<T: DeserializeOwned>(longest: u64) -> Result<T, Failure> {
    let mut text = vec![];
    io::stdin().take(longest).read_to_end(&mut text).or_cannot("read the document")?;
    serde_json::from_slice(&text).or_cannot("understand the document")
}
