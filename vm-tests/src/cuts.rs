//! What a disk may hold when the power goes: from what it held before, and what was written to it.
//!
//! The model: all before the last flush is there. Of the writes since then each may be there or not,
//! in any combination, and one of them may be torn: some of its sectors are there. A sector is whole.
//!
//! ```text
//! writes    a b │ c d e │ f            │ is a flush
//! states    {} a b ab │ ab + each combination of c d e │ abcde + …
//! ```
//!
//! Of few writes, all; of many, some ([`Effort`]). A state that was there already doesn't come again,
//! unless a flush has just settled it. For the same log they are the same each time.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::fmt;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::rc::Rc;

use anyhow::{Context, Result};
use appliance::hash::Digest;

use crate::disk::Disk;
use crate::writes::{Entry, SECTOR};

mod layer;
mod plan;

use layer::{Layer, Piece};
use plan::{Cut, Shape, plan};
pub use plan::{Effort, Random};

/// A write since the last flush.
#[derive(Debug)]
struct Write<'a> {
    /// Its number in the log.
    number: usize,
    pieces: Vec<(u64, Piece<'a>)>,
}

/// All states that are tried, one after the other.
#[derive(Debug)]
pub struct Cuts<'a> {
    base: Rc<File>,
    log: std::iter::Enumerate<std::slice::Iter<'a, Entry>>,
    effort: Effort,
    random: Random,
    durable: Rc<Layer<'a>>,
    window: Vec<Write<'a>>,
    /// What is still to be made of the window.
    planned: VecDeque<Cut>,
    /// What happens when that is done.
    then: Then,
    seen: HashSet<u128>,
}

/// Why a window was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    /// Its last write is on the disk for good by itself.
    LastLasts,
    /// A flush: all is on the disk for good.
    AllLast,
    /// The log is over.
    End,
}

/// What a disk may hold.
#[derive(Debug, Clone)]
pub struct State<'a> {
    base: Rc<File>,
    durable: Rc<Layer<'a>>,
    /// What isn't flushed, by number.
    loose: BTreeMap<u64, Piece<'a>>,
    entry: usize,
    name: String,
    is_settled: bool,
}

impl<'a> Cuts<'a> {
    /// Of the disk at `base`, as it was before `log`.
    pub fn of(base: &Path, log: &'a [Entry], effort: Effort) -> Result<Cuts<'a>> {
        let file = File::open(base).with_context(|| format!("cannot read {}", base.display()))?;
        Ok(Cuts {
            base: Rc::new(file),
            log: log.iter().enumerate(),
            effort,
            random: Random(1),
            durable: Rc::default(),
            window: vec![],
            planned: VecDeque::from([vec![]]),
            then: Then::AllLast,
            seen: HashSet::new(),
        })
    }

    /// Goes on in the log until there is something to cut; false at its end.
    fn advance(&mut self) -> bool {
        match self.then {
            Then::End => return false,
            Then::AllLast => {
                let pieces = self.window.drain(..).flat_map(|write| write.pieces);
                settle(Rc::make_mut(&mut self.durable), pieces);
            }
            Then::LastLasts => {
                let last = self.window.pop().map(|write| write.pieces).unwrap_or_default();
                let covered = |sector: u64| last.iter().any(|(other, _)| *other == sector);
                for write in &mut self.window {
                    write.pieces.retain(|(sector, _)| !covered(*sector));
                }
                settle(Rc::make_mut(&mut self.durable), last.into_iter());
            }
        }
        self.then = loop {
            match self.log.next() {
                None => break Then::End,
                Some((_, Entry::Flush)) => break Then::AllLast,
                Some((number, Entry::Write { sector, bytes, lasts })) => {
                    self.window.push(Write { number, pieces: pieces(&self.base, *sector, bytes) });
                    if *lasts {
                        break Then::LastLasts;
                    }
                }
                // What is discarded may as well stay.
                Some((_, Entry::Discard { .. } | Entry::Mark)) => {}
            }
        };
        if !self.window.is_empty() {
            self.planned = plan(&self.shapes(), self.effort, &mut self.random).into();
        }
        true
    }

    /// Of the window's writes, each after all before it.
    fn shapes(&self) -> Vec<Shape> {
        let mut before = HashMap::new();
        let mut is_news = |(sector, piece): &(u64, Piece)| {
            let durable = self.durable.get(*sector).map_or(0, |piece| piece.weight);
            before.insert(*sector, piece.weight).unwrap_or(durable) != piece.weight
        };
        let mut shape = |write: &Write| {
            let news = (0..).zip(&write.pieces).filter(|(_, piece)| is_news(piece));
            Shape { length: write.pieces.len(), news: news.map(|(index, _)| index).collect() }
        };
        self.window.iter().map(&mut shape).collect()
    }

    fn state(&self, cut: &Cut) -> State<'a> {
        let mut loose = BTreeMap::new();
        for (write, sectors) in cut {
            for (sector, piece) in &self.window[*write].pieces[sectors.clone()] {
                // Of a large disk most that is written are zeros onto zeros.
                let is_news = piece.weight != 0
                    || self.durable.get(*sector).is_some()
                    || loose.contains_key(sector);
                if is_news {
                    loose.insert(*sector, *piece);
                }
            }
        }
        // The last that is planned is the whole of the window.
        let is_settled = self.then == Then::AllLast && self.planned.is_empty();
        let (base, durable) = (Rc::clone(&self.base), Rc::clone(&self.durable));
        let entry = self.window.last().map_or(0, |write| write.number);
        State { base, durable, loose, entry, name: self.name(cut), is_settled }
    }

