//! The ESP, as far as upgrades go: two runs of clusters that hold a UKI each, and the one sector of
//! `/EFI/Linux` that says which of them boots.
//!
//! No file system is mounted and no table of clusters is ever written. A run is written like a
//! partition; what boots changes with one sector ([`Directory`]). Which [`Side`] an entry belongs to
//! is told by its first cluster: firmware renames files, and gives them other short names.
//!
//! ```text
//! boot sector │ table, twice │ root/ EFI/ BOOT/ Linux/ … │ loader │ run of side A │ run of side B │ …
//!                                            └ 512 bytes: what boots
//! ```
//!
//! Formats: Microsoft's FAT specification 1.03. What firmware (EDK2) and systemd-boot make of it was
//! measured: a rename marks the old entries as deleted and appends new ones.

use std::io;
use std::ops::Range;

use crate::upgrade::Side;

mod directory;
mod entry;
mod name;
mod table;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
#[cfg(test)]
mod tests;

pub use directory::{Cannot, Directory, Entry};
pub use name::{HIGHEST, Name};

use entry::Kind;
use table::Table;

/// Bytes of a [`Sector`].
pub const SECTOR: usize = 512;

/// What is written in one piece.
pub type Sector = [u8; SECTOR];

/// Where the two UKIs lie, as the directory's entries name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Runs {
    /// The first cluster of each: side A's is the lower one.
    first: [u32; 2],
    /// The length of either, in bytes.
    bytes: u32,
}

impl Runs {
    fn side(&self, cluster: u32) -> Option<Side> {
        [Side::A, Side::B].into_iter().find(|&side| self.cluster(side) == cluster)
    }

    fn cluster(&self, side: Side) -> u32 {
        match side {
            Side::A => self.first[0],
            Side::B => self.first[1],
        }
    }
}

/// An ESP of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Esp {
    /// Where the directory's one sector lies: bytes from the ESP's start.
    pub directory: u64,
    table: Table,
    runs: Runs,
}

/// Why an ESP isn't one that may be written.
#[derive(Debug, thiserror::Error)]
pub enum NotOurs {
    /// It can't be read.
    #[error("cannot read the ESP: {0}")]
    Read(#[from] io::Error),
    /// No FAT that was made for upgrades.
    #[error("the ESP's file system is not as it was made: {0}")]
    Format(&'static str),
    /// A folder is gone.
    #[error("the ESP has no folder {0}")]
    Missing(&'static str),
    /// The directory holds something else, or too much.
    #[error("the ESP's folder /EFI/Linux is not as it was made: {0}")]
    Directory(&'static str),
    /// A file isn't one run: writing there would hit another file.
    #[error("the ESP's files for UKIs are not in one piece each")]
    Scattered,
}

impl Esp {
    /// Finds the directory and both runs. `read` gives so many bytes from so many on; it is asked
    /// for whole sectors, at most 64 KiB at a time.
    ///
    /// Of a directory only the first cluster counts: ours have no second.
    pub fn locate(mut read: impl FnMut(u64, usize) -> io::Result<Vec<u8>>) -> Result<Esp, NotOurs> {
        let mut read = |offset, length| {
            let bytes = read(offset, length)?;
            match bytes.len() == length {
                true => Ok(bytes),
                false => Err(NotOurs::Read(io::ErrorKind::UnexpectedEof.into())),
            }
        };
        let table = Table::parse(&read(0, SECTOR)?)?;
        let root = read(table.root(), table.cluster_bytes() as usize)?;
        let efi = folder(&root, b"EFI        ").ok_or(NotOurs::Missing("/EFI"))?;
        let efi = read(table.place(efi)?.start, table.cluster_bytes() as usize)?;
        let linux = folder(&efi, b"LINUX      ").ok_or(NotOurs::Missing("/EFI/Linux"))?;
        let directory = table.place(linux)?.start;
        let files = files(&read(directory, table.cluster_bytes() as usize)?)?;
        let runs = runs(&table, &files, &mut read)?;
        Ok(Esp { directory, table, runs })
    }

    /// Where a side's UKI lies: bytes from the ESP's start.
    pub fn run(&self, side: Side) -> Range<u64> {
        let start = self.table.offset(self.runs.cluster(side));
        start..start + u64::from(self.runs.bytes)
    }

    /// What the directory's sector says.
    pub fn read_directory(&self, sector: &Sector) -> Result<Directory, NotOurs> {
        Directory::parse(sector, self.runs)
    }
}

/// The first cluster of a folder.
fn folder(directory: &[u8], name: &[u8; 11]) -> Option<u32> {
    let found = entry::live(directory).find(|found| found.is_folder() && found.short() == name)?;
    Some(found.cluster())
}

/// First cluster and length of each file. All entries are in the first sector.
fn files(directory: &[u8]) -> Result<Vec<(u32, u32)>, NotOurs> {
    let mut files = vec![];
    for found in entry::live(directory) {
        if found.slot >= SECTOR / entry::SIZE {
            return Err(NotOurs::Directory("it has grown beyond its first sector"));
        }
        if found.kind() == Kind::File {
            files.push((found.cluster(), found.length()));
        }
    }
    files.sort();
    files.dedup();
    Ok(files)
}

/// Both runs. An entry that is gone (a torn sector can do that, if a disk has smaller ones than it
/// says) isn't missed: the table of clusters, which nobody writes, still has its run beside the
/// other one.
fn runs(
    table: &Table,
    files: &[(u32, u32)],
    read: &mut impl FnMut(u64, usize) -> Result<Vec<u8>, NotOurs>,
) -> Result<Runs, NotOurs> {
    let mut is_run = |first, bytes| table.is_run(first, bytes, &mut *read);
    match *files {
        [(a, bytes), (b, same)] if bytes == same => {
            if !is_run(a, bytes)? || !is_run(b, bytes)? {
                return Err(NotOurs::Scattered);
            }
            Ok(Runs { first: [a, b], bytes })
        }
        [(one, bytes)] => {
            if !is_run(one, bytes)? {
                return Err(NotOurs::Scattered);
            }
            let clusters = bytes / table.cluster_bytes();
            let (before, after) = (one.saturating_sub(clusters), one.saturating_add(clusters));
            if is_run(after, bytes)? {
                Ok(Runs { first: [one, after], bytes })
            } else if is_run(before, bytes)? {
                Ok(Runs { first: [before, one], bytes })
            } else {
                Err(NotOurs::Directory("a file is missing"))
            }
        }
        _ => Err(NotOurs::Directory("it holds other files than two of one length")),
    }
}

/// # Panics
/// Beyond the end of `bytes`.
fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

/// # Panics
/// Beyond the end of `bytes`.
fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) | u32::from(u16_at(bytes, at + 2)) << 16
}
