//! The one sector that decides what boots, and the edits of it.
//!
//! Of the two sides one is good: its entry stays byte for byte where it is, in every edit. The other
//! one's takes the first two places that are free, the short name in the second; so that what arms
//! it is one entry of 32 bytes, the long name before it. Behind those there is room for the entries
//! that firmware appends when it counts tries.
//!
//! ```text
//! as made            .  ..  p1.efi SLOTA.OFF  SLOTB.OFF
//! cleared            .  ..  p1.efi SLOTA.OFF  (deleted) SLOTB.OFF
//! armed              .  ..  p1.efi SLOTA.OFF  p2+3-0.efi SLOTB.OFF
//! one try later      .  ..  p1.efi SLOTA.OFF  (deleted) (deleted)  p2+2-1.efi P2_2-1~1.EFI
//! blessed            .  ..  p1.efi SLOTA.OFF  p2.efi SLOTB.OFF
//! cleared            .  ..  (deleted) SLOTA.OFF  p2.efi SLOTB.OFF
//! ```
//!
//! And if the power goes in the middle of a sector (which disks say they don't do)? Then each entry
//! is the old one or the new one. The good one is both; and no system on trial is ever left with a
//! name that the loader would boot without counting, since a short name that ends in `.EFI` is never
//! separated from its long one. Where firmware appended the two, the directory's new end takes the long
//! one's place, and who reads it sees neither: each edit is one sector. Only of firmware that takes
//! deleted places again such a name may stand before the end: then it is replaced first, alone, by one
//! with the same checksum that doesn't end so.

use std::array;

use super::entry::{self, Bytes, Found, Kind, Long};
use super::name::{self, HIGHEST, Name};
use super::{NotOurs, Runs, SECTOR, Sector};
use crate::upgrade::Side;

/// Entries in the sector.
const ENTRIES: usize = SECTOR / entry::SIZE;
/// `.` and `..`.
const DOTS: usize = 2;

/// The sector, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directory {
    sector: Sector,
    runs: Runs,
    files: Vec<File>,
}

/// A live entry of the sector.
#[derive(Debug, Clone, PartialEq, Eq)]
struct File {
    /// Where its short name stands.
    slot: usize,
    side: Side,
    /// The name that counts.
    name: String,
}

/// What the loader makes of a side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// Nothing that it would boot.
    Off,
    /// On trial, or, with no tries left, bad.
    Counted {
        /// Which.
        number: u16,
        /// Tries left.
        left: u8,
        /// Tries used.
        done: u8,
    },
    /// Trusted.
    Blessed {
        /// Which.
        number: u16,
    },
    /// It boots, uncounted, under a name that nobody gave it: firmware was interrupted while it
    /// renamed a file.
    Foreign(String),
}

/// Why the directory can't be changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Cannot {
    /// Afterwards nothing that is trusted would be left.
    #[error("the other slot holds no trusted system")]
    NothingElse,
    /// It isn't in the state that the edit is for.
    #[error("the slot is not {0}")]
    State(&'static str),
    /// [`HIGHEST`] is reached.
    #[error("the names of systems are used up")]
    Numbers,
    /// Firmware would not be able to append its entries.
    #[error("the folder has no room for tries")]
    Room,
}

impl Directory {
    /// Reads the sector. What isn't ours is refused, since an edit would lose it.
    pub(super) fn parse(sector: &Sector, runs: Runs) -> Result<Directory, NotOurs> {
        let mut found = entry::live(sector);
        let mut is_dot = |slot, name: &[u8; 11]| {
            let dot = found.next();
            dot.is_some_and(|dot| dot.slot == slot && dot.is_folder() && dot.short() == name)
        };
        if !is_dot(0, b".          ") || !is_dot(1, b"..         ") {
            return Err(NotOurs::Directory("it is no folder"));
        }
        let files = found.map(|found| file(&found, runs)).collect::<Result<_, _>>()?;
        Ok(Directory { sector: *sector, runs, files })
    }

    /// The sector itself.
    pub fn sector(&self) -> &Sector {
        &self.sector
    }

    /// What the loader makes of a side: of several entries, which only a torn sector can have, the
    /// one that it would boot.
    pub fn entry(&self, side: Side) -> Entry {
        let Some(file) = self.first(side) else { return Entry::Off };
        match Name::parse(&file.name) {
            Some(Name { number, tries: Some((left, done)) }) => {
                Entry::Counted { number, left, done }
            }
            Some(Name { number, tries: None }) => Entry::Blessed { number },
            None => Entry::Foreign(file.name.clone()),
        }
    }

