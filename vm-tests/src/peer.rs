//! The other end of the guest's network cable: a neighbour that answers ARP, DHCP and SNTP, as well
//! or as badly as the story wants, and notes what it is asked.
//!
//! ```text
//! guest ── frames ──► QEMU ── a socket that it inherits ──► [`serve`] ──► what was heard: watch
//!       ◄──────────────────────────────────────────────────  │
//!                                        conduct: the story's, also while the machine runs
//! ```
//!
//! There is one network, `10.9.0.0/24`, and everybody in it but the guest is this neighbour.

pub mod dhcp;
mod frame;
pub mod sntp;

use std::fmt;
use std::fs::File;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixDatagram;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};

use crate::watch::Watch;
use dhcp::{Kind, Lease, Query};
use frame::{Datagram, Frame, Mac, WhoHas};
use sntp::Says;

/// The DHCP server.
pub const SERVER: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);
const OURS: Mac = [2, 0, 0, 0, 0, 1];
const DHCP_SERVER: u16 = 67;
const DHCP_CLIENT: u16 = 68;
const SNTP: u16 = 123;
/// Longer than any frame.
const LONGEST: usize = 65536;

/// How the neighbour behaves.
#[derive(Debug, Clone)]
pub struct Peer {
    /// To who wants an address.
    pub dhcp: Dhcp,
    /// What it lends.
    pub lease: Lease,
    /// What each time server says; the others are silent.
    pub time: Vec<(Ipv4Addr, Says)>,
    /// DHCP's answers, each changed by one of these, come before the right one.
    pub spoil: Vec<Spoil>,
}

/// Makes nonsense of a DHCP message.
pub type Spoil = fn(&mut Vec<u8>);

/// What a DHCP server does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dhcp {
    /// It lends.
    Lends,
    /// Nothing.
    Silent,
    /// It offers, but says no to every request.
    Refuses,
}

/// One thing that the guest asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    /// Its place among all.
    pub number: usize,
    /// When, since QEMU's start.
    pub at: Duration,
    /// What.
    pub what: Asked,
}

/// What a guest asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// Who lends an address?
    Discover,
    /// It takes what it was offered.
    Take,
    /// It wants to keep this address.
    Keep(Ipv4Addr),
    /// What time is it, server?
    Time(Ipv4Addr),
}

impl Peer {
    /// It lends this, and has no time.
    pub fn lends(lease: Lease) -> Peer {
        Peer { dhcp: Dhcp::Lends, lease, time: vec![], spoil: vec![] }
    }

    /// It says nothing until the story wants it to.
    pub fn silent() -> Peer {
        Peer { dhcp: Dhcp::Silent, ..Peer::lends(Lease::default()) }
    }

    /// This time server says this.
    pub fn with_time(mut self, server: Ipv4Addr, says: Says) -> Peer {
        self.time.push((server, says));
        self
    }

    /// What it says to a frame, and what it learns from it.
    fn on(&self, frame: &[u8], age: Duration) -> (Vec<Vec<u8>>, Option<Asked>) {
        match Frame::parse(frame) {
            Some(Frame::WhoHas(asked)) => (self.on_who_has(&asked), None),
            Some(Frame::Datagram(datagram)) => match datagram.to.port() {
                DHCP_SERVER => self.on_dhcp(&datagram),
                SNTP => self.on_sntp(&datagram, age),
                _ => (vec![], None),
            },
            None => (vec![], None),
        }
    }

    fn on_who_has(&self, asked: &WhoHas) -> Vec<Vec<u8>> {
        // The guest may look whether somebody else has its address.
        let is_ours = asked.wanted != self.lease.address && asked.wanted != asked.address;
        is_ours.then(|| asked.answer(OURS)).into_iter().collect()
    }

