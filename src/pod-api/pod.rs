//! What all requests share: the configuration, what is known of the Server, who is logged in.
//!
//! One lock, held only for as long as it takes to look or to change; never while waiting.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use appliance::backup::{INCOMING, KEPT};
use appliance::settings::{Domain, Settings};

use crate::app::Desk;
use crate::avatars::Avatars;
use crate::backup::Backups;
use crate::config::Config;
use crate::init::Init;
use crate::invitation::Invitations;
use crate::jid::{Jid, Localpart};
use crate::log;
use crate::network::Outside;
use crate::onboarding::{Onboarding, Step};
use crate::picture::Picture;
use crate::problem::Problem;
use crate::projection::{News, Projection};
use crate::reset::{Recovery, Resets};
use crate::server::{self, Changes, Connection, Version};
use crate::settings::Choices;
use crate::sse::Places;
use crate::store::{Error, Kept, Store};
use crate::throttle::Throttle;
use crate::token::{Token, Tokens};
use crate::workspace::Workspace;

mod invitations;
mod logins;
mod recovery;
mod settings;

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