    /// What the loader would boot, the first first; one without tries left comes last.
    pub fn boots(&self) -> Vec<(Side, Entry)> {
        let mut files: Vec<&File> =
            [Side::A, Side::B].into_iter().filter_map(|side| self.first(side)).collect();
        files.sort_by(|a, b| name::order(&a.name, &b.name));
        files.into_iter().map(|file| (file.side, self.entry(file.side))).collect()
    }

    /// Takes whatever is on a side off the loader's list: a trial that failed, or what an upgrade
    /// is to replace. The other side must be trusted.
    ///
    /// As all edits: the sectors are written in this order, each flushed before the next; what is
    /// there after any of them is a sound directory that boots what it did, or what it will. None
    /// if there is nothing to do.
    pub fn clear(&self, side: Side) -> Result<Vec<Sector>, Cannot> {
        let kept = self.trusted(side.other()).ok_or(Cannot::NothingElse)?;
        let cleared = self.place(side, None, Some(kept));
        Ok(self.changes([self.tame(Some(kept), &cleared), cleared]))
    }

    /// Puts a side on trial: it boots next, `tries` times at most. The last sector is the commit;
    /// if the side was cleared, it is the only one, and one entry of it changes.
    pub fn arm(&self, side: Side, tries: u8) -> Result<Vec<Sector>, Cannot> {
        if self.entry(side) != Entry::Off {
            return Err(Cannot::State("cleared"));
        }
        self.try_as(side, tries, None)
    }

    /// Puts a trusted side on trial again, before the other one, which stays trusted.
    pub fn try_again(&self, side: Side, tries: u8) -> Result<Vec<Sector>, Cannot> {
        let Entry::Blessed { number } = self.entry(side) else {
            return Err(Cannot::State("trusted"));
        };
        self.try_as(side, tries, Some(Name { number, tries: None }))
    }

    /// Trusts a side that is on trial: one sector. The other one stays as it is, if it is trusted,
    /// too.
    pub fn bless(&self, side: Side) -> Result<Vec<Sector>, Cannot> {
        let number = match self.entry(side) {
            Entry::Counted { number, .. } => number,
            Entry::Blessed { .. } => return Ok(vec![]),
            Entry::Off | Entry::Foreign(_) => return Err(Cannot::State("on trial")),
        };
        let kept = self.trusted(side.other());
        let blessed = self.place(side, Some(Name { number, tries: None }), kept);
        Ok(self.changes([self.tame(kept, &blessed), blessed]))
    }

    /// The trial of a side that is called `before` until then.
    fn try_as(&self, side: Side, tries: u8, before: Option<Name>) -> Result<Vec<Sector>, Cannot> {
        let kept = self.trusted(side.other()).ok_or(Cannot::NothingElse)?;
        let number = self.highest() + 1;
        if number > HIGHEST {
            return Err(Cannot::Numbers);
        }
        let tries = tries.clamp(1, 9);
        let tidy = self.place(side, before, Some(kept));
        let armed = self.place(side, Some(Name { number, tries: Some((tries, 0)) }), Some(kept));
        if entry::end(&armed) + 2 * usize::from(tries) > ENTRIES {
            return Err(Cannot::Room);
        }
        Ok(self.changes([self.tame(Some(kept), &tidy), tidy, armed]))
    }

    /// Those of `sectors` that change something.
    fn changes(&self, sectors: impl IntoIterator<Item = Sector>) -> Vec<Sector> {
        let mut changes = vec![self.sector];
        changes.extend(sectors);
        changes.dedup();
        changes.remove(0);
        changes
    }

    /// What the loader would boot of a side.
    fn first(&self, side: Side) -> Option<&File> {
        let own = self.files.iter().filter(|file| file.side == side && name::boots(&file.name));
        own.min_by(|a, b| name::order(&a.name, &b.name))
    }

    /// Where the short name of a trusted side stands. The long one is before it: only that can be
    /// one of ours.
    fn trusted(&self, side: Side) -> Option<usize> {
        let blessed = |file: &&File| {
            file.side == side && Name::parse(&file.name).is_some_and(|name| name.tries.is_none())
        };
        self.files.iter().find(blessed).map(|file| file.slot)
    }

