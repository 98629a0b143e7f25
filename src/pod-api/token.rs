//! Who is logged in: digests of tokens, each with whose it is and until when. The role isn't in
//! them: it is looked up at each request.

use std::collections::HashMap;

use appliance::secret::Secret;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};

use crate::member::Role;
use crate::secret;

/// The most tokens of one member: a login more, and their oldest is void.
const MOST: usize = 64;
/// What every token begins with, so that one that leaked is found by whoever looks (RFC 8959).
const PREFIX: &str = "secret-token:";

/// What is kept of a token: from it, nobody gets the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest(pub [u8; 32]);

/// What is known of a token's owner from when they were seen last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// No admin.
    Member,
    /// One.
    Admin,
    /// One no more: the token is void, and its owner is told why where only admins may ask.
    Demoted,
}

/// What a token is good for. Times are seconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// Whose: a bare JID.
    pub jid: String,
    /// When they logged in.
    pub created: u64,
    /// Good before then.
    pub expires: u64,
    /// Its owner's.
    pub standing: Standing,
}

/// All that may be good.
#[derive(Debug, Default)]
pub struct Tokens {
    by_digest: HashMap<Digest, Token>,
}

/// A new token, as its owner gets it.
pub fn make() -> Result<Secret, String> {
    secret::random(PREFIX)
}

impl Standing {
    /// Of somebody who logs in.
    pub fn new(role: Role) -> Standing {
        match role {
            Role::Member => Standing::Member,
            Role::Admin => Standing::Admin,
        }
    }

    /// After being seen in a role; none: they are no member.
    pub fn seen(self, role: Option<Role>) -> Standing {
        match (self, role) {
            (Standing::Demoted, _) => Standing::Demoted,
            (_, Some(Role::Admin)) => Standing::Admin,
            (Standing::Admin, _) => Standing::Demoted,
            (Standing::Member, _) => Standing::Member,
        }
    }

    /// What it was last.
    pub fn role(self) -> Option<Role> {
        match self {
            Standing::Member => Some(Role::Member),
            Standing::Admin => Some(Role::Admin),
            Standing::Demoted => None,
        }
    }

    /// As it is kept.
    pub fn number(self) -> u8 {
        match self {
            Standing::Member => 0,
            Standing::Admin => 1,
            Standing::Demoted => 2,
        }
    }

    /// What was kept. Other numbers are a later version's, and trusted least.
    pub fn of(number: u8) -> Standing {
        match number {
            0 => Standing::Member,
            1 => Standing::Admin,
            _ => Standing::Demoted,
        }
    }
}

impl Digest {
    /// Of a token that somebody shows.
    pub fn of(token: &Secret) -> Digest {
        Digest::of_text(token.reveal())
    }

    /// Of what may be a token.
    pub fn of_text(text: &str) -> Digest {
        Digest(Sha256::digest(text).into())
    }
}

impl Tokens {
    /// Those that were kept.
    pub fn new(kept: Vec<(Digest, Token)>) -> Tokens {
        Tokens { by_digest: kept.into_iter().collect() }
    }

    /// Takes one more; returns those that are void now.
    pub fn add(&mut self, digest: Digest, token: Token) -> Vec<Digest> {
        let (now, jid) = (token.created, token.jid.clone());
        self.by_digest.insert(digest, token);
        let mut void = self.revoke(|token| token.expires <= now);
        let theirs = self.by_digest.iter().filter(|(_, token)| token.jid == jid);
        let mut theirs: Vec<(u64, Digest)> =
            theirs.map(|(it, token)| (token.created, *it)).collect();
        // The new one stays, even if others were made in the same second.
        theirs.sort_unstable_by_key(|(created, it)| (*created, *it == digest));
        let surplus = theirs.len().saturating_sub(MOST);
        for (_, digest) in theirs.into_iter().take(surplus) {
            self.by_digest.remove(&digest);
            void.push(digest);
        }
        void
    }

    /// Whose it is, if it has not expired. Looking up a digest tells no token by the time it takes.
    pub fn owner(&self, token: &Secret, now: u64) -> Option<&Token> {
        self.by_digest.get(&Digest::of(token)).filter(|token| now < token.expires)
    }

    /// Takes what is known now of owners; returns those whose standing is another, with it.
    pub fn see(&mut self, role: impl Fn(&Token) -> Option<Role>) -> Vec<(Digest, Standing)> {
        let changed = self.by_digest.iter_mut().filter_map(|(digest, token)| {
            let standing = token.standing.seen(role(token));
            (standing != token.standing).then(|| {
                token.standing = standing;
                (*digest, standing)
            })
        });
        changed.collect()
    }

    /// Makes one void.
    pub fn revoke_one(&mut self, digest: Digest) {
        self.by_digest.remove(&digest);
    }

    /// Makes those void that `is_void` says; returns them.
    pub fn revoke(&mut self, is_void: impl Fn(&Token) -> bool) -> Vec<Digest> {
        self.by_digest.extract_if(|_, token| is_void(token)).map(|(digest, _)| digest).collect()
    }
}

