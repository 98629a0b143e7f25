//! Accounts, roles and presence as the Server has them, kept in memory: that is what makes requests
//! fast and a demotion immediate. The Server is the one truth; what isn't known of it isn't guessed.
//!
//! ```text
//! (none) ── accounts, sessions ──► Projection ── changes ──► Projection ── connection lost ──► (none)
//! ```
//!
//! Sessions are read after the accounts, and changes replayed from the accounts' number on. Each
//! change says how it is now, so that those which a reading already held do no harm.

use std::collections::BTreeMap;

use crate::jid::Localpart;
use crate::member::{Role, role_of};
use crate::server::profile::{AvatarId, Profile, Profiles};
use crate::server::{Accounts, Change, Changes, Session, What};

/// What is known of one host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Projection {
    accounts: BTreeMap<Localpart, Known>,
    seq: u64,
}

/// What is known of an account.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    /// Its role; none: it is a service.
    pub role: Option<Role>,
    /// Seconds since 1970, where the Server knows.
    pub created: Option<u64>,
    /// Is a client of it connected?
    pub is_online: bool,
    /// What it shows of itself: nothing, until that was read.
    pub profile: Profile,
    /// The number of the change that the profile is of.
    profile_of: u64,
}

/// What a change means for those who are logged in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// There is an account that nobody here made.
    Created(Localpart),
    /// An account isn't there any more.
    Deleted(Localpart),
    /// Its password is another.
    NewPassword(Localpart),
    /// Its role is this one; none: it is a service.
    Role(Localpart, Option<Role>),
    /// The host came or went: all is to be read anew.
    OtherHost,
}

impl Projection {
    /// What the Server says of a host. Names that can't be are nobody's.
    pub fn new(accounts: Accounts, sessions: &[Session]) -> Projection {
        let known = accounts.accounts.into_iter().filter_map(|account| {
            let role = role_of(account.role.as_deref());
            let known = Known { role, created: account.created, ..Known::default() };
            Some((name_of(&account.localpart)?, known))
        });
        let mut projection = Projection { accounts: known.collect(), seq: accounts.seq };
        for local in sessions.iter().filter_map(|it| Localpart::parse(&it.localpart).ok()) {
            projection.change(&local, |known| known.is_online = true);
        }
        projection
    }

    /// The number of the last change that is in it.
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// Takes what happened at `host`.
    pub fn apply(&mut self, host: &str, changes: Changes) -> Vec<News> {
        self.seq = changes.seq;
        let here = changes.changes.into_iter().filter(|change| change.host == host);
        here.filter_map(|change| self.take(change)).collect()
    }

    fn take(&mut self, change: Change) -> Option<News> {
        if change.what == What::Host {
            return Some(News::OtherHost);
        }
        let local = name_of(change.localpart.as_deref()?)?;
        match change.what {
            What::Account { exists: false, .. } => {
                self.accounts.remove(&local);
                return Some(News::Deleted(local));
            }
            What::Account { exists: true, role } => {
                let is_new = !self.accounts.contains_key(&local);
                self.accounts.entry(local.clone()).or_default().role = role_of(role.as_deref());
                return is_new.then_some(News::Created(local));
            }
            What::Role { role } => {
                let role = role_of(role.as_deref());
                self.change(&local, |it| it.role = role);
                return Some(News::Role(local, role));
            }
            What::Presence { online } => self.change(&local, |it| it.is_online = online),
            What::Profile(profile) => self.change(&local, |it| it.show(profile, change.seq)),
            What::Password => return Some(News::NewPassword(local)),
            What::Host | What::Unknown => (),
        }
        None
    }

    fn change(&mut self, local: &Localpart, change: impl FnOnce(&mut Known)) {
        if let Some(known) = self.accounts.get_mut(local) {
            change(known);
        }
    }

    /// Puts in an account that was just made: its change is on its way.
    pub fn created(&mut self, local: &Localpart, role: Role) {
        self.accounts.entry(local.clone()).or_default().role = Some(role);
    }

    /// As above, of one that just got this role.
    pub fn assigned(&mut self, local: &Localpart, role: Role) {
        self.change(local, |known| known.role = Some(role));
    }

    /// As above, of one that just got this nickname.
    pub fn named(&mut self, local: &Localpart, nickname: String) {
        self.change(local, |known| known.profile.nickname = Some(nickname));
    }

    /// As above, of one that just got this picture.
    pub fn pictured(&mut self, local: &Localpart, avatar: AvatarId) {
        self.change(local, |known| known.profile.avatar = Some(avatar));
    }

