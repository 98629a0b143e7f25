//! A FAT as firmware reads it, written apart from the code that is judged.
//!
//! Microsoft's FAT specification 1.03: FAT16 and FAT32, long names, chains. All places are in sectors
//! from the volume's start.

use anyhow::{Context, Result, bail, ensure};

use crate::writes::SECTOR;

const ENTRY: usize = 32;
/// Attributes: all that a long name's piece has, a label, a folder.
const LONG: u8 = 0x0f;
const LABEL: u8 = 0x08;
const FOLDER: u8 = 0x10;
/// The most that a folder may have, in clusters.
const LONGEST_FOLDER: usize = 64;

/// A volume.
#[derive(Debug)]
pub struct Fat {
    /// Sectors in a cluster.
    cluster: u64,
    /// Of FAT16: where the top folder is, which is no chain.
    root: std::ops::Range<u64>,
    /// Of FAT32: where it begins.
    root_cluster: u32,
    first_data: u64,
    clusters: u32,
    table: Vec<u32>,
}

/// An entry of a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Its long name if it has a whole one, else the short one.
    pub name: String,
    /// Its first cluster.
    pub first: u32,
    /// Bytes in it.
    pub size: u64,
    /// Has it the three dates that firmware insists on?
    pub is_dated: bool,
    is_folder: bool,
}

impl Fat {
    /// `read` returns so many sectors from one on.
    pub fn open(read: &impl Fn(u64, u64) -> Vec<u8>) -> Result<Fat> {
        let boot = read(0, 1);
        let number = |at, length| number(&boot, at, length);
        ensure!(boot[510..] == [0x55, 0xaa], "its boot sector isn't signed");
        ensure!(number(11, 2) == SECTOR as u64, "its sectors have {} bytes", number(11, 2));
        let (cluster, reserved, copies) = (number(13, 1), number(14, 2), number(16, 1));
        let either = |small: u64, large: u64| if small == 0 { large } else { small };
        let sectors = either(number(19, 2), number(32, 4));
        let length = either(number(22, 2), number(36, 4));
        ensure!(
            cluster.is_power_of_two() && copies == 2,
            "{cluster} sectors a cluster, {copies} FATs"
        );
        let root_at = reserved + 2 * length;
        let first_data = root_at + (number(17, 2) * ENTRY as u64).div_ceil(SECTOR as u64);
        ensure!(first_data < sectors, "its clusters begin at {first_data} of {sectors}");
        let clusters = (sectors - first_data) / cluster;
        ensure!((4085..1 << 28).contains(&clusters), "it has {clusters} clusters");
        let width = if clusters < 65525 { 2 } else { 4 };
        ensure!(length * SECTOR as u64 >= (clusters + 2) * width, "its FATs are too short");
        let copy = read(reserved, length);
        ensure!(copy == read(reserved + length, length), "its two FATs differ");
        let entries = copy.chunks_exact(width as usize);
        let entries = entries.map(|entry| self::number(entry, 0, width as usize) as u32);
        let end = |entry: u32| if width == 2 && entry >= 0xfff8 { u32::MAX } else { entry };
        Ok(Fat {
            cluster,
            root: root_at..first_data,
            root_cluster: number(44, 4) as u32,
            first_data,
            clusters: clusters as u32,
            table: entries.map(end).collect(),
        })
    }

    /// The files of a folder, which is named from the top.
    pub fn files(&self, read: &impl Fn(u64, u64) -> Vec<u8>, path: &str) -> Result<Vec<File>> {
        let entries = self.folder(read, path)?.into_iter();
        Ok(entries.filter(|entry| !entry.is_folder).collect())
    }

    /// All files but those of `except`, with their paths and what they hold.
    pub fn others(
        &self,
        read: &impl Fn(u64, u64) -> Vec<u8>,
        except: &str,
    ) -> Result<Vec<(String, Vec<u8>)>> {
        let (mut found, mut folders) = (vec![], vec![String::new()]);
        while let Some(path) = folders.pop() {
            ensure!(folders.len() < 100, "it has too many folders");
            for entry in self.folder(read, &path)? {
                let inner = format!("{path}/{}", entry.name);
                match entry.is_folder {
                    true if inner.eq_ignore_ascii_case(except) => {}
                    true => folders.push(inner),
                    false => found.push((inner, self.bytes(read, &entry)?)),
                }
            }
        }
        found.sort();
        Ok(found)
    }

