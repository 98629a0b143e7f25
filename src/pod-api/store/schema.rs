//! What the database is made of. A version only ever adds: its number is `user_version`, and a step
//! that was released isn't changed any more.

use std::path::Path;

use rusqlite::{Connection, TransactionBehavior};

use super::Error;

/// Each brings the database from the version that is its place in this list to the next one.
const STEPS: [&str; 5] = [
    "
    CREATE TABLE token (
        digest BLOB PRIMARY KEY CHECK (length(digest) = 32), -- SHA-256: the token itself is nowhere
        jid TEXT NOT NULL,
        created INTEGER NOT NULL, -- seconds since 1970
        expires INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE workspace (
        one INTEGER PRIMARY KEY CHECK (one = 1),
        name TEXT NOT NULL,
        accent_color TEXT
    ) STRICT;
    CREATE TABLE nickname (
        localpart TEXT PRIMARY KEY,
        nickname TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;
",
    "
    CREATE TABLE setting (
        key TEXT PRIMARY KEY, -- as in the API's server configuration
        value TEXT NOT NULL -- JSON
    ) STRICT, WITHOUT ROWID;
",
    "
    CREATE TABLE icon (
        one INTEGER PRIMARY KEY CHECK (one = 1),
        picture BLOB NOT NULL -- PNG, JPEG or GIF
    ) STRICT;
",
    "
    CREATE TABLE invitation (
        id INTEGER PRIMARY KEY AUTOINCREMENT, -- that of a deleted one isn't given to another
        localpart TEXT NOT NULL UNIQUE,
        role TEXT NOT NULL CHECK (role IN ('MEMBER', 'ADMIN')),
        email TEXT, -- none: the admin hands on the links
        created INTEGER NOT NULL,
        expires INTEGER NOT NULL,
        accept BLOB NOT NULL CHECK (length(accept) = 32), -- as a token's digest
        reject BLOB NOT NULL CHECK (length(reject) = 32)
    ) STRICT;
    CREATE TABLE password_reset (
        digest BLOB PRIMARY KEY CHECK (length(digest) = 32), -- as a token's
        localpart TEXT NOT NULL,
        created INTEGER NOT NULL,
        expires INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE recovery_address (
        localpart TEXT PRIMARY KEY,
        email TEXT NOT NULL,
        since INTEGER NOT NULL -- seconds since 1970: an account that is newer is another's
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE onboarding (
        key TEXT PRIMARY KEY -- there once it was done
    ) STRICT, WITHOUT ROWID;
",
    "
    ALTER TABLE token ADD COLUMN standing INTEGER NOT NULL DEFAULT 0; -- member, admin, demoted
",
];

/// A committed write survives a power cut (`FULL`), readers such as a backup don't hold it up (WAL).
/// The cache's bound is in KiB.
const SETTINGS: &str = "
    PRAGMA busy_timeout = 5000;
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = FULL;
    PRAGMA cache_size = -512;
    PRAGMA foreign_keys = ON;
    PRAGMA trusted_schema = OFF;
";

/// Looks whether the database is sound, and brings it up to date. What is not ours is not touched.
pub fn prepare(connection: &mut Connection, path: &Path) -> Result<(), Error> {
    let failed = |error: rusqlite::Error| Error::of(path, &error);
    // Before anything is written, even the mode.
    check(connection, path)?;
    let known = STEPS.len() as i64;
    match version(connection).map_err(failed)? {
        found @ ..0 => Err(Error::Damaged(path.into(), format!("its version is {found}"))),
        found if found > known => Err(Error::Newer(path.into(), found, known)),
        _ => Ok(()),
    }?;
    connection.execute_batch(SETTINGS).map_err(failed)?;
    migrate(connection).map_err(failed)
}

fn version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("PRAGMA user_version", [], |row| row.get(0))
}

fn check(connection: &Connection, path: &Path) -> Result<(), Error> {
    let said: Result<String, _> =
        connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0));
    match said.map_err(|error| Error::of(path, &error))?.as_str() {
        "ok" => Ok(()),
        damage => Err(Error::Damaged(path.into(), damage.replace('\n', " "))),
    }
}

/// All steps or none.
fn migrate(connection: &mut Connection) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let found = usize::try_from(version(&transaction)?).unwrap_or(0);
    for step in STEPS.iter().skip(found) {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "user_version", STEPS.len() as u32)?;
    transaction.commit()
}
