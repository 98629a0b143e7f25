//! Where everything lies on the data.
//!
//! ```text
//! volumes/var/lib/prosody, …              what services use
//! volumes/var/lib/prose-backups           finished backups and their labels
//! volumes/var/lib/prose-backups-incoming  what was uploaded
//! backup/farm, backup/index               files as they were when a backup was begun
//! backup/new/volumes/…                    what lies ready to take the place of what there is
//! backup/old/…                            what has lost its place
//! ```

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use appliance::backup::{INCOMING, KEPT, Kind, RESERVE, Trouble};
use appliance::boot::Volume;
use nix::sys::statvfs::statvfs;

use crate::trouble::OrCannot as _;

/// Where the data is mounted.
const DATA: &str = "/run/stele/data";
/// A volume of the appliance's own: an address or a name in there belongs to one machine.
const MACHINES_OWN: &str = "/etc/stele";

/// The data.
#[derive(Debug, Clone)]
pub struct Place(PathBuf);

/// What is in a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// What people wrote: it is restored as a whole, and erased as a whole.
    Data,
    /// What the operator wrote: it is restored where there is none, and never erased.
    Configuration,
}

/// What of a volume is backed up; `None`: nothing.
pub fn content_of(volume: &Volume) -> Option<Content> {
    match volume.path.as_str() {
        KEPT | INCOMING | MACHINES_OWN => None,
        path if path.starts_with("/etc/") => Some(Content::Configuration),
        _ => Some(Content::Data),
    }
}

impl Place {
    /// The machine's.
    pub fn real() -> Place {
        Place(PathBuf::from(DATA))
    }

    /// Somewhere else.
    #[cfg(test)]
    pub fn at(root: &Path) -> Place {
        Place(root.to_owned())
    }

    /// What lies under this path on the data.
    pub fn join(&self, path: impl AsRef<Path>) -> PathBuf {
        self.0.join(path)
    }

    /// A volume, by the path that services know it by.
    pub fn volume(&self, path: &str) -> PathBuf {
        self.join("volumes").join(path.trim_start_matches('/'))
    }

    /// A finished backup, or its label.
    pub fn kept(&self, name: impl AsRef<Path>) -> PathBuf {
        self.volume(KEPT).join(name)
    }

    /// An upload.
    pub fn incoming(&self, name: impl AsRef<Path>) -> PathBuf {
        self.volume(INCOMING).join(name)
    }

    /// Something of this name that only we use.
    pub fn work(&self, name: &str) -> PathBuf {
        self.join("backup").join(name)
    }

    /// Refuses what would take so many bytes, if services then had too few.
    pub fn must_have_room(&self, bytes: u64) -> Result<(), Trouble> {
        let found = statvfs(&self.0).or_cannot("learn how much room there is")?;
        let free = found.blocks_available() as u64 * found.fragment_size() as u64;
        if bytes.saturating_add(RESERVE) <= free {
            return Ok(());
        }
        Err(Trouble::new(
            Kind::NoRoom,
            format_args!(
                "there is too little room: it may take {bytes} bytes, {free} are free, and \
                 {RESERVE} of them are left to the services"
            ),
        ))
    }
}

/// A folder of ours, empty.
pub fn make_anew(folder: &Path) -> Result<(), Trouble> {
    remove(folder)?;
    fs::create_dir_all(folder).or_cannot(format_args!("make folder {}", folder.display()))
}

/// Whatever is there, with all in it.
pub fn remove(path: &Path) -> Result<(), Trouble> {
    let removed = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    absent_is_fine(removed).or_cannot(format_args!("remove {}", path.display()))
}

/// What was to go has gone already.
pub fn absent_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// What was renamed in this folder stays so.
pub fn sync_folder(folder: &Path) -> Result<(), Trouble> {
    let synced = File::open(folder).and_then(|folder| folder.sync_all());
    synced.or_cannot(format_args!("sync {}", folder.display()))
}
