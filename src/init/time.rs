//! The date from a time server (SNTP, RFC 4330 and RFC 5905), apart from PID 1: what a network says
//! is parsed only by a child with a user of its own and no rights.
//!
//! ```text
//! PID 1 ── opens a UDP socket to one server that DHCP named ──► child: `stele-init time FLOOR`
//!       ◄── one line of JSON for each measurement ─────────────
//! ```
//!
//! [`message`] is the format, [`client`] measures, [`child`] does, [`report`] is what crosses back,
//! and [`keeper`] decides what it does to the clock: a step while nobody has relied on it yet, a
//! slow change later, and never past the floor.
//!
//! Servers come from DHCP (option 42) and from nowhere else; without any the machine keeps its own
//! clock's date.

pub mod child;
pub mod client;
pub mod keeper;
pub mod message;
pub mod report;

use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::OwnedFd;

use appliance::boot::TIME_USER;
use appliance::service::Service;

/// Where time servers listen.
const PORT: u16 = 123;

/// The child that asks. `floor`: no date is earlier, in seconds since 1970.
pub fn service(floor: u64) -> Service {
    crate::child::service("time", &["time", &floor.to_string()], "stele-time", TIME_USER)
}

/// What the child gets as its standard input: it can speak to this server and to nobody else.
pub fn socket(server: Ipv4Addr) -> io::Result<OwnedFd> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.connect((server, PORT))?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}
