//! The program's life around the Pod: with a configuration that is wrong it serves next to nothing,
//! and says what is wrong; with one that is right, the API. Then it can only become another API.
//!
//! ```text
//!             wrong              read anew: right
//! start ─┬──────────► degraded ─────────────────► serving ◄──┐ read anew: the new one if it is
//!        └── right ─────────────────────────────────┴────────┘ right, else the last good one
//! ```
//!
//! It is read anew when somebody wants that: `POST /reload`, SIGHUP, another domain. The secret that
//! is shared with the Server is rotated in either: the gate must not depend on any file.

use std::convert::Infallible;
use std::future::pending;
use std::sync::{Arc, Mutex, PoisonError};

use appliance::settings::Domain;
use axum::Router;
use axum::extract::Request;
use axum::response::Response;
use tokio::sync::Notify;
use tower::ServiceExt as _;

use crate::config::{self, Config};
use crate::init::Init;
use crate::network::Outside;
use crate::pod::Pod;
use crate::server::Server;
use crate::store::{Kept, Store};
use crate::{follow, log, onboarding, routes};

/// Reads the configuration; a domain was chosen, maybe.
pub type Load = Box<dyn Fn(Option<&Domain>) -> Result<Config, config::Error> + Send + Sync>;

/// What a Pod is made of, whatever its configuration is.
pub struct App {
    /// The Server.
    pub server: Arc<dyn Server>,
    /// Who makes its configuration.
    pub init: Arc<dyn Init>,
    /// The database.
    pub store: Store,
    /// The operator's word.
    pub load: Load,
    /// The world, as one with this configuration asks about it.
    pub outside: fn(&Config) -> Outside,
    /// Where requests come from.
    pub desk: Desk,
}

/// Has requests answered in the way of the moment.
#[derive(Clone)]
pub struct Desk {
    current: Arc<Mutex<Router>>,
    reload: Arc<Notify>,
}

impl Desk {
    /// Nobody is there yet.
    pub fn new() -> Desk {
        Desk { current: Arc::default(), reload: Arc::default() }
    }

    /// Has the configuration read anew, soon.
    pub fn reload(&self) {
        self.reload.notify_one();
    }

    /// To be served for ever.
    pub fn router(&self) -> Router {
        let desk = self.clone();
        Router::new().fallback(async move |request: Request| desk.answer(request).await)
    }

    async fn answer(&self, request: Request) -> Response {
        let current = self.locked(|current| current.clone());
        // A router has an answer to everything.
        let Ok(response) = current.oneshot(request).await;
        response
    }

    fn locked<T>(&self, look: impl FnOnce(&mut Router) -> T) -> T {
        look(&mut self.current.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl App {
    /// For ever.
    pub async fn run(self, kept: Kept) -> Infallible {
        let config = tokio::select! {
            config = self.until_right(kept.domain.as_ref()) => config,
            never = self.log_in() => match never {},
        };
        let outside = (self.outside)(&config);
        let pod = Pod::new(config, self.store.clone(), kept, self.init.clone(), outside);
        let mut pod = Arc::new(pod.at(self.desk.clone()));
        loop {
            self.desk.locked(|current| *current = routes::router(pod.clone()));
            let config = tokio::select! {
                config = self.next(&pod) => config,
                never = self.follow(&pod) => match never {},
            };
            let outside = (self.outside)(&config);
            pod = Arc::new(pod.reconfigured(config, outside).await);
            log::info("the configuration was read anew");
        }
    }

    async fn until_right(&self, chosen: Option<&Domain>) -> Config {
        loop {
            match (self.load)(chosen) {
                Ok(config) => return config,
                Err(error) => {
                    log::error(&error);
                    let why = error.to_string();
                    let degraded = routes::degraded(self.desk.clone(), &why);
                    self.desk.locked(|current| *current = degraded);
                }
            }
            self.desk.reload.notified().await;
        }
    }

    /// The next one that is right.
    async fn next(&self, pod: &Pod) -> Config {
        loop {
            self.desk.reload.notified().await;
            match (self.load)(pod.chosen_domain().as_ref()) {
                Ok(config) => return config,
                Err(error) => {
                    log::error(error);
                    log::warn("the last good configuration goes on");
                }
            }
        }
    }

    /// Once, and then nothing more.
    async fn log_in(&self) -> Infallible {
        follow::log_in(&self.server, &*self.init).await;
        pending().await
    }

    async fn follow(&self, pod: &Arc<Pod>) -> Infallible {
        tokio::join!(follow::follow(pod, self.server.clone()), onboarding::probe(pod)).0
    }
}
