//! The database: what the Server has no place for. It is read once, at start, and kept in memory by
//! its owners; from then on only written, by one thread.

use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;

use appliance::settings::Domain;
use bytes::Bytes;
use rusqlite::{Connection, ErrorCode, Transaction, TransactionBehavior, params};
use tokio::sync::oneshot;

use crate::invitation::Invitation;
use crate::reset::{Recovery, Reset};
use crate::token::{Digest, Standing, Token};
use crate::workspace::Workspace;

mod invitations;
mod recovery;
mod schema;

/// The database's name in the folder of data.
const FILE: &str = "pod.sqlite";

/// The key of the domain that was chosen.
const DOMAIN: &str = "domain";

/// Hands writes to the thread that does them.
#[derive(Debug, Clone)]
pub struct Store {
    path: PathBuf,
    writer: mpsc::Sender<Job>,
}

/// What was in it at start.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Who is logged in.
    pub tokens: Vec<(Digest, Token)>,
    /// The workspace, if it was initialised.
    pub workspace: Option<Workspace>,
    /// What members called themselves, by local part, when the Server had no place for it.
    pub nicknames: Vec<(String, String)>,
    /// What admins chose for the Server: keys and JSON.
    pub settings: Vec<(String, String)>,
    /// The workspace's icon.
    pub icon: Option<Vec<u8>>,
    /// The domain, if it was chosen.
    pub domain: Option<Domain>,
    /// Steps of the onboarding that were done.
    pub onboarding: Vec<String>,
    /// Who may become a member.
    pub invitations: Vec<Invitation>,
    /// By what members choose a new password.
    pub resets: Vec<(Digest, Reset)>,
    /// Where members are reached who forgot theirs, by local part.
    pub addresses: Vec<(String, Recovery)>,
}

/// Why the database can't be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It can't be opened, or used as it is.
    #[error("cannot use {0}: {1}")]
    Open(PathBuf, String),
    /// It isn't what was written.
    #[error(
        "cannot use {0}: it is damaged: {1}\nhint: it is kept as it is: put a backup in its place, \
         or move it away to start with an empty one (logins, settings and the workspace's \
         name are lost, accounts and messages are not)"
    )]
    Damaged(PathBuf, String),
    /// Written by a version that knows more.
    #[error(
        "cannot use {0}: it was written by a newer version (schema {1}, known is {2})\nhint: \
         upgrade again"
    )]
    Newer(PathBuf, i64, i64),
    /// A write failed: nothing of it was done.
    #[error("cannot write {0}: {1}")]
    Write(PathBuf, String),
}

type Job = Box<dyn FnOnce(&mut Connection) + Send>;

impl Store {
    /// Opens the database in `folder`, makes it if it is absent or empty, brings it up to date, and
    /// reads it. A damaged one is left as it is.
    pub fn open(folder: &Path) -> Result<(Store, Kept), Error> {
        let path = folder.join(FILE);
        let failed = |error: rusqlite::Error| Error::of(&path, &error);
        let mut connection = Connection::open(&path).map_err(failed)?;
        schema::prepare(&mut connection, &path)?;
        let kept = read(&connection).map_err(failed)?;
        let (writer, jobs) = mpsc::channel::<Job>();
        let thread = thread::Builder::new().name("database".into());
        let spawned = thread.spawn(move || jobs.into_iter().for_each(|job| job(&mut connection)));
        spawned.map_err(|error| Error::Open(path.clone(), error.to_string()))?;
        Ok((Store { path, writer }, kept))
    }

    /// Keeps a token, and forgets those that are void.
    pub async fn keep_token(
        &self,
        digest: Digest,
        token: Token,
        void: Vec<Digest>,
    ) -> Result<(), Error> {
        self.write(move |to| {
            let standing = token.standing.number();
            let row = params![digest.0, token.jid, token.created, token.expires, standing];
            to.execute("INSERT OR REPLACE INTO token VALUES (?, ?, ?, ?, ?)", row)?;
            forget(to, &void)
        })
        .await
    }

    /// Keeps what is known now of tokens' owners.
    pub async fn keep_standings(&self, seen: Vec<(Digest, Standing)>) -> Result<(), Error> {
        if seen.is_empty() {
            return Ok(());
        }
        self.write(move |to| {
            let mut statement = to.prepare("UPDATE token SET standing = ? WHERE digest = ?")?;
            let keep = |(digest, standing): (Digest, Standing)| {
                statement.execute(params![standing.number(), digest.0]).map(drop)
            };
            seen.into_iter().try_for_each(keep)
        })
        .await
    }

    /// Keeps that a step of the onboarding was done.
    pub async fn keep_step(&self, key: &'static str) -> Result<(), Error> {
        self.write(move |to| {
            to.execute("INSERT OR IGNORE INTO onboarding VALUES (?)", [key]).map(drop)
        })
        .await
    }

    /// Forgets tokens.
    pub async fn forget_tokens(&self, void: Vec<Digest>) -> Result<(), Error> {
        if void.is_empty() {
            return Ok(());
        }
        self.write(move |to| forget(to, &void)).await
    }

