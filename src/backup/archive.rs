//! What a backup consists of: a tar, compressed with zstd, before it is encrypted.
//!
//! | entry | what it is |
//! |---|---|
//! | `manifest.json` | [`Manifest`]: first, so that what can't be restored is refused at once |
//! | `volumes/var/lib/prosody/…` | folders and files, each folder before what is in it |
//! | `digest.json` | [`Trailer`]: last; without it, something is missing |

use std::io::{Read, Write};

use appliance::backup::{Kind, Trouble};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tar::{EntryType, Header};

use crate::trouble::OrCannot as _;

/// The number of this format. A reader refuses a higher one.
pub const FORMAT: u32 = 1;
pub const MANIFEST: &str = "manifest.json";
pub const TRAILER: &str = "digest.json";
/// The longest manifest or trailer.
pub const LONGEST_DOCUMENT: u64 = 64 * 1024;
/// What zstd's own tool takes by default.
pub const LEVEL: i32 = 3;
/// The base-two logarithm of the window that a reader offers: 8 MiB.
pub const WINDOW: u32 = 23;

/// What is in a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`FORMAT`].
    pub format: u32,
    /// The appliance that made it.
    pub appliance: String,
    /// Its version.
    pub version: String,
    /// When: seconds since 1970.
    pub created: u64,
    /// The domain that its Server served, if that was known.
    pub domain: Option<String>,
    /// How many entries follow, without the trailer.
    pub entries: u64,
    /// Bytes of all files.
    pub bytes: u64,
}

/// What everything before it comes to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trailer {
    /// [`Sum`], in hexadecimal.
    pub sha256: String,
}

/// A folder or a file, without its content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// `volumes/…`.
    pub path: String,
    /// Else it is a file.
    pub is_folder: bool,
    /// Permission bits, of owner, group and others.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// When it was changed last: seconds since 1970.
    pub modified: u64,
    /// Bytes of its content.
    pub size: u64,
}

impl Item {
    /// As tar has it.
    pub fn header(&self) -> Header {
        let mut header = Header::new_gnu();
        header.set_entry_type(if self.is_folder {
            EntryType::Directory
        } else {
            EntryType::Regular
        });
        header.set_mode(self.mode);
        header.set_uid(self.uid.into());
        header.set_gid(self.gid.into());
        header.set_mtime(self.modified);
        header.set_size(self.size);
        header
    }
}

/// SHA-256 of all that was written or read, in order, independent of tar.
#[derive(Debug, Default)]
pub struct Sum(Sha256);

impl Sum {
    /// The manifest's text comes first.
    pub fn of_manifest(text: &[u8]) -> Sum {
        let mut sum = Sum::default();
        sum.text(text);
        sum
    }

    /// An item; its content follows.
    pub fn item(&mut self, item: &Item) {
        let Item { path, is_folder, mode, uid, gid, modified, size } = item;
        self.text(path.as_bytes());
        self.0.update([u8::from(*is_folder)]);
        for number in [*mode, *uid, *gid] {
            self.0.update(number.to_be_bytes());
        }
        self.0.update(modified.to_be_bytes());
        self.0.update(size.to_be_bytes());
    }

    /// A piece of content.
    pub fn content(&mut self, piece: &[u8]) {
        self.0.update(piece);
    }

    fn text(&mut self, text: &[u8]) {
        self.0.update((text.len() as u64).to_be_bytes());
        self.0.update(text);
    }

    /// In hexadecimal.
    pub fn hex(self) -> String {
        hex(self.0)
    }
}

/// In hexadecimal.
pub fn hex(digest: Sha256) -> String {
    digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Appends a small document.
pub fn put_document(
    tar: &mut tar::Builder<impl Write>,
    name: &str,
    text: &[u8],
    date: u64,
) -> Result<(), Trouble> {
    let item = Item {
        path: name.to_owned(),
        is_folder: false,
        mode: 0o400,
        uid: 0,
        gid: 0,
        modified: date,
        size: text.len() as u64,
    };
    tar.append_data(&mut item.header(), name, text).or_cannot(format_args!("write {name}"))
}

/// Reads one.
pub fn document(entry: &mut impl Read, name: &str) -> Result<Vec<u8>, Trouble> {
    let mut text = vec![];
    entry.take(LONGEST_DOCUMENT).read_to_end(&mut text).map_err(crate::trouble::damaged)?;
    match text.len() as u64 {
        LONGEST_DOCUMENT => Err(crate::trouble::damaged(format_args!("its {name} is too long"))),
        _ => Ok(text),
    }
}

/// A newer version's can't be understood.
pub fn understood(text: &[u8]) -> Result<Manifest, Trouble> {
    #[derive(Deserialize)]
    struct Any {
        format: u32,
    }
    let damaged = |error: serde_json::Error| crate::trouble::damaged(error);
    let Any { format } = serde_json::from_slice(text).map_err(damaged)?;
    if format > FORMAT {
        return Err(Trouble::new(
            Kind::Foreign,
            format_args!("a newer version wrote it (format {format}, known is {FORMAT}): upgrade"),
        ));
    }
    serde_json::from_slice(text).map_err(damaged)
}
