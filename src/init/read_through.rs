//! `stele-init read`: a child that reads its standard input to the end, for no other reason than
//! that the kernel checks each block of the root when it is read. One that isn't what it should be
//! restarts the machine.

use std::io::{self, Read as _};

use appliance::boot::INSTALL_USER;
use appliance::service::{Kind, Limits, Memory, Millis, Service};

use crate::child;

/// How much is read at once.
const AT_ONCE: usize = 1 << 20;
/// A trial waits no longer for it.
const WITHIN: Millis = Millis(120_000);

/// The child, as a service.
pub fn service() -> Service {
    Service {
        kind: Kind::Task { creates: None, done_within: WITHIN },
        limits: Limits { memory: Memory::Bytes(32 << 20), pids: 2, cpu_weight: 50 },
        ..child::service("read", &["read"], "stele-install", INSTALL_USER)
    }
}

/// Runs to the end.
pub fn run() {
    let (mut input, mut bytes) = (io::stdin().lock(), vec![0; AT_ONCE]);
    loop {
        match input.read(&mut bytes) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                eprintln!("cannot read the root: {error}");
                std::process::exit(1)
            }
        }
    }
}
