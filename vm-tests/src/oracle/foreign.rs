//! The judges that others wrote: e2fsck and debugfs of the data, sfdisk and sgdisk of the table.

use std::fs::{self, File};
use std::ops::{Range, RangeInclusive};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tempfile::TempDir;

use super::{HEAD, TAIL};
use crate::cuts::State;
use crate::table::Table;
use crate::writes::SECTOR;
use crate::{data, images, scratch};

/// How long one may take, in seconds.
const WITHIN: u32 = 60;
/// What is copied at a time of a disk as it was.
const CHUNK: u64 = 128;

/// What PID 1 keeps on the data; every file of it is whole or isn't there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Files {
    /// Who the machine is.
    pub machine_id: Option<String>,
    /// Is there a random seed?
    pub has_seed: bool,
    /// When it ran last, in seconds since 1970.
    pub clock: Option<u64>,
}

/// Where they work.
#[derive(Debug)]
pub(super) struct Judges {
    folder: TempDir,
    /// Of the disk as it was, what isn't zero.
    base: Vec<(u64, Vec<u8>)>,
    disk: u64,
}

impl Judges {
    pub fn new(before: &State, disk: u64) -> Result<Judges> {
        // In memory if possible: e2fsck syncs what it has repaired.
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
        let folder = folder.context("cannot make a folder")?;
        let chunks = (0..disk).step_by(CHUNK as usize);
        let chunks = chunks.map(|first| (first, before.read(first, CHUNK.min(disk - first))));
        let base = chunks.filter(|(_, bytes)| bytes.iter().any(|&byte| byte != 0)).collect();
        Ok(Judges { folder, base, disk })
    }

    /// Has e2fsck repair a copy of the data, as the next boot would, and looks into it.
    pub fn file_system(&self, state: &State, place: &RangeInclusive<u64>) -> Result<Files> {
        let (first, end) = (*place.start(), place.end() + 1);
        let part = self.folder.path().join("data");
        let file = fresh(&part, end - first)?;
        for (sector, bytes) in self.base.iter().filter(|(at, _)| (first..end).contains(at)) {
            let length = bytes.len().min((end - sector) as usize * SECTOR);
            file.write_all_at(&bytes[..length], (sector - first) * SECTOR as u64)?;
        }
        for (sector, bytes) in state.changes(first..end) {
            file.write_all_at(bytes, (sector - first) * SECTOR as u64)?;
        }
        match super::is_whole(&super::start(state, place)) {
            true => data::repair(&part)?,
            false => data::repair_torn(&part)?,
        }
        self.kept(&part)
    }

    fn kept(&self, part: &Path) -> Result<Files> {
        let file = |name: &str| self.folder.path().join(name);
        let names = ["machine-id", "random-seed", "clock"];
        let request = |name: &str| format!("dump /{name} {}\n", file(name).display());
        for name in names {
            let _ = fs::remove_file(file(name));
        }
        let requests = file("requests");
        fs::write(&requests, names.map(request).concat())?;
        let mut command = scratch::judge("debugfs", WITHIN);
        images::run(command.arg("-f").arg(requests).arg(part), "look at the data")?;
        let [id, seed, clock] = names.map(|name| fs::read(file(name)).ok());
        let text = |bytes: Option<Vec<u8>>| -> Option<String> {
            bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        };
        kept(text(id), seed, text(clock))
    }

    /// Has sfdisk and sgdisk look at a table; of one that isn't final yet sgdisk would complain that
    /// its copy isn't at the disk's end.
    pub fn table(&self, state: &State, table: &Table, is_final: bool) -> Result<()> {
        let path = self.folder.path().join("disk");
        let file = fresh(&path, self.disk)?;
        let other = table.other.saturating_sub(TAIL - 1);
        for (first, sectors) in [(0, HEAD), (other, TAIL), (self.disk - TAIL, TAIL)] {
            file.write_all_at(&state.read(first, sectors), first * SECTOR as u64)?;
        }
        let mut command = scratch::judge("sfdisk", WITHIN);
        let listed = images::run(command.arg("--json").arg(&path), "list the table")?;
        let seen = listed_partitions(&listed).context("cannot understand sfdisk")?;
        ensure!(seen == table.partitions, "sfdisk sees {seen:?}, not {:?}", table.partitions);
        if is_final {
            let mut command = scratch::judge("sgdisk", WITHIN);
            let said = images::run(command.arg("--verify").arg(&path), "verify the table")?;
            ensure!(said.contains("No problems found"), "sgdisk says: {said}");
        }
        Ok(())
    }
}

/// The ESP for fsck.fat, which doesn't look at what files hold: the runs of the systems are left out.
#[derive(Debug)]
pub(super) struct Volume {
    folder: TempDir,
    esp: Range<u64>,
    runs: [Range<u64>; 2],
    /// Of the ESP as it was, what isn't zero.
    base: Vec<(u64, Vec<u8>)>,
}

