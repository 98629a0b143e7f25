//! The client's side of DHCP, as a pure state machine: time and packets in, queries and reports out.
//!
//! ```text
//! Selecting ── offer ──► Requesting ── ack ──► Bound ── T1 ──► Renewing ── ack ──► Bound
//!     ▲                     │ nak, no answer                      │ nak, run out
//!     └─────────────────────┴─────────────────────────────────────┘
//! ```
//!
//! Renewing asks everybody, as RFC 2131 does when rebinding, not the server alone: the socket can
//! speak only to everybody, and the server is among them.

use std::net::Ipv4Addr;
use std::time::Duration;

use crate::clock::Moment;
use crate::dhcp::message::{Answer, Kind, Query};
use crate::dhcp::report::{Lease, MOST_SERVERS, Report, is_host};

/// The wait after a first query; it doubles each time.
const FIRST_WAIT: Duration = Duration::from_secs(4);
/// The longest wait while there is no lease.
const LONGEST_WAIT: Duration = Duration::from_secs(64);
/// An offer whose taking isn't answered for so long is forgotten.
const PATIENCE: Duration = Duration::from_secs(16);
/// The shortest wait while a lease is renewed; of a short lease it is an eighth, so that one packet
/// that gets lost doesn't cost the address.
const RENEW_WAIT: Duration = Duration::from_secs(60);
/// A server that wants to be asked again sooner, in seconds, isn't obeyed.
const SOONEST_RENEWAL: u32 = 5;

/// What shall be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Send this.
    Send(Query),
    /// Tell PID 1.
    Tell(Report),
}

/// One interface's client.
#[derive(Debug)]
pub struct Client {
    mac: [u8; 6],
    host: String,
    /// Of the transaction's number, and of jitter.
    random: u32,
    transaction: u32,
    stage: Stage,
    /// When [`Client::on_time`] is due.
    deadline: Moment,
    /// When the last query was sent: a lease counts from there.
    asked: Moment,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Stage {
    Selecting { wait: Duration },
    Requesting { address: Ipv4Addr, server: Ipv4Addr, wait: Duration },
    Bound(Held),
    Renewing(Held),
}

/// A lease, its end, and the shortest wait while it is renewed.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Held {
    address: Ipv4Addr,
    until: Moment,
    wait: Duration,
}

impl Client {
    /// One that will begin at once. `random` must be another in each boot and machine.
    pub fn new(mac: [u8; 6], host: String, random: u32) -> Client {
        let stage = Stage::Selecting { wait: FIRST_WAIT };
        let (deadline, asked) = (Moment::ZERO, Moment::ZERO);
        Client { mac, host, random: random | 1, transaction: 0, stage, deadline, asked }
    }

    /// When [`Client::on_time`] is due.
    pub fn deadline(&self) -> Moment {
        self.deadline
    }

    /// The deadline has come.
    pub fn on_time(&mut self, now: Moment) -> Vec<Action> {
        match self.stage.clone() {
            Stage::Selecting { wait } => self.discover(now, wait),
            Stage::Requesting { wait, .. } if wait > PATIENCE => self.discover(now, FIRST_WAIT),
            Stage::Requesting { address, server, wait } => self.request(now, address, server, wait),
            Stage::Bound(held) | Stage::Renewing(held) if held.until <= now => self.lost(now),
            Stage::Bound(held) => {
                self.transaction = self.draw();
                self.renew(now, held)
            }
            Stage::Renewing(held) => self.renew(now, held),
        }
    }

    /// An answer came, perhaps to somebody else.
    pub fn on_answer(&mut self, now: Moment, answer: &Answer) -> Vec<Action> {
        if (answer.transaction, answer.mac) != (self.transaction, self.mac) {
            return vec![];
        }
        match (&self.stage, answer.kind) {
            // What could not become a lease isn't asked for: somebody else may offer better.
            (Stage::Selecting { .. }, Kind::Offer) => {
                match (lease(answer), answer.options.server) {
                    (Some(lease), Some(server)) => {
                        self.request(now, lease.address, server, FIRST_WAIT)
                    }
                    _ => vec![],
                }
            }
            (Stage::Requesting { .. } | Stage::Renewing(_), Kind::Ack) => self.bind(answer),
            (Stage::Requesting { .. }, Kind::Nak) => {
                // Not at once: the server that says no may say it for ever.
                self.stage = Stage::Selecting { wait: FIRST_WAIT };
                self.wait(now, FIRST_WAIT);
                vec![]
            }
            (Stage::Renewing(_), Kind::Nak) => self.lost(now),
            _ => vec![],
        }
    }

