//! What is kept: files and their labels, in a folder that we may read.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use appliance::backup::{Id, Label};
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use tokio::task::spawn_blocking;
use utoipa::ToSchema;

use crate::log;
use crate::moment::rfc3339;
use crate::problem::Problem;

/// The most bytes of a label.
const LONGEST_LABEL: u64 = 16 * 1024;
/// Larger ones aren't read whenever somebody looks.
const READ_UP_TO: u64 = 256 << 20;

/// The folder.
#[derive(Debug, Clone)]
pub struct Shelf(PathBuf);

/// A backup, as a list shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Backup {
    /// Its name, and its file's.
    pub id: String,
    /// What a person says of it.
    pub description: Option<String>,
    /// When it was made, or uploaded.
    pub created_at: String,
    /// Bytes of its file.
    pub size_bytes: u64,
    /// Never: whoever has the key can make one.
    pub is_signed: bool,
    /// Always.
    pub is_encrypted: bool,
    /// As far as can be told without its key.
    pub can_be_restored: bool,
}

/// A backup, looked at closely.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct BackupDetails {
    #[serde(flatten)]
    backup: Backup,
    /// Is the file what was written? Null: it is too large to be read for that.
    is_intact: Option<bool>,
    /// None: see `is_signed`.
    signing_key: Option<String>,
    /// Null: there is no signature.
    is_signature_trusted: Option<bool>,
    /// Null: there is no signature.
    is_signature_valid: Option<bool>,
    /// The address that it is encrypted to, `age1…`; null: to a passphrase, or that isn't known.
    encryption_key: Option<String>,
    /// Null: only its key could tell.
    is_encryption_valid: Option<bool>,
    /// Null: only its key could tell.
    is_trusted: Option<bool>,
}

impl Shelf {
    /// This one.
    pub fn at(folder: &Path) -> Shelf {
        Shelf(folder.to_owned())
    }

    /// All backups, the newest first.
    pub async fn all(&self) -> Result<Vec<Backup>, Problem> {
        let shelf = self.clone();
        read(move || {
            let mut all = vec![];
            for entry in fs::read_dir(&shelf.0)? {
                let name = entry?.file_name().to_string_lossy().into_owned();
                let Ok(id) = Id::try_from(name) else { continue };
                let Some((label, size)) = shelf.label(&id)? else { continue };
                all.push((label.created, shown(&id, label, size)));
            }
            all.sort_by(|a, b| (b.0, &b.1.id).cmp(&(a.0, &a.1.id)));
            Ok(all.into_iter().map(|(_, backup)| backup).collect())
        })
        .await
    }

    /// One of them; its file is read.
    pub async fn details(&self, id: &Id) -> Result<BackupDetails, Problem> {
        let (shelf, id) = (self.clone(), id.clone());
        let found = read(move || {
            let Some((label, size)) = shelf.label(&id)? else { return Ok(None) };
            let is_intact = match size {
                0..=READ_UP_TO => Some(digest(&shelf.0.join(id.as_ref()))? == label.sha256),
                _ => None,
            };
            let encryption_key = label.recipient.clone();
            let backup = shown(&id, label, size);
            let can_be_restored = is_intact != Some(false);
            Ok(Some(BackupDetails {
                backup: Backup { can_be_restored, ..backup },
                is_intact,
                signing_key: None,
                is_signature_trusted: None,
                is_signature_valid: None,
                encryption_key,
                is_encryption_valid: None,
                is_trusted: None,
            }))
        });
        found.await?.ok_or_else(Problem::backup_not_found)
    }

    /// Its file, and how long that is.
    pub async fn open(&self, id: &Id) -> Result<(File, u64), Problem> {
        let path = self.0.join(id.as_ref());
        let opened = read(move || {
            let file = match File::open(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                file => file?,
            };
            let length = file.metadata()?.len();
            Ok(Some((file, length)))
        });
        opened.await?.ok_or_else(Problem::backup_not_found)
    }

    /// Its label, and how long its file is; `None`: it lacks either.
    fn label(&self, id: &Id) -> io::Result<Option<(Label, u64)>> {
        let file = |name: &str| match File::open(self.0.join(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            file => file.map(Some),
        };
        let (Some(label), Some(backup)) = (file(&Label::file_of(id))?, file(id.as_ref())?) else {
            return Ok(None);
        };
        let mut text = vec![];
        label.take(LONGEST_LABEL).read_to_end(&mut text)?;
        let label = serde_json::from_slice(&text);
        let label = label.inspect_err(|error| log::error(format_args!("label of {id}: {error}")));
        label.ok().map(|label| backup.metadata().map(|it| (label, it.len()))).transpose()
    }
}

fn shown(id: &Id, label: Label, size_bytes: u64) -> Backup {
    Backup {
        id: id.to_string(),
        description: label.description,
        created_at: rfc3339(label.created),
        size_bytes,
        is_signed: false,
        is_encrypted: true,
        can_be_restored: true,
    }
}

fn digest(path: &Path) -> io::Result<String> {
    let (mut file, mut digest, mut piece) = (File::open(path)?, Sha256::new(), vec![0; 64 * 1024]);
    loop {
        match file.read(&mut piece)? {
            0 => break,
            length => digest.update(&piece[..length]),
        }
    }
    Ok(digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// A disk may take its time: nobody waits for it but a thread of its own.
async fn read<T: Send + 'static>(
    look: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, Problem> {
    let done = spawn_blocking(look).await.map_err(io::Error::other).flatten();
    done.map_err(|error| {
        log::error(format_args!("cannot look at backups: {error}"));
        Problem::internal()
    })
}
