//! The writes of an upgrade, cut at any of them and judged; and what a worse installer would have
//! written, which must be found.

use std::collections::BTreeMap;
use std::fs;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use vm_tests::cuts::{Cuts, Effort, Random, State, after};
use vm_tests::oracle::Oracle;
use vm_tests::oracle::upgrade::{Boots, System, Until, Upgrade};
use vm_tests::writes::{Entry, SECTOR};
use vm_tests::{disk, is_long};

/// What a bundle begins with, before its manifest; and where its length is.
const HEAD: usize = 84;
const LENGTH: usize = 8;
/// Bytes of an entry of a folder; one whose first byte is this is free.
const ENTRY: usize = 32;
const FREE: u8 = 0xe5;

/// An upgrade whose writes were logged, by two boots.
pub struct Recorded {
    /// The disk before it.
    pub base: PathBuf,
    /// The old system, and the new one.
    pub systems: [System; 2],
    /// What the old system wrote from its start until the reboot; then the new one's first boot.
    pub log: Vec<Entry>,
    /// So many entries are the old one's.
    pub olds: usize,
}

/// What came of all states of a log.
pub struct Judged<'a> {
    pub states: usize,
    pub counts: BTreeMap<Boots, usize>,
    /// How many the old system's writes left, and how many firmware's and the new one's.
    pub of_boots: [usize; 2],
    /// Some of each.
    pub samples: Vec<(Boots, State<'a>)>,
}

/// What is inside a bundle.
pub fn system(bundle: &Path) -> Result<System> {
    let bytes = fs::read(bundle).with_context(|| format!("cannot read {}", bundle.display()))?;
    let length = u32::from_le_bytes(std::array::from_fn(|i| bytes[LENGTH + i])) as usize;
    let manifest: Value = serde_json::from_slice(&bytes[HEAD..HEAD + length])?;
    let text = |path: &str| manifest.pointer(path).and_then(Value::as_str).unwrap_or_default();
    let number = |path: &str| manifest.pointer(path).and_then(Value::as_u64).unwrap_or_default();
    let salt = text("/root/salt").as_bytes().chunks(2);
    let salt = salt.map(|pair| Ok(u8::from_str_radix(str::from_utf8(pair)?, 16)?));
    Ok(System {
        uki: (number("/uki/size"), text("/uki/sha256").parse()?),
        root_hash: text("/root/root_hash").parse()?,
        salt: salt.collect::<Result<_>>()?,
        blocks: number("/root/data_blocks"),
    })
}

impl Recorded {
    /// For people: how much was written, until the reboot and from then on.
    pub fn tally(&self) -> String {
        let (old, new) = self.log.split_at(self.olds);
        let tally = |log: &[Entry]| {
            let flushes = log.iter().filter(|entry| **entry == Entry::Flush).count();
            let bytes: usize = log
                .iter()
                .map(|entry| match entry {
                    Entry::Write { bytes, .. } => bytes.len(),
                    _ => 0,
                })
                .sum();
            format!("{} writes of {bytes} bytes, {flushes} flushes", log.len() - flushes)
        };
        format!("the old system: {}; the new one: {}", tally(old), tally(new))
    }

    fn sectors(&self) -> Result<u64> {
        Ok(fs::metadata(&self.base)?.len() / SECTOR as u64)
    }

    fn place(&self, name: &str) -> Result<RangeInclusive<u64>> {
        Ok(disk::partition(&self.base, name)?.sectors)
    }

    fn upgrade(&self, until: Until) -> Result<Upgrade> {
        let before = after(&self.base, &[])?;
        let [old, new] = self.systems.clone();
        Upgrade::new(self.sectors()?, &before, old, new, until)
    }

