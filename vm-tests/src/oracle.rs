//! Says of a disk, as a power cut left it, what the next boot will find on it, and whether that is
//! fine. Written apart from the code that is judged, with foreign tools where there are some.
//!
//! | of | must be so in every state |
//! |---|---|
//! | the table | valid, and so is the copy that it names; what was there is where it was |
//! | the data, in the table | `e2fsck -p` repairs it, by the superblock's copy if that is torn |
//! | in the data | what PID 1 keeps is whole; its id is there once it was there for good |
//! | the data's place, before that | blank, or marked, or a whole file system to be adopted |

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use anyhow::{Context, Result, anyhow, bail, ensure};
use appliance::gpt::completion::{self, MARK};

use crate::cuts::State;
use crate::table::{Table, crc32c};
use crate::writes::{Entry, SECTOR};

mod fat;
mod foreign;
mod loader;
pub mod upgrade;

pub use foreign::Files;
use foreign::Judges;

/// Partitions that nothing may move, change or lose.
const FIXED: [&str; 4] = ["esp", "seed", "slot-a", "slot-b"];
const SLOT_B: &str = "slot-b";
const DATA: &str = "data";
/// The sectors of the table at the disk's beginning, and at its end.
const HEAD: u64 = 66;
const TAIL: u64 = 33;
/// The first MiB decides what a partition holds.
const LOOKED_AT: u64 = 2048;

/// How far a boot has come with a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Nothing of ours is where the data will be.
    Blank,
    /// It is marked that something will be.
    Marked,
    /// There is something, but no file system yet.
    HalfMade,
    /// There is a file system that no table names.
    Made,
    /// The table at the disk's end names it.
    Backup,
    /// And something stands in the other bank of entries.
    Entries,
    /// The table names it; the mark is still there.
    Committed,
    /// Half of the superblock of the data that the table names is an older one.
    Torn,
    /// The table is for a smaller disk.
    Outgrown,
    /// The table is final, and the data used.
    InUse,
}

/// Knows a disk as it was, and as it became.
#[derive(Debug)]
pub struct Oracle {
    disk: u64,
    before: Table,
    after: Table,
    judges: Judges,
    tables: BTreeSet<u128>,
    checked: BTreeMap<(u128, u64), Result<Files, String>>,
    /// What was kept when a flush last settled something.
    settled: Files,
}

impl Oracle {
    /// Of a disk with so many sectors, before the first and after the last write.
    pub fn new(disk: u64, before: &State, after: &State) -> Result<Oracle> {
        let table = |state: &State| table(state, 1, disk);
        let before_table = table(before).context("before")?;
        Ok(Oracle {
            disk,
            before: before_table,
            after: table(after).context("after")?,
            judges: Judges::new(before, disk)?,
            tables: BTreeSet::new(),
            checked: BTreeMap::new(),
            settled: Files::default(),
        })
    }

    /// Nothing of a log may touch the partitions that were there.
    pub fn must_spare(&self, log: &[Entry]) -> Result<()> {
        for (number, entry) in log.iter().enumerate() {
            let (first, count) = match entry {
                Entry::Write { sector, bytes, .. } => (*sector, (bytes.len() / SECTOR) as u64),
                Entry::Discard { sector, sectors } => (*sector, *sectors),
                Entry::Flush | Entry::Mark => continue,
            };
            let last = first + count - 1;
            for (name, place) in self.fixed() {
                let touches = first <= *place.end() && *place.start() <= last;
                ensure!(!touches, "log entry {number} changes {name}: sectors {first} to {last}");
            }
        }
        Ok(())
    }

    /// What the next boot finds on the disk; an error if it can't be content with that.
    pub fn judge(&mut self, state: &State) -> Result<Stage> {
        let table = self.table(state)?;
        let Some(place) = table.place(DATA) else {
            ensure!(self.before.place(DATA).is_none(), "the table has lost the data");
            return self.first_boot(state);
        };
        let kept = self.file_system(state, &place)?;
        if let Some(id) = &self.settled.machine_id {
            ensure!(kept.machine_id.as_ref() == Some(id), "the machine id {id} is lost: {kept:?}");
        }
        if state.is_settled() {
            self.settled = kept;
        }
        if !is_whole(&start(state, &place)) {
            return Ok(Stage::Torn);
        }
        let is_marked = !is_blank(&state.read(MARK, 1));
        Ok(match table.partitions == self.after.partitions {
            true if is_marked => Stage::Committed,
            true => Stage::InUse,
            false => Stage::Outgrown,
        })
    }

