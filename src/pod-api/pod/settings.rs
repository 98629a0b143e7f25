//! The Server's settings: what holds, and how a change of it takes effect.

use std::time::Duration;

use appliance::control::SettingsStep;
use appliance::settings::{Domain, Settings};
use serde_json::Value;
use tokio::time::{Instant, sleep, timeout};

use super::Pod;
use crate::config::{Defaults, ServerConfig};
use crate::init;
use crate::log;
use crate::problem::Problem;
use crate::settings::{Change, LUA, Setting};

/// Whoever changes a setting is answered by then: the front gives up after 30 s of silence.
const ANSWERED_WITHIN: Duration = Duration::from_secs(25);
/// Of that, for those who change something else to finish.
const TURN_WITHIN: Duration = Duration::from_secs(8);
/// The first pause between two looks at what became of settings, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(400));

/// Why the Server doesn't serve by settings that were accepted.
#[derive(Debug, thiserror::Error)]
enum NotApplied {
    #[error("the Server refuses them: {0}")]
    Refused(String),
    #[error("after a while they are still {0}")]
    Late(String),
    #[error("others were submitted meanwhile")]
    Replaced,
}

impl Pod {
    /// What holds: what admins chose, or else what the operator wrote.
    pub fn server_config(&self) -> ServerConfig {
        self.configured(self.with(|state| state.choices.effective().clone()))
    }

    /// What holds of one setting.
    pub fn setting(&self, setting: Setting) -> Value {
        self.with(|state| state.choices.value(setting))
    }

    /// Submits what holds, whatever was accepted before.
    pub async fn submit_settings(&self) -> Result<(), init::Error> {
        let _settings = self.settings.lock().await;
        self.submit_as_it_is().await
    }

    /// Has a change loaded by the Server, then keeps it; returns when the Server serves by it. If any
    /// of that fails, what held before holds on.
    pub async fn change_settings(&self, change: Change) -> Result<(), Problem> {
        let deadline = Instant::now() + ANSWERED_WITHIN;
        let turn = timeout(TURN_WITHIN, self.settings.lock()).await;
        let turn = turn.map_err(|_| Problem::being_changed())?;
        let settings = change.settings();
        let after = self.with(|state| state.choices.after(change))?;
        let wanted = self.allowed(self.configured(after.effective().clone()).settings()).await?;
        // What was accepted already isn't loaded again.
        if self.with(|state| state.accepted.as_ref() != Some(&wanted)) {
            self.submit(&wanted).await?;
            if let Err(why) = self.applied(&wanted, deadline).await {
                self.take_back().await;
                log::error(format_args!("cannot change settings: {why}"));
                return Err(match why {
                    NotApplied::Refused(_) if settings == [LUA] => Problem::bad_lua(),
                    _ => Problem::not_applied(),
                });
            }
        }
        let rows = settings.iter().map(|it| (it.key(), after.chosen(*it).map(Value::to_string)));
        if let Err(error) = self.store.keep_settings(rows.collect()).await {
            self.take_back().await;
            return Err(error.into());
        }
        self.with(|state| state.choices = after);
        drop(turn);
        // A Server that was started anew for it is to be found again.
        self.linked(deadline).await;
        Ok(())
    }

    /// Has the Server serve another domain, as long as there are no members, and the operator said
    /// none; returns when it does.
    pub async fn choose_domain(&self, domain: Domain) -> Result<(), Problem> {
        let deadline = Instant::now() + ANSWERED_WITHIN;
        let turn = async { (self.setup.lock().await, self.settings.lock().await) };
        let turn = timeout(TURN_WITHIN, turn).await.map_err(|_| Problem::being_changed())?;
        let has_members = self.look(|accounts| accounts.members().next().is_some())?;
        if self.config.is_domain_set || has_members {
            return Err(Problem::domain_already_set());
        }
        if *self.domain() != domain {
            let wanted = ServerConfig { domain: domain.clone(), ..self.server_config() };
            let wanted = self.allowed(wanted.settings()).await?;
            self.submit(&wanted).await?;
            if let Err(why) = self.applied(&wanted, deadline).await {
                self.take_back().await;
                log::error(format_args!("cannot serve {domain}: {why}"));
                return Err(Problem::not_applied());
            }
        }
        if let Err(error) = self.store.keep_domain(&domain).await {
            self.take_back().await;
            return Err(error.into());
        }
        let is_another = *self.domain() != domain;
        self.with(|state| {
            state.domain = Some(domain);
            if is_another {
                // Nobody takes the accounts of the one for those of the other.
                state.link = None;
            }
        });
        drop(turn);
        if is_another {
            self.desk.reload();
            self.linked(deadline).await;
        }
        Ok(())
    }

    /// Until it is in step, or until then.
    async fn linked(&self, deadline: Instant) {
        while !self.is_linked() && Instant::now() < deadline {
            sleep(PAUSES.0).await;
        }
    }

    /// Until the Server serves by these settings; or why it doesn't.
    async fn applied(&self, settings: &Settings, deadline: Instant) -> Result<(), NotApplied> {
        let (of, mut pause) = (settings.digest(), PAUSES.0);
        loop {
            let seen = match self.init.settings_state().await {
                Ok(state) if state.of != Some(of) => return Err(NotApplied::Replaced),
                Ok(state) => match (state.step, state.why) {
                    (SettingsStep::Applied, _) => return Ok(()),
                    (SettingsStep::Refused, why) => {
                        return Err(NotApplied::Refused(why.unwrap_or_default()));
                    }
                    (step, Some(why)) => format!("{step} ({why})"),
                    (step, None) => step.to_string(),
                },
                Err(error) => error.to_string(),
            };
            if Instant::now() + pause > deadline {
                return Err(NotApplied::Late(seen));
            }
            sleep(pause).await;
            pause = PAUSES.1.min(pause * 2);
        }
    }

    /// Submits what held before a change that failed.
    async fn take_back(&self) {
        if let Err(error) = self.submit_as_it_is().await {
            log::error(format_args!("cannot take settings back: {error}"));
        }
    }

    async fn submit_as_it_is(&self) -> Result<(), init::Error> {
        self.submit(&self.allowed(self.server_config().settings()).await?).await
    }

    /// Without Lua that was chosen when the operator allowed it, who doesn't any more.
    async fn allowed(&self, mut settings: Settings) -> Result<Settings, init::Error> {
        if settings.prosody_overrides_raw.is_some() && !self.may_hold_lua().await? {
            log::warn("the Lua that was chosen is left out: the operator does not allow it");
            settings.prosody_overrides_raw = None;
        }
        Ok(settings)
    }

    /// Does the operator allow Lua in settings?
    pub async fn may_hold_lua(&self) -> Result<bool, init::Error> {
        Ok(self.init.settings_state().await?.may_hold_lua)
    }

    async fn submit(&self, settings: &Settings) -> Result<(), init::Error> {
        // Should its answer get lost, it isn't known what it goes by.
        self.with(|state| state.accepted = None);
        self.init.settings(settings).await?;
        self.with(|state| state.accepted = Some(settings.clone()));
        Ok(())
    }

    fn configured(&self, defaults: Defaults) -> ServerConfig {
        ServerConfig { defaults, ..self.config.server.clone() }
    }
}
