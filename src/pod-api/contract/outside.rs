//! The world: a fake that holds a zone and some open ports, takes letters, and can be silent.

use std::collections::{HashMap, HashSet};
use std::future::pending;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::config::mail::Mail;
use crate::mail::{self, Letter, Mailer, Sent};
use crate::network::dns::Dns;
use crate::network::ports::Ports;
use crate::network::records::{Data, Kind};
use crate::network::{Answer, Outside};

/// Empty at first.
#[derive(Default)]
pub struct FakeOutside(Mutex<State>);

#[derive(Default)]
pub struct State {
    pub zone: HashMap<String, Vec<Data>>,
    pub open: HashSet<SocketAddr>,
    /// Nothing is ever answered.
    pub is_silent: bool,
    /// How often each name was asked for.
    pub asked: HashMap<String, usize>,
    /// How many wait for an answer.
    pub waiting: usize,
    /// The letters that were sent.
    pub letters: Vec<Letter>,
    /// The mail server takes none.
    pub refuses_letters: bool,
}

struct Seen(Arc<FakeOutside>);

/// Somebody waits.
struct Waiting<'a>(&'a FakeOutside);

impl FakeOutside {
    /// As the Pod sees it.
    pub fn seen(outside: &Arc<FakeOutside>) -> Outside {
        let seen = || Box::new(Seen(outside.clone()));
        Outside::new(seen(), seen(), seen())
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// Adds a record.
    pub fn says(&self, name: &str, data: Data) {
        self.state().zone.entry(name.to_owned()).or_default().push(data);
    }

    /// The letters that were sent to somebody.
    pub fn letters_to(&self, address: &str) -> Vec<Letter> {
        let state = self.state();
        let theirs = state.letters.iter().filter(|letter| letter.to.to_string() == address);
        theirs.cloned().collect()
    }

    async fn answer<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        self.answer_mut(|state| look(state)).await
    }

    async fn answer_mut<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        if self.state().is_silent {
            self.state().waiting += 1;
            let _waiting = Waiting(self);
            pending::<()>().await;
        }
        look(&mut self.state())
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.state().waiting -= 1;
    }
}

impl Dns for Seen {
    fn look_up<'a>(&'a self, name: &'a str, kind: Kind) -> Answer<'a, Vec<Data>> {
        *self.0.state().asked.entry(name.to_owned()).or_default() += 1;
        Box::pin(self.0.answer(move |state| {
            let all = state.zone.get(name).cloned().unwrap_or_default();
            all.into_iter().filter(|data| data.kind() == kind).collect()
        }))
    }
}

impl Mailer for Seen {
    fn send<'a>(&'a self, by: &'a Mail, letter: Letter) -> Sent<'a> {
        Box::pin(self.0.answer_mut(move |state| {
            if state.refuses_letters {
                let server = format!("{}:{}", by.host, by.port);
                return Err(mail::Error { server, cause: "permanent error (550)".into() });
            }
            state.letters.push(letter);
            Ok(())
        }))
    }
}

impl Ports for Seen {
    fn is_open(&self, at: SocketAddr) -> Answer<'_, bool> {
        Box::pin(self.0.answer(move |state| state.open.contains(&at)))
    }
}
