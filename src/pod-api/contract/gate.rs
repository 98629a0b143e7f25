//! init: a fake that enforces its side of the rotation. It believes nothing: it opens the gate after
//! the Server itself has refused the old secret and taken the new one.

use std::mem;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use appliance::secret::Secret;
use appliance::settings::Settings;
use tokio::time::sleep;

use super::server::FakeServer;
use super::vault::Vault;
use crate::init::{Answer, Credentials, Error, Init};
use crate::secret;

/// PID 1.
pub struct FakeInit {
    state: Mutex<State>,
    server: Arc<FakeServer>,
    /// What it keeps.
    pub vault: Vault,
}

#[derive(Default)]
pub struct State {
    pub credentials: Credentials,
    pub is_open: bool,
    /// The next settings are refused.
    pub is_busy: bool,
    /// So long after they were accepted, they are loaded.
    pub loads_after: Duration,
    /// What was submitted.
    pub settings: Vec<Settings>,
}

impl FakeInit {
    pub fn new(bootstrap: &str, server: Arc<FakeServer>) -> FakeInit {
        let bootstrap = Some(secret::of(bootstrap));
        let credentials = Credentials { bootstrap, ..Credentials::default() };
        FakeInit {
            state: Mutex::new(State { credentials, ..State::default() }),
            server,
            vault: Vault::default(),
        }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// What a Server that is started now is given: a function of the gate.
    pub fn secret_of_a_new_server(&self) -> String {
        let state = self.state();
        let credentials = &state.credentials;
        let secret = if state.is_open { &credentials.current } else { &credentials.bootstrap };
        secret.as_ref().unwrap().reveal().to_owned()
    }

    fn prove(&self) -> Result<(), Error> {
        let mut state = self.state();
        let Some(pending) = state.credentials.pending.clone() else {
            // Said again by one that was started again: nothing is left to do.
            return match state.is_open {
                true => Ok(()),
                false => Err(Error::Refused("the end of the rotation", "none is pending".into())),
            };
        };
        let server = self.server.state();
        if server.is_down {
            return Err(Error::Refused("the end of the rotation", "the Server is away".into()));
        }
        if server.secret != pending.reveal() {
            return Err(Error::Refused("the end of the rotation", "it isn't proved".into()));
        }
        drop(server);
        state.credentials.current = Some(pending);
        state.credentials.pending = None;
        state.is_open = true;
        Ok(())
    }
}

impl Init for FakeInit {
    fn credentials(&self) -> Result<Credentials, Error> {
        Ok(self.state().credentials.clone())
    }

    fn rotation_pending<'a>(&'a self, secret: &'a Secret) -> Answer<'a> {
        Box::pin(async move {
            self.state().credentials.pending = Some(secret.clone());
            Ok(())
        })
    }

    fn rotation_done(&self) -> Answer<'_> {
        Box::pin(async move { self.prove() })
    }

    /// Some time after they were accepted, the Server has the host.
    fn settings<'a>(&'a self, settings: &'a Settings) -> Answer<'a> {
        Box::pin(async move {
            let mut state = self.state();
            if mem::take(&mut state.is_busy) {
                return Err(Error::Refused("the settings", "it is busy".into()));
            }
            state.settings.push(settings.clone());
            let (loads_after, server) = (state.loads_after, self.server.clone());
            tokio::spawn(async move {
                sleep(loads_after).await;
                server.state().serves = true;
            });
            Ok(())
        })
    }
}
