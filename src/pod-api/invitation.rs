//! Invitations: who may become a member, by which link, until when.
//!
//! ```text
//! (none) ── invite ──► pending ──► expired ──► (none), a month later
//!               resend: ◄──┴──────────┘
//! pending ── accept, reject, cancel, an account of that name ──► (none)
//! ```
//!
//! A link is a random token of which only the digest is kept, so one that is sent again is another.

use appliance::secret::Secret;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::jid::Localpart;
use crate::mail::address::EmailAddress;
use crate::member::Role;
use crate::secret;
use crate::token::Digest;

/// The most invitations at a time.
pub const MOST: usize = 1000;
/// How long one that has expired is shown, in seconds.
const SHOWN: u64 = 30 * 24 * 60 * 60;

/// What is known of one. Times are seconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invitation {
    /// Its number, never that of another.
    pub id: i64,
    /// Who they will be.
    pub local: Localpart,
    /// What they will be allowed to do.
    pub role: Role,
    /// How they learn of it.
    pub contact: Contact,
    /// When it was made.
    pub created: u64,
    /// Good before then.
    pub expires: u64,
    /// Who has the first token accepts, who has the other rejects.
    pub digests: Digests,
}

/// Of its two tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Digests {
    /// Of the one that accepts.
    pub accept: Digest,
    /// Of the one that rejects.
    pub reject: Digest,
}

/// Its two tokens, in clear: for the invited, and never kept.
#[derive(Debug, Clone)]
pub struct Links {
    /// Accepts.
    pub accept: Secret,
    /// Rejects.
    pub reject: Secret,
}

/// How somebody learns that they are invited.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "channel", rename_all = "lowercase")]
pub enum Contact {
    /// By a letter.
    Email {
        /// To whom.
        email_address: EmailAddress,
    },
    /// By the admin, who is given the links.
    Link,
}

/// All that there are.
#[derive(Debug, Default)]
pub struct Invitations(Vec<Invitation>);

impl Links {
    /// New ones. Fails if there is no randomness.
    pub fn make() -> Result<Links, String> {
        Ok(Links { accept: secret::random("")?, reject: secret::random("")? })
    }

    /// What is kept of them.
    pub fn digests(&self) -> Digests {
        Digests { accept: Digest::of(&self.accept), reject: Digest::of(&self.reject) }
    }
}

impl Contact {
    /// Where letters go.
    pub fn address(&self) -> Option<&EmailAddress> {
        match self {
            Contact::Email { email_address } => Some(email_address),
            Contact::Link => None,
        }
    }
}

impl Invitation {
    /// Is it too late?
    pub fn is_expired(&self, now: u64) -> bool {
        self.expires <= now
    }

    fn is_over(&self, now: u64) -> bool {
        self.expires.saturating_add(SHOWN) <= now
    }
}

impl Invitations {
    /// Those that were kept.
    pub fn new(mut kept: Vec<Invitation>) -> Invitations {
        kept.sort_unstable_by_key(|invitation| invitation.id);
        Invitations(kept)
    }

    /// In the order in which they were made.
    pub fn all(&self) -> &[Invitation] {
        &self.0
    }

    /// Takes a new one.
    pub fn add(&mut self, invitation: Invitation) {
        self.0.push(invitation);
    }

    /// By its number.
    pub fn by_id(&self, id: i64) -> Option<&Invitation> {
        self.0.iter().find(|invitation| invitation.id == id)
    }

    /// One that isn't too late, by either token.
    pub fn by_token(&self, token: Digest, now: u64) -> Option<&Invitation> {
        let digests = |it: &Invitation| [it.digests.accept, it.digests.reject];
        self.good(now).find(|it| digests(it).contains(&token))
    }

    /// One that isn't too late, by the token that accepts it.
    pub fn to_accept(&self, token: Digest, now: u64) -> Option<&Invitation> {
        self.good(now).find(|invitation| invitation.digests.accept == token)
    }

    /// One, even if it is too late, by the token that rejects it.
    pub fn to_reject(&self, token: Digest) -> Option<&Invitation> {
        self.0.iter().find(|invitation| invitation.digests.reject == token)
    }

    /// The one of this name that isn't too late.
    pub fn pending(&self, local: &Localpart, now: u64) -> Option<&Invitation> {
        self.good(now).find(|invitation| invitation.local == *local)
    }

    /// Those that give way to a new one of this name, or are too old to be shown.
    pub fn outdated(&self, local: &Localpart, now: u64) -> Vec<i64> {
        let gives_way =
            |it: &&Invitation| it.is_over(now) || (it.is_expired(now) && it.local == *local);
        self.0.iter().filter(gives_way).map(|invitation| invitation.id).collect()
    }

