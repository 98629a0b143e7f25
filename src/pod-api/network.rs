//! How the world reaches the Pod: what DNS must say of it, whether DNS does, and whether its ports
//! can be reached.
//!
//! ```text
//! Setup ── steps ──► Step, Record ── checks ──► Check ── run (Outside) ──► Status
//! ```

pub mod checks;
pub mod dns;
pub mod ports;
pub mod records;

use std::pin::Pin;

use appliance::settings::Domain;
use tokio::sync::Semaphore;

use crate::config::network::{Address, Checks};
use crate::config::{Config, ServerConfig};
use crate::mail::Mailer;
use crate::mail::smtp::{AUTHORITIES, Smtp};
use dns::{Authorities, Dns};
use ports::{Ports, Tcp};

/// The most checks that are attempted at a time, of all who ask: each holds a few sockets, and
/// requests need some too.
pub const MOST_ATTEMPTS: usize = 32;

/// Something that is looked up out there.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What is asked about the world, and sent into it; another one in tests.
pub struct Outside {
    /// What the world is told of names.
    pub dns: Box<dyn Dns>,
    /// What the world can connect to.
    pub ports: Box<dyn Ports>,
    /// Who sends letters there.
    pub mailer: Box<dyn Mailer>,
    /// Places for attempts.
    attempts: Semaphore,
}

/// The part of the configuration that DNS has to agree with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setup {
    /// The Server's domain.
    pub domain: Domain,
    /// Where the Pod is.
    pub address: Address,
    /// Do other servers talk to it?
    pub is_federated: bool,
}

impl Outside {
    /// This one.
    pub fn real(times: &Checks) -> Outside {
        let dns = Authorities::new(times.retry_timeout, times.dns_cache_ttl);
        Outside::new(Box::new(dns), Box::new(Tcp), Box::new(Smtp::trusting(AUTHORITIES)))
    }

    /// One that answers so.
    pub fn new(dns: Box<dyn Dns>, ports: Box<dyn Ports>, mailer: Box<dyn Mailer>) -> Outside {
        Outside { dns, ports, mailer, attempts: Semaphore::new(MOST_ATTEMPTS) }
    }
}

impl Setup {
    /// Of a Pod whose Server is configured so.
    pub fn of(config: &Config, server: &ServerConfig) -> Setup {
        Setup {
            domain: server.domain.clone(),
            address: config.pod.clone(),
            is_federated: server.defaults.federation_enabled,
        }
    }
}
