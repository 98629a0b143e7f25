//! The second net ([`appliance::boot_record`]), on the disk: what PID 1 writes there, and when.
//!
//! | when | what |
//! |---|---|
//! | the initrd has found the slot, or failed to | a boot has begun, and has failed unless it gets further; is it enough, the other system gets a try |
//! | the root's PID 1 has found its disk | it hasn't failed yet |
//! | that one fails | one more failure |
//! | services have been up for a while | all is forgotten |
//! | an orderly end | that boot wasn't one |
//!
//! A trial doesn't count here, and neither does a boot that didn't come from firmware. And if the
//! power goes in a write? The other copy counts: it misses one boot.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use appliance::boot_record::{BYTES, Record, SECTORS};
use appliance::esp::Entry;
use appliance::gpt::SECTOR;
use appliance::upgrade::Side;

use crate::data::disk::Disk;
use crate::log::{error, warning};
use crate::slot::{self, Slot};
use crate::upgrade::{Edit, Listed};
use crate::{direct, end, systems, trial_word};
use appliance::failure::{Failure, OrCannot as _};

/// There when the machine was started by UEFI.
const FIRMWARE: &str = "/sys/firmware/efi";
/// How long a failure may take to be noted.
const NOTED_WITHIN: Duration = Duration::from_secs(3);

/// The disk that the record is on, if this boot counts there.
static PLACE: Mutex<Option<PathBuf>> = Mutex::new(None);

/// In the initrd: the boot of the system in this slot begins. It goes on, whatever of this fails; it
/// doesn't if it was enough, and the next boot is the other system's.
pub fn begin(slot: &Slot) -> Result<(), Failure> {
    let path = Path::new(slot::BLOCK_DEVICES).join(&slot.name);
    let began = Disk::of_slot(&path).and_then(|(disk, start)| {
        let side = systems::side_at(&disk, start)?;
        count(&disk, |_| Some(side))
    });
    match began {
        Ok(true) => Err(Failure::new("go on with this system", "the other one gets a try")),
        other => {
            report(other.map(drop));
            Ok(())
        }
    }
}

/// In the initrd: no slot has the root that is pinned. Whose boot it is, the loader's list says.
pub fn begin_lost() {
    // Which disk it would be noted on is what couldn't be told.
    let Ok(disk) = Disk::alone() else { return };
    report(count(&disk, newest).map(drop));
}

/// What the loader starts, of two systems of which none is on trial.
fn newest(listed: &Listed) -> Option<Side> {
    let number = |side| match listed.of(side) {
        Entry::Blessed { number } => Some(Some(*number)),
        Entry::Off => Some(None),
        Entry::Counted { .. } | Entry::Foreign(_) => None,
    };
    let (a, b) = (number(Side::A)?, number(Side::B)?);
    Some(if a >= b { Side::A } else { Side::B })
}

fn count(disk: &Disk, running: impl Fn(&Listed) -> Option<Side>) -> Result<bool, Failure> {
    if !Path::new(FIRMWARE).exists() {
        return Ok(false);
    }
    let esp = systems::esp_of(disk)?;
    let listed = esp.listed()?;
    let Some(side) = running(&listed) else { return Ok(false) };
    if !is_good(&listed, side) {
        return Ok(false);
    }
    let path = Path::new("/dev").join(&disk.name);
    let record = read(&path)?;
    if record.is_enough() && is_good(&listed, side.other()) {
        // If the power goes in between, the other one has its try, and isn't good any more if it
        // fails: there is nothing to forget.
        trial_word::blank(disk);
        esp.write(Edit::TryOnce(side.other()))?;
        write(&path, record.tries_other())?;
        error!(
            "initrd: the system in slot {side} was good and isn't: {} boots in a row, {} failures",
            record.unproven, record.failures
        );
        return Ok(true);
    }
    write(&path, record.begun())?;
    Ok(false)
}

/// In the root: the same boot goes on, if it counts. What was counted must be taken back once it is
/// good, whoever started it: else the other system would get a try though this one serves.
pub fn take_over(disk: &Disk, listed: &Listed, side: Side) {
    if is_good(listed, side) && Path::new(FIRMWARE).exists() {
        let path = Path::new("/dev").join(&disk.name);
        report(change(&path, Record::arrived));
        set(Some(path));
    }
}

/// Does a boot of what is there count?
fn is_good(listed: &Listed, side: Side) -> bool {
    matches!(listed.of(side), Entry::Blessed { .. })
}

/// PID 1 fails: in a child, since a disk may never answer.
pub fn on_failure() {
    if let Some(path) = take() {
        let note = || report(change(&path, Record::failed));
        if !end::in_child(NOTED_WITHIN, note) {
            error!("cannot note the failure in time");
        }
    }
}

/// This boot is good.
pub fn proved() {
    if let Some(path) = take() {
        report(change(&path, Record::proved));
    }
}

/// This boot ends because somebody wants that.
pub fn ended() {
    if let Some(path) = take() {
        report(change(&path, Record::ended));
    }
}

fn change(path: &Path, how: impl Fn(Record) -> Record) -> Result<(), Failure> {
    let before = read(path)?;
    match before.is_clean() && how(before).is_clean() {
        true => Ok(()),
        false => write(path, how(before)),
    }
}

fn read(path: &Path) -> Result<Record, Failure> {
    let what = format_args!("read the record of boots on {}", path.display());
    let [one, two] = SECTORS.map(|sector| direct::read(path, sector * SECTOR, BYTES));
    Ok(Record::newest([&one.or_cannot(what)?, &two.or_cannot(what)?]))
}

fn write(path: &Path, record: Record) -> Result<(), Failure> {
    let what = format_args!("write the record of boots on {}", path.display());
    direct::write(path, record.sector() * SECTOR, &record.to_bytes()).or_cannot(what)
}

fn report(done: Result<(), Failure>) {
    if let Err(failure) = done {
        warning!("{failure}");
    }
}

fn set(path: Option<PathBuf>) {
    if let Ok(mut place) = PLACE.try_lock() {
        *place = path;
    }
}

/// Said once: what is good isn't given up afterwards, and what was given up isn't good.
fn take() -> Option<PathBuf> {
    PLACE.try_lock().ok().and_then(|mut place| place.take())
}
