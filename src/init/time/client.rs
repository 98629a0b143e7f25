//! The client's side of SNTP, as a pure state machine: time and packets in, queries and reports
//! out.
//!
//! After an answer the next query waits for 64 s, and then twice as long each time up to 1024 s; an
//! odd offset starts that anew. An unanswered one is repeated after 8 s, and so on. A server that
//! says "less" ([`Answer::Kiss`]) is asked less, and one that says "not you" not at all.

use std::time::Duration;

use crate::clock::Moment;
use crate::time::message::{self, Answer};
use crate::time::report::{LONGEST_DELAY, Measured, Report};

/// The wait after a query that nobody answers; it doubles each time.
const FIRST_WAIT: Duration = Duration::from_secs(8);
/// The waits after answers.
const SHORTEST_POLL: Duration = Duration::from_secs(64);
const LONGEST_POLL: Duration = Duration::from_secs(1024);
/// After so many queries in vain the server is called silent.
const PATIENCE: u32 = 4;
/// An offset that is worth looking at again soon, in microseconds.
pub const ODD: u64 = 500_000;
/// For ever.
const NEVER: Duration = Duration::from_secs(u32::MAX as u64);

/// What shall be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Send the query with this nonce.
    Send(u64),
    /// Tell PID 1.
    Tell(Report),
}

/// One server's client.
#[derive(Debug)]
pub struct Client {
    /// No date is earlier, in seconds since 1970.
    floor: u64,
    asked: Option<Asked>,
    unanswered: u32,
    poll: Duration,
    deadline: Moment,
}

/// A query under way.
#[derive(Debug, Clone, Copy)]
struct Asked {
    nonce: u64,
    at: Moment,
    /// This machine's date then.
    date: Duration,
}

impl Client {
    /// One that will begin at once.
    pub fn new(floor: u64) -> Client {
        let (poll, deadline) = (SHORTEST_POLL, Moment::ZERO);
        Client { floor, asked: None, unanswered: 0, poll, deadline }
    }

    /// When [`Client::on_time`] is due.
    pub fn deadline(&self) -> Moment {
        self.deadline
    }

    /// The deadline has come. `nonce` must be one that nobody can guess.
    pub fn on_time(&mut self, now: Moment, date: Duration, nonce: u64) -> Vec<Action> {
        let mut actions = vec![];
        if self.asked.is_some() {
            self.unanswered = self.unanswered.saturating_add(1);
            if self.unanswered.is_multiple_of(PATIENCE) {
                actions.push(Action::Tell(Report::Silent));
            }
        }
        self.asked = Some(Asked { nonce, at: now, date });
        let wait = FIRST_WAIT.saturating_mul(2u32.saturating_pow(self.unanswered));
        self.deadline = now + wait.min(LONGEST_POLL);
        actions.push(Action::Send(nonce));
        actions
    }

    /// A packet came, perhaps from somebody else.
    pub fn on_packet(&mut self, now: Moment, packet: &[u8]) -> Vec<Action> {
        let Some(asked) = self.asked else { return vec![] };
        let Some(answer) = message::answer(packet, asked.nonce) else { return vec![] };
        self.asked = None;
        self.unanswered = 0;
        let (told, poll) = match answer {
            Answer::Time { stratum, received, sent } => {
                let stamps = [received, sent].map(|stamp| stamp.date(self.floor));
                let measured = measure(asked, now, stamps, stratum);
                (measured.map(Report::Measured), self.poll_after(measured))
            }
            Answer::Kiss([b'D', b'E', b'N', b'Y'] | [b'R', b'S', b'T', b'R']) => {
                (Some(Report::Denied), NEVER)
            }
            Answer::Kiss(_) => (None, LONGEST_POLL),
        };
        self.deadline = now + poll;
        self.poll = (poll * 2).min(LONGEST_POLL);
        told.map(Action::Tell).into_iter().collect()
    }

    fn poll_after(&self, measured: Option<Measured>) -> Duration {
        let is_odd = |measured: Measured| measured.offset.unsigned_abs() > ODD;
        if measured.is_none_or(is_odd) { SHORTEST_POLL } else { self.poll }
    }
}

