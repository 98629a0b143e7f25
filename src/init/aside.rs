//! Before a new version changes anything, the data is kept aside as it is, so that the old version
//! finds it so again, should the new one fail.
//!
//! | on the data | what it is |
//! |---|---|
//! | `system.json` | whose data it is: the system that was blessed last, and the one before |
//! | `aside/` | the data as that one left it |
//! | `aside.json` | the marker: that is whole, and which system is being tried |
//! | `aside-failed/` | what a trial had made of it, and the trial's marker |
//!
//! | step | cut after it, the next boot |
//! |---|---|
//! | a trial's first boot copies, before any service starts | clears the copy, and copies anew |
//! | all is synced, the marker is on the disk: the commit | goes on: the copy is there |
//! | the trial writes, is found healthy, and blessed | see below |
//! | `system.json` names it, the marker goes | finds the marker, and takes it away |
//! | the copy is cleared, in the background | clears it |
//!
//! | the trial failed; the old system boots, finds the marker | cut after it, the next boot |
//! |---|---|
//! | copy and data change places ([`crate::exchange`]); the marker goes with what the trial made | goes on before anything else |
//! | what the trial made stays until the next trial, or until the disk is nearly full | the same |
//!
//! Systems read these files that are older and newer than the one that wrote them: a field may be
//! added, never changed. What belongs to the machine (its id, its clock, its journal, its verdicts)
//! isn't set back. What can't be understood of them is renamed to `….damaged`, and serves nobody.

mod copying;
mod plan;
mod room;
mod walk;

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use appliance::boot::Volume;
use appliance::upgrade::{Code, Refused, Space};
use nix::sys::statvfs::statvfs;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use self::copying::{Copying, remove};
pub use self::plan::{Boot, System};
use self::plan::{Known, Marker, Record, Step, must_know};
use self::walk::{Found, Walk};
use crate::clock;
use crate::exchange::{Exchange, exists};
use crate::log::{notice, warning};
use crate::{keep, sys, tool};
use appliance::failure::{Failure, OrCannot as _};

/// Their names on the data.
const SYSTEM: &str = "system.json";
const MARKER: &str = "aside.json";
const ASIDE: &str = "aside";
const FAILED: &str = "aside-failed";
/// What a new version may change: the volumes, and what is made of one's settings.
const VOLUMES: &str = "volumes";
const SETTINGS: &str = "settings.json";
/// As long as copying or clearing may take; a trial fails that takes longer.
const WITHIN: Duration = Duration::from_secs(30 * 60);
/// As long as PID 1, among its services, counts files, and as many.
const COUNTED_WITHIN: Duration = Duration::from_millis(500);
const MOST_COUNTED: u32 = 50_000;
/// A disk with less than one part of so many free is nearly full.
const LOW: u64 = 10;
const MIB: u64 = 1 << 20;

/// What was done.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settled {
    /// A trial had failed.
    pub set_back: Option<SetBack>,
    /// A trial begins.
    pub kept: Option<Amount>,
}

/// Data that is as it was before a trial.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetBack {
    /// What was tried.
    pub tried: System,
    /// How many files that had made, changed or deleted.
    pub changed: u64,
}

/// How much.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Amount {
    /// Files, those that needn't be copied included.
    pub files: u64,
    /// Bytes on the disk that the copies take.
    pub bytes: u64,
}

/// Sees to it that the data is what this boot's system may use: kept aside if it is tried for the
/// first time, set back if another was tried in vain. What is said of it and makes no sense is put
/// aside, but by a trial that there is something to go back from: that fails. To be called once the data is mounted and an
/// exchange that was cut short is finished, before volumes are mounted: it may take as long as
/// [`WITHIN`], with the watchdog fed. A failure has changed nothing that the system before needs; a
/// trial has failed with it.
pub fn settle(data: &Path, boot: &Boot, volumes: &[Volume]) -> Result<(), Failure> {
    let steps = Known::believed(data, boot)?.plan(boot)?;
    let settled = match steps.is_empty() {
        true => Settled::default(),
        false => tool::in_child("aside", "settle whose data it is", WITHIN, || {
            carry_out(&steps, data, boot, volumes)
        })?,
    };
    settled.tell(boot);
    clear_in_background(data);
    Ok(())
}

/// The system has proved itself: the data is its own. To be called when it has been blessed, again
/// if that fails. What was kept for the other is cleared in the background.
pub fn bless(data: &Path, system: &System) -> Result<(), Failure> {
    adopt(data, system)?;
    clear_in_background(data);
    Ok(())
}