    /// Those of names that `has_account`.
    pub fn void(&self, has_account: impl Fn(&Localpart) -> bool) -> Vec<i64> {
        let void = self.0.iter().filter(|invitation| has_account(&invitation.local));
        void.map(|invitation| invitation.id).collect()
    }

    /// Gives one other tokens and another end. Nothing happens if it is gone.
    pub fn rearm(&mut self, id: i64, digests: Digests, expires: u64) {
        if let Some(invitation) = self.0.iter_mut().find(|invitation| invitation.id == id) {
            (invitation.digests, invitation.expires) = (digests, expires);
        }
    }

    /// Takes some out.
    pub fn remove(&mut self, ids: &[i64]) {
        self.0.retain(|invitation| !ids.contains(&invitation.id));
    }

    fn good(&self, now: u64) -> impl Iterator<Item = &Invitation> {
        self.0.iter().filter(move |invitation| !invitation.is_expired(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn invitation(id: i64, name: &str, expires: u64) -> (Invitation, Links) {
        let links = Links::make().unwrap();
        let invitation = Invitation {
            id,
            local: Localpart::parse(name).unwrap(),
            role: Role::Member,
            contact: Contact::Link,
            created: 0,
            expires,
            digests: links.digests(),
        };
        (invitation, links)
    }

    #[test]
    fn each_token_is_good_for_its_own_thing_until_it_expires() {
        let (bob, links) = invitation(1, "bob", 100);
        let invitations = Invitations::new(vec![bob]);
        let (accept, reject) = (Digest::of(&links.accept), Digest::of(&links.reject));
        for (token, now, is_known, accepts, rejects) in [
            (accept, 99, true, true, false),
            (reject, 99, true, false, true),
            (accept, 100, false, false, false),
            (reject, 100, false, false, true),
            (Digest([0; 32]), 0, false, false, false),
        ] {
            assert_eq!(invitations.by_token(token, now).is_some(), is_known, "{now}");
            assert_eq!(invitations.to_accept(token, now).is_some(), accepts, "{now}");
            assert_eq!(invitations.to_reject(token).is_some(), rejects, "{now}");
        }
    }

    #[test]
    fn what_has_expired_gives_way() {
        let (bob, carol) = (invitation(2, "bob", 100).0, invitation(1, "carol", 200).0);
        let bobs = bob.local.clone();
        let mut invitations = Invitations::new(vec![bob, carol]);
        assert_eq!(invitations.all().iter().map(|it| it.id).collect::<Vec<_>>(), [1, 2]);
        for (now, is_pending, outdated) in [
            (99, true, vec![]),
            (100, false, vec![2]),
            (200, false, vec![2]),
            (200 + SHOWN, false, vec![1, 2]),
        ] {
            assert_eq!(invitations.pending(&bobs, now).is_some(), is_pending, "{now}");
            assert_eq!(invitations.outdated(&bobs, now), outdated, "{now}");
        }
        assert_eq!(invitations.void(|local| *local == bobs), [2]);
        invitations.remove(&[2, 7]);
        assert!(invitations.by_id(2).is_none() && invitations.by_id(1).is_some());
    }

    #[test]
    fn a_link_that_is_sent_again_is_another() {
        let (bob, old) = invitation(1, "bob", 100);
        let mut invitations = Invitations::new(vec![bob]);
        let new = Links::make().unwrap();
        invitations.rearm(1, new.digests(), 300);
        invitations.rearm(2, new.digests(), 300);
        assert!(invitations.to_accept(Digest::of(&old.accept), 0).is_none());
        assert!(invitations.to_reject(Digest::of(&old.reject)).is_none());
        assert!(invitations.to_accept(Digest::of(&new.accept), 299).is_some());
        assert_eq!(invitations.all().len(), 1);
    }

    #[test]
    fn a_contact_is_a_channel_with_what_it_needs() {
        let letter = Contact::Email { email_address: "bob@corp.example".parse().unwrap() };
        for (json, contact) in [
            (json!({ "channel": "email", "email_address": "bob@corp.example" }), Some(letter)),
            (json!({ "channel": "link" }), Some(Contact::Link)),
            (json!({ "channel": "email" }), None),
            (json!({ "channel": "email", "email_address": "bob" }), None),
            (json!({ "channel": "sms" }), None),
            (json!({}), None),
        ] {
            let read = serde_json::from_value::<Contact>(json.clone()).ok();
            assert_eq!(read, contact, "{json}");
            if let Some(contact) = contact {
                assert_eq!(serde_json::to_value(contact).unwrap(), json);
            }
        }
    }
}
