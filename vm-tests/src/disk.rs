//! Disks: copies of an image that keep its holes, and damage done to them.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use appliance::gpt::{Partition, SECTOR, Table};

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

    /// Changes one bit of the byte at `offset`.
    pub fn flip(&self, offset: u64) -> Result<()> {
        let context = || format!("cannot flip a bit at {offset} of {}", self.path.display());
        let mut byte = [0];
        self.file.read_exact_at(&mut byte, offset).with_context(context)?;
        self.file.write_all_at(&[byte[0] ^ 1], offset).with_context(context)
    }
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

fn copy_sparse(source: &mut File, target: &File) -> io::Result<()> {
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
