//! How members get back in who forgot their password: where a link is sent to, and the links.
//!
//! A link is the digest of a token, with whose it is and until when. One of them used, and all of that
//! member's are void.

use std::collections::HashMap;

use crate::jid::Localpart;
use crate::mail::address::EmailAddress;
use crate::token::Digest;

/// The most of one member: one more, and the oldest is void.
const MOST: usize = 16;

/// Where a member is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovery {
    /// There.
    pub address: EmailAddress,
    /// Said at this time, in seconds since 1970. Of an account that was made later it is not.
    pub since: u64,
}

/// What a token is good for. Times are seconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reset {
    /// Whose password.
    pub local: Localpart,
    /// When it was asked for.
    pub created: u64,
    /// Good before then.
    pub expires: u64,
}

/// All that may be good.
#[derive(Debug, Default)]
pub struct Resets(HashMap<Digest, Reset>);

impl Resets {
    /// Those that were kept.
    pub fn new(kept: Vec<(Digest, Reset)>) -> Resets {
        Resets(kept.into_iter().collect())
    }

    /// Takes one more; returns those that are void now.
    pub fn add(&mut self, digest: Digest, reset: Reset) -> Vec<Digest> {
        let (now, local) = (reset.created, reset.local.clone());
        self.0.insert(digest, reset);
        let mut void = self.revoke(|reset| reset.expires <= now);
        let theirs = self.0.iter().filter(|(_, reset)| reset.local == local);
        let mut theirs: Vec<(u64, Digest)> =
            theirs.map(|(it, reset)| (reset.created, *it)).collect();
        // The new one stays, even if others were made in the same second.
        theirs.sort_unstable_by_key(|(created, it)| (*created, *it == digest));
        let surplus = theirs.len().saturating_sub(MOST);
        for (_, digest) in theirs.into_iter().take(surplus) {
            self.0.remove(&digest);
            void.push(digest);
        }
        void
    }

    /// Whose password it changes, if it is good.
    pub fn owner(&self, digest: Digest, now: u64) -> Option<&Localpart> {
        let reset = self.0.get(&digest).filter(|reset| now < reset.expires);
        reset.map(|reset| &reset.local)
    }

    /// Those of one member.
    pub fn of(&self, local: &Localpart) -> Vec<(Digest, Reset)> {
        let theirs = self.0.iter().filter(|(_, reset)| reset.local == *local);
        theirs.map(|(digest, reset)| (*digest, reset.clone())).collect()
    }

    /// Makes one void.
    pub fn revoke_one(&mut self, digest: Digest) {
        self.0.remove(&digest);
    }

    /// Makes those void that `is_void` says; returns them.
    pub fn revoke(&mut self, is_void: impl Fn(&Reset) -> bool) -> Vec<Digest> {
        self.0.extract_if(|_, reset| is_void(reset)).map(|(digest, _)| digest).collect()
    }

    /// Puts some back.
    pub fn restore(&mut self, resets: Vec<(Digest, Reset)>) {
        self.0.extend(resets);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reset(name: &str, created: u64) -> Reset {
        Reset { local: Localpart::parse(name).unwrap(), created, expires: created + 100 }
    }

    #[test]
    fn several_are_good_until_they_expire_or_are_revoked() {
        let bob = Localpart::parse("bob").unwrap();
        let mut resets = Resets::default();
        assert!(resets.add(Digest([1; 32]), reset("bob", 1000)).is_empty());
        assert!(resets.add(Digest([2; 32]), reset("bob", 1001)).is_empty());
        assert!(resets.add(Digest([3; 32]), reset("carol", 1001)).is_empty());
        for (digest, now, good) in
            [(1, 1099, true), (1, 1100, false), (2, 1100, true), (4, 0, false)]
        {
            assert_eq!(resets.owner(Digest([digest; 32]), now).is_some(), good, "{digest} {now}");
        }
        let theirs = resets.of(&bob);
        assert_eq!(resets.revoke(|reset| reset.local == bob).len(), 2);
        assert!(resets.owner(Digest([2; 32]), 1001).is_none());
        assert!(resets.owner(Digest([3; 32]), 1001).is_some());
        resets.restore(theirs);
        assert_eq!(resets.owner(Digest([2; 32]), 1001), Some(&bob));
    }

    #[test]
    fn they_are_bounded() {
        let mut resets = Resets::default();
        for number in 0..=u8::try_from(MOST).unwrap() {
            let void = resets.add(Digest([number; 32]), reset("bob", 1000 + u64::from(number)));
            assert_eq!(void.len(), usize::from(usize::from(number) == MOST), "{number}");
        }
        assert!(resets.owner(Digest([0; 32]), 1000).is_none());
        let void = resets.add(Digest([255; 32]), reset("carol", 5000));
        assert_eq!(void.len(), MOST);
    }
}
