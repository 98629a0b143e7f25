//! Who is logged in.

use appliance::secret::Secret;

use super::{Owner, Pod, now};
use crate::jid::{Jid, Localpart};
use crate::log;
use crate::member::Role;
use crate::store::Error;
use crate::throttle::Throttle;
use crate::token::{Digest, Standing, Token};

impl Pod {
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
    pub(super) async fn keep_seen(&self, seen: Vec<(Digest, Standing)>) {
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
    pub(super) async fn forget(&self, void: Vec<Digest>) {
        if let Err(error) = self.store.forget_tokens(void).await {
            log::error(error);
        }
    }

    /// Failed logins.
    pub fn throttle<T>(&self, look: impl FnOnce(&mut Throttle) -> T) -> T {
        self.with(|state| look(&mut state.throttle))
    }
}