/// The clock's offset, from when a query went and its answer came by our clock, and by the
/// server's: `None`, if that makes no sense.
fn measure(
    asked: Asked,
    now: Moment,
    [received, sent]: [i128; 2],
    stratum: u8,
) -> Option<Measured> {
    let micros = |time: Duration| i128::try_from(time.as_micros()).ok();
    let (went, elapsed) = (micros(asked.date)?, micros(now.saturating_sub(asked.at))?);
    let came = went + elapsed;
    let offset = i64::try_from(((received - went) + (sent - came)) / 2).ok()?;
    // A server may be slower than the clock is fine, but not the other way round by much.
    let delay = u64::try_from((elapsed - (sent - received)).max(0)).ok()?;
    let makes_sense = sent >= received && sent - received <= elapsed + 1_000;
    (makes_sense && delay <= LONGEST_DELAY).then_some(Measured { offset, delay, stratum })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::message::tests::{NONCE, packet};

    const FLOOR: u64 = 1_600_000_000;

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// Asks at `now`, by a clock that is `behind` the server's, and hears after 1 s.
    fn asks(client: &mut Client, now: u64, behind: i64) -> Vec<Action> {
        let date = s((1_700_000_000 - behind) as u64);
        client.on_time(s(now), date, NONCE);
        client.on_packet(s(now + 1), &packet(1_700_000_000, 2))
    }

    fn offset(actions: &[Action]) -> i64 {
        match actions {
            [Action::Tell(Report::Measured(measured))] => measured.offset,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_offset_is_measured_between_the_middles() {
        // The server's stamps are 0.5 s apart, ours 1 s: its middle is 0.25 s after its first.
        for (behind, expected) in [(0, -250_000), (10, 9_750_000), (-10, -10_250_000)] {
            let actions = asks(&mut Client::new(FLOOR), 5, behind);
            assert_eq!(offset(&actions), expected, "{behind}");
            let expected = Measured { offset: expected, delay: 500_000, stratum: 2 };
            assert_eq!(actions, [Action::Tell(Report::Measured(expected))]);
        }
        // A clock in 2099, and one in 1970.
        for behind in [-2_370_908_800, 1_700_000_000] {
            let actions = asks(&mut Client::new(FLOOR), 5, behind);
            assert_eq!(offset(&actions), behind * 1_000_000 - 250_000);
        }
    }

    #[test]
    fn polls_become_rarer_and_an_odd_offset_makes_them_frequent() {
        let mut client = Client::new(FLOOR);
        let mut waits = vec![];
        for behind in [0, 0, 0, 0, 0, 0, 9, 0, 0] {
            let now = client.deadline().as_secs() + 1;
            asks(&mut client, now, behind);
            waits.push(client.deadline().as_secs() - now - 1);
        }
        assert_eq!(waits, [64, 128, 256, 512, 1024, 1024, 64, 128, 256]);
    }

    #[test]
    fn silence_is_told_and_met_with_patience() {
        let mut client = Client::new(FLOOR);
        let (mut now, mut waits, mut told) = (s(0), vec![], vec![]);
        for _ in 0..9 {
            told.push(client.on_time(now, s(0), NONCE).len() - 1);
            waits.push((client.deadline() - now).as_secs());
            now = client.deadline();
        }
        assert_eq!(waits, [8, 16, 32, 64, 128, 256, 512, 1024, 1024]);
        assert_eq!(told, [0, 0, 0, 0, 1, 0, 0, 0, 1]);
    }

    #[test]
    fn a_kiss_of_death_is_respected() {
        for (code, told, wait) in [
            (b"DENY", vec![Action::Tell(Report::Denied)], NEVER),
            (b"RSTR", vec![Action::Tell(Report::Denied)], NEVER),
            (b"RATE", vec![], LONGEST_POLL),
            (b"XXXX", vec![], LONGEST_POLL),
        ] {
            let mut client = Client::new(FLOOR);
            client.on_time(s(1), s(0), NONCE);
            let mut kiss = packet(0, 0);
            kiss[12..16].copy_from_slice(code);
            assert_eq!(client.on_packet(s(2), &kiss), told);
            assert_eq!(client.deadline(), s(2) + wait);
        }
    }

    #[test]
    fn nothing_is_believed_that_was_not_asked_for() {
        let mut client = Client::new(FLOOR);
        let packet = packet(1_700_000_000, 2);
        assert_eq!(client.on_packet(s(1), &packet), []);
        client.on_time(s(1), s(0), NONCE + 1);
        assert_eq!(client.on_packet(s(1), &packet), []);
        client.on_time(s(2), s(0), NONCE);
        assert_eq!(client.on_packet(s(3), &packet).len(), 1);
        assert_eq!(client.on_packet(s(3), &packet), [], "twice");
    }
}
