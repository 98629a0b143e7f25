//! Making the copy: one step at a time, so that it can be left after any.
//!
//! Owner, mode and times are kept; holes stay holes. Sockets and pipes hold nothing, and are left
//! out. What a layer declares immutable gets a second name instead of a second content.

use std::fs::{self, DirBuilder, File, FileTimes, Metadata, Permissions};
use std::io::{self, ErrorKind, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown, lchown,
    symlink,
};
use std::path::{Path, PathBuf};

use appliance::boot::Volume;
use nix::errno::Errno;
use nix::fcntl::AT_FDCWD;
use nix::sys::stat::{UtimensatFlags, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::{Whence, lseek, syncfs};

use super::plan::Marker;
use super::room::{measure, must_suffice};
use super::walk::{Found, Walk};
use super::{ASIDE, Amount, FAILED, VOLUMES, WITHIN};
use crate::clock;
use appliance::failure::{Failure, OrCannot as _};

/// A copy that is being made.
#[derive(Debug)]
pub struct Copying<'a> {
    data: &'a Path,
    volumes: &'a [Volume],
    marker: &'a Marker,
    /// The next step is the last.
    steps: Vec<Step>,
    /// What is kept so far.
    pub amount: Amount,
}

#[derive(Debug)]
enum Step {
    /// What an earlier copy or trial left goes.
    Clear(&'static str),
    /// It must fit, and leave something to the services.
    Fit,
    /// Its folder.
    Begin,
    /// What is next of these.
    Take(Walk),
    /// All that is on the disk.
    Sync,
    /// The marker: the commit.
    Commit,
}

impl<'a> Copying<'a> {
    /// Of what a new version may change. No copy is there that still matters.
    pub fn new(data: &'a Path, volumes: &'a [Volume], marker: &'a Marker) -> Copying<'a> {
        let walks = marker.exchange.taken().map(|path| Step::Take(Walk::new(data, path)));
        let mut steps = vec![Step::Clear(FAILED), Step::Clear(ASIDE), Step::Fit, Step::Begin];
        steps.extend(walks);
        steps.extend([Step::Sync, Step::Commit]);
        steps.reverse();
        Copying { data, volumes, marker, steps, amount: Amount::default() }
    }

    /// Does the next step; false: there is none. And if the power goes here? Until the marker is on
    /// the disk nothing has been changed, and the copy is begun anew.
    pub fn step(&mut self) -> Result<bool, Failure> {
        let Some(step) = self.steps.pop() else { return Ok(false) };
        match step {
            Step::Clear(name) => remove(&self.data.join(name))?,
            Step::Fit => {
                must_suffice(measure(self.data, self.volumes, clock::now() + WITHIN, u32::MAX)?)?;
            }
            Step::Begin => make_folder(&self.data.join(ASIDE))?,
            Step::Take(mut walk) => {
                if let Some(found) = walk.next().transpose()? {
                    self.take(found)?;
                    self.steps.push(Step::Take(walk));
                }
            }
            Step::Sync => {
                let data = File::open(self.data).or_cannot("sync what is kept aside")?;
                syncfs(&data).or_cannot("sync what is kept aside")?;
            }
            Step::Commit => self.marker.write(self.data)?,
        }
        Ok(true)
    }

    fn take(&mut self, found: Found) -> Result<(), Failure> {
        match found {
            Found::Folder(path, _) => make_folder(&self.copy_of(&path)),
            Found::End(path, found) => {
                let copy = self.copy_of(&path);
                dress(&copy, &found).or_cannot(format_args!("keep {} aside", path.display()))
            }
            Found::Other(path, found) => {
                let kept = self.keep(&path, &found);
                kept.or_cannot(format_args!("keep {} aside", path.display()))
            }
        }
    }

    fn keep(&mut self, path: &Path, found: &Metadata) -> io::Result<()> {
        let (from, to) = (self.data.join(path), self.copy_of(path));
        if found.is_symlink() {
            symlink(fs::read_link(&from)?, &to)?;
            lchown(&to, Some(found.uid()), Some(found.gid()))?;
            return set_times(&to, found);
        }
        if !found.is_file() {
            return Ok(());
        }
        self.amount.files += 1;
        if is_immutable(self.volumes, path) {
            return fs::hard_link(from, to);
        }
        self.amount.bytes += found.blocks() * 512;
        copy(&from, &to, found)
    }

    fn copy_of(&self, path: &Path) -> PathBuf {
        self.data.join(ASIDE).join(path)
    }
}

/// Is this path on the data that of a file which is never changed?
pub fn is_immutable(volumes: &[Volume], path: &Path) -> bool {
    let Ok(path) = path.strip_prefix(VOLUMES) else { return false };
    let inside = |volume: &Volume| {
        let inside = path.strip_prefix(volume.path.trim_start_matches('/'));
        inside.is_ok_and(|inside| volume.is_immutable(inside))
    };
    volumes.iter().any(inside)
}

/// Whatever is there goes, with all in it.
pub fn remove(path: &Path) -> Result<(), Failure> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed.or_cannot(format_args!("remove {}", path.display())),
    }
}

/// Root's alone, until it is over.
fn make_folder(path: &Path) -> Result<(), Failure> {
    let made = DirBuilder::new().mode(0o700).create(path);
    made.or_cannot(format_args!("make folder {}", path.display()))
}

/// A folder looks as the one that it is a copy of.
fn dress(copy: &Path, found: &Metadata) -> io::Result<()> {
    lchown(copy, Some(found.uid()), Some(found.gid()))?;
    fs::set_permissions(copy, Permissions::from_mode(found.mode() & 0o7777))?;
    set_times(copy, found)
}

fn set_times(path: &Path, found: &Metadata) -> io::Result<()> {
    let accessed = TimeSpec::new(found.atime(), found.atime_nsec());
    let modified = TimeSpec::new(found.mtime(), found.mtime_nsec());
    let flags = UtimensatFlags::NoFollowSymlink;
    Ok(utimensat(AT_FDCWD, path, &accessed, &modified, flags)?)
}

fn copy(from: &Path, to: &Path, found: &Metadata) -> io::Result<()> {
    let mut options = File::options();
    let mut source = options.read(true).custom_flags(libc::O_NOFOLLOW).open(from)?;
    let mut target = File::options().write(true).create_new(true).mode(0o600).open(to)?;
    copy_content(&mut source, &mut target)?;
    target.set_len(found.len())?;
    fchown(&target, Some(found.uid()), Some(found.gid()))?;
    target.set_permissions(Permissions::from_mode(found.mode() & 0o7777))?;
    let times = FileTimes::new().set_accessed(found.accessed()?).set_modified(found.modified()?);
    target.set_times(times)
}

/// Stretch by stretch: what lies between them is a hole.
fn copy_content(source: &mut File, target: &mut File) -> io::Result<()> {
    let mut end = 0;
    loop {
        let start = match lseek(&*source, end, Whence::SeekData) {
            Err(Errno::ENXIO) => return Ok(()),
            start => start?,
        };
        end = lseek(&*source, start, Whence::SeekHole)?;
        let (from, length) = (start.unsigned_abs(), end.abs_diff(start));
        source.seek(SeekFrom::Start(from))?;
        target.seek(SeekFrom::Start(from))?;
        // The kernel copies it; no byte passes through here.
        let copied = io::copy(&mut (&*source).take(length), target)?;
        if copied != length {
            return Err(io::Error::new(ErrorKind::UnexpectedEof, "it became shorter meanwhile"));
        }
    }
}
