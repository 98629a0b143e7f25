//! What the Pod knows of invitations. Whoever changes them holds [`Pod::setup`], except where it is
//! said: what is forgotten at any moment harms nobody.

use super::{Pod, now};
use crate::invitation::{Contact, Digests, Invitation, Invitations, Links, MOST};
use crate::jid::Localpart;
use crate::log;
use crate::mail::Letter;
use crate::mail::letters::Sender;
use crate::member::Role;
use crate::problem::Problem;
use crate::reset::Recovery;
use crate::store::Error;

impl Pod {
    /// Who writes letters.
    pub fn sender(&self) -> Sender {
        let workspace = || self.workspace().map(|workspace| workspace.name);
        let organisation = self.config.company_name.clone().or_else(workspace);
        Sender {
            organisation: organisation.unwrap_or_else(|| self.domain().to_string()),
            dashboard: self.config.dashboard_url().as_str().to_owned(),
        }
    }

    /// Sends one, by the operator's mail server.
    pub async fn send(&self, letter: Letter) -> Result<(), Problem> {
        let by = self.config.mail.as_ref().ok_or_else(Problem::missing_config)?;
        Ok(self.outside.mailer.send(by, letter).await?)
    }

    /// What there is.
    pub fn invitations<T>(&self, look: impl FnOnce(&Invitations) -> T) -> T {
        self.with(|state| look(&state.invitations))
    }

    /// Invites somebody who isn't a member, nor invited.
    pub async fn invite(
        &self,
        local: Localpart,
        role: Role,
        contact: Contact,
        links: &Links,
    ) -> Result<Invitation, Problem> {
        if self.look(|accounts| accounts.account(&local).is_some())? {
            return Err(Problem::member_already_exists());
        }
        let created = now();
        if self.invitations(|all| all.pending(&local, created).is_some()) {
            return Err(Problem::invitation_already_exists());
        }
        let outdated = self.invitations(|all| all.outdated(&local, created));
        if self.invitations(|all| all.all().len()) >= MOST + outdated.len() {
            let message = format!("There are {MOST} invitations already: cancel some first.");
            return Err(Problem::bad_request(message));
        }
        let expires = created.saturating_add(self.config.invitation_ttl.as_secs());
        let digests = links.digests();
        let mut invitation = Invitation { id: 0, local, role, contact, created, expires, digests };
        invitation.id = self.store.keep_invitation(invitation.clone(), outdated.clone()).await?;
        self.with(|state| {
            state.invitations.remove(&outdated);
            state.invitations.add(invitation.clone());
        });
        Ok(invitation)
    }

    /// Gives an invitation these tokens and this end; it stays gone if it is.
    pub async fn rearm(&self, id: i64, digests: Digests, expires: u64) -> Result<(), Error> {
        self.store.rearm_invitation(id, digests, expires).await?;
        self.with(|state| state.invitations.rearm(id, digests, expires));
        Ok(())
    }

    /// Takes an invitation back.
    pub async fn withdraw(&self, id: i64) -> Result<(), Error> {
        self.store.forget_invitations(vec![id]).await?;
        self.with(|state| state.invitations.remove(&[id]));
        Ok(())
    }

    /// An invitation has become an account, which has this address, or none.
    ///
    /// Should the write fail, the next start finds that there is an account of its name.
    pub async fn joined(&self, invitation: &Invitation, recovery: Option<Recovery>) {
        let Invitation { id, local, .. } = invitation;
        self.with(|state| {
            state.invitations.remove(&[*id]);
            match recovery.clone() {
                Some(recovery) => drop(state.addresses.insert(local.clone(), recovery)),
                None => drop(state.addresses.remove(local)),
            }
        });
        let kept = self.store.accept_invitation(*id, local.as_str().to_owned(), recovery).await;
        if let Err(error) = kept {
            log::error(error);
        }
    }

    /// Forgets those of names that have an account now. At any moment: such ones can't be accepted.
    pub(super) async fn drop_invitations(&self, void: Vec<i64>) {
        if void.is_empty() {
            return;
        }
        self.with(|state| state.invitations.remove(&void));
        if let Err(error) = self.store.forget_invitations(void).await {
            log::error(error);
        }
    }
}
