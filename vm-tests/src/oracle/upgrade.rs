//! Says of a disk, as a power cut during an upgrade left it, which system the next boot is: the old,
//! the new on trial, the new for good. Anything else is an error. Of the data [`super::Oracle`] says
//! whether they are fine.
//!
//! | of | must be so in every state |
//! |---|---|
//! | the table, both copies | as it was |
//! | the ESP | a FAT, and `fsck.fat` has nothing to say; all files but the systems as they were |
//! | the old system | listed, not bad; its UKI and its root are whole: whatever comes, it boots |
//! | what the loader starts first | the old, or the new, whole |
//! | the new on trial | has valid dates: else nobody counts its tries |

use std::collections::BTreeMap;
use std::ops::{Range, RangeInclusive};
use std::rc::Rc;

use anyhow::{Context, Result, anyhow, bail, ensure};
use appliance::hash::Digest;

use super::fat::Fat;
use super::foreign::Volume;
use super::loader::Listed;
use crate::cuts::State;
use crate::table::Table;
use crate::writes::SECTOR;

const FOLDER: &str = "/EFI/Linux";
/// The runs of [`FOLDER`], in their order on the disk, belong to these.
const SLOTS: [&str; 2] = ["slot-a", "slot-b"];
/// The sectors of the table at the disk's beginning.
const HEAD: u64 = 66;
/// Bytes in a block of dm-verity.
const BLOCK: usize = 4096;

/// What a system is made of.
#[derive(Debug, Clone)]
pub struct System {
    /// Bytes of its UKI, and their digest.
    pub uki: (u64, Digest),
    /// The top of its hash tree.
    pub root_hash: Digest,
    /// What each hash of the tree begins with.
    pub salt: Vec<u8>,
    /// Blocks of its root.
    pub blocks: u64,
}

/// What the next boot is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Boots {
    /// The system that was there.
    Old,
    /// The new one, and its tries are counted.
    Trial,
    /// The new one, for good.
    New,
}

/// May the log bless the new system?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// It ends before that: the new one must be on trial.
    Armed,
    /// It may.
    Blessed,
}

/// Knows a disk as it was, and the two systems.
#[derive(Debug)]
pub struct Upgrade {
    disk: u64,
    table: Table,
    esp: Range<u64>,
    /// In sectors of the disk.
    runs: [Range<u64>; 2],
    slots: [RangeInclusive<u64>; 2],
    others: Vec<(String, Vec<u8>)>,
    volume: Volume,
    systems: [System; 2],
    until: Until,
    tables: BTreeMap<u128, Result<(), String>>,
    folders: BTreeMap<u128, Rc<Result<Vec<Entry>, String>>>,
    ukis: BTreeMap<(usize, u128), Option<usize>>,
    roots: BTreeMap<(usize, usize, u128), Result<(), String>>,
}

/// A system that the ESP lists.
#[derive(Debug, Clone)]
struct Entry {
    listed: Listed,
    side: usize,
    is_dated: bool,
}

/// Indices of [`Upgrade::systems`].
const OLD: usize = 0;
const NEW: usize = 1;

impl Upgrade {
    /// Of a disk with so many sectors, before the first write.
    pub fn new(
        disk: u64,
        before: &State,
        old: System,
        new: System,
        until: Until,
    ) -> Result<Upgrade> {
        let table = table(before, 1, disk)?;
        let place = |name: &str| table.place(name).with_context(|| format!("there is no {name}"));
        let esp = place("esp")?;
        let esp = *esp.start()..esp.end() + 1;
        let slots = [place(SLOTS[0])?, place(SLOTS[1])?];
        let read = |first, sectors| before.read(esp.start + first, sectors);
        let fat = Fat::open(&read).context("the ESP")?;
        let files = fat.files(&read, FOLDER)?;
        let runs = files.iter().map(|file| fat.run(file)).collect::<Result<Vec<_>>>()?;
        let mut runs: Vec<Range<u64>> =
            runs.into_iter().map(|run| esp.start + run.start..esp.start + run.end).collect();
        runs.sort_by_key(|run| run.start);
        let runs = <[_; 2]>::try_from(runs).map_err(|runs| anyhow!("{FOLDER} has {runs:?}"))?;
        let others = fat.others(&read, FOLDER)?;
        let volume = Volume::new(before, &esp, &runs)?;
        Ok(Upgrade {
            disk,
            table,
            esp,
            runs,
            slots,
            others,
            volume,
            systems: [old, new],
            until,
            tables: BTreeMap::new(),
            folders: BTreeMap::new(),
            ukis: BTreeMap::new(),
            roots: BTreeMap::new(),
        })
    }

    /// Which system the next boot is; an error if it is none, or one that would be no good.
    pub fn judge(&mut self, state: &State) -> Result<Boots> {
        self.table(state)?;
        let entries = self.folder(state);
        let entries = entries.as_ref().as_ref().map_err(|error| anyhow!("the ESP: {error}"))?;
        let old = entries.iter().find(|entry| self.is(state, entry, OLD));
        let old = old.context("the old system isn't listed, or its UKI isn't whole")?;
        ensure!(!old.listed.is_bad(), "the old system has no tries left");
        self.root(state, old.side, OLD).context("the old system's root")?;
        let first = entries.iter().min_by(|one, other| one.listed.order(&other.listed));
        let first = first.context("the loader finds no system")?;
        if self.is(state, first, OLD) {
            return Ok(Boots::Old);
        }
        let name = &first.listed.id;
        ensure!(
            self.is(state, first, NEW),
            "the loader starts {name}, which is neither of the two"
        );
        self.root(state, first.side, NEW).context("the new system's root")?;
        match first.listed.tries {
            Some(_) => {
                ensure!(first.is_dated, "{name} has no valid dates: nobody would count its tries");
                Ok(Boots::Trial)
            }
            None if self.until == Until::Armed => {
                bail!("{name} is new, and its tries aren't counted")
            }
            None => Ok(Boots::New),
        }
    }

