//! Does a service that was ready still serve? From time to time it is asked something, and whoever
//! doesn't answer in time is hung. A port that merely accepts proves nothing: the kernel does that
//! for a process that never runs again.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::time::Duration;

use appliance::service::Alive;

use crate::clock::Moment;

/// On loopback a connection is there at once, or not to be had now.
const CONNECT_WITHIN: Duration = Duration::from_millis(5);
/// Nobody there, or closed without an answer: ask again, while there is time.
const AGAIN_IN: Duration = Duration::from_secs(1);

/// The questions to one service.
#[derive(Debug)]
pub struct Pulse {
    alive: Alive,
    /// When to ask next; `None` while it isn't to be asked, or an answer is outstanding.
    ask_at: Option<Moment>,
    /// By when it must have answered, once it was asked.
    answer_by: Option<Moment>,
    /// Where the answer will come.
    question: Option<TcpStream>,
}

impl Pulse {
    /// Asks nothing yet.
    pub fn of(alive: Alive) -> Pulse {
        Pulse { alive, ask_at: None, answer_by: None, question: None }
    }

    /// It is ready: from now on it is asked.
    pub fn begin(&mut self, now: Moment) {
        self.answer_by = None;
        self.question = None;
        self.ask_at = Some(now + self.alive.every.into());
    }

    /// It ended.
    pub fn end(&mut self) {
        (self.ask_at, self.answer_by, self.question) = (None, None, None);
    }

    /// When [`Pulse::is_hung`] is worth asking.
    pub fn deadline(&self) -> Option<Moment> {
        self.ask_at.into_iter().chain(self.answer_by).min()
    }

    /// Where an answer may come.
    pub fn answer(&self) -> Option<BorrowedFd<'_>> {
        self.question.as_ref().map(TcpStream::as_fd)
    }

    /// There is an answer, or the end of the connection. What it says doesn't matter.
    pub fn on_answer(&mut self, now: Moment) {
        let Some(mut question) = self.question.take() else { return };
        match question.read(&mut [0; 16]) {
            Ok(1..) => self.begin(now),
            _ => self.ask_at = Some(now + AGAIN_IN),
        }
    }

    /// Asks, if it is time to. True, and asked no more: it gave no answer in time.
    pub fn is_hung(&mut self, now: Moment) -> bool {
        if self.answer_by.is_some_and(|moment| moment <= now) {
            self.end();
            return true;
        }
        if self.ask_at.take_if(|moment| *moment <= now).is_some() {
            self.answer_by.get_or_insert(now + self.alive.within.into());
            self.question = self.ask();
            self.ask_at = self.question.is_none().then(|| now + AGAIN_IN);
        }
        false
    }

    fn ask(&self) -> Option<TcpStream> {
        let loopback = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        let mut open = loopback.into_iter().filter_map(|address| {
            let address = SocketAddr::new(address, self.alive.tcp);
            TcpStream::connect_timeout(&address, CONNECT_WITHIN).ok()
        });
        let mut question = open.next()?;
        question.set_nonblocking(true).ok()?;
        question.write_all(self.alive.send.as_bytes()).ok()?;
        Some(question)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use appliance::service::Millis;
    use std::net::TcpListener;

    fn at(seconds: u64) -> Moment {
        Moment::from_secs(seconds)
    }

    fn pulse(tcp: u16) -> Pulse {
        let alive =
            Alive { tcp, send: "hello?".into(), every: Millis(60_000), within: Millis(30_000) };
        Pulse::of(alive)
    }

    #[test]
    fn who_answers_is_asked_again_later() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut pulse = pulse(listener.local_addr().unwrap().port());
        assert_eq!(pulse.deadline(), None);
        pulse.begin(at(0));
        assert_eq!(pulse.deadline(), Some(at(60)));
        assert!(!pulse.is_hung(at(60)));
        assert_eq!(pulse.deadline(), Some(at(90)));
        let (mut server, _) = listener.accept().unwrap();
        let mut heard = [0; 6];
        server.read_exact(&mut heard).unwrap();
        assert_eq!(&heard, b"hello?");
        server.write_all(b"yes").unwrap();
        pulse.on_answer(at(61));
        assert_eq!((pulse.deadline(), pulse.answer().is_some()), (Some(at(121)), false));
    }

    #[test]
    fn who_only_lets_the_kernel_accept_is_hung() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut pulse = pulse(listener.local_addr().unwrap().port());
        pulse.begin(at(0));
        assert!(!pulse.is_hung(at(60)) && pulse.answer().is_some());
        assert!(!pulse.is_hung(at(89)));
        assert!(pulse.is_hung(at(90)));
        assert_eq!((pulse.deadline(), pulse.answer().is_some()), (None, false));
    }

    #[test]
    fn who_closes_or_refuses_is_asked_until_time_is_up() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut pulse = pulse(listener.local_addr().unwrap().port());
        pulse.begin(at(0));
        assert!(!pulse.is_hung(at(60)));
        drop(listener.accept().unwrap());
        pulse.on_answer(at(61));
        assert_eq!(pulse.deadline(), Some(at(62)));
        drop(listener);
        assert!(!pulse.is_hung(at(62)));
        assert_eq!(pulse.deadline(), Some(at(63)));
        assert!(pulse.is_hung(at(90)));
    }
}
