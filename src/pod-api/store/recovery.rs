//! How members get back in who forgot their password, as rows: their addresses, and the links that
//! were sent there.

use rusqlite::{Connection, Transaction, params};

use super::{Error, Store};
use crate::jid::Localpart;
use crate::mail::address::EmailAddress;
use crate::reset::{Recovery, Reset};
use crate::token::Digest;

impl Store {
    /// Keeps where somebody is reached; `None` forgets it.
    pub async fn keep_address(
        &self,
        local: String,
        recovery: Option<Recovery>,
    ) -> Result<(), Error> {
        self.write(move |to| keep_address(to, &local, recovery.as_ref())).await
    }

    /// Keeps links, and forgets those that are void.
    pub async fn keep_resets(
        &self,
        resets: Vec<(Digest, Reset)>,
        void: Vec<Digest>,
    ) -> Result<(), Error> {
        if resets.is_empty() && void.is_empty() {
            return Ok(());
        }
        self.write(move |to| {
            let mut statement = to.prepare("DELETE FROM password_reset WHERE digest = ?")?;
            void.iter().try_for_each(|digest| statement.execute([digest.0]).map(drop))?;
            let mut statement =
                to.prepare("INSERT OR REPLACE INTO password_reset VALUES (?, ?, ?, ?)")?;
            resets.iter().try_for_each(|(digest, it)| {
                let row = params![digest.0, it.local.as_str(), it.created, it.expires];
                statement.execute(row).map(drop)
            })
        })
        .await
    }
}

pub(super) fn keep_address(
    to: &Transaction<'_>,
    local: &str,
    recovery: Option<&Recovery>,
) -> rusqlite::Result<()> {
    let done = match recovery {
        Some(recovery) => {
            let row = params![local, recovery.address.to_string(), recovery.since];
            to.execute("INSERT OR REPLACE INTO recovery_address VALUES (?, ?, ?)", row)
        }
        None => to.execute("DELETE FROM recovery_address WHERE localpart = ?", [local]),
    };
    done.map(drop)
}

/// All links. Those of names that can't be are left out.
pub(super) fn read_resets(from: &Connection) -> rusqlite::Result<Vec<(Digest, Reset)>> {
    let mut statement =
        from.prepare("SELECT digest, localpart, created, expires FROM password_reset")?;
    let resets = statement.query_map([], |row| {
        let local = Localpart::parse(&row.get::<_, String>(1)?).ok();
        let (digest, created, expires) = (Digest(row.get(0)?), row.get(2)?, row.get(3)?);
        Ok(local.map(|local| (digest, Reset { local, created, expires })))
    })?;
    Ok(resets.collect::<rusqlite::Result<Vec<_>>>()?.into_iter().flatten().collect())
}

/// All addresses, by local part. What isn't one is left out.
pub(super) fn read_addresses(from: &Connection) -> rusqlite::Result<Vec<(String, Recovery)>> {
    let mut statement = from.prepare("SELECT localpart, email, since FROM recovery_address")?;
    let addresses = statement.query_map([], |row| {
        let address = EmailAddress::try_from(row.get::<_, String>(1)?).ok();
        let (local, since) = (row.get(0)?, row.get(2)?);
        Ok(address.map(|address| (local, Recovery { address, since })))
    })?;
    Ok(addresses.collect::<rusqlite::Result<Vec<_>>>()?.into_iter().flatten().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_was_written_is_there_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(folder.path()).unwrap();
        let bob = Localpart::parse("bob").unwrap();
        let reset = |created| Reset { local: bob.clone(), created, expires: created + 1 };
        for number in 1..=3 {
            let new = vec![(Digest([number; 32]), reset(u64::from(number)))];
            store.keep_resets(new, vec![Digest([number - 1; 32])]).await.unwrap();
        }
        let bobs = |text: &str, since| Recovery { address: text.parse().unwrap(), since };
        for recovery in [bobs("old@corp.example", 1), bobs("bob@corp.example", 2)] {
            store.keep_address("bob".into(), Some(recovery)).await.unwrap();
        }
        let (_, kept) = Store::open(folder.path()).unwrap();
        assert_eq!(kept.resets, [(Digest([3; 32]), reset(3))]);
        assert_eq!(kept.addresses, [("bob".to_owned(), bobs("bob@corp.example", 2))]);
        store.keep_resets(vec![], vec![Digest([3; 32])]).await.unwrap();
        store.keep_address("bob".into(), None).await.unwrap();
        let (_, kept) = Store::open(folder.path()).unwrap();
        assert!(kept.resets.is_empty() && kept.addresses.is_empty());
    }

    #[tokio::test]
    async fn many_at_once_are_all_kept() {
        let folder = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(folder.path()).unwrap();
        let writes = (0..100_u8).map(|number| {
            let store = store.clone();
            let local = Localpart::parse(&format!("m{number}")).unwrap();
            let row = (Digest([number; 32]), Reset { local, created: 1, expires: 2 });
            tokio::spawn(async move { store.keep_resets(vec![row], vec![]).await })
        });
        for write in writes.collect::<Vec<_>>() {
            write.await.unwrap().unwrap();
        }
        assert_eq!(Store::open(folder.path()).unwrap().1.resets.len(), 100);
    }
}
