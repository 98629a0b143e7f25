//! What is remembered of what a service printed: the last of it in memory, and more of it on the
//! data volume, where there is one.
//!
//! A line is `<unix-ms> <priority> <text>`, the priority as syslog numbers it. On the volume each
//! service has two files: `NAME.log`, which grows to a bound and then takes the place of `NAME.old`.
//! They are only ever appended to, and not synced: a power cut loses the last seconds, and leaves at
//! most one line torn, which the next boot ends, and zeros after it, which that takes away.

use std::collections::VecDeque;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::fcntl::OFlag;
use nix::sys::statfs::{TMPFS_MAGIC, statfs};

use crate::clock::Moment;
use crate::data;
use crate::log::{self, Priority, warning};
use crate::output::{Throttle, Verdict};

/// How much of what each service printed stays in memory.
const IN_MEMORY: usize = 64 * 1024;
/// The bound of each of a service's two files.
const IN_FILE: u64 = 512 * 1024;
/// After a power cut a file may be longer than what was written of it: zeros, up to a block's end.
const BLOCK: u64 = 4096;
/// How many lines may go to a service's file in the time that [`Throttle`] looks at.
const TO_FILE: u32 = 2000;

/// One service's.
#[derive(Debug)]
pub struct Journal {
    ring: Ring,
    store: Option<Store>,
}

impl Journal {
    /// For what is called so.
    pub fn of(name: &str) -> Journal {
        let store = place().map(|folder| Store::at(&folder, name, IN_FILE));
        Journal { ring: Ring::default(), store }
    }

    /// Remembers a line. It goes to the file with [`Journal::flush`].
    pub fn add(&mut self, now: Moment, date: Duration, priority: u8, text: &str) {
        let line = line(date, priority, text);
        self.ring.push(line.as_bytes());
        if let Some(store) = &mut self.store {
            store.add(now, &line);
        }
    }

    /// Writes out what was added, in one call. A volume that takes nothing costs lines, never time:
    /// they are counted, and dropped.
    pub fn flush(&mut self, date: Duration) {
        if let Some(store) = &mut self.store {
            store.flush(date);
        }
    }

    /// The last lines, so many at most, the oldest first.
    pub fn last(&self, lines: usize) -> Vec<String> {
        self.ring.last(lines)
    }
}

/// The folder on the data volume; `None`: what is there is memory, too.
fn place() -> Option<PathBuf> {
    let is_memory = statfs(data::AT).map_or(true, |found| found.filesystem_type() == TMPFS_MAGIC);
    (!is_memory).then(|| Path::new(data::AT).join("journal"))
}

fn line(date: Duration, priority: u8, text: &str) -> String {
    format!("{} {priority} {}\n", date.as_millis(), log::one_line(text))
}

/// The last lines, in a bounded number of bytes.
#[derive(Debug, Default)]
struct Ring(VecDeque<u8>);

impl Ring {
    /// `line` ends with a newline, and no other is in it.
    fn push(&mut self, line: &[u8]) {
        while self.0.len() + line.len() > IN_MEMORY && !self.0.is_empty() {
            let first = self.0.iter().position(|&byte| byte == b'\n');
            self.0.drain(..=first.unwrap_or(self.0.len() - 1));
        }
        self.0.extend(line);
    }

    fn last(&self, lines: usize) -> Vec<String> {
        let (front, back) = self.0.as_slices();
        let text = String::from_utf8_lossy(&[front, back].concat()).into_owned();
        let all: Vec<&str> = text.lines().collect();
        let last = all.get(all.len().saturating_sub(lines)..).unwrap_or_default();
        last.iter().map(|&line| line.to_owned()).collect()
    }
}

/// One service's files.
#[derive(Debug)]
struct Store {
    folder: PathBuf,
    /// The one that grows, and the one before it.
    log: PathBuf,
    old: PathBuf,
    bound: u64,
    file: Option<File>,
    /// How long the file is.
    length: u64,
    /// The file ends within a line.
    is_torn: bool,
    throttle: Throttle,
    /// What is not written yet.
    pending: String,
    /// Lines that could not be written, since one could.
    lost: usize,
    is_failing: bool,
}

impl Store {
    fn at(folder: &Path, name: &str, bound: u64) -> Store {
        Store {
            folder: folder.to_owned(),
            log: folder.join(format!("{name}.log")),
            old: folder.join(format!("{name}.old")),
            bound,
            file: None,
            length: 0,
            is_torn: false,
            throttle: Throttle::of(TO_FILE),
            pending: String::new(),
            lost: 0,
            is_failing: false,
        }
    }

    fn add(&mut self, now: Moment, line: &str) {
        match self.throttle.ask(now) {
            Verdict::Show { .. } => self.pending.push_str(line),
            Verdict::Withhold => self.lost += 1,
        }
    }

    fn flush(&mut self, date: Duration) {
        let pending = std::mem::take(&mut self.pending);
        if pending.is_empty() {
            return;
        }
        let gap = match self.lost {
            0 => String::new(),
            lost => line(date, Priority::Warning as u8, &format!("{lost} lines lost")),
        };
        match self.write(&gap, &pending) {
            Ok(()) => (self.lost, self.is_failing) = (0, false),
            Err(error) => {
                self.lost += pending.lines().count();
                // Said once: the line itself goes to a journal, too.
                if !std::mem::replace(&mut self.is_failing, true) {
                    warning!("cannot write {}: {error}", self.log.display());
                }
                self.file = None;
            }
        }
    }

    /// All of it or a failure, after which the file may end within a line.
    fn write(&mut self, gap: &str, pending: &str) -> io::Result<()> {
        if self.file.is_none() {
            self.open()?;
        }
        let more = (gap.len() + pending.len()) as u64;
        if self.length > 0 && self.length + more > self.bound {
            self.rotate()?;
        }
        let end_of_torn = if self.is_torn { "\n" } else { "" };
        let bytes = [end_of_torn, gap, pending].concat();
        let file = self.file.as_mut().ok_or(io::ErrorKind::NotFound)?;
        let written = file.write(bytes.as_bytes())?;
        self.length += written as u64;
        self.is_torn = written < bytes.len();
        match self.is_torn {
            true => Err(io::ErrorKind::StorageFull.into()),
            false => Ok(()),
        }
    }

    /// The file as the last boot left it, or a new one.
    fn open(&mut self) -> io::Result<()> {
        match DirBuilder::new().mode(0o700).create(&self.folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let flags = OFlag::O_NOFOLLOW.bits();
        let mut options = OpenOptions::new();
        options.read(true).append(true).create(true).mode(0o600).custom_flags(flags);
        let mut file = options.open(&self.log)?;
        let mut end = vec![];
        self.length = file.metadata()?.len();
        file.seek(SeekFrom::Start(self.length.saturating_sub(BLOCK)))?;
        file.read_to_end(&mut end)?;
        let zeros = end.iter().rev().take_while(|&&byte| byte == 0).count();
        if zeros > 0 {
            end.truncate(end.len() - zeros);
            self.length -= zeros as u64;
            file.set_len(self.length)?;
        }
        self.is_torn = end.last().is_some_and(|&byte| byte != b'\n');
        self.file = Some(file);
        Ok(())
    }

    /// The file becomes the old one, at once; there is always a whole one.
    fn rotate(&mut self) -> io::Result<()> {
        self.file = None;
        fs::rename(&self.log, &self.old)?;
        self.open()
    }
}

#[cfg(test)]
mod tests;