    /// Takes profiles that were read.
    pub fn show(&mut self, read: Profiles) {
        for named in read.profiles {
            if let Ok(local) = Localpart::parse(&named.localpart) {
                self.change(&local, |known| known.show(named.profile, read.seq));
            }
        }
    }

    /// As above, of one that was just deleted.
    pub fn deleted(&mut self, local: &Localpart) {
        self.accounts.remove(local);
    }

    /// An account, of a member or not.
    pub fn account(&self, local: &Localpart) -> Option<&Known> {
        self.accounts.get(local)
    }

    /// A member.
    pub fn member(&self, local: &Localpart) -> Option<(Role, &Known)> {
        let known = self.account(local)?;
        Some((known.role?, known))
    }

    /// All members, in order.
    pub fn members(&self) -> impl Iterator<Item = (&Localpart, Role, &Known)> {
        self.accounts.iter().filter_map(|(local, known)| Some((local, known.role?, known)))
    }
}

/// Of an account, unless none may be called so.
fn name_of(text: &str) -> Option<Localpart> {
    Localpart::parse(text).ok().filter(|local| !local.is_reserved())
}

impl Known {
    /// Unless what is known is of a later change.
    fn show(&mut self, profile: Profile, of: u64) {
        if of >= self.profile_of {
            (self.profile, self.profile_of) = (profile, of);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const HOST: &str = "example.org";

    fn projection() -> Projection {
        let accounts = json!({ "seq": 4, "accounts": [
            { "localpart": "alice", "role": "prosody:admin", "created": 1 },
            { "localpart": "bob", "role": "prosody:member" },
            { "localpart": "prose-workspace", "role": "prosody:registered" },
            { "localpart": "a b", "role": "prosody:admin" },
            { "localpart": "stele-probe", "role": "prosody:member" },
        ]});
        let sessions = json!([{ "localpart": "bob", "resource": "phone", "since": 1 },
            { "localpart": "nobody", "resource": "x", "since": 1 }]);
        let sessions: Vec<Session> = serde_json::from_value(sessions).unwrap();
        Projection::new(serde_json::from_value(accounts).unwrap(), &sessions)
    }

    fn shown(projection: &Projection) -> Vec<String> {
        let word = |(local, role, known): (&Localpart, Role, &Known)| {
            let online = if known.is_online { " online" } else { "" };
            format!("{} {role:?}{online}", local.as_str())
        };
        projection.members().map(word).collect()
    }

    #[test]
    fn services_and_odd_names_are_no_members() {
        let projection = projection();
        assert_eq!(shown(&projection), ["alice Admin", "bob Member online"]);
        let service = Localpart::parse("prose-workspace").unwrap();
        assert!(projection.account(&service).is_some() && projection.member(&service).is_none());
        let probe = Localpart::parse("stele-probe").unwrap();
        assert!(projection.account(&probe).is_none());
    }

    #[test]
    fn changes_are_taken_and_may_be_seen_twice() {
        let bob = |fields: Value| {
            let mut change = json!({ "seq": 5, "host": HOST, "localpart": "bob" });
            change.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
            change
        };
        let rest = "bob Member online";
        let deleted = vec![News::Deleted(Localpart::parse("bob").unwrap())];
        let password = vec![News::NewPassword(Localpart::parse("bob").unwrap())];
        let account = json!({ "kind": "account", "exists": true, "role": "prosody:member" });
        let elsewhere = json!({ "kind": "account", "host": "other.org", "exists": false });
        let role = |role| vec![News::Role(Localpart::parse("bob").unwrap(), role)];
        let (admin, service) = (role(Some(Role::Admin)), role(None));
        let host = json!({ "kind": "host", "exists": true, "localpart": null });
        for (fields, expected, news) in [
            (json!({ "kind": "role", "role": "prosody:admin" }), "bob Admin online", admin),
            (json!({ "kind": "role", "role": "prosody:registered" }), "", service),
            (json!({ "kind": "presence", "online": false }), "bob Member", vec![]),
            (json!({ "kind": "password" }), rest, password),
            (json!({ "kind": "account", "exists": false }), "", deleted),
            (account, rest, vec![]),
            (json!({ "kind": "dance", "with": "alice" }), rest, vec![]),
            (elsewhere, rest, vec![]),
            (host, rest, vec![News::OtherHost]),
        ] {
            let change = bob(fields);
            let mut projection = projection();
            for again in [false, true] {
                let changes = json!({ "seq": 5, "changes": [change] });
                let told = projection.apply(HOST, serde_json::from_value(changes).unwrap());
                assert_eq!(told, news, "{change}");
                let bob = shown(&projection).get(1).cloned().unwrap_or_default();
                assert_eq!(bob, expected, "{change} {again}");
                assert_eq!(projection.seq(), 5);
            }
        }
    }
}
