//! Disks: copies of an image that keep its holes, and damage done to them.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::ops::{Deref, Range};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::thread;

use anyhow::{Context, Result};
use appliance::gpt::{Guid, Partition, SECTOR, Table};
use appliance::hash::Digest;
use nix::errno::Errno;
use nix::unistd::{Whence, lseek64};

use crate::images::{Image, Tools, run};
use crate::scratch::{self, bounded};
use crate::writes::{self, Entry};

/// What is copied at a time; one that holds only zeros stays a hole.
const CHUNK: usize = 64 * 1024;

/// Seconds that it may take to put a seed onto a disk.
const SEED_WITHIN: u32 = 60;

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
        let source = File::open(from).with_context(context)?;
        let options = File::options().read(true).write(true).create_new(true).open(&to);
        let file = options.with_context(context)?;
        let length = source.metadata().with_context(context)?.len();
        copy_sparse(&source, 0..length, &file).with_context(context)?;
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

    /// Digest of all that is on it: of where there is something, and what.
    pub fn digest(&self) -> Result<Digest> {
        self.digest_in(0..u64::MAX)
    }

    /// The same, of the partition of this name. A machine may run on it.
    pub fn digest_of(&self, partition: &str) -> Result<Digest> {
        let found = self::partition(&self.path, partition)?;
        self.digest_in(found.offset()..found.offset() + found.bytes())
    }

    fn digest_in(&self, range: Range<u64>) -> Result<Digest> {
        let context = || format!("cannot read {}", self.path.display());
        let mut found = Vec::new();
        each_chunk(&self.file, range, |offset, chunk| {
            found.extend(offset.to_le_bytes());
            found.extend(Digest::of(chunk).0);
            Ok(())
        })
        .with_context(context)?;
        Ok(Digest::of(&found))
    }

    /// Leaves, at its end alone, a partition table that it had before the image was written to its
    /// start: with one partition in sectors that the image doesn't take.
    pub fn had_another_table(&self, first: u64, last: u64) -> Result<()> {
        let disk_sectors = self.file.metadata()?.len() / SECTOR;
        let old = Partition {
            kind: Guid::random([1; 16]),
            id: Guid::random([2; 16]),
            sectors: first..=last,
            attributes: 0,
            name: "home".into(),
        };
        let table = Table { disk: Guid::random([3; 16]), disk_sectors, partitions: vec![old] };
        let extents = table.to_extents();
        let at_the_end = extents.iter().filter(|extent| extent.offset / SECTOR > last);
        at_the_end.into_iter().try_for_each(|extent| self.write_at(&extent.bytes, extent.offset))
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

    /// Of `size` bytes, with `bytes` at these places and nothing else: it had another life.
    #[track_caller]
    pub fn used(size: u64, bytes: &[u8], places: &[u64]) -> Kept {
        let made = || -> Result<Kept> {
            let folder = scratch::evidence()?;
            let path = folder.join("kept.img");
            let file = File::options().read(true).write(true).create_new(true).open(&path)?;
            file.set_len(size)?;
            let disk = Disk { path, file };
            places.iter().try_for_each(|place| disk.write_at(bytes, *place))?;
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

    /// Has `stele seed` put these files, paths and contents, onto it.
    #[track_caller]
    pub fn seed(&self, files: &[(&str, &[u8])]) {
        let put = || -> Result<()> {
            let folder = self.folder.join("seed");
            for (path, content) in files {
                let path = folder.join(path);
                fs::create_dir_all(path.parent().unwrap_or(&folder))?;
                fs::write(&path, content)?;
            }
            let mut seed = bounded(&Tools::find()?.stele, SEED_WITHIN);
            seed.arg("seed").arg(self.path());
            for entry in fs::read_dir(&folder)? {
                seed.arg(entry?.path());
            }
            run(&mut seed, "seed the disk").map(drop)?;
            Ok(fs::remove_dir_all(folder)?)
        };
        put().unwrap_or_else(|error| panic!("{error:#}"));
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
    let source = File::open(path).with_context(context)?;
    let target = File::create(to).with_context(context)?;
    let range = found.offset()..found.offset() + found.bytes();
    copy_sparse(&source, range, &target).with_context(context)
}

/// The partition of this name on the disk or image at `path`.
pub fn partition(path: &Path, name: &str) -> Result<Partition> {
    let context = || format!("cannot find partition {name} of {}", path.display());
    let table = table(path)?;
    table.named(name).cloned().context("there is none").with_context(context)
}

/// The partition table of the disk or image at `path`.
pub fn table(path: &Path) -> Result<Table> {
    let context = || format!("cannot read the partition table of {}", path.display());
    let mut start = vec![0; 66 * SECTOR as usize];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut start));
    read.with_context(context)?;
    Table::parse(&start).with_context(context)
}

/// Copies a range of `source` to the start of `target`; what holds only zeros becomes a hole.
fn copy_sparse(source: &File, range: Range<u64>, target: &File) -> io::Result<()> {
    target.set_len(range.end - range.start)?;
    each_chunk(source, range.clone(), |offset, chunk| {
        target.write_all_at(chunk, offset - range.start)
    })
}

/// Shows `act` all of a range of `file`, [`CHUNK`] by chunk, but for holes and zeros.
fn each_chunk(
    file: &File,
    range: Range<u64>,
    mut act: impl FnMut(u64, &[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK];
    let mut offset = range.start;
    while offset < range.end {
        // The start of the next data; ENXIO: there is none.
        offset = match lseek64(file, offset as i64, Whence::SeekData) {
            Ok(data) => offset.max(data as u64),
            Err(Errno::ENXIO) => return Ok(()),
            Err(errno) => return Err(errno.into()),
        };
        let room = usize::try_from(range.end.saturating_sub(offset)).unwrap_or(CHUNK).min(CHUNK);
        let length = file.read_at(&mut chunk[..room], offset)?;
        if length == 0 {
            return Ok(());
        }
        if chunk[..length].iter().any(|&byte| byte != 0) {
            act(offset, &chunk[..length])?;
        }
        offset += length as u64;
    }
    Ok(())
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
