//! Puts files into a FAT that is there already: a copy of it in memory, so that whatever goes wrong
//! on the way, nothing has happened.
//!
//! The same files into the same FAT give the same bytes: dates are those that the builder's own
//! FATs have, and what is replaced leaves no trace.

use std::io::{Cursor, ErrorKind, Read, Seek, SeekFrom, Write};

use anyhow::{Context, Result, bail};
use appliance::gpt::SECTOR;
use fatfs::{Date, DateTime, Dir, FileSystem, FsOptions, ReadWriteSeek, Time, TimeProvider};

/// Bytes in a directory entry.
const ENTRY: usize = 32;

/// A file to be put.
#[derive(Debug, Clone, Copy)]
pub struct File<'a> {
    /// Its path: `NAME` or `FOLDER/NAME`.
    pub path: &'a str,
    /// What it holds.
    pub bytes: &'a [u8],
}

/// 1980-01-01, see [`crate::image::fat`].
#[derive(Debug)]
struct Always;

impl TimeProvider for Always {
    fn get_current_date(&self) -> Date {
        Date { year: 1980, month: 1, day: 1 }
    }

    fn get_current_date_time(&self) -> DateTime {
        let time = Time { hour: 0, min: 0, sec: 0, millis: 0 };
        DateTime { date: self.get_current_date(), time }
    }
}

/// Puts `files` into `volume`; says of each whether it takes the place of one of the same name, as
/// FAT compares names. No folder may then have more than `most` entries.
pub fn put(volume: &mut [u8], files: &[File<'_>], most: usize) -> Result<Vec<bool>> {
    make_folders(volume, files)?;
    let volume = open(volume)?;
    let root = volume.root_dir();
    let put = |file: &File<'_>| {
        let replaced = put_one(&root, file).map_err(with_hint);
        replaced.with_context(|| format!("cannot put {} onto it", file.path))
    };
    let replaced = files.iter().map(put).collect::<Result<_>>()?;
    for file in files {
        let (folder, shown) = match file.path.split_once('/') {
            Some((folder, _)) => (root.open_dir(folder)?, folder),
            None => (root.clone(), "its top"),
        };
        if folder.iter().count() > most {
            bail!("more than {most} files in {shown} would not be taken over at once");
        }
    }
    drop(root);
    volume.unmount()?;
    Ok(replaced)
}

fn open(volume: &mut [u8]) -> Result<FileSystem<Cursor<&mut [u8]>>> {
    let options = FsOptions::new().time_provider(&Always);
    FileSystem::new(Cursor::new(volume), options).context("it is no FAT")
}

