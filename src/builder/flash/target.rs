//! The disk or the file that an image goes to, opened so that nobody else has it.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt as _, FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::fcntl::{
    FallocateFlags, FcntlArg, OFlag, PosixFadviseAdvice, fallocate, fcntl, posix_fadvise,
};
use nix::libc;
use nix::sys::stat::{major, minor};

use crate::flash::host::{Device, Host};
use crate::flash::refuse;
use crate::held::Held;
use crate::quantity::Size;

/// What memory and length of an unbuffered read are a multiple of, whatever the disk.
pub const PAGE: usize = 4096;

/// Where an image goes.
#[derive(Debug)]
pub struct Target {
    /// What it is, in words.
    pub description: String,
    /// Its size.
    pub bytes: u64,
    is_device: bool,
    file: File,
    /// Nobody else has the file for as long as this lasts.
    #[allow(dead_code)]
    held: Option<Held>,
}

impl Target {
    /// What is at `path`, unless it must not be written over.
    pub fn open(path: &Path, host: &Host) -> Result<Target> {
        let metadata = match path.metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                bail!("there is no such device\nhint: a file has to be there: truncate -s 4G FILE")
            }
            metadata => metadata?,
        };
        let kind = metadata.file_type();
        if kind.is_block_device() {
            let device = host.device(major(metadata.rdev()), minor(metadata.rdev()))?;
            return Target::device(path, metadata.rdev(), &device);
        }
        if !kind.is_file() {
            bail!("it is neither a disk nor a file");
        }
        if let Some(device) = host.loop_of(&path.canonicalize()?)? {
            bail!("it is behind {device}\nhint: /dev/{device} is the disk");
        }
        let held = Held::open(path)?.context("it has gone")?;
        let file = held.file().try_clone()?;
        let bytes = file.metadata()?.len();
        let description = format!("a file of {}", Size(bytes));
        Ok(Target { description, bytes, is_device: false, file, held: Some(held) })
    }

    fn device(path: &Path, number: u64, device: &Device) -> Result<Target> {
        refuse::device(device)?;
        let mut options = File::options();
        // Of a block device: nobody else may have mounted, swapped to or built upon any part of it.
        let opened = options.read(true).write(true).custom_flags(libc::O_EXCL).open(path);
        let file = match opened {
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => bail!(
                "something here uses it, or a part of it: a file system of another namespace, a \
                 volume group, a pool?"
            ),
            opened => opened?,
        };
        // A disk that was pulled leaves its name to the next one.
        let found = file.metadata()?;
        if !found.file_type().is_block_device() || found.rdev() != number {
            bail!("it has become another device just now");
        }
        let mut words = vec![Size(device.bytes).to_string()];
        words.extend((!device.model.is_empty()).then(|| device.model.clone()));
        words.extend((device.partitions > 0).then(|| format!("{} partitions", device.partitions)));
        let description = format!("a disk: {}", words.join(", "));
        Ok(Target { description, bytes: device.bytes, is_device: true, file, held: None })
    }

    /// Is it this file?
    pub fn is(&self, file: &File) -> Result<bool> {
        let id = |file: &File| file.metadata().map(|metadata| (metadata.dev(), metadata.ino()));
        Ok(!self.is_device && id(&self.file)? == id(file)?)
    }

    /// Reads, as ever.
    pub fn read(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(bytes, offset)
    }

    /// Writes, as ever.
    pub fn write(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    /// Has zeros there; the device makes them itself if it knows how to, a file gets a hole.
    pub fn zero(&self, offset: u64, length: u64) -> io::Result<()> {
        let keep = FallocateFlags::FALLOC_FL_KEEP_SIZE;
        for way in [FallocateFlags::FALLOC_FL_PUNCH_HOLE, FallocateFlags::FALLOC_FL_ZERO_RANGE] {
            match fallocate(&self.file, way | keep, offset as i64, length as i64) {
                Ok(()) => return Ok(()),
                // It doesn't know how to, or not there.
                Err(errno) => tracing::debug!("cannot zero {length} at {offset}: {errno}"),
            }
        }
        self.write(&vec![0; length as usize], offset)
    }

    /// All that was written is there for good.
    pub fn flush(&self) -> io::Result<()> {
        self.file.sync_all()
    }

    /// Has reads come from the device and not from memory, or the other way round.
    pub fn unbuffer(&self, is_unbuffered: bool) -> io::Result<()> {
        posix_fadvise(&self.file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED)?;
        let flags = if is_unbuffered { OFlag::O_DIRECT } else { OFlag::empty() };
        match fcntl(&self.file, FcntlArg::F_SETFL(flags)) {
            Ok(_) => Ok(()),
            // Some file systems cannot.
            Err(Errno::EINVAL) if !self.is_device => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }
}
