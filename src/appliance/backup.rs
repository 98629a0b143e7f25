//! Backups, as programs speak of them: the Pod API wishes, `stele-init` orders, and its child
//! (`stele-backup`) writes, reads and reports.
//!
//! ```text
//! pod-api ── Wish, over the control socket ──► stele-init ── Order, in a file without a name ──► child
//!         ◄── State, when it asks ───────────              ◄── Line: a report, as JSON ─────────
//! ```
//!
//! A backup is one file, encrypted as `age` does it; what is known of it without its key is a
//! [`Label`] beside it. Neither the Pod API nor the front ever sees anything else.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::boot::Volume;
use crate::secret::Secret;

/// The volume of finished backups, and of their labels. The Pod API may read it.
pub const KEPT: &str = "/var/lib/prose-backups";
/// The volume where the Pod API puts what was uploaded.
pub const INCOMING: &str = "/var/lib/prose-backups-incoming";
/// What writes and reads backups.
pub const PROGRAM: &str = "/usr/bin/stele-backup";
/// How the names of backups end.
pub const ENDING: &str = ".tar.zst.age";
/// The most backups that are kept: past that, one must be deleted first.
pub const MOST: usize = 64;
/// The longest description, in characters.
pub const LONGEST_DESCRIPTION: usize = 256;
/// What stays free on the data whatever is backed up, uploaded or restored: services go on writing.
pub const RESERVE: u64 = 32 << 20;

/// What a backup is called, and its file: letters of a name that is no path, and [`ENDING`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Id(String);

/// What can't be one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is no backup's name: up to 80 of a-z, A-Z, 0-9, `-`, `_` and `.`, and `{ENDING}`")]
pub struct NoId;

impl AsRef<str> for Id {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Id {
    type Error = NoId;

    fn try_from(text: String) -> Result<Id, NoId> {
        let is_name = |name: &str| {
            let is_fine = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
            (1..=80).contains(&name.len()) && !name.starts_with('.') && name.bytes().all(is_fine)
        };
        text.strip_suffix(ENDING).is_some_and(is_name).then_some(Id(text)).ok_or(NoId)
    }
}

impl From<Id> for String {
    fn from(id: Id) -> String {
        id.0
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// To whom a backup is encrypted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Lock {
    /// Whoever knows it.
    Passphrase(Secret),
    /// Whoever has the key to this address, `age1…`.
    Recipient(String),
}

/// What opens a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Key {
    /// Of [`Lock::Passphrase`].
    Passphrase(Secret),
    /// Of [`Lock::Recipient`]: `AGE-SECRET-KEY-1…`.
    Identity(Secret),
}

/// What the Pod API wishes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Wish {
    /// How it goes: [`State`].
    State,
    /// A new one of what there is now.
    Create {
        /// What it shall be called.
        id: Id,
        /// What a person says of it.
        description: Option<String>,
        /// To whom.
        lock: Lock,
    },
    /// What lies in [`INCOMING`] under this name shall be kept.
    Accept {
        /// Its name, there and then.
        id: Id,
        /// What a person says of it.
        description: Option<String>,
    },
    /// Another description.
    Describe {
        /// Of this one.
        id: Id,
        /// What a person says of it.
        description: Option<String>,
    },
    /// These are wanted no more.
    Delete {
        /// Which.
        ids: Vec<Id>,
    },
    /// The first step of a restoration: decrypt, verify, lay out beside what there is.
    Prepare {
        /// Which.
        id: Id,
        /// What opens it.
        key: Key,
    },
    /// The second: what was prepared last takes the place of what there is.
    Restore {
        /// Which: it must be what was prepared.
        id: Id,
    },
    /// Accounts, messages and what admins chose are given up; the operator's files are not.
    Erase,
}

/// What is being done, or was last.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// The last wish that was granted.
    pub task: Option<Task>,
    /// The backup that lies ready to take the place of what there is.
    pub prepared: Option<Id>,
}

/// A wish that was granted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Task {
    /// Which backup it is about, if about one.
    pub id: Option<Id>,
    /// How far it is.
    pub progress: Progress,
    /// What came of it, once it is over.
    pub outcome: Option<Result<Stats, Trouble>>,
}

/// How far something is, in bytes of what is backed up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Progress {
    /// So many are done.
    pub done: u64,
    /// Of so many; 0: not known yet.
    pub total: u64,
}

/// What was done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stats {
    /// Bytes of the backup.
    pub backup_size_bytes: u64,
    /// Bytes of all files in it.
    pub extracted_bytes: u64,
}

/// Why something wasn't done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trouble {
    /// Which of them.
    pub kind: Kind,
    /// A sentence for people.
    pub message: String,
}

/// Of what kind a [`Trouble`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// There is no such backup.
    NotFound,
    /// The passphrase or the key doesn't open it.
    WrongKey,
    /// It isn't what was written, or it breaks off, or it never was a backup.
    Damaged,
    /// A newer version wrote it, or another appliance's layers did.
    Foreign,
    /// Too little room on the data, or too many backups.
    NoRoom,
    /// What was asked for can't be.
    Invalid,
    /// Something unexpected.
    Failed,
}

