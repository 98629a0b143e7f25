//! How much room keeping the data aside takes, and how much there is.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use appliance::backup::RESERVE;
use appliance::boot::Volume;
use appliance::upgrade::Space;
use nix::sys::statvfs::statvfs;

use super::copying::is_immutable;
use super::walk::{Found, Walk};
use super::{ASIDE, FAILED, SETTINGS, VOLUMES};
use crate::clock::{self, Moment};
use crate::exchange::exists;
use appliance::failure::{Failure, OrCannot as _};

/// Looks until then, at as many files; of more than that, all that is used counts. What is left over of trials
/// goes before anything is kept: it counts as free.
pub fn measure(data: &Path, volumes: &[Volume], by: Moment, most: u32) -> Result<Space, Failure> {
    let found = statvfs(data).or_cannot("learn how much room there is")?;
    let block = found.fragment_size() as u64;
    let free = (found.blocks_available() as u64 * block).saturating_sub(RESERVE);
    let used = (found.blocks() as u64).saturating_sub(found.blocks_free() as u64) * block;
    let needs = |path: &Path, found: &Metadata| match is_immutable(volumes, path) {
        true => 0,
        false => found.blocks() * 512,
    };
    let mut left = most;
    let Some(needed) = count(data, &[VOLUMES, SETTINGS], by, &mut left, needs)? else {
        return Ok(Space { free, needed: used });
    };
    let frees = |_: &Path, found: &Metadata| match found.nlink() {
        1 => found.blocks() * 512,
        _ => 0,
    };
    let freed = count(data, &[ASIDE, FAILED], by, &mut left, frees)?.unwrap_or_default();
    Ok(Space { free: free + freed, needed })
}

/// `None`: it took too long, or there are more files than are left to be counted.
fn count(
    data: &Path,
    names: &[&str],
    by: Moment,
    left: &mut u32,
    bytes: impl Fn(&Path, &Metadata) -> u64,
) -> Result<Option<u64>, Failure> {
    let mut sum = 0;
    for name in names {
        if !exists(&data.join(name)).or_cannot("learn how much there is")? {
            continue;
        }
        for found in Walk::new(data, name) {
            if let Found::Folder(path, found) | Found::Other(path, found) = found? {
                sum += bytes(&path, &found);
            }
            match left.checked_sub(1) {
                Some(fewer) if clock::now() <= by => *left = fewer,
                _ => return Ok(None),
            }
        }
    }
    Ok(Some(sum))
}

/// Refuses what would leave services without room.
pub fn must_suffice(space: Space) -> Result<(), Failure> {
    let Space { free, needed } = space;
    match needed <= free {
        true => Ok(()),
        false => Err(Failure::new(
            "keep the data aside",
            format_args!(
                "there is too little room: it takes {needed} bytes, {free} are free beside the \
                 {RESERVE} that are left to the services"
            ),
        )),
    }
}
