//! Disks: copies of an image that keep its holes, and damage done to them.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Deref;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::thread;

use anyhow::{Context, Result};
use appliance::gpt::{Partition, SECTOR, Table};

use crate::images::Image;
use crate::scratch;
use crate::writes::{self, Entry};

/// What is copied at a time; one that holds only zeros stays a hole.
const CHUNK: usize = 64 * 1024;

/// A disk of a VM, as a file.
#[derive(Debug)]
pub struct Disk {
    path: PathBuf,
    file: File,
}

impl Disk {
    /// Copies the image `from` to `to`.
    pub fn copy(from: &Path, to: PathBuf) -> Result<Disk> {
        let context = || format!("cannot copy {} to {}", from.display(), to.display());
        let mut source = File::open(from).with_context(context)?;
        let options = File::options().read(true).write(true).create_new(true).open(&to);
        let file = options.with_context(context)?;
        copy_sparse(&mut source, &file).with_context(context)?;
        Ok(Disk { path: to, file })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes it `size` bytes long, if it is shorter; what is added are zeros.
    pub fn grow(&self, size: u64) -> Result<()> {
        let context = || format!("cannot grow {}", self.path.display());
        match self.file.metadata().with_context(context)?.len() < size {
            true => self.file.set_len(size).with_context(context),
            false => Ok(()),
        }
    }

    /// Writes `bytes` at `offset`.
    pub fn write_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        let context = || format!("cannot write at {offset} of {}", self.path.display());
        self.file.write_all_at(bytes, offset).with_context(context)
    }

    /// Changes one bit of the byte at `offset`.
    pub fn flip(&self, offset: u64) -> Result<()> {
        let context = || format!("cannot flip a bit at {offset} of {}", self.path.display());
        let mut byte = [0];
        self.file.read_exact_at(&mut byte, offset).with_context(context)?;
        self.file.write_all_at(&[byte[0] ^ 1], offset).with_context(context)
    }
}

/// A disk that outlives its machines: one after the other runs on it. Dropped, it is gone, unless
/// the story failed.
#[derive(Debug)]
pub struct Kept {
    disk: Disk,
    folder: PathBuf,
}

impl Kept {
    /// A copy of `image`, `size` bytes long.
    #[track_caller]
    pub fn of(image: &Image, size: u64) -> Kept {
        let made = || -> Result<Kept> {
            let folder = scratch::evidence()?;
            let disk = Disk::copy(&image.disk, folder.join("kept.img"))?;
            disk.grow(size)?;
            Ok(Kept { disk, folder })
        };
        made().unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// Another disk with the same content.
    #[track_caller]
    pub fn fork(&self) -> Kept {
        let made = || -> Result<Kept> {
            let folder = scratch::evidence()?;
            let disk = Disk::copy(self.path(), folder.join("kept.img"))?;
            Ok(Kept { disk, folder })
        };
        made().unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// What the last machine that logged its writes wrote to it.
    #[track_caller]
    pub fn writes(&self) -> Vec<Entry> {
        writes::read(&log_of(self.path())).unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// The partition of this name, as a file of its own.
    #[track_caller]
    pub fn take_out(&self, name: &str) -> PathBuf {
        let to = self.folder.join(format!("{name}.part"));
        let taken = take_out(self.path(), name, &to);
        taken.unwrap_or_else(|error| panic!("{error:#}"));
        to
    }
}

impl Deref for Kept {
    type Target = Disk;

    fn deref(&self) -> &Disk {
        &self.disk
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        match thread::panicking() {
            true => eprintln!("kept for you: {}", self.folder.display()),
            false => scratch::forget(&self.folder),
        }
    }
}

/// Where the writes to the disk at `path` are logged.
pub(crate) fn log_of(path: &Path) -> PathBuf {
    path.with_extension("writes")
}

/// Copies the partition of this name on the disk at `path` into the file `to`.
pub fn take_out(path: &Path, name: &str, to: &Path) -> Result<()> {
    let found = partition(path, name)?;
    let context = || format!("cannot copy partition {name} of {}", path.display());
    let mut source = File::open(path).with_context(context)?;
    source.seek(SeekFrom::Start(found.offset())).with_context(context)?;
    let target = File::create(to).with_context(context)?;
    copy_sparse(&mut source.take(found.bytes()), &target).with_context(context)
}

/// The partition of this name on the disk or image at `path`.
pub fn partition(path: &Path, name: &str) -> Result<Partition> {
    let context = || format!("cannot find partition {name} of {}", path.display());
    let mut start = vec![0; 66 * SECTOR as usize];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut start));
    read.with_context(context)?;
    let table = Table::parse(&start).with_context(context)?;
    table.named(name).cloned().context("there is none").with_context(context)
}

fn copy_sparse(source: &mut impl Read, target: &File) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK];
    let mut offset = 0;
    loop {
        let length = source.read(&mut chunk)?;
        if length == 0 {
            return target.set_len(offset);
        }
        if chunk[..length].iter().any(|&byte| byte != 0) {
            target.write_all_at(&chunk[..length], offset)?;
        }
        offset += length as u64;
    }
}

/// Writes a file of a VM's folder.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let written = File::create(path).and_then(|mut file| file.write_all(bytes));
    written.with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn a_copy_is_the_same_but_for_the_flipped_bit_and_keeps_holes() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        let mut bytes = vec![0; 40 * CHUNK + 7];
        bytes[3 * CHUNK] = 1;
        bytes[40 * CHUNK + 6] = 2;
        fs::write(&from, &bytes).unwrap();
        let disk = Disk::copy(&from, to.clone()).unwrap();
        assert_eq!(fs::read(&to).unwrap(), bytes);
        assert!(fs::metadata(&to).unwrap().blocks() * 512 <= 4 * CHUNK as u64);
        disk.flip(3 * CHUNK as u64 + 5).unwrap();
        bytes[3 * CHUNK + 5] = 1;
        assert_eq!(fs::read(&to).unwrap(), bytes);
    }
}