    /// Where a file lies, if its clusters are one run of exactly its size.
    pub fn run(&self, file: &File) -> Result<std::ops::Range<u64>> {
        let chain = self.chain(file.first, self.clusters as usize)?;
        ensure!(chain.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{} is in pieces", file.name);
        let sectors = chain.len() as u64 * self.cluster;
        ensure!(file.size == sectors * SECTOR as u64, "{} has {} bytes", file.name, file.size);
        let start = self.place(file.first);
        Ok(start..start + sectors)
    }

    fn bytes(&self, read: &impl Fn(u64, u64) -> Vec<u8>, file: &File) -> Result<Vec<u8>> {
        if file.size == 0 {
            return Ok(vec![]);
        }
        let chain = self.chain(file.first, self.clusters as usize)?;
        let mut bytes: Vec<u8> =
            chain.iter().flat_map(|cluster| read(self.place(*cluster), self.cluster)).collect();
        ensure!(bytes.len() as u64 >= file.size, "{} is longer than its chain", file.name);
        bytes.truncate(file.size as usize);
        Ok(bytes)
    }

    fn folder(&self, read: &impl Fn(u64, u64) -> Vec<u8>, path: &str) -> Result<Vec<File>> {
        let top = if self.root.is_empty() { Some(self.root_cluster) } else { None };
        let mut bytes = match top {
            Some(first) => self.folder_bytes(read, first)?,
            None => read(self.root.start, self.root.end - self.root.start),
        };
        for name in path.split('/').filter(|name| !name.is_empty()) {
            let found = entries(&bytes).into_iter();
            let mut found = found.filter(|e| e.is_folder && e.name.eq_ignore_ascii_case(name));
            let folder = found.next().with_context(|| format!("it has no folder {name}"))?;
            bytes = self.folder_bytes(read, folder.first)?;
        }
        Ok(entries(&bytes))
    }

    fn folder_bytes(&self, read: &impl Fn(u64, u64) -> Vec<u8>, first: u32) -> Result<Vec<u8>> {
        let chain = self.chain(first, LONGEST_FOLDER)?;
        Ok(chain.iter().flat_map(|cluster| read(self.place(*cluster), self.cluster)).collect())
    }

    fn chain(&self, first: u32, most: usize) -> Result<Vec<u32>> {
        let mut chain = vec![];
        let mut next = first;
        while next & 0x0fff_ffff < 0x0fff_fff8 {
            let is_cluster = (2..self.clusters + 2).contains(&next);
            ensure!(is_cluster && chain.len() < most, "the chain from cluster {first} goes astray");
            chain.push(next);
            next = self.table[next as usize];
        }
        match chain.is_empty() {
            true => bail!("there is no cluster {first}"),
            false => Ok(chain),
        }
    }

    fn place(&self, cluster: u32) -> u64 {
        self.first_data + u64::from(cluster - 2) * self.cluster
    }
}

/// What a folder lists, as firmware names it: a long name counts if all its pieces stand in order
/// right before the entry, and carry its checksum.
fn entries(bytes: &[u8]) -> Vec<File> {
    let (mut files, mut pieces) = (vec![], Vec::<&[u8]>::new());
    for entry in bytes.chunks_exact(ENTRY).take_while(|entry| entry[0] != 0) {
        let attributes = entry[11] & 0x3f;
        match (entry[0], attributes) {
            (0xe5, _) => pieces.clear(),
            (_, LONG) => pieces.push(entry),
            (_, label) if label & LABEL != 0 => pieces.clear(),
            (b'.', _) => pieces.clear(),
            _ => {
                let name = long_name(&pieces, entry).unwrap_or_else(|| short_name(entry));
                let first = number(entry, 20, 2) << 16 | number(entry, 26, 2);
                let is_dated = [16, 18, 24].iter().all(|at| is_date(number(entry, *at, 2)));
                files.push(File {
                    name,
                    first: first as u32,
                    size: number(entry, 28, 4),
                    is_dated,
                    is_folder: attributes & FOLDER != 0,
                });
                pieces.clear();
            }
        }
    }
    files
}

fn long_name(pieces: &[&[u8]], short: &[u8]) -> Option<String> {
    let sum = short[..11].iter().fold(0u8, |sum, byte| sum.rotate_right(1).wrapping_add(*byte));
    let count = pieces.len();
    let is_ours = |(index, piece): (usize, &&[u8])| {
        let last = if index == 0 { 0x40 } else { 0 };
        usize::from(piece[0]) == (count - index) | last && piece[13] == sum
    };
    if count == 0 || !pieces.iter().enumerate().all(is_ours) {
        return None;
    }
    let units = pieces.iter().rev().flat_map(|piece| {
        let parts = [&piece[1..11], &piece[14..26], &piece[28..32]].concat();
        parts.chunks(2).map(|pair| number(pair, 0, 2) as u16).collect::<Vec<_>>()
    });
    let units: Vec<u16> = units.take_while(|unit| *unit != 0).collect();
    Some(String::from_utf16_lossy(&units))
}

fn short_name(entry: &[u8]) -> String {
    let part = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    match (part(&entry[..8]), part(&entry[8..11])) {
        (name, extension) if extension.is_empty() => name,
        (name, extension) => format!("{name}.{extension}"),
    }
}

/// Day and month are none of them 0.
fn is_date(date: u64) -> bool {
    (1..=31).contains(&(date & 31)) && (1..=12).contains(&(date >> 5 & 15))
}

fn number(bytes: &[u8], at: usize, length: usize) -> u64 {
    bytes[at..at + length].iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte))
}