    /// For messages: what is there of which entries, and of a torn one which sectors.
    fn name(&self, cut: &Cut) -> String {
        let (Some(first), Some(last)) = (self.window.first(), self.window.last()) else {
            return "the disk as it was".to_owned();
        };
        let mut there: Vec<String> = vec![];
        let mut whole = vec![];
        for (index, sectors) in cut {
            let write = &self.window[*index];
            match sectors.len() == write.pieces.len() {
                true => whole.push(write.number),
                false => there.push(format!("{} {sectors:?}", write.number)),
            }
        }
        let runs = whole.chunk_by(|one, next| one + 1 == *next);
        there.extend(runs.map(|run| format!("{}-{}", run[0], run[run.len() - 1])));
        let there = there.join(" ");
        let (first, last) = (first.number, last.number);
        format!("of the log's entries {first}-{last}, not flushed, these are there: {there}")
    }
}

impl<'a> Iterator for Cuts<'a> {
    type Item = State<'a>;

    fn next(&mut self) -> Option<State<'a>> {
        loop {
            while let Some(cut) = self.planned.pop_front() {
                let state = self.state(&cut);
                if self.seen.insert(state.digest(0..u64::MAX)) || state.is_settled {
                    return Some(state);
                }
            }
            if !self.advance() {
                return None;
            }
        }
    }
}

/// The disk at `base` when all of `log` has been written to it.
pub fn after<'a>(base: &Path, log: &'a [Entry]) -> Result<State<'a>> {
    let mut cuts = Cuts::of(base, log, Effort { all_of: 0, picks: 0, tears: 0 })?;
    while cuts.advance() {}
    let whole = (0..cuts.window.len()).map(|index| (index, 0..cuts.window[index].pieces.len()));
    Ok(cuts.state(&whole.collect()))
}

/// A write's sectors, with what each adds to a digest.
fn pieces<'a>(base: &File, first: u64, bytes: &'a [u8]) -> Vec<(u64, Piece<'a>)> {
    let old = read(base, first, bytes.len());
    let sectors = bytes.chunks(SECTOR).zip(old.chunks(SECTOR));
    let piece = |(sector, (bytes, old)): (u64, (&'a [u8], &[u8]))| {
        let weight = if bytes == old { 0 } else { weight(sector, bytes) };
        (sector, Piece { bytes, weight })
    };
    (first..).zip(sectors).map(piece).collect()
}

fn weight(sector: u64, bytes: &[u8]) -> u128 {
    let digest = Digest::of(&[&sector.to_le_bytes(), bytes].concat());
    u128::from_le_bytes(std::array::from_fn(|i| digest.0[i]))
}

/// Puts sectors on the disk for good.
fn settle<'a>(durable: &mut Layer<'a>, pieces: impl Iterator<Item = (u64, Piece<'a>)>) {
    for (sector, piece) in pieces {
        match piece.weight {
            0 => durable.remove(sector),
            _ => durable.insert(sector, piece),
        }
    }
}

/// Behind the end of a file there are zeros.
fn read(file: &File, sector: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    let mut filled = 0;
    while filled < length {
        let offset = sector * SECTOR as u64 + filled as u64;
        match file.read_at(&mut bytes[filled..], offset) {
            Ok(0) => break,
            Ok(more) => filled += more,
            Err(error) => panic!("cannot read the disk as it was: {error}"),
        }
    }
    bytes
}

impl State<'_> {
    /// So many sectors of the disk, from the sector `first` on.
    pub fn read(&self, first: u64, sectors: u64) -> Vec<u8> {
        let mut bytes = read(&self.base, first, sectors as usize * SECTOR);
        for (sector, piece) in self.written(first..first + sectors) {
            let at = (sector - first) as usize * SECTOR;
            bytes[at..at + SECTOR].copy_from_slice(piece.bytes);
        }
        bytes
    }

    /// The same for two states, of the same disk, that hold the same in these sectors.
    pub fn digest(&self, sectors: Range<u64>) -> u128 {
        let durable = self.durable.sum(sectors.clone());
        self.loose.range(sectors).fold(durable, |sum, (sector, piece)| {
            let covered = self.durable.get(*sector).map_or(0, |piece| piece.weight);
            sum.wrapping_sub(covered).wrapping_add(piece.weight)
        })
    }

    /// Sectors of a range that aren't as they were.
    pub fn changes(&self, sectors: Range<u64>) -> impl Iterator<Item = (u64, &[u8])> {
        let written = self.written(sectors).filter(|(_, piece)| piece.weight != 0);
        written.map(|(sector, piece)| (sector, piece.bytes))
    }

    fn written(&self, sectors: Range<u64>) -> impl Iterator<Item = (u64, &Piece<'_>)> {
        let durable = self.durable.range(sectors.clone());
        let durable = durable.filter(|(sector, _)| !self.loose.contains_key(sector));
        durable.chain(self.loose.range(sectors).map(|(sector, piece)| (*sector, piece)))
    }

    /// The last entry of the log that it may have something of.
    pub fn entry(&self) -> usize {
        self.entry
    }

    /// Is all that was written until then there, and flushed?
    pub fn is_settled(&self) -> bool {
        self.is_settled
    }

    /// Gives `disk`, a copy of the disk as it was, what this state has.
    pub fn write_to(&self, disk: &Disk) -> Result<()> {
        let mut changes = self.changes(0..u64::MAX);
        changes.try_for_each(|(sector, bytes)| disk.write_at(bytes, sector * SECTOR as u64))
    }
}

impl fmt::Display for State<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

#[cfg(test)]
mod tests;