    fn discover(&mut self, now: Moment, wait: Duration) -> Vec<Action> {
        self.transaction = self.draw();
        self.stage = Stage::Selecting { wait: (wait * 2).min(LONGEST_WAIT) };
        self.wait(now, wait);
        vec![self.query(now, Kind::Discover, None, None)]
    }

    fn request(
        &mut self,
        now: Moment,
        address: Ipv4Addr,
        server: Ipv4Addr,
        wait: Duration,
    ) -> Vec<Action> {
        self.stage = Stage::Requesting { address, server, wait: wait * 2 };
        self.wait(now, wait);
        vec![self.query(now, Kind::Request, None, Some((address, server)))]
    }

    fn renew(&mut self, now: Moment, held: Held) -> Vec<Action> {
        let left = held.until.saturating_sub(now);
        self.deadline = now + (left / 2).max(held.wait).min(left);
        let address = held.address;
        self.stage = Stage::Renewing(held);
        vec![self.query(now, Kind::Request, Some(address), None)]
    }

    fn bind(&mut self, answer: &Answer) -> Vec<Action> {
        let Some(lease) = lease(answer) else { return vec![] };
        let seconds = Duration::from_secs(lease.seconds.into());
        let renew_after = answer.options.renew_after;
        let renew_after = renew_after.filter(|s| (SOONEST_RENEWAL..lease.seconds).contains(s));
        let renew_after = renew_after.map(|s| Duration::from_secs(s.into()));
        self.deadline = self.asked + renew_after.unwrap_or(seconds / 2);
        let (until, wait) = (self.asked + seconds, RENEW_WAIT.min(seconds / 8));
        self.stage = Stage::Bound(Held { address: lease.address, until, wait });
        vec![Action::Tell(Report::Lease(lease))]
    }

    fn lost(&mut self, now: Moment) -> Vec<Action> {
        let mut actions = vec![Action::Tell(Report::Lost)];
        actions.extend(self.discover(now, FIRST_WAIT));
        actions
    }

    fn query(
        &mut self,
        now: Moment,
        kind: Kind,
        renews: Option<Ipv4Addr>,
        takes: Option<(Ipv4Addr, Ipv4Addr)>,
    ) -> Action {
        self.asked = now;
        let (transaction, mac, host) = (self.transaction, self.mac, self.host.clone());
        Action::Send(Query { kind, transaction, mac, host, renews, takes })
    }

    /// For so long, give or take a second: machines that started together shall not ask together.
    fn wait(&mut self, now: Moment, wait: Duration) {
        let jitter = Duration::from_millis(u64::from(self.draw() >> 8) % 2000);
        self.deadline = now + wait - Duration::from_secs(1) + jitter;
    }

    /// Xorshift: spreads a seed that is random once.
    fn draw(&mut self) -> u32 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 17;
        self.random ^= self.random << 5;
        self.random
    }
}

/// The lease in an offer or ack that has all of one, and that PID 1 would accept.
fn lease(answer: &Answer) -> Option<Lease> {
    let (address, options) = (answer.address, &answer.options);
    // A router or server that is no host's address isn't worth the lease.
    let servers = |servers: &[Ipv4Addr]| {
        servers.iter().copied().filter(|server| is_host(*server)).take(MOST_SERVERS).collect()
    };
    let lease = Lease {
        address,
        prefix: options.prefix?,
        router: options.router.filter(|router| is_host(*router) && *router != address),
        dns: servers(&options.dns),
        time: servers(&options.time),
        seconds: options.seconds?,
    };
    lease.check().is_ok().then_some(lease)
}

#[cfg(test)]
mod tests;