    /// Keeps the workspace.
    pub async fn keep_workspace(&self, workspace: Workspace) -> Result<(), Error> {
        self.write(move |to| {
            let row = params![workspace.name, workspace.accent_color];
            to.execute("INSERT OR REPLACE INTO workspace VALUES (1, ?, ?)", row).map(drop)
        })
        .await
    }

    /// Keeps the workspace's icon.
    pub async fn keep_icon(&self, icon: Bytes) -> Result<(), Error> {
        self.write(move |to| {
            to.execute("INSERT OR REPLACE INTO icon VALUES (1, ?)", [&icon[..]]).map(drop)
        })
        .await
    }

    /// Forgets a nickname: none is kept here any more, the Server has them.
    pub async fn forget_nickname(&self, local: String) -> Result<(), Error> {
        self.write(move |to| {
            to.execute("DELETE FROM nickname WHERE localpart = ?", [local]).map(drop)
        })
        .await
    }

    /// Keeps what admins chose for the Server, a key and JSON each; `None` forgets it.
    pub async fn keep_settings(
        &self,
        settings: Vec<(&'static str, Option<String>)>,
    ) -> Result<(), Error> {
        self.write(move |to| {
            settings.into_iter().try_for_each(|(key, json)| match json {
                Some(json) => to
                    .execute("INSERT OR REPLACE INTO setting VALUES (?, ?)", params![key, json])
                    .map(drop),
                None => to.execute("DELETE FROM setting WHERE key = ?", [key]).map(drop),
            })
        })
        .await
    }

    /// Keeps the domain that was chosen, among what was chosen for the Server.
    pub async fn keep_domain(&self, domain: &Domain) -> Result<(), Error> {
        let json = serde_json::Value::from(domain.as_ref()).to_string();
        self.keep_settings(vec![(DOMAIN, Some(json))]).await
    }

    /// One transaction, after all those before it: done, on the disk, when this returns.
    async fn write<T: Send + 'static>(
        &self,
        what: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Error> {
        let (done, is_done) = oneshot::channel();
        let job: Job = Box::new(move |connection| {
            // For writing from its beginning: whoever else writes is waited for, never overtaken.
            let begun = connection.transaction_with_behavior(TransactionBehavior::Immediate);
            let result = begun.and_then(|transaction| {
                let result = what(&transaction)?;
                transaction.commit()?;
                Ok(result)
            });
            // Whoever asked may have gone away: it is written all the same.
            let _ = done.send(result);
        });
        let ended = || Error::Write(self.path.clone(), "its thread has ended".into());
        self.writer.send(job).map_err(|_| ended())?;
        let result = is_done.await.map_err(|_| ended())?;
        result.map_err(|error| Error::Write(self.path.clone(), error.to_string()))
    }
}

impl Error {
    fn of(path: &Path, error: &rusqlite::Error) -> Error {
        let code = error.sqlite_error_code();
        match code {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                Error::Damaged(path.into(), error.to_string())
            }
            _ => Error::Open(path.into(), error.to_string()),
        }
    }
}

fn forget(from: &Transaction<'_>, void: &[Digest]) -> rusqlite::Result<()> {
    let mut statement = from.prepare("DELETE FROM token WHERE digest = ?")?;
    void.iter().try_for_each(|digest| statement.execute([digest.0]).map(drop))
}

fn read(from: &Connection) -> rusqlite::Result<Kept> {
    let mut tokens = from.prepare("SELECT digest, jid, created, expires, standing FROM token")?;
    let tokens = tokens.query_map([], |row| {
        let (jid, created, expires) = (row.get(1)?, row.get(2)?, row.get(3)?);
        let standing = Standing::of(row.get(4)?);
        Ok((Digest(row.get(0)?), Token { jid, created, expires, standing }))
    })?;
    let mut workspace = from.prepare("SELECT name, accent_color FROM workspace")?;
    let mut workspace = workspace
        .query_map([], |row| Ok(Workspace { name: row.get(0)?, accent_color: row.get(1)? }))?;
    let mut nicknames = from.prepare("SELECT localpart, nickname FROM nickname")?;
    let nicknames = nicknames.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let mut settings = from.prepare("SELECT key, value FROM setting")?;
    let settings = settings.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let mut settings = settings.collect::<rusqlite::Result<Vec<(String, String)>>>()?;
    let domain = settings.extract_if(.., |(key, _)| key == DOMAIN).last();
    let mut icon = from.prepare("SELECT picture FROM icon")?;
    let mut icon = icon.query_map([], |row| row.get(0))?;
    let mut onboarding = from.prepare("SELECT key FROM onboarding ORDER BY key")?;
    let onboarding = onboarding.query_map([], |row| row.get(0))?;
    Ok(Kept {
        tokens: tokens.collect::<rusqlite::Result<_>>()?,
        workspace: workspace.next().transpose()?,
        nicknames: nicknames.collect::<rusqlite::Result<_>>()?,
        settings,
        domain: domain.and_then(|(_, json)| serde_json::from_str(&json).ok()),
        icon: icon.next().transpose()?,
        onboarding: onboarding.collect::<rusqlite::Result<_>>()?,
        invitations: invitations::read(from)?,
        resets: recovery::read_resets(from)?,
        addresses: recovery::read_addresses(from)?,
    })
}

#[cfg(test)]
mod tests;
