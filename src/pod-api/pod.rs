//! What all requests share: the configuration, what is known of the Server, who is logged in.
//!
//! One lock, held only for as long as it takes to look or to change; never while waiting.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use appliance::backup::{INCOMING, KEPT};
use appliance::control::SettingsStep;
use appliance::secret::Secret;
use appliance::settings::{Domain, Settings};
use serde_json::Value;
use tokio::time::{Instant, sleep, timeout};

use crate::app::Desk;
use crate::avatars::Avatars;
use crate::backup::Backups;
use crate::config::{Config, Defaults, ServerConfig};
use crate::init::{self, Init};
use crate::invitation::Invitations;
use crate::jid::{Jid, Localpart};
use crate::log;
use crate::member::Role;
use crate::network::Outside;
use crate::onboarding::{Onboarding, Step};
use crate::picture::Picture;
use crate::problem::Problem;
use crate::projection::{News, Projection};
use crate::reset::{Recovery, Resets};
use crate::server::{self, Changes, Connection, Version};
use crate::settings::{Change, Choices, LUA, Setting};
use crate::sse::Places;
use crate::store::{Error, Kept, Store};
use crate::throttle::Throttle;
use crate::token::{Digest, Standing, Token, Tokens};
use crate::workspace::Workspace;

mod invitations;
mod recovery;

/// Whoever changes a setting is answered by then: the front gives up after 30 s of silence.
const ANSWERED_WITHIN: Duration = Duration::from_secs(25);
/// Of that, for those who change something else to finish.
const TURN_WITHIN: Duration = Duration::from_secs(8);
/// The first pause between two looks at what became of settings, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(400));

/// See above.
pub struct Pod {
    /// What the operator wrote.
    pub config: Config,
    /// Where to write what must last.
    pub store: Store,
    /// The world, as seen from here.
    pub outside: Arc<Outside>,
    /// Held by whoever makes, changes or deletes an account or an invitation, or names the
    /// workspace: one after the other.
    pub setup: Arc<tokio::sync::Mutex<()>>,
    /// Held while the Server is told of the workspace, so that the last word is the last.
    pub publishing: Arc<tokio::sync::Mutex<()>>,
    /// Held while the Server hashes a password, which stops its only thread: one after the other.
    pub login: Arc<tokio::sync::Mutex<()>>,
    /// Who makes the Server's configuration.
    pub init: Arc<dyn Init>,
    /// What is kept of it, encrypted, and what is under way about that.
    pub backups: Arc<Backups>,
    /// Held by whoever changes settings or submits them: one after the other.
    settings: Arc<tokio::sync::Mutex<()>>,
    /// Where requests come from.
    pub desk: Desk,
    /// Of streams of events.
    pub places: Places,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    link: Option<Link>,
    server: Option<Version>,
    tokens: Tokens,
    throttle: Throttle,
    workspace: Option<Workspace>,
    icon: Option<Picture>,
    avatars: Avatars,
    /// What members called themselves when the Server wasn't told: see [`Pod::left_over`].
    left_over: HashMap<Localpart, String>,
    invitations: Invitations,
    resets: Resets,
    addresses: HashMap<Localpart, Recovery>,
    choices: Choices,
    /// The domain, if whoever set the Pod up chose it.
    domain: Option<Domain>,
    onboarding: BTreeSet<Step>,
    /// What `stele-init` accepted last.
    accepted: Option<Settings>,
}

/// There while the Server is in step with us.
struct Link {
    connection: Connection,
    projection: Projection,
}

/// Whose a token is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Owner {
    /// Somebody's who is logged in.
    Good(Jid),
    /// It is void: whoever it was made for was an admin then, and isn't any more.
    Demoted,
}

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

/// Seconds since 1970.
pub fn now() -> u64 {
    SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs())
}

impl Pod {
    /// Nothing is known of the Server yet.
    pub fn new(
        config: Config,
        store: Store,
        kept: Kept,
        init: Arc<dyn Init>,
        outside: Outside,
    ) -> Pod {
        let nicknames = kept.nicknames.into_iter();
        let nicknames = nicknames.filter_map(|(of, it)| Some((Localpart::parse(&of).ok()?, it)));
        let addresses = kept.addresses.into_iter();
        let addresses = addresses.filter_map(|(of, it)| Some((Localpart::parse(&of).ok()?, it)));
        let state = State {
            invitations: Invitations::new(kept.invitations),
            resets: Resets::new(kept.resets),
            addresses: addresses.collect(),
            tokens: Tokens::new(kept.tokens),
            workspace: kept.workspace,
            icon: kept.icon.and_then(Picture::new),
            left_over: nicknames.collect(),
            choices: Choices::new(config.server.defaults.clone(), kept.settings),
            domain: kept.domain,
            onboarding: Step::known(&kept.onboarding).collect(),
            ..State::default()
        };
        let (setup, publishing, login, settings) = Default::default();
        let (outside, state) = (Arc::new(outside), Arc::new(Mutex::new(state)));
        let (desk, places) = (Desk::new(), Places::default());
        let backups = Arc::new(Backups::at(Path::new(KEPT), Path::new(INCOMING)));
        Pod {
            config,
            store,
            outside,
            setup,
            publishing,
            login,
            init,
            backups,
            settings,
            desk,
            places,
            state,
        }
    }

