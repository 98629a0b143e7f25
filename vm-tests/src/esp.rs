//! The ESP of a disk that no machine runs on, looked into and changed by foreign code.

use std::fs::File;
use std::io::{Cursor, Read, Write};
use std::os::unix::fs::FileExt;

use anyhow::{Context, Result};
use appliance::esp::{Esp, SECTOR};
use fatfs::{Date, DateTime, FileSystem, FsOptions, Time, TimeProvider};

use crate::disk::{self, Kept};

/// Where systemd-boot looks for UKIs.
pub const LINUX: &str = "EFI/Linux";

/// The attributes of a part of a long name.
const LONG_NAME: u8 = 0x0f;

/// A volume in memory.
type Volume<'a> = FileSystem<Cursor<&'a mut [u8]>>;

/// The dates of what is changed: those of the image. Without one, firmware refuses to rename a file.
#[derive(Debug)]
struct FirstDay;

impl TimeProvider for FirstDay {
    fn get_current_date(&self) -> Date {
        Date { year: 1980, month: 1, day: 1 }
    }

    fn get_current_date_time(&self) -> DateTime {
        let time = Time { hour: 0, min: 0, sec: 0, millis: 0 };
        DateTime { date: self.get_current_date(), time }
    }
}

/// The names in `folder`.
#[track_caller]
pub fn names(disk: &Kept, folder: &str) -> Vec<String> {
    let listed = with(disk, |volume| {
        let entries = volume.root_dir().open_dir(folder)?.iter().collect::<Result<Vec<_>, _>>()?;
        let names = entries.iter().map(|entry| entry.file_name());
        Ok(names.filter(|name| !name.starts_with('.')).collect())
    });
    listed.unwrap_or_else(|error| panic!("{error:#}"))
}

/// What is in the file at `path`.
#[track_caller]
pub fn read(disk: &Kept, path: &str) -> Vec<u8> {
    let read = with(disk, |volume| {
        let mut bytes = Vec::new();
        volume.root_dir().open_file(path)?.read_to_end(&mut bytes)?;
        Ok(bytes)
    });
    read.unwrap_or_else(|error| panic!("{error:#}"))
}

/// Writes `bytes` over the start of the file at `path`, which is there; the rest of it stays.
#[track_caller]
pub fn overwrite(disk: &Kept, path: &str, bytes: &[u8]) {
    let written = with(disk, |volume| Ok(volume.root_dir().open_file(path)?.write_all(bytes)?));
    written.unwrap_or_else(|error| panic!("{error:#}"));
}

/// Gives the file at `from` another name; its content stays where it is.
#[track_caller]
pub fn rename(disk: &Kept, from: &str, to: &str) {
    let renamed = with(disk, |volume| {
        let root = volume.root_dir();
        Ok(root.rename(from, &root, to)?)
    });
    renamed.unwrap_or_else(|error| panic!("{error:#}"));
}

/// Takes the dates from all that [`LINUX`] lists: firmware renames nothing there any more.
#[track_caller]
pub fn undate(disk: &Kept) {
    let start = disk::partition(disk.path(), "esp").unwrap_or_else(|error| panic!("{error:#}"));
    let file = File::open(disk.path()).unwrap();
    let read = |offset: u64, length: usize| {
        let mut bytes = vec![0; length];
        file.read_exact_at(&mut bytes, start.offset() + offset).map(|()| bytes)
    };
    let esp = Esp::locate(read).unwrap();
    let mut sector = read(esp.directory, SECTOR).unwrap();
    for entry in sector.chunks_exact_mut(32).filter(|entry| entry[11] != LONG_NAME) {
        // Made at, made on, read on; written at, written on.
        entry[13..20].fill(0);
        entry[22..26].fill(0);
    }
    disk.write_at(&sector, start.offset() + esp.directory).unwrap();
}

/// Does `act` to the volume, and writes back what has become of it.
fn with<T>(disk: &Kept, act: impl FnOnce(&Volume<'_>) -> Result<T>) -> Result<T> {
    let context = || format!("cannot use the ESP of {}", disk.path().display());
    let esp = disk::partition(disk.path(), "esp")?;
    let mut before = vec![0; usize::try_from(esp.bytes())?];
    File::open(disk.path())?.read_exact_at(&mut before, esp.offset()).with_context(context)?;
    let mut after = before.clone();
    let options = FsOptions::new().time_provider(&FirstDay);
    let volume: Volume =
        FileSystem::new(Cursor::new(after.as_mut_slice()), options).with_context(context)?;
    let done = act(&volume).with_context(context)?;
    volume.unmount().with_context(context)?;
    if after != before {
        disk.write_at(&after, esp.offset())?;
    }
    Ok(done)
}
