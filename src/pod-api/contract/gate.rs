//! init: a fake that enforces its side of the rotation. It believes nothing: it opens the gate after
//! the Server itself has refused the old secret and taken the new one.

use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use appliance::control::{SettingsState, SettingsStep};
use appliance::secret::Secret;
use appliance::settings::{Certificate, Place, Prosody, Settings, render};
use tokio::time::sleep;

use super::server::FakeServer;
use crate::init::{Answer, Credentials, Error, Init};
use crate::secret;

/// PID 1.
pub struct FakeInit {
    state: Mutex<State>,
    server: Arc<FakeServer>,
    me: Weak<FakeInit>,
}

#[derive(Default)]
pub struct State {
    pub credentials: Credentials,
    pub is_open: bool,
    /// The next settings are refused.
    pub is_busy: bool,
    /// So long after they were accepted, they are loaded.
    pub loads_after: Duration,
    /// Settings that are submitted from now on are refused, a while later.
    pub refuses: bool,
    /// The Server is started anew for those that are loaded.
    pub restarts: bool,
    /// Does the operator allow Lua?
    pub may_hold_lua: bool,
    /// What was submitted.
    pub settings: Vec<Settings>,
    /// What became of the last of them.
    step: Option<SettingsStep>,
}

impl FakeInit {
    pub fn new(bootstrap: &str, server: Arc<FakeServer>) -> Arc<FakeInit> {
        let bootstrap = Some(secret::of(bootstrap));
        let credentials = Credentials { bootstrap, ..Credentials::default() };
        let state = Mutex::new(State { credentials, ..State::default() });
        Arc::new_cyclic(|me| FakeInit { state, server, me: me.clone() })
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
            if settings.prosody_overrides_raw.is_some() && !state.may_hold_lua {
                return Err(Error::Refused("the settings", "they hold Lua".into()));
            }
            state.settings.push(settings.clone());
            let number = state.settings.len();
            state.step = Some(SettingsStep::Rendering);
            let (loads_after, refuses) = (state.loads_after, mem::take(&mut state.refuses));
            let domain = settings.domain.to_string();
            let (restarts, me) = (mem::take(&mut state.restarts), self.me.clone());
            tokio::spawn(async move {
                sleep(loads_after).await;
                let Some(init) = me.upgrade() else { return };
                if init.state().settings.len() != number {
                    return;
                }
                if restarts {
                    init.server.go_down();
                    init.state().step = Some(SettingsStep::Loading);
                    sleep(Duration::from_millis(100)).await;
                    init.server.restart(&init.secret_of_a_new_server());
                }
                if !refuses {
                    let mut server = init.server.state();
                    server.serves = true;
                    server.host = domain;
                }
                let step = if refuses { SettingsStep::Refused } else { SettingsStep::Applied };
                init.state().step = Some(step);
            });
            Ok(())
        })
    }

    fn settings_state(&self) -> Answer<'_, SettingsState> {
        Box::pin(async move {
            let state = self.state();
            let step = state.step.unwrap_or(SettingsStep::None);
            Ok(SettingsState {
                of: state.settings.last().map(Settings::digest),
                step,
                why: (step == SettingsStep::Refused).then(|| "/tmp/x.lua:7: no".to_owned()),
                may_hold_lua: state.may_hold_lua,
            })
        })
    }

    fn server_file(&self) -> Answer<'_, Option<String>> {
        Box::pin(async move {
            let state = self.state();
            let place = Place::appliance(Prosody::V13_0, Certificate::self_signed());
            let is_there = state.step == Some(SettingsStep::Applied);
            Ok(state.settings.last().filter(|_| is_there).map(|it| render(it, &place)))
        })
    }
}
