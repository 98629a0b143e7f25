//! A disk file that is written to, and that nobody else has meanwhile: no other `stele`, no QEMU.
//!
//! QEMU locks single bytes of a disk, from the hundredth on, for as long as it runs. So does this:
//! all bytes while it writes, and the first one while a guest of ours has the disk. (The locks are
//! those of the open file description: they end with it, however the process ends.)

use std::fs::File;
use std::io;
use std::path::Path;

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

/// How much of a disk file is locked.
#[derive(Debug, Clone, Copy)]
enum Bytes {
    All,
    First,
    AllButFirst,
}

/// A disk file, opened and locked.
#[derive(Debug)]
pub struct Held(File);

impl Held {
    /// Opens the disk at `path`, if there is one.
    pub fn open(path: &Path) -> Result<Option<Held>> {
        let shown = path.display();
        let file = match File::options().read(true).write(true).open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.with_context(|| format!("cannot open {shown}"))?,
        };
        let context = || format!("cannot use {shown}");
        if !file.metadata().with_context(context)?.is_file() {
            bail!("cannot use {shown}: it is no file");
        }
        match lock(&file, Bytes::All, libc::F_WRLCK) {
            Err(Errno::EAGAIN | Errno::EACCES) => bail!(
                "cannot use {shown}: an appliance is running on it\nhint: power that off first"
            ),
            // A file system that knows no locks.
            Err(errno) => tracing::debug!("cannot lock {shown}: {errno}"),
            Ok(()) => {}
        }
        Ok(Some(Held(file)))
    }

    /// Holds a disk that nobody else knows yet.
    pub fn new(file: File) -> Held {
        Held(file).for_guest()
    }

    /// Leaves room for the locks of a QEMU that is about to be started.
    pub fn for_guest(self) -> Held {
        let locked = lock(&self.0, Bytes::First, libc::F_WRLCK);
        let locked = locked.and_then(|()| lock(&self.0, Bytes::AllButFirst, libc::F_UNLCK));
        if let Err(errno) = locked {
            tracing::debug!("cannot lock a disk: {errno}");
        }
        self
    }

    /// The file.
    pub fn file(&self) -> &File {
        &self.0
    }
}

fn lock(file: &File, bytes: Bytes, kind: libc::c_int) -> nix::Result<()> {
    let (start, length) = match bytes {
        Bytes::All => (0, 0),
        Bytes::First => (0, 1),
        Bytes::AllButFirst => (1, 0),
    };
    let lock = libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: start,
        l_len: length,
        l_pid: 0,
    };
    fcntl(file, FcntlArg::F_OFD_SETLK(&lock)).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_held_by_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk");
        assert!(Held::open(&path).unwrap().is_none());
        let held = Held::new(File::create_new(&path).unwrap());
        let error = || Held::open(&path).unwrap_err().to_string();
        assert!(error().contains("an appliance is running on it"), "{}", error());
        drop(held);
        let held = Held::open(&path).unwrap().unwrap();
        assert!(error().contains("an appliance is running on it"), "{}", error());
        // What QEMU does.
        let qemu = File::options().read(true).write(true).open(&path).unwrap();
        let locked = || lock(&qemu, Bytes::AllButFirst, libc::F_WRLCK);
        assert!(locked().is_err());
        let held = held.for_guest();
        locked().unwrap();
        drop(held);
        assert!(error().contains("an appliance is running on it"), "{}", error());
        drop(qemu);
        assert!(Held::open(&path).unwrap().is_some());
        assert!(Held::open(folder.path()).is_err());
    }
}