/// Nothing stays of what a failed trial made: for one who erases the data.
pub fn forget(data: &Path) {
    in_background(data, || {
        let _ = fs::remove_file(keep::damaged(&data.join(MARKER)));
        clear_of(data, true)
    });
}

/// What keeping the data aside would take, and what there is for it. Who asks isn't kept waiting: of
/// more files than can be counted soon, all that is used counts.
pub fn space(data: &Path, volumes: &[Volume]) -> Result<Space, Failure> {
    room::measure(data, volumes, clock::now() + COUNTED_WITHIN, MOST_COUNTED)
}

/// May the other slot's system, which was blessed once, be given this data? It may not if what runs
/// writes a format that it doesn't know, or if there is no room to try it.
pub fn may_roll_back(data: &Path, volumes: &[Volume]) -> Result<(), Refused> {
    let refused = |code| move |why: Failure| Refused { code, message: why.to_string() };
    other_must_know(data).map_err(refused(Code::Downgrade))?;
    let space = space(data, volumes).and_then(room::must_suffice);
    space.map_err(refused(Code::Space))
}

fn other_must_know(data: &Path) -> Result<(), Failure> {
    let what = "roll back";
    let unknown =
        || Failure::new(what, "the data doesn't say which formats the other system knows");
    let record = Known::read(data)?.record.ok_or_else(unknown)?;
    let other = record.before.ok_or_else(unknown)?;
    must_know(&other, &record.system).or_cannot(what)
}

impl Known {
    fn read(data: &Path) -> Result<Known, Failure> {
        Ok(Known { record: read(&data.join(SYSTEM))?, marker: read(&data.join(MARKER))? })
    }

    fn believed(data: &Path, boot: &Boot) -> Result<Known, Failure> {
        if boot.is_trial && boot.is_other_blessed {
            return Known::read(data);
        }
        let (record, marker) = (data.join(SYSTEM), data.join(MARKER));
        Ok(Known { record: believed(&record), marker: believed(&marker) })
    }
}

impl Marker {
    fn new(data: &Path, to: &System) -> Result<Marker, Failure> {
        let what = "look at what is to be kept aside";
        let of = Known::read(data)?.record.map(|record| record.system.root);
        let places = [VOLUMES, SETTINGS].map(|name| Ok((name.into(), exists(&data.join(name))?)));
        let places: Vec<(PathBuf, bool)> =
            places.into_iter().collect::<Result<_, std::io::Error>>().or_cannot(what)?;
        // The marker goes with what the trial made: when that has gone, so has the marker.
        let places = places.into_iter().chain([(MARKER.into(), false)]);
        let exchange = Exchange::of(places, ASIDE, FAILED);
        Ok(Marker { of, to: to.clone(), when: clock::date().as_secs(), exchange })
    }

    fn write(&self, data: &Path) -> Result<(), Failure> {
        write(&data.join(MARKER), self)
    }
}

impl Settled {
    fn tell(&self, boot: &Boot) {
        if let Some(SetBack { tried, changed }) = &self.set_back {
            let version = &tried.version;
            notice!("data: set back to before {version}, which had changed {changed} files");
        }
        if let Some(Amount { files, bytes }) = &self.kept {
            let (version, bytes) = (&boot.system.version, bytes / MIB);
            notice!("data: kept aside before {version} uses it: {files} files, {bytes} MiB copied");
        }
    }
}

fn carry_out(
    steps: &[Step],
    data: &Path,
    boot: &Boot,
    volumes: &[Volume],
) -> Result<Settled, Failure> {
    let mut settled = Settled::default();
    for step in steps {
        match step {
            Step::SetBack(marker) => settled.set_back = Some(set_back(data, marker)?),
            Step::Adopt(system) => adopt(data, system)?,
            Step::Keep => settled.kept = Some(keep_aside(data, boot, volumes)?),
        }
    }
    Ok(settled)
}

fn keep_aside(data: &Path, boot: &Boot, volumes: &[Volume]) -> Result<Amount, Failure> {
    let marker = Marker::new(data, &boot.system)?;
    // Its copy goes now.
    let _ = fs::remove_file(keep::damaged(&data.join(MARKER)));
    let mut copying = Copying::new(data, volumes, &marker);
    loop {
        match copying.step() {
            Ok(true) => {}
            Ok(false) => return Ok(copying.amount),
            Err(failure) => {
                // Half a copy serves nobody, and may be what fills the disk.
                let _ = remove(&data.join(ASIDE));
                return Err(failure);
            }
        }
    }
}

