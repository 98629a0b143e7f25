//! Directory entries: 32 bytes each, a long name before the short one that it belongs to.

use super::{u16_at, u32_at};

/// Bytes in an entry.
pub const SIZE: usize = 32;
/// An entry.
pub type Bytes = [u8; SIZE];

/// Characters in a long name's one entry.
const CHARACTERS: usize = 13;
/// 1980-01-01: with a date of zero EDK2 refuses to rename the file, and no try is ever counted.
const DATE: u16 = 0x0021;
const DELETED: u8 = 0xe5;
const LONG: u8 = 0x0f;
const LABEL: u8 = 0x08;
const FOLDER: u8 = 0x10;
const ARCHIVE: u8 = 0x20;

/// An entry that is neither deleted nor a part of a name.
#[derive(Debug, Clone, Copy)]
pub struct Found {
    /// Its place: the how manieth entry of the directory.
    pub slot: usize,
    bytes: Bytes,
    /// The entry before it.
    before: Option<Bytes>,
}

/// What an entry is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A file.
    File,
    /// A folder.
    Folder,
    /// The volume's label.
    Label,
}

/// A file's long name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Long {
    /// There is none that belongs to it.
    None,
    /// In the one entry before.
    Is(String),
    /// More than one entry's worth.
    Longer,
}

/// All live entries, up to the end of the directory.
pub fn live(directory: &[u8]) -> impl Iterator<Item = Found> {
    let (entries, _) = directory.as_chunks::<SIZE>();
    let entries = entries.iter().take_while(|bytes| bytes[0] != 0).enumerate();
    let mut before = None;
    entries.filter_map(move |(slot, &bytes)| {
        let before = before.replace(bytes);
        let is_live = bytes[0] != DELETED && bytes[11] & 0x3f != LONG;
        is_live.then_some(Found { slot, bytes, before })
    })
}

impl Found {
    /// The eleven bytes of its short name.
    pub fn short(&self) -> &[u8] {
        &self.bytes[..11]
    }

    /// What it is.
    pub fn kind(&self) -> Kind {
        match self.bytes[11] {
            attribute if attribute & LABEL != 0 => Kind::Label,
            attribute if attribute & FOLDER != 0 => Kind::Folder,
            _ => Kind::File,
        }
    }

    /// Is it a folder?
    pub fn is_folder(&self) -> bool {
        self.kind() == Kind::Folder
    }

    /// Its first cluster.
    pub fn cluster(&self) -> u32 {
        u32::from(u16_at(&self.bytes, 20)) << 16 | u32::from(u16_at(&self.bytes, 26))
    }

    /// Its length in bytes.
    pub fn length(&self) -> u32 {
        u32_at(&self.bytes, 28)
    }

    /// Its long name.
    pub fn long(&self) -> Long {
        let Some(before) = &self.before else { return Long::None };
        let belongs = before[11] & 0x3f == LONG && before[13] == checksum(self.short());
        match before[0] {
            0x41 if belongs => Long::Is(characters(before)),
            0x01 if belongs => Long::Longer,
            _ => Long::None,
        }
    }

    /// `SLOTB   OFF` → `SLOTB.OFF`
    pub fn displayed(&self) -> String {
        let (stem, extension) = self.short().split_at(8);
        let text = |bytes: &[u8]| {
            let text: String = bytes.iter().map(|&byte| char::from(byte)).collect();
            text.trim_end().to_owned()
        };
        match (text(stem), text(extension)) {
            (stem, extension) if extension.is_empty() => stem,
            (stem, extension) => format!("{stem}.{extension}"),
        }
    }
}

/// The entry of a file, under a short name.
pub fn file(short: &[u8; 11], cluster: u32, length: u32) -> Bytes {
    let mut entry = [0; SIZE];
    entry[..11].copy_from_slice(short);
    entry[11] = ARCHIVE;
    for date in [16, 18, 24] {
        entry[date..date + 2].copy_from_slice(&DATE.to_le_bytes());
    }
    let [low, high, ..] = [cluster as u16, (cluster >> 16) as u16];
    entry[20..22].copy_from_slice(&high.to_le_bytes());
    entry[26..28].copy_from_slice(&low.to_le_bytes());
    entry[28..].copy_from_slice(&length.to_le_bytes());
    entry
}

/// The entry before the one with this short name, which gives it a long one of at most 13
/// characters; what is longer is cut.
pub fn long(name: &str, short: &[u8]) -> Bytes {
    let mut units: Vec<u16> = name.encode_utf16().take(CHARACTERS).collect();
    if units.len() < CHARACTERS {
        units.push(0);
    }
    units.resize(CHARACTERS, 0xffff);
    let mut entry = [0; SIZE];
    entry[0] = 0x41;
    entry[11] = LONG;
    entry[13] = checksum(short);
    for (place, unit) in places().zip(units) {
        entry[place..place + 2].copy_from_slice(&unit.to_le_bytes());
    }
    entry
}

/// An entry of nothing, behind which others may follow.
pub fn deleted() -> Bytes {
    let mut entry = [0; SIZE];
    entry[0] = DELETED;
    entry
}

/// How many entries a directory has, deleted ones among them.
pub fn end(directory: &[u8]) -> usize {
    let (entries, _) = directory.as_chunks::<SIZE>();
    entries.iter().position(|bytes| bytes[0] == 0).unwrap_or(entries.len())
}

/// What ties a long name to its short one.
pub fn checksum(short: &[u8]) -> u8 {
    short.iter().fold(0, |sum: u8, &byte| sum.rotate_right(1).wrapping_add(byte))
}

fn characters(entry: &Bytes) -> String {
    let units = places().map(|place| u16_at(entry, place));
    let units: Vec<u16> = units.take_while(|&unit| unit != 0 && unit != 0xffff).collect();
    String::from_utf16_lossy(&units)
}

/// Where a long name's characters stand in an entry.
fn places() -> impl Iterator<Item = usize> {
    (1..11).step_by(2).chain((14..26).step_by(2)).chain((28..32).step_by(2))
}
