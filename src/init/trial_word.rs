//! A trial's word ([`appliance::trial_word`]), on the disk: what PID 1 writes there, and when.
//!
//! | when | what |
//! |---|---|
//! | the initrd of a trial has found the slot, or failed to | it has begun |
//! | it fails | why, and the console's last lines: the data may not be mounted, or be full |
//! | another system is about to be armed | both are blanked |
//!
//! And if the power goes in a write? What has begun is one sector. Why it ended is several: torn,
//! they say nothing, and the next try says it again. They are blanked before anything else is done
//! for a new trial: in between there are none, and none is needed. What decides on upgrades takes
//! what is found for an explanation, and for nothing else ([`crate::upgrade::trace`]).

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use appliance::control::{LastFailure, Phase};
use appliance::esp::Entry;
use appliance::gpt::SECTOR;
use appliance::hash::RootHash;
use appliance::trial_word::{BEGUN, ENDED, Place, parse, to_bytes};
use appliance::upgrade::Side;
use serde::{Deserialize, Serialize};

use crate::data::disk::Disk;
use crate::log::{error, warning};
use crate::slot::{self, Slot};
use crate::upgrade::trace::Trace;
use crate::{direct, end, systems};
use appliance::failure::{Failure, OrCannot as _};

/// How long writing why may take.
const WRITTEN_WITHIN: Duration = Duration::from_secs(3);
/// Where the initrd tells the root that this boot is a trial.
const FILE: &str = "/run/stele/trial.json";

/// What is on trial, if this boot is one.
static TRIAL: Mutex<Option<Trial>> = Mutex::new(None);

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Trial {
    disk: PathBuf,
    root_hash: RootHash,
}

/// In the initrd: the boot of the system in this slot begins. It goes on, whatever of this fails.
pub fn begin(slot: &Slot, root_hash: RootHash) {
    let path = Path::new(slot::BLOCK_DEVICES).join(&slot.name);
    report(Disk::of_slot(&path).and_then(|(disk, start)| {
        let side = systems::side_at(&disk, start)?;
        begun(&disk, Some(side), root_hash)
    }));
}

/// In the initrd: no slot has the root that is pinned. If there is a trial at all, it is this.
pub fn begin_lost(root_hash: RootHash) {
    // Which disk it would be said on is what couldn't be told.
    let Ok(disk) = Disk::alone() else { return };
    report(begun(&disk, None, root_hash));
}

fn begun(disk: &Disk, side: Option<Side>, root_hash: RootHash) -> Result<(), Failure> {
    let listed = systems::esp_of(disk)?.listed()?;
    let is_tried = |side| matches!(listed.of(side), Entry::Counted { .. });
    if !side.map_or(is_tried(Side::A) || is_tried(Side::B), is_tried) {
        return Ok(());
    }
    let disk = Path::new("/dev").join(&disk.name);
    let (phase, root) = (Some(Phase::Initrd), Some(root_hash));
    let said = LastFailure { phase, root_hash: root, ..LastFailure::default() };
    write(&disk, BEGUN, &to_bytes(&said, BEGUN))?;
    set(Some(Trial { disk, root_hash }));
    Ok(())
}

/// In the initrd: the root goes on with this boot.
pub fn hand_over() {
    let trial = TRIAL.try_lock().ok().and_then(|trial| trial.clone());
    let Some(trial) = trial else { return };
    let what = format_args!("write {FILE}");
    let written = serde_json::to_vec(&trial).or_cannot(what);
    report(written.and_then(|bytes| fs::write(FILE, bytes).or_cannot(what)));
}

/// In the root: what the initrd has begun goes on.
pub fn take_over() {
    if let Ok(bytes) = fs::read(FILE) {
        set(serde_json::from_slice(&bytes).ok());
    }
}

/// It is blessed: how it ends from here on is another matter.
pub fn is_blessed() {
    set(None);
}

/// This boot fails. In a child, since a disk may never answer.
pub fn leave(said: &LastFailure) {
    let trial = TRIAL.try_lock().ok().and_then(|mut trial| trial.take());
    let Some(Trial { disk, root_hash }) = trial else { return };
    let bytes = to_bytes(&LastFailure { root_hash: Some(root_hash), ..said.clone() }, ENDED);
    if !end::in_child(WRITTEN_WITHIN, || report(write(&disk, ENDED, &bytes))) {
        error!("cannot write the trial's word in time");
    }
}

/// What the last trial left on this disk.
pub fn read(disk: &Disk) -> Trace {
    let path = Path::new("/dev").join(&disk.name);
    let read = |Place { sector, bytes }| {
        let what = format_args!("read the trial's word on {}", path.display());
        direct::read(&path, sector * SECTOR, bytes).or_cannot(what).map(|bytes| parse(&bytes))
    };
    match read(BEGUN).and_then(|begun| Ok((begun, read(ENDED)?))) {
        Ok((_, Some(ended))) => Trace::Ended(ended),
        Ok((Some(begun), None)) => Trace::Begun(begun),
        Ok((None, None)) => Trace::Nothing,
        Err(failure) => {
            warning!("{failure}");
            Trace::Unknown
        }
    }
}

/// Another trial is about to be armed: what the last one said isn't about that.
pub fn blank(disk: &Disk) {
    if read(disk) == Trace::Nothing {
        return;
    }
    let path = Path::new("/dev").join(&disk.name);
    for place in [BEGUN, ENDED] {
        report(write(&path, place, &vec![0; place.bytes]));
    }
}

fn write(disk: &Path, place: Place, bytes: &[u8]) -> Result<(), Failure> {
    let what = format_args!("write the trial's word on {}", disk.display());
    direct::write(disk, place.sector * SECTOR, bytes).or_cannot(what)
}

fn report(done: Result<(), Failure>) {
    if let Err(failure) = done {
        warning!("{failure}");
    }
}

fn set(trial: Option<Trial>) {
    if let Ok(mut place) = TRIAL.try_lock() {
        *place = trial;
    }
}