    fn on_dhcp(&self, datagram: &Datagram) -> (Vec<Vec<u8>>, Option<Asked>) {
        let Some(query) = Query::parse(&datagram.payload) else { return (vec![], None) };
        let asked = match (query.kind, query.keeps) {
            (Kind::Discover, _) => Asked::Discover,
            (_, Some(address)) => Asked::Keep(address),
            (_, None) => Asked::Take,
        };
        let kind = match (self.dhcp, asked) {
            (Dhcp::Silent, _) => return (vec![], Some(asked)),
            (_, Asked::Discover) => Kind::Offer,
            (Dhcp::Lends, _) => Kind::Ack,
            (Dhcp::Refuses, _) => Kind::Nak,
        };
        let right = query.answer(kind, SERVER, &self.lease);
        let spoiled = self.spoil.iter().map(|spoil| {
            let mut message = right.clone();
            spoil(&mut message);
            message
        });
        let messages = spoiled.chain([right.clone()]);
        let to = SocketAddrV4::new(Ipv4Addr::BROADCAST, DHCP_CLIENT);
        let from = SocketAddrV4::new(SERVER, DHCP_SERVER);
        let frame = |payload| Datagram { mac: OURS, from, to, payload }.frame(query.mac);
        (messages.map(frame).collect(), Some(asked))
    }

    fn on_sntp(&self, query: &Datagram, age: Duration) -> (Vec<Vec<u8>>, Option<Asked>) {
        let server = *query.to.ip();
        let says = self.time.iter().find(|(known, _)| *known == server).map(|(_, says)| *says);
        let answer = says.and_then(|says| sntp::answer(&query.payload, says, age));
        let frame = answer.map(|payload| {
            Datagram { mac: OURS, from: query.to, to: query.from, payload }.frame(query.mac)
        });
        (frame.into_iter().collect(), Some(Asked::Time(server)))
    }
}

/// The cable, and the neighbour at its end.
#[derive(Debug)]
pub struct Cable {
    socket: UnixDatagram,
    conduct: Arc<Mutex<Peer>>,
}

impl Cable {
    /// The cable, and the end that QEMU shall inherit; see [`option`].
    pub fn new(peer: Peer) -> Result<(Cable, OwnedFd)> {
        let (socket, qemus) = UnixDatagram::pair().context("cannot make a network for QEMU")?;
        let qemus = OwnedFd::from(qemus);
        fcntl(qemus.as_fd(), FcntlArg::F_SETFD(FdFlag::empty()))
            .context("cannot have QEMU inherit its network")?;
        Ok((Cable { socket, conduct: Arc::new(Mutex::new(peer)) }, qemus))
    }

    /// For the thread that [`serve`]s.
    pub fn try_clone(&self) -> Result<Cable> {
        let socket = self.socket.try_clone().context("cannot share the network")?;
        Ok(Cable { socket, conduct: Arc::clone(&self.conduct) })
    }

    /// The neighbour's conduct.
    pub fn peer(&self) -> MutexGuard<'_, Peer> {
        self.conduct.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends [`serve`].
    pub fn unplug(&self) {
        let _ = self.socket.shutdown(std::net::Shutdown::Both);
    }
}

/// QEMU's option for a network of this name at a socket that it inherits.
pub fn option(name: &str, socket: &OwnedFd) -> String {
    let number: RawFd = socket.as_raw_fd();
    format!("dgram,id={name},local.type=fd,local.str={number}")
}

/// Answers until it is unplugged, and keeps a copy of what was asked.
pub fn serve(cable: &Cable, mut copy: File, started: Instant, watch: &Watch) {
    let mut frame = vec![0; LONGEST];
    while let Ok(length @ 1..) = cable.socket.recv(&mut frame) {
        let at = started.elapsed();
        watch.tell(|seen| seen.first_frame = seen.first_frame.or(Some(at)));
        let (answers, asked) = cable.peer().on(&frame[..length], at);
        let count = answers.len();
        // A guest that doesn't take them is the story's business.
        answers.iter().for_each(|answer| drop(cable.socket.send(answer)));
        let Some(what) = asked else { continue };
        watch.tell(|seen| {
            let heard = Heard { number: seen.heard.len(), at, what };
            let _ = writeln!(copy, "{heard}: {count} answers");
            seen.heard.push(heard);
        });
    }
}

impl fmt::Display for Heard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:8.3} {:?}", self.at.as_secs_f64(), self.what)
    }
}

#[cfg(test)]
mod tests;
