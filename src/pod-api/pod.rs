//! What all requests share: the configuration, what is known of the Server, who is logged in.
//!
//! One lock, held only for as long as it takes to look or to change; never while waiting.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use appliance::secret::Secret;
use appliance::settings::{Domain, Settings};
use serde_json::Value;

use crate::avatars::Avatars;
use crate::config::{Config, Defaults, ServerConfig};
use crate::init::{self, Init};
use crate::invitation::Invitations;
use crate::jid::{Jid, Localpart};
use crate::log;
use crate::network::Outside;
use crate::picture::Picture;
use crate::problem::Problem;
use crate::projection::{News, Projection};
use crate::reset::{Recovery, Resets};
use crate::server::{self, Changes, Connection, Version};
use crate::settings::{Change, Choices, Setting};
use crate::store::{Error, Kept, Store};
use crate::throttle::Throttle;
use crate::token::{Digest, Token, Tokens};
use crate::workspace::Workspace;

mod invitations;
mod recovery;

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
    pub setup: tokio::sync::Mutex<()>,
    /// Held while the Server is told of the workspace, so that the last word is the last.
    pub publishing: tokio::sync::Mutex<()>,
    /// Held while the Server hashes a password, which stops its only thread: one after the other.
    pub login: tokio::sync::Mutex<()>,
    /// Who makes the Server's configuration.
    pub init: Arc<dyn Init>,
    /// Held by whoever changes settings or submits them: one after the other.
    settings: tokio::sync::Mutex<()>,
    state: Mutex<State>,
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
    invitation_was_sent: bool,
    resets: Resets,
    addresses: HashMap<Localpart, Recovery>,
    choices: Choices,
    /// What `stele-init` accepted last.
    accepted: Option<Settings>,
}

/// There while the Server is in step with us.
struct Link {
    connection: Connection,
    projection: Projection,
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
            invitation_was_sent: kept.invitation_was_sent,
            resets: Resets::new(kept.resets),
            addresses: addresses.collect(),
            tokens: Tokens::new(kept.tokens),
            workspace: kept.workspace,
            icon: kept.icon.and_then(Picture::new),
            left_over: nicknames.collect(),
            choices: Choices::new(config.server.defaults.clone(), kept.settings),
            ..State::default()
        };
        let (setup, publishing, login, settings) = Default::default();
        let (outside, state) = (Arc::new(outside), Mutex::new(state));
        Pod { config, store, outside, setup, publishing, login, init, settings, state }
    }

    /// The domain of members.
    pub fn domain(&self) -> &Domain {
        &self.config.server.domain
    }

    /// The JID of one of us.
    pub fn jid(&self, local: &Localpart) -> Jid {
        Jid { local: local.clone(), domain: self.domain().clone() }
    }

    // The Server

    /// The Server is in step now. Those whose account has gone, or is another, are logged out.
    pub async fn link(&self, connection: Connection, version: Version, projection: Projection) {
        let is_void = |token: &Token| {
            let jid = Jid::parse(&token.jid).ok().filter(|jid| jid.domain == *self.domain());
            let known = jid.as_ref().and_then(|jid| projection.account(&jid.local));
            known.is_none_or(|known| known.created.is_some_and(|made| made > token.created))
        };
        let void = self.with(|state| state.tokens.revoke(is_void));
        self.catch_up_with_recovery(&projection).await;
        let invited = |local: &Localpart| projection.account(local).is_some();
        let accepted = self.invitations(|invitations| invitations.void(invited));
        self.with(|state| {
            state.server = Some(version);
            state.link = Some(Link { connection, projection });
        });
        self.forget(void).await;
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
        self.submit(&self.server_config().settings()).await
    }

    /// Has a change accepted, then keeps it. If either fails, what held before holds on.
    pub async fn change_settings(&self, change: Change) -> Result<(), Problem> {
        let _settings = self.settings.lock().await;
        let settings = change.settings();
        let after = self.with(|state| state.choices.after(change))?;
        let wanted = self.configured(after.effective().clone()).settings();
        // What was accepted already isn't loaded again.
        if self.with(|state| state.accepted.as_ref() != Some(&wanted)) {
            self.submit(&wanted).await?;
        }
        let rows = settings.iter().map(|it| (it.key(), after.chosen(*it).map(Value::to_string)));
        if let Err(error) = self.store.keep_settings(rows.collect()).await {
            if let Err(error) = self.submit(&self.server_config().settings()).await {
                log::error(format_args!("cannot take settings back: {error}"));
            }
            return Err(error.into());
        }
        self.with(|state| state.choices = after);
        Ok(())
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
    pub fn owner(&self, token: &Secret) -> Option<Jid> {
        let jid = self.with(|state| state.tokens.owner(token, now()).map(|it| it.jid.clone()));
        Jid::parse(&jid?).ok().filter(|jid| jid.domain == *self.domain())
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

    fn with<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        // Nothing that holds it is left half done by a panic.
        look(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
