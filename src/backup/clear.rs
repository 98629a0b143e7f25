//! Deleting what has lost its place, or never got one. That takes as long as there are files, while
//! services run; cut, it is done by the next boot.

use std::fs;

use appliance::backup::{KEPT, Trouble};

use crate::place::{Place, remove};
use crate::snapshot::Snapshot;
use crate::trouble::OrCannot as _;

/// How the names of what isn't finished end.
pub const UNFINISHED: &str = ".part";

/// Deletes all of it.
pub fn clear(place: &Place) -> Result<(), Trouble> {
    Snapshot::forget(place)?;
    for name in ["old", "new"] {
        remove(&place.work(name))?;
    }
    forget_unfinished(place)
}

/// Backups that were being written when the power went.
pub fn forget_unfinished(place: &Place) -> Result<(), Trouble> {
    let what = "look for unfinished backups";
    for entry in fs::read_dir(place.volume(KEPT)).or_cannot(what)? {
        let entry = entry.or_cannot(what)?;
        if entry.file_name().to_string_lossy().ends_with(UNFINISHED) {
            remove(&entry.path())?;
        }
    }
    Ok(())
}