    /// What the state holds that a flush settled last.
    pub fn settled(&self) -> &Files {
        &self.settled
    }

    /// How many file systems were looked at, and how many tables.
    pub fn counts(&self) -> (usize, usize) {
        (self.checked.len(), self.tables.len())
    }

    fn fixed(&self) -> impl Iterator<Item = &(String, RangeInclusive<u64>)> {
        self.before.partitions.iter().filter(|(name, _)| FIXED.contains(&name.as_str()))
    }

    fn table(&mut self, state: &State) -> Result<Table> {
        let found = table(state, 1, self.disk)?;
        let other = table(state, found.other, self.disk).context("the copy that it names")?;
        ensure!(other.other == 1, "the table's copy names sector {}", other.other);
        ensure!(
            other.partitions == found.partitions,
            "the two copies differ: {found:?}, {other:?}"
        );
        ensure!(other.ids == found.ids, "the two copies have different ids");
        for (name, place) in self.fixed() {
            let is = found.place(name);
            ensure!(is.as_ref() == Some(place), "{name} lies at {is:?}, not {place:?}");
        }
        match (found.place(SLOT_B), found.place(DATA), self.before.place(DATA)) {
            (None, None, _) | (Some(_), Some(_), None) => {}
            (Some(_), Some(is), Some(was))
                if is.start() == was.start() && is.end() >= was.end() => {}
            places => bail!("slot-b, data, and data before: {places:?}"),
        }
        let ends = [0..HEAD, self.disk - TAIL..self.disk];
        let digest = ends.into_iter().fold(0, |sum: u128, end| sum.wrapping_add(state.digest(end)));
        if self.tables.insert(digest) {
            let is_final = found.partitions == self.after.partitions;
            self.judges.table(state, &found, is_final)?;
        }
        Ok(found)
    }

    /// Will it find room for its data, or what it had begun?
    fn first_boot(&mut self, state: &State) -> Result<Stage> {
        let missing = || anyhow!("no table ever names the data");
        let place = self.after.place(DATA).with_context(missing)?;
        let slot_b = self.after.place(SLOT_B).with_context(missing)?;
        ensure!(is_blank(&start(state, &slot_b)), "something is in slot-b's place");
        let backup = table(state, self.disk - 1, self.disk).ok();
        if let Some(backup) = &backup {
            ensure!(backup.partitions == self.after.partitions, "a stranger's: {backup:?}");
        }
        let is_marked = state.read(MARK, 1) == completion::mark(&place);
        let start = start(state, &place);
        if is_blank(&start) {
            return Ok(if is_marked { Stage::Marked } else { Stage::Blank });
        }
        if !is_whole(&start) {
            ensure!(is_marked, "a half-made file system and no mark: it would be refused");
            return Ok(Stage::HalfMade);
        }
        self.file_system(state, &place).context("the file system would be adopted")?;
        let is_begun = !is_blank(&state.read(34, 32));
        Ok(match backup {
            Some(_) if is_begun => Stage::Entries,
            Some(_) => Stage::Backup,
            None => Stage::Made,
        })
    }

    fn file_system(&mut self, state: &State, place: &RangeInclusive<u64>) -> Result<Files> {
        let key = (state.digest(*place.start()..place.end() + 1), *place.end());
        if !self.checked.contains_key(&key) {
            let kept = self.judges.file_system(state, place).map_err(|error| format!("{error:#}"));
            self.checked.insert(key, kept);
        }
        self.checked[&key].clone().map_err(anyhow::Error::msg)
    }
}

fn table(state: &State, at: u64, disk: u64) -> Result<Table> {
    Table::at(at, disk, |first, sectors| state.read(first, sectors))
        .map_err(|what| anyhow!("the table at sector {at} {what}"))
}

fn start(state: &State, place: &RangeInclusive<u64>) -> Vec<u8> {
    state.read(*place.start(), LOOKED_AT)
}

fn is_blank(bytes: &[u8]) -> bool {
    bytes.iter().all(|&byte| byte == 0)
}

/// Is there the superblock of a file system of ours, every byte of it?
fn is_whole(start: &[u8]) -> bool {
    let superblock = &start[1024..2048];
    superblock[56..58] == [0x53, 0xef]
        && superblock[120..131] == *b"STELE-DATA\0"
        && superblock[1020..] == crc32c(&superblock[..1020]).to_le_bytes()
}