/// The two parts of `Authorization: Basic …`: a name, and all behind the first colon, if that can
/// be a password.
pub fn basic(header: &str) -> Option<(String, Option<Secret>)> {
    let (scheme, rest) = header.split_once(' ')?;
    let decoded =
        STANDARD.decode(rest.trim()).ok().filter(|_| scheme.eq_ignore_ascii_case("basic"));
    let text = String::from_utf8(decoded?).ok()?;
    let (name, password) = text.split_once(':')?;
    Some((name.to_owned(), Secret::try_from(password.to_owned()).ok()))
}

/// The token of `Authorization: Bearer …`. The Dashboard says `null` where it has none.
pub fn bearer(header: &str) -> Option<Secret> {
    let (scheme, token) = header.split_once(' ')?;
    let token = token.trim();
    let is_one = scheme.eq_ignore_ascii_case("bearer") && !["null", "undefined"].contains(&token);
    Secret::try_from(token.to_owned()).ok().filter(|_| is_one)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(jid: &str, created: u64) -> Token {
        let standing = Standing::Member;
        Token { jid: jid.into(), created, expires: created + 100, standing }
    }

    #[test]
    fn a_token_is_good_until_it_expires() {
        let mut tokens = Tokens::default();
        let secret = make().unwrap();
        assert!(tokens.add(Digest::of(&secret), token("a@b", 1000)).is_empty());
        for (now, good) in [(0, true), (1099, true), (1100, false), (u64::MAX, false)] {
            assert_eq!(tokens.owner(&secret, now).is_some(), good, "{now}");
        }
        assert!(tokens.owner(&make().unwrap(), 1000).is_none());
    }

    #[test]
    fn who_was_an_admin_and_is_none_is_demoted_for_good() {
        use Standing::{Admin, Demoted, Member};
        for (before, role, after) in [
            (Member, Some(Role::Member), Member),
            (Member, Some(Role::Admin), Admin),
            (Member, None, Member),
            (Admin, Some(Role::Admin), Admin),
            (Admin, Some(Role::Member), Demoted),
            (Admin, None, Demoted),
            (Demoted, Some(Role::Admin), Demoted),
            (Demoted, Some(Role::Member), Demoted),
        ] {
            assert_eq!(before.seen(role), after, "{before:?} {role:?}");
            assert_eq!(Standing::of(before.number()), before);
        }
        let mut tokens = Tokens::default();
        let secret = make().unwrap();
        tokens.add(Digest::of(&secret), token("a@b", 1));
        let mut see = |role| tokens.see(|_| Some(role));
        assert_eq!(see(Role::Member), []);
        assert_eq!(see(Role::Admin), [(Digest::of(&secret), Admin)]);
        assert_eq!(see(Role::Member), [(Digest::of(&secret), Demoted)]);
    }

    #[test]
    fn tokens_are_revoked_and_bounded() {
        let mut tokens = Tokens::default();
        let other = make().unwrap();
        tokens.add(Digest::of(&other), token("b@b", 1));
        let made: Vec<Secret> = (0..=MOST).map(|_| make().unwrap()).collect();
        for secret in &made[..MOST] {
            assert!(tokens.add(Digest::of(secret), token("a@b", 2)).is_empty());
        }
        assert_eq!(tokens.add(Digest::of(&made[MOST]), token("a@b", 2)).len(), 1);
        assert!(tokens.owner(&made[MOST], 3).is_some());
        assert!(tokens.owner(&other, 3).is_some());
        assert_eq!(tokens.revoke(|token| token.jid == "a@b").len(), MOST);
        assert!(tokens.owner(&made[MOST], 3).is_none());
        // A login sweeps out what has expired.
        assert_eq!(tokens.add(Digest::of(&made[0]), token("c@b", 101)), [Digest::of(&other)]);
    }

    #[test]
    fn headers_are_read_as_the_dashboard_writes_them() {
        let encode = |text: &str| STANDARD.encode(text);
        for (header, expected) in [
            (format!("Basic {}", encode("a@b:c")), Some(("a@b", Some("c")))),
            (format!("basic {}", encode("a@b:c:d")), Some(("a@b", Some("c:d")))),
            (format!("Basic {}", encode("a@b:")), Some(("a@b", None))),
            (format!("Basic {}", encode("a@b:c\n")), Some(("a@b", None))),
            (format!("Basic {}", encode("null")), None),
            (format!("Bearer {}", encode("a@b:c")), None),
            ("Basic %%%".to_owned(), None),
            ("Basic".to_owned(), None),
            (String::new(), None),
        ] {
            let read = basic(&header);
            let read = read
                .as_ref()
                .map(|(name, password)| (name.as_str(), password.as_ref().map(Secret::reveal)));
            assert_eq!(read, expected, "{header}");
        }
        for (header, expected) in [
            ("Bearer x", Some("x")),
            ("bearer x", Some("x")),
            ("Bearer null", None),
            ("Bearer undefined", None),
            ("Bearer ", None),
            ("Bearer", None),
            ("Basic x", None),
        ] {
            let read = bearer(header);
            assert_eq!(read.as_ref().map(Secret::reveal), expected, "{header}");
        }
    }
}