/// Makes the folders of `files` that aren't there.
fn make_folders(volume: &mut [u8], files: &[File<'_>]) -> Result<()> {
    let before = volume.to_vec();
    let made = open(volume)?;
    for folder in files.iter().filter_map(|file| Some(file.path.split_once('/')?.0)) {
        let folder_made = made.root_dir().create_dir(folder).map_err(with_hint);
        folder_made.with_context(|| format!("cannot make folder {folder} on it"))?;
    }
    made.unmount()?;
    let sectors = volume.chunks_mut(SECTOR as usize).zip(before.chunks(SECTOR as usize));
    sectors.filter(|(now, before)| now != before).for_each(|(now, _)| shorten_dots(now));
    Ok(())
}

/// `fatfs` gives the entries `.` and `..` of a new directory long names, which nobody else does and
/// `fsck.fat` takes for damage. Here they lose them, if a directory begins in this sector.
fn shorten_dots(sector: &mut [u8]) {
    let is = |at: usize, start: &[u8], attributes: u8| {
        sector[at..].starts_with(start) && sector[at + 11] == attributes
    };
    let (long, folder) = (0x0f, 0x10);
    if is(0, b"A.\0", long)
        && is(ENTRY, b".          ", folder)
        && is(2 * ENTRY, b"A.\0.\0", long)
        && is(3 * ENTRY, b"..         ", folder)
    {
        sector.copy_within(ENTRY..2 * ENTRY, 0);
        sector.copy_within(3 * ENTRY..4 * ENTRY, ENTRY);
        sector[2 * ENTRY..4 * ENTRY].fill(0);
    }
}

fn put_one<T: ReadWriteSeek>(root: &Dir<'_, T>, file: &File<'_>) -> std::io::Result<bool> {
    let (folder, name) = match file.path.split_once('/') {
        Some((folder, name)) => (root.open_dir(folder)?, name),
        None => (root.clone(), file.path),
    };
    let replaced = match folder.open_file(name) {
        Ok(mut old) => {
            // It may have been a secret.
            let length = old.seek(SeekFrom::End(0))?;
            old.seek(SeekFrom::Start(0))?;
            std::io::copy(&mut std::io::repeat(0).take(length), &mut old)?;
            drop(old);
            folder.remove(name)?;
            true
        }
        Err(error) if error.kind() == ErrorKind::NotFound => false,
        Err(error) => return Err(error),
    };
    let mut new = folder.create_file(name)?;
    new.write_all(file.bytes)?;
    new.flush()?;
    Ok(replaced)
}

/// Where nothing more fits, the recipe can do something about it.
fn with_hint(error: std::io::Error) -> anyhow::Error {
    let is_full = error.kind() == ErrorKind::WriteZero || error.to_string().contains("No space");
    match is_full {
        true => anyhow::anyhow!(
            "there is not enough room\nhint: a larger `seed` under [image] in the recipe"
        ),
        false => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::fat::{self, Content, Node, Volume};

    fn empty() -> Vec<u8> {
        let content = Content::File { bytes: b"Read me", length: 7 };
        let root = vec![Node { name: "README.TXT", short: "README  TXT", content }];
        let volume = Volume { label: "STELE-SEED", serial: 1, size: 8 << 20, cluster: 1024, root };
        let mut bytes = vec![0; 8 << 20];
        for extent in fat::format(&volume).unwrap() {
            bytes[extent.offset as usize..][..extent.bytes.len()].copy_from_slice(&extent.bytes);
        }
        bytes
    }

    fn read(volume: &[u8], path: &str) -> String {
        let volume = Cursor::new(volume.to_vec());
        let volume = FileSystem::new(volume, FsOptions::new()).unwrap();
        let mut text = String::new();
        volume.root_dir().open_file(path).unwrap().read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn files_are_put_and_replaced() {
        let mut volume = empty();
        let secret = "secret ".repeat(1000);
        let file = |path, bytes| File { path, bytes };
        let first = [file("certs/a.pem", secret.as_bytes()), file("env", b"A=1\n")];
        assert_eq!(put(&mut volume, &first, 200).unwrap(), [false, false]);
        assert_eq!(read(&volume, "certs/a.pem"), secret);
        let once = volume.clone();
        assert_eq!(put(&mut volume, &first, 200).unwrap(), [true, true]);
        assert!(volume == once, "the same again changes nothing");

        let second = [file("CERTS/A.PEM", b"other"), file("Env", b"")];
        assert_eq!(put(&mut volume, &second, 200).unwrap(), [true, true]);
        assert_eq!(
            (read(&volume, "certs/a.pem"), read(&volume, "env")),
            ("other".into(), "".into())
        );
        assert!(!volume.windows(7).any(|bytes| bytes == b"secret "), "the old one is still there");
        assert_eq!(read(&volume, "readme.txt"), "Read me");
    }

    #[test]
    fn what_cannot_be_put_is_told() {
        let large = vec![b'x'; 5 << 20];
        let names: Vec<String> = (0..300).map(|number| format!("certs/{number}.pem")).collect();
        let many: Vec<File> = names.iter().map(|path| File { path, bytes: b"x" }).collect();
        let file = |path, bytes| File { path, bytes };
        for (files, expected) in [
            (vec![file("a", &large), file("b", &large)], "there is not enough room"),
            (vec![file("README.TXT/a", b"x")], "cannot make folder README.TXT on it: Not a"),
            (vec![file("certs/a", b"x"), file("certs", b"x")], "Is a directory"),
            (many, "more than 200 files in certs"),
        ] {
            let error = put(&mut empty(), &files, 200).unwrap_err();
            assert!(format!("{error:#}").contains(expected), "{error:#}");
        }
        assert!(put(&mut vec![0; 1 << 20], &[], 200).is_err());
    }
}