    /// Judges all states that a cut may leave, and keeps so many of each kind.
    pub fn judge(&self, kept: usize) -> Result<Judged<'_>> {
        let (before, end) = (after(&self.base, &[])?, after(&self.base, &self.log)?);
        let mut data = Oracle::new(self.sectors()?, &before, &end)?;
        let mut upgrade = self.upgrade(Until::Blessed)?;
        let started = Instant::now();
        let mut found: BTreeMap<Boots, (usize, Vec<State>)> = BTreeMap::new();
        let (mut random, mut of_boots) = (Random(3), [0; 2]);
        for state in Cuts::of(&self.base, &self.log, effort())? {
            let boots = upgrade.judge(&state).with_context(|| state.to_string())?;
            data.judge(&state).with_context(|| state.to_string())?;
            let (count, samples) = found.entry(boots).or_default();
            *count += 1;
            of_boots[usize::from(state.entry() >= self.olds)] += 1;
            let at = random.draw() as usize % *count;
            match samples.len() < kept {
                true => samples.push(state),
                false => samples.get_mut(at).into_iter().for_each(|sample| *sample = state.clone()),
            }
        }
        let counts: BTreeMap<Boots, usize> =
            found.iter().map(|(boots, (count, _))| (*boots, *count)).collect();
        let states = counts.values().sum();
        println!(
            "{states} states judged in {:.1} s: {counts:?}, of the two boots {of_boots:?}; folders, \
             UKIs, roots {:?}; file systems, tables {:?}",
            started.elapsed().as_secs_f64(),
            upgrade.counts(),
            data.counts()
        );
        let samples = found
            .into_iter()
            .flat_map(|(boots, (_, states))| states.into_iter().map(move |state| (boots, state)));
        Ok(Judged { states, counts, of_boots, samples: samples.collect() })
    }

    /// The first complaint about what a changed install would leave.
    fn complaint(&self, change: impl FnOnce(&mut Vec<Entry>)) -> Result<Option<String>> {
        let mut log = self.log[..self.olds].to_vec();
        change(&mut log);
        let mut upgrade = self.upgrade(Until::Armed)?;
        for state in Cuts::of(&self.base, &log, effort())? {
            if let Err(error) = upgrade.judge(&state) {
                return Ok(Some(format!("{error:#}: {state}")));
            }
        }
        Ok(None)
    }

    /// Installers that do the same in a worse order, or that rename as it comes first to mind: each
    /// must be found out. Their writes are made of those that were recorded.
    pub fn worse_installers_are_found(&self) -> Result<()> {
        if let Some(complaint) = self.complaint(|_| ())? {
            bail!("of the installer itself: {complaint}");
        }
        let Install { first, top, commit } = self.install()?;
        type Change<'a> = &'a dyn Fn(&mut Vec<Entry>);
        let faults: [(&str, &str, Change); 5] = [
            ("the last flush before the commit comes after it", "the new system's root", &|log| {
                let committed = log.remove(commit);
                log.insert(top + 1, committed);
            }),
            ("the commit comes before what it is about", "neither of the two", &|log| {
                let committed = log.remove(commit);
                log.splice(first..first, [committed, Entry::Flush]);
            }),
            ("the old name goes, then the new one comes", "fsck.fat says", &|log| {
                let gone = edited(&log[commit], |folder| free(folder, 4));
                log.splice(commit..commit, [gone, Entry::Flush]);
            }),
            ("the new name comes, then the old one goes", "the ESP: ", &|log| {
                let both = edited(&log[commit], |folder| {
                    folder.copy_within(4 * ENTRY..6 * ENTRY, 6 * ENTRY);
                });
                log.splice(commit..commit, [both, Entry::Flush]);
            }),
            ("the old system makes way for the new one", "the old system isn't listed", &|log| {
                let gone = edited(&log[commit], |folder| folder[2 * ENTRY] = FREE);
                log.splice(commit..commit, [gone, Entry::Flush]);
            }),
        ];
        for (fault, expected, change) in faults {
            let complaint = self.complaint(change)?.with_context(|| format!("missed: {fault}"))?;
            println!("found, that {fault}: {complaint}");
            ensure!(complaint.contains(expected), "{fault}: {complaint}");
        }
        Ok(())
    }

    fn install(&self) -> Result<Install> {
        let log = &self.log[..self.olds];
        let last = |place| log.iter().rposition(|entry| touches(entry, &place));
        let slot = self.place("slot-b")?;
        let first = log.iter().position(|entry| touches(entry, &slot));
        let top = last(slot).context("nothing was installed")?;
        let commit = last(self.place("esp")?).context("nothing was committed")?;
        let is_sector = matches!(&log[commit], Entry::Write { bytes, .. } if bytes.len() == SECTOR);
        ensure!(top < commit && is_sector, "entry {commit} isn't the commit");
        Ok(Install { first: first.unwrap_or(top), top, commit })
    }
}

/// What an install wrote, as entries of the log.
struct Install {
    /// To the slot, first.
    first: usize,
    /// To the slot, last: the hash tree's top.
    top: usize,
    /// The folder's sector.
    commit: usize,
}

/// The same write with other bytes.
fn edited(entry: &Entry, edit: impl FnOnce(&mut [u8])) -> Entry {
    let mut entry = entry.clone();
    if let Entry::Write { bytes, .. } = &mut entry {
        edit(bytes);
    }
    entry
}

/// Removes a file of a folder: its long name, and the short one behind.
fn free(folder: &mut [u8], entry: usize) {
    folder[entry * ENTRY] = FREE;
    folder[(entry + 1) * ENTRY] = FREE;
}

/// Does an entry change any of these sectors?
pub fn touches(entry: &Entry, place: &RangeInclusive<u64>) -> bool {
    let (first, count) = match entry {
        Entry::Write { sector, bytes, .. } => (*sector, (bytes.len() / SECTOR) as u64),
        Entry::Discard { sector, sectors } => (*sector, *sectors),
        Entry::Flush | Entry::Mark => return false,
    };
    first <= *place.end() && *place.start() < first + count
}

fn effort() -> Effort {
    match is_long() {
        true => Effort { all_of: 10, picks: 64, tears: 48 },
        false => Effort { all_of: 3, picks: 6, tears: 3 },
    }
}