fn set_back(data: &Path, marker: &Marker) -> Result<SetBack, Failure> {
    remove(&data.join(FAILED))?;
    marker.exchange.begin(data)?;
    marker.exchange.carry_out(data)?;
    let changed = changed(data, &marker.exchange)?;
    Ok(SetBack { tried: marker.to.clone(), changed })
}

/// How many files are others in what a trial had made.
fn changed(data: &Path, exchange: &Exchange) -> Result<u64, Failure> {
    let failed = data.join(FAILED);
    let mut changed = 0;
    for (here, there, counts_all) in [(data, &*failed, true), (&*failed, data, false)] {
        for path in exchange.taken() {
            if !exists(&here.join(path)).or_cannot("look at what was changed")? {
                continue;
            }
            for found in Walk::new(here, path) {
                let Found::Other(path, found) = found? else { continue };
                let is_so = match fs::symlink_metadata(there.join(path)) {
                    Ok(other) => !counts_all || seen(&found) == seen(&other),
                    Err(_) => false,
                };
                changed += u64::from(!is_so);
            }
        }
    }
    Ok(changed)
}

/// What a change of a file changes.
fn seen(found: &fs::Metadata) -> (u32, u64, i64, i64) {
    (found.mode(), found.len(), found.mtime(), found.mtime_nsec())
}

/// And if the power goes here? The first write says whose data it is, which is what decides; a
/// marker that is left says the same to who was tried.
fn adopt(data: &Path, system: &System) -> Result<(), Failure> {
    let known: Option<Record> = believed(&data.join(SYSTEM));
    let before = known.map(|record| record.system);
    if before.as_ref() != Some(system) {
        write(&data.join(SYSTEM), &Record { system: system.clone(), before })?;
    }
    let marker = data.join(MARKER);
    match fs::remove_file(&marker) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => {
            let removed = removed.and_then(|()| fs::File::open(data)?.sync_all());
            removed.or_cannot(format_args!("remove {}", marker.display()))
        }
    }
}

fn clear_in_background(data: &Path) {
    in_background(data, || clear(data));
}

/// What serves nobody any more goes, while services run: as long as there are files. Cut, it is done
/// by the next boot.
fn in_background(data: &Path, clear: impl FnOnce() -> Result<(), Failure>) {
    let is_left = |name| exists(&data.join(name)).unwrap_or(false);
    if !is_left(ASIDE) && !is_left(FAILED) {
        return;
    }
    let cleared = sys::fork(&[], || match clear() {
        Ok(()) => 0,
        Err(failure) => {
            warning!("{failure}");
            1
        }
    });
    if let Err(errno) = cleared {
        warning!("cannot clear what was kept aside: {errno}");
    }
}

fn clear(data: &Path) -> Result<(), Failure> {
    let found = statvfs(data).or_cannot("learn how much room there is")?;
    clear_of(data, found.blocks_available() as u64 * LOW < found.blocks() as u64)
}

/// A copy without a marker is nobody's; one whose marker is damaged, somebody may want. What a failed trial made stays unless the disk is nearly full.
fn clear_of(data: &Path, is_low: bool) -> Result<(), Failure> {
    let marker = data.join(MARKER);
    let is_there = |path: &Path| exists(path).or_cannot("clear what was kept aside");
    if !is_there(&marker)? && !is_there(&keep::damaged(&marker))? {
        remove(&data.join(ASIDE))?;
    }
    match is_low {
        true => remove(&data.join(FAILED)),
        false => Ok(()),
    }
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, Failure> {
    let text = match fs::read(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        text => text.or_cannot(format_args!("read {}", path.display()))?,
    };
    let what = format_args!("understand {}", path.display());
    serde_json::from_slice(&text).map(Some).or_cannot(what)
}

/// What is damaged is put aside, and says nothing.
fn believed<T: DeserializeOwned>(path: &Path) -> Option<T> {
    read(path).unwrap_or_else(|failure| {
        warning!("{failure}; it is put aside");
        keep::put_aside(path);
        None
    })
}

fn write(path: &Path, content: &impl Serialize) -> Result<(), Failure> {
    let what = format_args!("write {}", path.display());
    let text = serde_json::to_vec(content).or_cannot(what)?;
    keep::replace(path, &text, 0o600, keep::ROOT).or_cannot(what)
}

#[cfg(test)]
mod tests;
