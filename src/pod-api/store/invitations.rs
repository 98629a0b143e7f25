//! Invitations, as rows.

use rusqlite::{Connection, Row, Transaction, params};

use super::{Error, Store};
use crate::invitation::{Contact, Digests, Invitation};
use crate::jid::Localpart;
use crate::mail::address::EmailAddress;
use crate::member::Role;
use crate::reset::Recovery;
use crate::token::Digest;

impl Store {
    /// Keeps a new one, in the place of `outdated` ones; returns its number.
    pub async fn keep_invitation(&self, it: Invitation, outdated: Vec<i64>) -> Result<i64, Error> {
        self.write(move |to| {
            forget(to, &outdated)?;
            to.execute(
                "INSERT INTO invitation (localpart, role, email, created, expires, accept, reject)
                 VALUES (?, ?, ?, ?, ?, ?, ?)",
                params![
                    it.local.as_str(),
                    word(it.role),
                    it.contact.address().map(EmailAddress::to_string),
                    it.created,
                    it.expires,
                    it.digests.accept.0,
                    it.digests.reject.0,
                ],
            )?;
            Ok(to.last_insert_rowid())
        })
        .await
    }

    /// Gives one other tokens and another end, if it is there.
    pub async fn rearm_invitation(
        &self,
        id: i64,
        digests: Digests,
        expires: u64,
    ) -> Result<(), Error> {
        self.write(move |to| {
            let row = params![digests.accept.0, digests.reject.0, expires, id];
            to.execute(
                "UPDATE invitation SET accept = ?, reject = ?, expires = ? WHERE id = ?",
                row,
            )
            .map(drop)
        })
        .await
    }

    /// Forgets some.
    pub async fn forget_invitations(&self, ids: Vec<i64>) -> Result<(), Error> {
        self.write(move |to| forget(to, &ids)).await
    }

    /// One has become an account; where they are reached is kept with it.
    pub async fn accept_invitation(
        &self,
        id: i64,
        local: String,
        recovery: Option<Recovery>,
    ) -> Result<(), Error> {
        self.write(move |to| {
            forget(to, &[id])?;
            super::recovery::keep_address(to, &local, recovery.as_ref())
        })
        .await
    }
}

/// All of them. What was written by another version and makes no sense here is left out.
pub fn read(from: &Connection) -> rusqlite::Result<Vec<Invitation>> {
    let mut statement = from.prepare(
        "SELECT id, localpart, role, email, created, expires, accept, reject FROM invitation",
    )?;
    let invitations = statement.query_map([], invitation)?;
    Ok(invitations.collect::<rusqlite::Result<Vec<_>>>()?.into_iter().flatten().collect())
}

fn invitation(row: &Row<'_>) -> rusqlite::Result<Option<Invitation>> {
    let local = Localpart::parse(&row.get::<_, String>(1)?);
    let role = role(&row.get::<_, String>(2)?);
    let address = row.get::<_, Option<String>>(3)?.map(EmailAddress::try_from).transpose();
    let (Ok(local), Some(role), Ok(address)) = (local, role, address) else { return Ok(None) };
    Ok(Some(Invitation {
        id: row.get(0)?,
        local,
        role,
        contact: match address {
            Some(email_address) => Contact::Email { email_address },
            None => Contact::Link,
        },
        created: row.get(4)?,
        expires: row.get(5)?,
        digests: Digests { accept: Digest(row.get(6)?), reject: Digest(row.get(7)?) },
    }))
}

fn forget(from: &Transaction<'_>, ids: &[i64]) -> rusqlite::Result<()> {
    let mut statement = from.prepare("DELETE FROM invitation WHERE id = ?")?;
    ids.iter().try_for_each(|id| statement.execute([id]).map(drop))
}

fn word(role: Role) -> &'static str {
    match role {
        Role::Member => "MEMBER",
        Role::Admin => "ADMIN",
    }
}

fn role(word: &str) -> Option<Role> {
    [Role::Member, Role::Admin].into_iter().find(|role| self::word(*role) == word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn invitation(name: &str, role: Role, contact: Contact) -> Invitation {
        Invitation {
            id: 0,
            local: Localpart::parse(name).unwrap(),
            role,
            contact,
            created: 1,
            expires: 2,
            digests: Digests { accept: Digest([1; 32]), reject: Digest([2; 32]) },
        }
    }

    #[tokio::test]
    async fn what_was_written_is_there_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(folder.path()).unwrap();
        let letter = Contact::Email { email_address: "bob@corp.example".parse().unwrap() };
        let mut bob = invitation("bob", Role::Member, letter);
        let mut carol = invitation("carol", Role::Admin, Contact::Link);
        bob.id = store.keep_invitation(bob.clone(), vec![]).await.unwrap();
        carol.id = store.keep_invitation(carol.clone(), vec![]).await.unwrap();
        // One of a name.
        assert!(store.keep_invitation(bob.clone(), vec![]).await.is_err());
        let other = Digests { accept: Digest([3; 32]), reject: Digest([4; 32]) };
        store.rearm_invitation(bob.id, other, 7).await.unwrap();
        (bob.digests, bob.expires) = (other, 7);
        let (_, kept) = Store::open(folder.path()).unwrap();
        assert_eq!(kept.invitations, [bob.clone(), carol.clone()]);
        // An outdated one gives way, and its number isn't given again.
        let again = store.keep_invitation(bob.clone(), vec![bob.id]).await.unwrap();
        assert!(again > carol.id);
        store.forget_invitations(vec![again]).await.unwrap();
        assert!(store.keep_invitation(bob, vec![]).await.unwrap() > again);
        let recovery = Recovery { address: "c@d.example".parse().unwrap(), since: 3 };
        let carols = ("carol".to_owned(), recovery.clone());
        store.accept_invitation(carol.id, "carol".into(), Some(recovery)).await.unwrap();
        let (_, kept) = Store::open(folder.path()).unwrap();
        assert_eq!(kept.invitations.len(), 1);
        assert_eq!(kept.addresses, [carols]);
    }
}
