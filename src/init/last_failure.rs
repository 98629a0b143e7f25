//! Why a boot ended before its time, kept for the next one: a file on the data volume, written by
//! what fails itself, in a child that may hang on the disk.
//!
//! A trial has another place for that ([`trial_word`]), should the data not be mounted yet, or be full;
//! for others the console has to do then. What a hang leaves is the watchdog's own mark.

use std::collections::VecDeque;
use std::fmt::Display;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::Duration;

use appliance::control::{LastFailure, Phase};
use appliance::hash::RootHash;

use crate::log::{detail, error, warning};
use crate::upgrade::kept::Word;
use crate::{clock, data, end, trial_word, watchdog};

/// The file on the data. ([`crate::sys`] writes it, too.)
const FILE: &str = "/run/stele/data/last-failure";
/// The most bytes of the file: one block.
const LONGEST: usize = 4096;
/// The most bytes of a reason, and of a line of the console.
const LONGEST_LINE: usize = 400;
/// How many lines of the console are kept, if they fit.
const TAIL: usize = 30;
/// More records than the kernel's ring buffer holds.
const MOST_RECORDS: usize = 50_000;
/// How long keeping it may take.
const KEPT_WITHIN: Duration = Duration::from_secs(3);

/// In the order of their numbers.
const PHASES: [Phase; 4] = [Phase::Initrd, Phase::Setup, Phase::Running, Phase::Ending];
static PHASE: AtomicU8 = AtomicU8::new(0);
static LAST: OnceLock<LastFailure> = OnceLock::new();
/// What runs.
static SYSTEM: OnceLock<(String, RootHash)> = OnceLock::new();
/// A reason was kept: what goes wrong after it follows from it.
static IS_KEPT: AtomicBool = AtomicBool::new(false);

/// What fails from here on is this version, this root.
pub fn is_of(version: &str, root_hash: RootHash) {
    let _ = SYSTEM.set((version.to_owned(), root_hash));
}

/// This boot has come so far.
pub fn reached(phase: Phase) {
    let number = PHASES.iter().position(|known| *known == phase).unwrap_or_default();
    PHASE.store(number as u8, Ordering::Relaxed);
}

/// Keeps why this boot ends now, if there is a place.
pub fn keep(reason: impl Display) {
    keep_of(None, reason);
}

/// The same, and the check of its health that says so. The first reason counts.
pub fn keep_of(check: Option<&str>, reason: impl Display) {
    let is_mounted = || -> io::Result<bool> {
        let above = Path::new(data::AT).parent().unwrap_or(Path::new("/"));
        Ok(fs::metadata(data::AT)?.dev() != fs::metadata(above)?.dev())
    };
    if IS_KEPT.load(Ordering::Relaxed) {
        return;
    }
    let (version, root_hash) = SYSTEM.get().cloned().unzip();
    let failure = LastFailure {
        when: Some(clock::date().as_secs()),
        phase: PHASES.get(usize::from(PHASE.load(Ordering::Relaxed))).copied(),
        version,
        root_hash,
        check: check.map(str::to_owned),
        reason: cut(&reason.to_string()),
        console_tail: console_tail(),
    };
    // First, since the data may be full, or its disk in trouble.
    trial_word::leave(&failure);
    if !is_mounted().unwrap_or(false) {
        return;
    }
    IS_KEPT.store(true, Ordering::Relaxed);
    let bytes = to_bytes(failure);
    let write = || {
        let mut options = File::options();
        options.write(true).create(true).truncate(true).mode(0o600);
        let file = options.custom_flags(libc::O_SYNC | libc::O_NOFOLLOW).open(FILE);
        let _ = file.and_then(|mut file| file.write_all(&bytes));
    };
    if !end::in_child(KEPT_WITHIN, write) {
        error!("cannot keep the reason in time");
    }
}

/// Reads what the boot before this one left, and tells it. To be called once the data is mounted.
pub fn read() {
    let mut bytes = vec![];
    let read = File::options().read(true).custom_flags(libc::O_NOFOLLOW).open(FILE);
    let read = read.and_then(|file| file.take(LONGEST as u64).read_to_end(&mut bytes));
    let kept = match read {
        Ok(_) => Some(from_bytes(&bytes)),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => {
            warning!("cannot read {FILE}: {error}");
            None
        }
    };
    let bitten = || watchdog::has_bitten().then(|| unknown("the watchdog reset the machine"));
    if let Some(failure) = kept.or_else(bitten) {
        tell(&failure);
        let _ = LAST.set(failure);
    }
}

/// It has been told, and what follows from it is kept. And if the power goes before? Then it is told
/// again, and the same follows.
pub fn forget() {
    let _ = fs::remove_file(FILE);
}

/// What ended the boot before this one.
pub fn last() -> Option<&'static LastFailure> {
    LAST.get()
}

/// The same, as what decides on upgrades takes it.
pub fn word(failure: &LastFailure) -> Word {
    let LastFailure { when, phase, version, root_hash, check, reason, console_tail } =
        failure.clone();
    Word { root_hash, version, phase, when, check, reason, console_tail }
}

