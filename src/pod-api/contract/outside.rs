//! The world: a fake that holds a zone and some open ports, and can be silent.

use std::collections::{HashMap, HashSet};
use std::future::pending;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

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
}

struct Seen(Arc<FakeOutside>);

/// Somebody waits.
struct Waiting<'a>(&'a FakeOutside);

impl FakeOutside {
    /// As the Pod sees it.
    pub fn seen(outside: &Arc<FakeOutside>) -> Outside {
        Outside::new(Box::new(Seen(outside.clone())), Box::new(Seen(outside.clone())))
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// Adds a record.
    pub fn says(&self, name: &str, data: Data) {
        self.state().zone.entry(name.to_owned()).or_default().push(data);
    }

    async fn answer<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        if self.state().is_silent {
            self.state().waiting += 1;
            let _waiting = Waiting(self);
            pending::<()>().await;
        }
        look(&self.state())
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

impl Ports for Seen {
    fn is_open(&self, at: SocketAddr) -> Answer<'_, bool> {
        Box::pin(self.0.answer(move |state| state.open.contains(&at)))
    }
}