impl Trouble {
    /// With these words.
    pub fn new(kind: Kind, message: impl fmt::Display) -> Trouble {
        Trouble { kind, message: message.to_string() }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// What `stele-init` has its child do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    /// What its reports are known by: an older one may come late.
    pub number: u32,
    /// What.
    pub job: Job,
    /// Directories that outlive a boot: those in `/var` hold data, those in `/etc` the operator's
    /// configuration.
    pub volumes: Vec<Volume>,
    /// Who orders.
    pub origin: Origin,
}

/// Where a backup comes from, and where it shall go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Origin {
    /// The appliance's name.
    pub name: String,
    /// The appliance's version.
    pub version: String,
    /// Seconds since 1970.
    pub date: u64,
    /// The domain that the Server serves, as far as that is known.
    pub domain: Option<String>,
}

/// See [`Wish`]; here with what is done unasked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Job {
    /// [`Wish::Create`]; services are frozen until [`Report::Taken`].
    Create {
        /// Its name.
        id: Id,
        /// Its description.
        description: Option<String>,
        /// To whom.
        lock: Lock,
    },
    /// [`Wish::Accept`]
    Accept {
        /// Its name.
        id: Id,
        /// Its description.
        description: Option<String>,
    },
    /// [`Wish::Describe`]
    Describe {
        /// Its name.
        id: Id,
        /// Its description.
        description: Option<String>,
    },
    /// [`Wish::Delete`]
    Delete {
        /// Their names.
        ids: Vec<Id>,
    },
    /// [`Wish::Prepare`]
    Prepare {
        /// Its name.
        id: Id,
        /// What opens it.
        key: Key,
    },
    /// [`Wish::Erase`]: empty volumes are laid out.
    Erase,
    /// What has lost its place, or never got one, is deleted.
    Clear,
}

impl Job {
    /// Which backup it is about, if about one.
    pub fn id(&self) -> Option<&Id> {
        match self {
            Job::Create { id, .. }
            | Job::Accept { id, .. }
            | Job::Describe { id, .. }
            | Job::Prepare { id, .. } => Some(id),
            Job::Delete { .. } | Job::Erase | Job::Clear => None,
        }
    }

    /// Does it change others' files? Else it reads them, and changes its own.
    pub fn changes(&self) -> bool {
        match self {
            Job::Create { .. } | Job::Describe { .. } | Job::Delete { .. } => false,
            Job::Accept { .. } | Job::Prepare { .. } | Job::Erase | Job::Clear => true,
        }
    }
}

/// A line of the child's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Line {
    /// The [`Order::number`].
    pub number: u32,
    /// What it has to say.
    pub report: Report,
}

/// What the child has to say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Report {
    /// It has hold of everything as it was: services may go on.
    Taken,
    /// It is so far.
    Progress(Progress),
    /// It is done.
    Done(Stats),
    /// It isn't, and nothing has changed.
    Failed(Trouble),
}

/// What is known of a backup without opening it: a file beside it, `ID.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Label {
    /// What a person says of it.
    pub description: Option<String>,
    /// When it was made, or uploaded: seconds since 1970.
    pub created: u64,
    /// The address that it is encrypted to; none: to a passphrase, or it isn't known.
    pub recipient: Option<String>,
    /// SHA-256 of the file, in hexadecimal, as it was written.
    pub sha256: String,
}

impl Label {
    /// The name of the label's file.
    pub fn file_of(id: &Id) -> String {
        format!("{id}.json")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_no_path() {
        let long = format!("{}{ENDING}", "x".repeat(81));
        for (text, is_one) in [
            ("1765900175-Nightly.tar.zst.age", true),
            ("a.tar.zst.age", true),
            (".tar.zst.age", false),
            ("..tar.zst.age", false),
            ("a/b.tar.zst.age", false),
            ("a b.tar.zst.age", false),
            ("a.tar.zst.age.json", false),
            ("a.age", false),
            ("", false),
            (long.as_str(), false),
        ] {
            assert_eq!(Id::try_from(text.to_owned()).is_ok(), is_one, "{text}");
        }
    }

    #[test]
    fn a_secret_shows_in_no_wish() {
        let secret = || Secret::try_from("needle".to_owned()).unwrap();
        let id = || Id::try_from("a.tar.zst.age".to_owned()).unwrap();
        let lock = Lock::Passphrase(secret());
        for wish in [
            Wish::Create { id: id(), description: None, lock },
            Wish::Prepare { id: id(), key: Key::Identity(secret()) },
        ] {
            assert!(!format!("{wish:?}").contains("needle"));
            let text = serde_json::to_string(&wish).unwrap();
            assert_eq!(serde_json::from_str::<Wish>(&text).unwrap(), wish);
        }
    }
}