    /// How many folders, UKIs and roots were looked at.
    pub fn counts(&self) -> (usize, usize, usize) {
        (self.folders.len(), self.ukis.len(), self.roots.len())
    }

    fn table(&mut self, state: &State) -> Result<()> {
        let other = self.table.other;
        // The copy's entries lie before its header.
        let copy = other.saturating_sub(32)..other + 1;
        let key = state.digest(0..HEAD).wrapping_add(state.digest(copy));
        if !self.tables.contains_key(&key) {
            let judged = self.fresh_table(state).map_err(|error| format!("{error:#}"));
            self.tables.insert(key, judged);
        }
        self.tables[&key].clone().map_err(anyhow::Error::msg)
    }

    fn fresh_table(&self, state: &State) -> Result<()> {
        ensure!(table(state, 1, self.disk)? == self.table, "the table has changed");
        let copy = table(state, self.table.other, self.disk)?;
        let is_same = copy.partitions == self.table.partitions && copy.other == 1;
        ensure!(is_same, "the table's copy differs");
        Ok(())
    }

    /// The systems that the ESP lists. What its runs hold doesn't matter here.
    fn folder(&mut self, state: &State) -> Rc<Result<Vec<Entry>, String>> {
        let runs = self.runs.iter().map(|run| state.digest(run.clone()));
        let key = runs.fold(state.digest(self.esp.clone()), u128::wrapping_sub);
        if let Some(known) = self.folders.get(&key) {
            return Rc::clone(known);
        }
        let found = Rc::new(self.fresh_folder(state).map_err(|error| format!("{error:#}")));
        self.folders.insert(key, Rc::clone(&found));
        found
    }

    fn fresh_folder(&self, state: &State) -> Result<Vec<Entry>> {
        let read = |first, sectors| state.read(self.esp.start + first, sectors);
        let fat = Fat::open(&read)?;
        ensure!(fat.others(&read, FOLDER)? == self.others, "files beside the systems have changed");
        let mut entries = vec![];
        for file in fat.files(&read, FOLDER)? {
            let run = fat.run(&file)?;
            let run = self.esp.start + run.start..self.esp.start + run.end;
            let side = self.runs.iter().position(|known| *known == run);
            let side = side.with_context(|| format!("{} isn't in a run", file.name))?;
            let listed = Listed::parse(&file.name);
            entries.extend(listed.map(|listed| Entry { listed, side, is_dated: file.is_dated }));
        }
        self.volume.judge(state)?;
        Ok(entries)
    }

    /// Is the UKI in an entry's run, wholly, that of a system?
    fn is(&mut self, state: &State, entry: &Entry, system: usize) -> bool {
        let run = self.runs[entry.side].clone();
        let key = (entry.side, state.digest(run.clone()));
        let systems = &self.systems;
        let found = self.ukis.entry(key).or_insert_with(|| {
            let bytes = state.read(run.start, run.end - run.start);
            systems.iter().position(|System { uki: (length, digest), .. }| {
                bytes.get(..*length as usize).is_some_and(|uki| Digest::of(uki) == *digest)
            })
        });
        *found == Some(system)
    }

    /// Is the slot of this side, wholly, the root of this system, with its tree?
    fn root(&mut self, state: &State, side: usize, system: usize) -> Result<()> {
        let slot = self.slots[side].clone();
        let key = (side, system, state.digest(*slot.start()..slot.end() + 1));
        let wanted = &self.systems[system];
        let judged = self.roots.entry(key).or_insert_with(|| root(state, &slot, wanted));
        judged.clone().map_err(anyhow::Error::msg)
    }
}

/// The hash tree, recomputed from the leaves and compared: data first, then the tree from its top
/// down, as dm-verity reads it.
fn root(state: &State, slot: &RangeInclusive<u64>, system: &System) -> Result<(), String> {
    let hash = |block: &[u8]| Digest::of(&[&system.salt, block].concat()).0;
    let sectors = BLOCK as u64 / SECTOR as u64;
    let data = state.read(*slot.start(), system.blocks * sectors);
    let mut levels: Vec<Vec<u8>> = vec![];
    let mut below = data;
    while levels.is_empty() || below.len() > BLOCK {
        let mut level: Vec<u8> = below.chunks(BLOCK).flat_map(hash).collect();
        level.resize(level.len().div_ceil(BLOCK) * BLOCK, 0);
        levels.push(level.clone());
        below = level;
    }
    if hash(&below) != system.root_hash.0 {
        return Err("it isn't what is pinned".to_owned());
    }
    let tree: Vec<u8> = levels.into_iter().rev().flatten().collect();
    let first = slot.start() + system.blocks * sectors;
    match state.read(first, (tree.len() / SECTOR) as u64) == tree {
        true => Ok(()),
        false => Err("its hash tree isn't that of its data".to_owned()),
    }
}

fn table(state: &State, at: u64, disk: u64) -> Result<Table> {
    Table::at(at, disk, |first, sectors| state.read(first, sectors))
        .map_err(|what| anyhow!("the table at sector {at} {what}"))
}

#[cfg(test)]
mod tests;
