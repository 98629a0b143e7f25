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

use appliance::boot::DHCP_USER;
use appliance::service::Service;

use crate::sys::Instruction;

/// The child that asks on this interface.
pub fn service(interface: &str) -> Service {
    let name = format!("dhcp-{interface}");
    crate::child::service(&name, &["dhcp", interface], "stele-dhcp", DHCP_USER)
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
