//! What the Pod knows of how members get back in who forgot their password.

use super::{Pod, now};
use crate::jid::Localpart;
use crate::log;
use crate::mail::address::EmailAddress;
use crate::projection::Projection;
use crate::reset::{Recovery, Reset};
use crate::store::Error;
use crate::token::Digest;

impl Pod {
    /// Where a member is reached.
    pub fn address(&self, local: &Localpart) -> Option<EmailAddress> {
        self.with(|state| state.addresses.get(local).map(|recovery| recovery.address.clone()))
    }

    /// They are reached there from now on, or nowhere. Links that were sent elsewhere are void.
    /// Whoever asks holds [`Pod::setup`], so that no account goes meanwhile.
    pub async fn set_address(
        &self,
        local: &Localpart,
        address: Option<EmailAddress>,
    ) -> Result<(), Error> {
        if self.address(local) == address {
            return Ok(());
        }
        let recovery = address.map(|address| Recovery { address, since: now() });
        self.store.keep_address(local.as_str().to_owned(), recovery.clone()).await?;
        self.with(|state| match recovery {
            Some(recovery) => drop(state.addresses.insert(local.clone(), recovery)),
            None => drop(state.addresses.remove(local)),
        });
        self.void_resets(local).await;
        Ok(())
    }

    /// By this token a member may choose a new password from now on.
    pub async fn allow_reset(&self, digest: Digest, reset: Reset) -> Result<(), Error> {
        let void = self.with(|state| state.resets.add(digest, reset.clone()));
        let kept = self.store.keep_resets(vec![(digest, reset)], void).await;
        if kept.is_err() {
            self.with(|state| state.resets.revoke_one(digest));
        }
        kept
    }

    /// Whose password a token changes.
    pub fn reset_of(&self, digest: Digest) -> Option<Localpart> {
        self.with(|state| state.resets.owner(digest, now()).cloned())
    }

    /// Takes all tokens of a member: none is good any more, whatever happens next.
    pub async fn take_resets(&self, local: &Localpart) -> Result<Vec<(Digest, Reset)>, Error> {
        let theirs = self.with(|state| state.resets.of(local));
        let digests = theirs.iter().map(|(digest, _)| *digest).collect();
        self.store.keep_resets(vec![], digests).await?;
        self.with(|state| state.resets.revoke(|reset| reset.local == *local));
        Ok(theirs)
    }

    /// Gives them back: nothing happened.
    pub async fn restore_resets(&self, resets: Vec<(Digest, Reset)>) {
        self.with(|state| state.resets.restore(resets.clone()));
        if let Err(error) = self.store.keep_resets(resets, vec![]).await {
            log::error(error);
        }
    }

    /// A token isn't good any more.
    pub async fn void_reset(&self, digest: Digest) {
        self.with(|state| state.resets.revoke_one(digest));
        self.forget_resets(vec![digest]).await;
    }

    /// None of a member's tokens is good any more.
    pub(super) async fn void_resets(&self, local: &Localpart) {
        let void = self.with(|state| state.resets.revoke(|reset| reset.local == *local));
        self.forget_resets(void).await;
    }

    /// Forgets all of this of an account that is gone.
    pub async fn forget_recovery(&self, local: &Localpart) {
        self.void_resets(local).await;
        if self.with(|state| state.addresses.remove(local)).is_some() {
            self.forget_address(local).await;
        }
    }

    /// The Server says which accounts there are: what is of others, deleted while nobody looked, goes.
    ///
    /// The address of a name without an account stays: it may be that the operator wrote another
    /// domain by mistake. A new account of that name, made here, doesn't get it; one that was made
    /// elsewhere is newer than the address, where the Server knows since when it is there.
    pub(super) async fn catch_up_with_recovery(&self, projection: &Projection) {
        let is_anothers = |local: &Localpart, since: u64| {
            let created = projection.account(local).and_then(|known| known.created);
            created.is_some_and(|created| created > since)
        };
        let is_void = |it: &Reset| {
            projection.account(&it.local).is_none() || is_anothers(&it.local, it.created)
        };
        let (resets, addresses) = self.with(|state| {
            let anothers = state.addresses.extract_if(|of, it| is_anothers(of, it.since));
            let anothers: Vec<Localpart> = anothers.map(|(local, _)| local).collect();
            (state.resets.revoke(is_void), anothers)
        });
        self.forget_resets(resets).await;
        for local in &addresses {
            self.forget_address(local).await;
        }
    }

    /// They are void already; should a write fail, they expire.
    async fn forget_resets(&self, void: Vec<Digest>) {
        if let Err(error) = self.store.keep_resets(vec![], void).await {
            log::error(error);
        }
    }

    async fn forget_address(&self, local: &Localpart) {
        if let Err(error) = self.store.keep_address(local.as_str().to_owned(), None).await {
            log::error(error);
        }
    }
}