    /// One whose requests come from there.
    pub fn at(self, desk: Desk) -> Pod {
        Pod { desk, ..self }
    }

    /// The same Pod with another configuration: what is known of it is known to both. It is out of
    /// step with the Server if that is about another domain.
    pub async fn reconfigured(&self, config: Config, outside: Outside) -> Pod {
        let _settings = self.settings.lock().await;
        if config.server.domain != self.config.server.domain {
            self.unlink();
        }
        self.with(|state| state.choices = state.choices.over(config.server.defaults.clone()));
        Pod {
            config,
            store: self.store.clone(),
            outside: Arc::new(outside),
            setup: self.setup.clone(),
            publishing: self.publishing.clone(),
            login: self.login.clone(),
            init: self.init.clone(),
            backups: self.backups.clone(),
            settings: self.settings.clone(),
            desk: self.desk.clone(),
            places: self.places.clone(),
            state: self.state.clone(),
        }
    }

    /// The domain of members.
    pub fn domain(&self) -> &Domain {
        &self.config.server.domain
    }

    /// The JID of one of us.
    pub fn jid(&self, local: &Localpart) -> Jid {
        Jid { local: local.clone(), domain: self.domain().clone() }
    }

    /// The domain, if whoever set the Pod up chose it.
    pub fn chosen_domain(&self) -> Option<Domain> {
        self.with(|state| state.domain.clone())
    }

    /// Can the domain not be chosen any more, or needn't it be?
    pub fn is_domain_settled(&self) -> bool {
        self.config.is_domain_set || self.chosen_domain().is_some() || self.has_members()
    }