fn tell(failure: &LastFailure) {
    let phase = failure.phase.map_or("unknown".to_owned(), |phase| phase.to_string());
    warning!("root: the last boot failed (phase {phase}): {}", failure.reason);
    for line in &failure.console_tail {
        detail!("last boot: {line}");
    }
}

fn unknown(reason: &str) -> LastFailure {
    LastFailure { reason: reason.into(), ..LastFailure::default() }
}

/// A file that was torn is still a sign.
fn from_bytes(bytes: &[u8]) -> LastFailure {
    serde_json::from_slice(bytes).unwrap_or_else(|_| unknown("not known: its file is torn"))
}

/// As JSON; of the console only as many of the last lines as fit.
fn to_bytes(mut failure: LastFailure) -> Vec<u8> {
    loop {
        let bytes = serde_json::to_vec(&failure).unwrap_or_default();
        if bytes.len() <= LONGEST || failure.console_tail.is_empty() {
            return bytes;
        }
        failure.console_tail.remove(0);
    }
}

fn cut(text: &str) -> String {
    let mut room = LONGEST_LINE;
    let fits = |character: &char| match room.checked_sub(character.len_utf8()) {
        Some(left) => {
            room = left;
            true
        }
        None => false,
    };
    text.chars().take_while(fits).collect()
}

/// The last lines that the console showed, from the kernel's ring buffer.
fn console_tail() -> Vec<String> {
    let mut tail = VecDeque::new();
    let ring = File::options().read(true).custom_flags(libc::O_NONBLOCK).open("/dev/kmsg");
    let Ok(mut ring) = ring else { return vec![] };
    let mut record = [0; 8192];
    for _ in 0..MOST_RECORDS {
        match ring.read(&mut record) {
            Ok(length) => tail.extend(record.get(..length).and_then(shown)),
            // It was overwritten while we read on: the next is there.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
            Err(_) => break,
        }
        if tail.len() > TAIL {
            tail.pop_front();
        }
    }
    tail.into()
}

/// The line of a record (`6,123,4567890,-;text`, then more lines), if the console shows such.
fn shown(record: &[u8]) -> Option<String> {
    /// Notices and worse, without the facility.
    const NOTICE: u32 = 5;
    let record = String::from_utf8_lossy(record);
    let (head, text) = record.split_once(';')?;
    let mut head = head.split(',');
    let level = head.next()?.parse::<u32>().ok()? & 7;
    let micros = head.nth(1)?.parse::<u64>().ok()?;
    let line = text.lines().next()?;
    (level <= NOTICE)
        .then(|| cut(&format!("[{:5}.{:03}] {line}", micros / 1_000_000, micros / 1_000 % 1_000)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure() -> LastFailure {
        LastFailure {
            when: Some(1_700_000_000),
            phase: Some(Phase::Running),
            version: Some("1.0.0".into()),
            root_hash: Some(RootHash([7; 32])),
            check: Some("services".into()),
            reason: "internal error: at x".into(),
            console_tail: vec!["[    4.568] stele-init: initrd: starts".into()],
        }
    }

    #[test]
    fn what_is_kept_is_found_again() {
        assert_eq!(from_bytes(&to_bytes(failure())), failure());
        for torn in [&b""[..], b"{", b"\0\0\0", b"{}"] {
            assert_eq!(from_bytes(torn).reason, "not known: its file is torn");
        }
    }

    #[test]
    fn what_the_handler_of_fatal_signals_writes_is_understood() {
        for words in crate::sys::LAST_WORDS_ON_DISK {
            let failure = from_bytes(words.to_bytes());
            assert!(failure.reason.starts_with("fatal signal"), "{words:?}");
        }
    }

    #[test]
    fn it_takes_a_block_at_most_and_keeps_the_last_lines() {
        let worst = |text: &str| (0..TAIL).map(|_| cut(&text.repeat(LONGEST_LINE))).collect();
        for text in ["x", "\u{1}", "é"] {
            let reason = cut(&text.repeat(9999));
            let mut console_tail: Vec<String> = worst(text);
            console_tail.push("last".into());
            let bytes = to_bytes(LastFailure { reason, console_tail, ..failure() });
            assert!(bytes.len() <= LONGEST, "{text:?}: {}", bytes.len());
            assert_eq!(from_bytes(&bytes).console_tail.last().unwrap(), "last");
        }
    }

    #[test]
    fn only_what_the_console_shows_is_kept() {
        for (record, expected) in [
            ("5,12,4567890,-;stele-init: x\n SUBSYSTEM=a\n", Some("[    4.567] stele-init: x")),
            ("13,12,4567890,-;stele-init: x\n", Some("[    4.567] stele-init: x")),
            ("6,12,4567890,-;too quiet\n", None),
            ("5,12;torn", None),
            ("", None),
        ] {
            assert_eq!(shown(record.as_bytes()).as_deref(), expected, "{record}");
        }
    }
}