impl Volume {
    pub fn new(before: &State, esp: &Range<u64>, runs: &[Range<u64>; 2]) -> Result<Volume> {
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
        let folder = folder.context("cannot make a folder")?;
        let sectors = esp.clone().step_by(CHUNK as usize);
        let chunks = sectors.map(|at| (at, before.read(at, CHUNK.min(esp.end - at))));
        let base = chunks.filter(|(_, bytes)| bytes.iter().any(|&byte| byte != 0)).collect();
        Ok(Volume { folder, esp: esp.clone(), runs: runs.clone(), base })
    }

    /// Is there nothing to repair?
    pub fn judge(&self, state: &State) -> Result<()> {
        let path = self.folder.path().join("esp");
        let file = fresh(&path, self.esp.end - self.esp.start)?;
        let place = |sector: u64| (sector - self.esp.start) * SECTOR as u64;
        for (sector, bytes) in &self.base {
            file.write_all_at(bytes, place(*sector))?;
        }
        let is_in_a_run = |sector: &u64| self.runs.iter().any(|run| run.contains(sector));
        let changes = state.changes(self.esp.clone());
        for (sector, bytes) in changes.filter(|(sector, _)| !is_in_a_run(sector)) {
            file.write_all_at(bytes, place(sector))?;
        }
        let mut command = scratch::judge("fsck.fat", WITHIN);
        let output = command.arg("-n").arg(&path).output().context("cannot run fsck.fat")?;
        let said = String::from_utf8_lossy(&output.stdout);
        ensure!(output.status.success(), "fsck.fat says: {}", said.trim_end());
        Ok(())
    }
}

/// An empty file of so many sectors.
fn fresh(path: &PathBuf, sectors: u64) -> Result<File> {
    let file = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
    file.set_len(sectors * SECTOR as u64)?;
    Ok(file)
}

fn listed_partitions(json: &str) -> Option<Vec<(String, RangeInclusive<u64>)>> {
    let listed: Value = serde_json::from_str(json).ok()?;
    let partitions = listed.pointer("/partitiontable/partitions")?.as_array()?.iter();
    let partition = |partition: &Value| {
        let (start, size) = (partition["start"].as_u64()?, partition["size"].as_u64()?);
        Some((partition["name"].as_str()?.to_owned(), start..=start + size - 1))
    };
    partitions.map(partition).collect()
}

/// From what the three files hold.
fn kept(id: Option<String>, seed: Option<Vec<u8>>, clock: Option<String>) -> Result<Files> {
    let is_digit = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
    if let Some(id) = &id {
        let digits = id.strip_suffix('\n').unwrap_or_default();
        let is_fine = digits.len() == 32 && digits.chars().all(is_digit);
        ensure!(is_fine, "the machine id is `{id}`");
    }
    if let Some(seed) = &seed {
        let is_fine = seed.len() == 512 && seed.iter().any(|&byte| byte != 0);
        ensure!(is_fine, "the random seed has {} bytes, or is blank", seed.len());
    }
    let clock = clock.map(|text| {
        let digits = text.strip_suffix('\n').and_then(|digits| digits.parse().ok());
        digits.with_context(|| format!("the clock is `{text}`"))
    });
    Ok(Files { machine_id: id, has_seed: seed.is_some(), clock: clock.transpose()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_whole_or_not_there() {
        let id = "0123456789abcdef0123456789abcdef\n";
        for (id, seed, clock, is_fine) in [
            (None, None, None, true),
            (Some(id), Some(vec![7; 512]), Some("1800000000\n"), true),
            (Some(""), None, None, false),
            (Some(&id[1..]), None, None, false),
            (Some("0123456789abcdef0123456789abcde\0\n"), None, None, false),
            (None, Some(vec![7; 511]), None, false),
            (None, Some(vec![0; 512]), None, false),
            (None, None, Some(""), false),
            (None, None, Some("1800000000"), false),
        ] {
            let found = kept(id.map(str::to_owned), seed.clone(), clock.map(str::to_owned));
            assert_eq!(found.is_ok(), is_fine, "{id:?} {seed:?} {clock:?}: {found:?}");
        }
    }

    #[test]
    fn sfdisks_list_is_understood() {
        let json = r#"{"partitiontable": {"label": "gpt", "partitions": [
            {"node": "disk1", "start": 2048, "size": 100, "type": "x", "name": "esp"}]}}"#;
        assert_eq!(listed_partitions(json), Some(vec![("esp".to_owned(), 2048..=2147)]));
        assert_eq!(listed_partitions("{}"), None);
    }
}
