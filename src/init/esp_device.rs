//! The ESP's one sector that says what boots, read and written on its device.
//!
//! And if the power goes in a write? A sector is the old one or the new one; of several, each is on
//! the device before the next is begun, and after any of them a system boots
//! ([`appliance::esp::Directory`]).

use std::fmt;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use appliance::esp::{Cannot, Directory, Esp, NotOurs, SECTOR, Sector};
use appliance::upgrade::Side;

use crate::log::{error, notice};
use crate::upgrade::{Edit, Listed};
use crate::{direct, end};
use appliance::failure::{Failure, OrCannot as _};

/// How often a trial may be started.
const TRIES: u8 = 3;
/// How long condemning may take when PID 1 itself has failed.
const CONDEMNED_WITHIN: Duration = Duration::from_secs(3);

/// What PID 1 condemns should it fail itself.
static TO_CONDEMN: Mutex<Option<(EspDevice, Side)>> = Mutex::new(None);

/// The ESP of the disk that the root is on.
#[derive(Debug, Clone)]
pub struct EspDevice {
    path: PathBuf,
    esp: Esp,
}

impl EspDevice {
    /// Finds the directory on this device, and refuses what wasn't made for upgrades.
    pub fn open(path: PathBuf) -> Result<EspDevice, Failure> {
        let what = format_args!("use the ESP on {}", path.display());
        let esp = Esp::locate(|offset, length| direct::read(&path, offset, length));
        Ok(EspDevice { esp: esp.or_cannot(what)?, path })
    }

    /// Its device.
    pub fn path(&self) -> &PathBuf {
        &self.path
    }

    /// What it lists.
    pub fn listed(&self) -> Result<Listed, Failure> {
        Ok(listed(&self.read()?))
    }

    /// Writes what `edit` takes, and reads back what is listed then.
    pub fn write(&self, edit: Edit) -> Result<Listed, Failure> {
        let sectors = |directory: &Directory| match edit {
            Edit::Bless(side) => directory.bless(side),
            Edit::Condemn(side) => directory.clear(side),
            Edit::TryAgain(side) => directory.try_again(side, TRIES),
            Edit::TryOnce(side) => directory.try_again(side, 1),
        };
        let listed = self.change(sectors).or_cannot(format_args!("{edit}"))?;
        notice!("upgrade: {edit}: done");
        Ok(listed)
    }

    fn change(
        &self,
        edit: impl Fn(&Directory) -> Result<Vec<Sector>, Cannot>,
    ) -> Result<Listed, Failure> {
        let what = format_args!("write the ESP on {}", self.path.display());
        let before = self.read()?;
        let sectors = edit(&before).or_cannot(what)?;
        for sector in &sectors {
            direct::write(&self.path, self.esp.directory, sector).or_cannot(what)?;
        }
        let after = self.read()?;
        match after.sector() == sectors.last().unwrap_or(before.sector()) {
            true => Ok(listed(&after)),
            false => Err(Failure::new(what, "what is read back isn't what was written")),
        }
    }

    fn read(&self) -> Result<Directory, Failure> {
        let what = format_args!("read the ESP on {}", self.path.display());
        let bytes = direct::read(&self.path, self.esp.directory, SECTOR).or_cannot(what)?;
        let sector: Sector = bytes.try_into().map_err(|_| "it is cut short").or_cannot(what)?;
        let directory: Result<Directory, NotOurs> = self.esp.read_directory(&sector);
        directory.or_cannot(what)
    }
}

fn listed(directory: &Directory) -> Listed {
    Listed { a: directory.entry(Side::A), b: directory.entry(Side::B) }
}

/// Should PID 1 fail from here on, this system isn't tried again; or it is, with `None`.
pub fn condemn_on_failure(what: Option<(EspDevice, Side)>) {
    if let Ok(mut place) = TO_CONDEMN.lock() {
        *place = what;
    }
}

/// PID 1 has failed. In a child, since a disk may never answer; without it, the loader counts a try.
pub fn on_failure() {
    let what = TO_CONDEMN.try_lock().ok().and_then(|mut place| place.take());
    let Some((device, side)) = what else { return };
    let condemn = || {
        if let Err(failure) = device.write(Edit::Condemn(side)) {
            error!("{failure}");
        }
    };
    if !end::in_child(CONDEMNED_WITHIN, condemn) {
        error!("cannot condemn this trial in time");
    }
}

impl fmt::Display for Edit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Edit::Bless(side) => write!(f, "bless the system in slot {side}"),
            Edit::Condemn(side) => write!(f, "take what is in slot {side} off the loader's list"),
            Edit::TryAgain(side) | Edit::TryOnce(side) => {
                write!(f, "have the system in slot {side} tried at the next boot")
            }
        }
    }
}
