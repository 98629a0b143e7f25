//! DHCP for IPv4 (RFC 2131), apart from PID 1: what a network says is parsed only by a child with
//! a user of its own and no rights.
//!
//! ```text
//! PID 1 ── opens a packet socket that sees nothing but DHCP ──► child: `stele-init dhcp eth0`
//!       ◄── one line of JSON for each lease won or lost ──────
//! ```
//!
//! [`message`] is the format, [`client`] decides, [`child`] does, [`report`] is what crosses back
//! and is checked there.

pub mod child;
pub mod client;
pub mod message;
pub mod report;

use std::collections::{BTreeMap, BTreeSet};

use appliance::boot::{DHCP_USER, INIT_PROGRAM};
use appliance::service::{Kind, Limits, Memory, Millis, Ready, Service, User};

use crate::sys::Instruction;

/// The child as a service, so that it is supervised like any other.
pub fn service(interface: &str) -> Service {
    Service {
        name: format!("dhcp-{interface}"),
        run: vec![INIT_PROGRAM.into(), "dhcp".into(), interface.into()],
        user: User { name: "stele-dhcp".into(), uid: DHCP_USER, gid: DHCP_USER, home: "/".into() },
        env: BTreeMap::new(),
        after: vec![],
        kind: Kind::Daemon { ready: Ready::Started, ready_within: Millis(10_000) },
        alive: None,
        runtime: vec![],
        grants: BTreeMap::new(),
        control: BTreeSet::new(),
        limits: Limits { memory: Memory::Bytes(16 << 20), pids: 2, cpu_weight: 100 },
        open_files: 16,
        stop_within: Millis(1_000),
    }
}

/// What of all packets the child's socket sees: UDP to port 68, in one piece. (Jumps count from the
/// next instruction.)
pub const FILTER: [Instruction; 9] = [
    (0x30, 0, 0, 9),      // A = the protocol
    (0x15, 0, 6, 17),     // not UDP: refuse
    (0x28, 0, 0, 6),      // A = flags and fragment offset
    (0x45, 4, 0, 0x3fff), // a fragment: refuse
    (0xb1, 0, 0, 0),      // X = length of the IP header
    (0x48, 0, 0, 2),      // A = the destination port
    (0x15, 0, 1, 68),     // not the client's: refuse
    (0x06, 0, 0, 0xffff), // accept
    (0x06, 0, 0, 0),      // refuse
];