    fn has_members(&self) -> bool {
        self.look(|accounts| accounts.members().next().is_some()).unwrap_or(false)
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

    // The Server

    /// The Server is in step now. Those whose account has gone, or is another, are logged out, and so
    /// are admins who aren't any more.
    pub async fn link(&self, connection: Connection, version: Version, projection: Projection) {
        let is_void = |token: &Token| {
            let jid = Jid::parse(&token.jid).ok().filter(|jid| jid.domain == *self.domain());
            let known = jid.as_ref().and_then(|jid| projection.account(&jid.local));
            known.is_none_or(|known| known.created.is_some_and(|made| made > token.created))
        };
        let void = self.with(|state| state.tokens.revoke(is_void));
        let role = |token: &Token| Some(projection.member(&Jid::parse(&token.jid).ok()?.local)?.0);
        let seen = self.with(|state| state.tokens.see(role));
        self.catch_up_with_recovery(&projection).await;
        let invited = |local: &Localpart| projection.account(local).is_some();
        let accepted = self.invitations(|invitations| invitations.void(invited));
        self.with(|state| {
            state.server = Some(version);
            state.link = Some(Link { connection, projection });
        });
        self.forget(void).await;
        self.keep_seen(seen).await;
        self.drop_invitations(accepted).await;
    }

    /// The Server isn't in step any more. Was it?
    pub fn unlink(&self) -> bool {
        self.with(|state| state.link.take().is_some())
    }

    /// Takes what happened; is the host another now?
    pub async fn apply(&self, changes: Changes) -> bool {
        let news = self.with(|state| match &mut state.link {
            Some(link) => link.projection.apply(self.domain().as_ref(), changes),
            None => vec![],
        });
        let mut is_another = false;
        for news in news {
            match news {
                News::OtherHost => is_another = true,
                News::Created(local) => {
                    let void = self.invitations(|invitations| invitations.void(|it| *it == local));
                    self.drop_invitations(void).await;
                }
                News::NewPassword(local) => {
                    self.log_out(&local).await;
                    self.void_resets(&local).await;
                }
                News::Role(local, role) => self.see_role(&local, role).await,
                News::Deleted(local) => {
                    self.log_out(&local).await;
                    self.forget_recovery(&local).await;
                }
            }
        }
        is_another
    }

    /// Is it in step?
    pub fn is_linked(&self) -> bool {
        self.with(|state| state.link.is_some())
    }

    /// What the Server calls itself; also while it is away.
    pub fn server_version(&self) -> Option<Version> {
        self.with(|state| state.server.clone())
    }

    /// To ask it something.
    pub fn connection(&self) -> Result<Connection, Problem> {
        let connection = self.with(|state| state.link.as_ref().map(|link| link.connection.clone()));
        connection.ok_or_else(Problem::starting)
    }

    /// What is known of its accounts, in `look`'s words.
    pub fn look<T>(&self, look: impl FnOnce(&Projection) -> T) -> Result<T, Problem> {
        let seen = self.with(|state| state.link.as_ref().map(|link| look(&link.projection)));
        seen.ok_or_else(Problem::starting)
    }

    /// Changes what is known of its accounts, before it tells.
    pub fn note(&self, note: impl FnOnce(&mut Projection)) {
        self.with(|state| state.link.as_mut().map(|link| note(&mut link.projection)));
    }

    // Its settings

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

    // Logins

    /// Logs somebody in: from now on `token` is theirs.
    pub async fn log_in(&self, digest: Digest, token: Token) -> Result<(), Error> {
        let void = self.with(|state| state.tokens.add(digest, token.clone()));
        let kept = self.store.keep_token(digest, token, void).await;
        if kept.is_err() {
            self.with(|state| state.tokens.revoke_one(digest));
        }
        kept
    }

    /// Whose token it is.
    pub fn owner(&self, token: &Secret) -> Option<Owner> {
        let token = self.with(|state| state.tokens.owner(token, now()).cloned())?;
        let jid = Jid::parse(&token.jid).ok().filter(|jid| jid.domain == *self.domain())?;
        Some(match token.standing {
            Standing::Member | Standing::Admin => Owner::Good(jid),
            Standing::Demoted => Owner::Demoted,
        })
    }

    /// An account has this role now: if it had more, all its tokens are void.
    pub async fn see_role(&self, local: &Localpart, role: Option<Role>) {
        let jid = self.jid(local).to_string();
        let seen = self.with(|state| {
            state.tokens.see(|token| if token.jid == jid { role } else { token.standing.role() })
        });
        self.keep_seen(seen).await;
    }

    /// It holds already; should a write fail, the next start finds out again.
    async fn keep_seen(&self, seen: Vec<(Digest, Standing)>) {
        if let Err(error) = self.store.keep_standings(seen).await {
            log::error(error);
        }
    }

    /// All tokens of an account are void from now on.
    pub async fn log_out(&self, local: &Localpart) {
        let jid = self.jid(local).to_string();
        let void = self.with(|state| state.tokens.revoke(|token| token.jid == jid));
        self.forget(void).await;
    }

    /// They are void already; should a write fail, the next start finds out again.
    async fn forget(&self, void: Vec<Digest>) {
        if let Err(error) = self.store.forget_tokens(void).await {
            log::error(error);
        }
    }

    /// Failed logins.
    pub fn throttle<T>(&self, look: impl FnOnce(&mut Throttle) -> T) -> T {
        self.with(|state| look(&mut state.throttle))
    }

    // The workspace and its members

    /// The workspace, if it was initialised.
    pub fn workspace(&self) -> Option<Workspace> {
        self.with(|state| state.workspace.clone())
    }

    /// Initialises it, or does so again.
    pub async fn set_workspace(&self, workspace: Workspace) -> Result<(), Error> {
        self.store.keep_workspace(workspace.clone()).await?;
        self.with(|state| state.workspace = Some(workspace));
        Ok(())
    }

    /// Its picture, if it has one.
    pub fn icon(&self) -> Option<Picture> {
        self.with(|state| state.icon.clone())
    }

    /// Gives it one.
    pub async fn set_icon(&self, icon: Picture) -> Result<(), Error> {
        self.store.keep_icon(icon.bytes.clone()).await?;
        self.with(|state| state.icon = Some(icon));
        Ok(())
    }

    /// Has the Server show what a member calls themself.
    pub async fn name(&self, local: &Localpart, nickname: String) -> Result<(), server::Error> {
        let connection = self.with(|state| state.link.as_ref().map(|link| link.connection.clone()));
        let connection = connection.ok_or_else(server::Error::away)?;
        connection.set_nickname(self.domain().as_ref(), local, &nickname).await?;
        self.note(|accounts| accounts.named(local, nickname));
        Ok(())
    }

    /// Nicknames that an older version kept here, and which the Server hasn't been told of.
    pub fn left_over(&self) -> HashMap<Localpart, String> {
        self.with(|state| state.left_over.clone())
    }

    /// The Server was told of this one, or needn't be.
    pub async fn hand_over(&self, local: &Localpart) -> Result<(), Error> {
        self.store.forget_nickname(local.as_str().to_owned()).await?;
        self.with(|state| state.left_over.remove(local));
        Ok(())
    }

    /// Pictures that were fetched.
    pub fn avatars<T>(&self, look: impl FnOnce(&mut Avatars) -> T) -> T {
        self.with(|state| look(&mut state.avatars))
    }

    // The onboarding

    /// What was done.
    pub fn onboarding(&self) -> Onboarding {
        let is_done = |step| self.with(|state| state.onboarding.contains(&step));
        Onboarding {
            all_dns_checks_passed_once: is_done(Step::DnsChecksPassed),
            at_least_one_invitation_sent: is_done(Step::InvitationSent),
        }
    }

    /// Something was done: that stays so.
    pub async fn complete(&self, step: Step) {
        if !self.with(|state| state.onboarding.insert(step)) {
            return;
        }
        if let Err(error) = self.store.keep_step(step.key()).await {
            log::error(error);
        }
    }

    fn with<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        // Nothing that holds it is left half done by a panic.
        look(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