    /// The highest number that a system here has.
    fn highest(&self) -> u16 {
        let numbers = self.files.iter().filter_map(|file| Name::parse(&file.name));
        numbers.map(|name| name.number).max().unwrap_or(0)
    }

    /// What has to be written before `next`, so that no torn sector separates a short name that ends
    /// in `.EFI` from its long one: the same, but that such a name, unless it is kept or `next` ends
    /// before it, is another one. Long names, which are what counts, stay and stay valid: each short
    /// name keeps its checksum.
    fn tame(&self, kept: Option<usize>, next: &Sector) -> Sector {
        let mut tame = self.sector;
        let end = entry::end(next);
        for file in self.files.iter().filter(|file| Some(file.slot) != kept && file.slot <= end) {
            let start = file.slot * entry::SIZE;
            let short: [u8; 11] = array::from_fn(|at| self.sector[start + at]);
            if short.ends_with(b"EFI") {
                let short = harmless(file.side, entry::checksum(&short));
                tame[start..start + short.len()].copy_from_slice(&short);
            }
        }
        tame
    }

    /// The sector that lists `side` under `name`, or as off, and what is kept, and nothing else.
    fn place(&self, side: Side, name: Option<Name>, kept: Option<usize>) -> Sector {
        let mut entries = [[0; entry::SIZE]; ENTRIES];
        let (old, _) = self.sector.as_chunks::<{ entry::SIZE }>();
        entries[..DOTS].copy_from_slice(&old[..DOTS]);
        let long_kept = kept.map(|slot| slot - 1);
        if let Some(long) = long_kept {
            entries[long..long + 2].copy_from_slice(&old[long..long + 2]);
        }
        // The first pair of places that the kept one leaves free.
        let own = match long_kept {
            Some(long) if long < DOTS + 2 => long + 2,
            _ => DOTS,
        };
        let (before, short) = self.pair(side, name);
        entries[own] = before;
        entries[own + 1] = short;
        if kept.is_none() {
            entries[own + 3] = self.pair(side.other(), None).1;
        }
        let end = entries.iter().rposition(|entry| entry[0] != 0).unwrap_or(DOTS);
        for entry in &mut entries[..end] {
            if entry[0] == 0 {
                *entry = entry::deleted();
            }
        }
        array::from_fn(|at| entries[at / entry::SIZE][at % entry::SIZE])
    }

    fn pair(&self, side: Side, name: Option<Name>) -> (Bytes, Bytes) {
        let short = off(side);
        let before =
            name.map_or_else(entry::deleted, |name| entry::long(&name.to_string(), &short));
        (before, entry::file(&short, self.runs.cluster(side), self.runs.bytes))
    }
}

fn file(found: &Found, runs: Runs) -> Result<File, NotOurs> {
    let side = runs.side(found.cluster()).filter(|_| found.length() == runs.bytes);
    let (Some(side), Kind::File) = (side, found.kind()) else {
        return Err(NotOurs::Directory("it holds something else than its two files"));
    };
    let name = match found.long() {
        Long::Is(name) => name,
        Long::None => found.displayed(),
        Long::Longer => return Err(NotOurs::Directory("a file has a longer name")),
    };
    Ok(File { slot: found.slot, side, name })
}

/// The short name under which the loader doesn't see a side. A long one before it makes it seen.
fn off(side: Side) -> [u8; 11] {
    match side {
        Side::A => *b"SLOTA   OFF",
        Side::B => *b"SLOTB   OFF",
    }
}

/// A short name with this checksum that the loader wouldn't see.
fn harmless(side: Side, checksum: u8) -> [u8; 11] {
    const FREE: &[u8; 36] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ";
    let names = (0..FREE.len().pow(3)).map(|number| {
        let mut name = off(side);
        for (place, power) in (5..8).zip([0, 1, 2]) {
            name[place] = FREE[number / FREE.len().pow(power) % FREE.len()];
        }
        name
    });
    // There is one for each of the 256, as the tests show; without one the name would be lost in
    // a torn sector only.
    let fits = |name: &[u8; 11]| entry::checksum(name) == checksum;
    names.into_iter().find(fits).unwrap_or(off(side))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_checksum_has_a_harmless_name() {
        for side in [Side::A, Side::B] {
            for checksum in 0..=255 {
                let name = harmless(side, checksum);
                assert_eq!(entry::checksum(&name), checksum);
                assert!(name.ends_with(b"OFF") && name != off(side));
            }
        }
    }
}
