//! GUID partition tables: struct to bytes and back.
//!
//! Formats: UEFI specification 2.10, chapter 5 (GPT, protective MBR, mixed-endian GUIDs); partition
//! types from the Discoverable Partitions Specification (UAPI.2). Sectors are 512 bytes.

use std::ops::{Range, RangeInclusive};

pub mod completion;
mod guid;

pub use guid::Guid;

/// Bytes in a sector.
pub const SECTOR: u64 = 512;
/// First sector that a partition may use: 1 MiB, which leaves room for the second bank of entries
/// (sectors 34 to 65) that the first boot completes the table through.
pub const FIRST_USABLE: u64 = 2048;
/// Partition entries in a table, and bytes in an entry.
const ENTRIES: usize = 128;
const ENTRY: usize = 128;
/// Sectors taken by the entries.
const ENTRY_SECTORS: u64 = (ENTRIES * ENTRY) as u64 / SECTOR;
const HEADER: usize = 92;
/// Bytes of the backup table: entries and header.
const TAIL: usize = ENTRIES * ENTRY + SECTOR as usize;
const SIGNATURE: &[u8; 8] = b"EFI PART";
const REVISION: u32 = 0x0001_0000;

/// One partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// What it is for.
    pub kind: Guid,
    /// Which one it is.
    pub id: Guid,
    /// First and last sector.
    pub sectors: RangeInclusive<u64>,
    /// Attribute bits; see [`READ_ONLY`].
    pub attributes: u64,
    /// At most 36 UTF-16 code units.
    pub name: String,
}

/// Attribute: the partition is not to be written (Discoverable Partitions Specification, bit 60).
pub const READ_ONLY: u64 = 1 << 60;
/// Attribute: not to be mounted by itself (bit 63).
pub const NO_AUTO: u64 = 1 << 63;

impl Partition {
    /// Where it starts, in bytes.
    pub fn offset(&self) -> u64 {
        self.sectors.start() * SECTOR
    }

    /// Its length in bytes.
    pub fn bytes(&self) -> u64 {
        (self.sectors.end() + 1 - self.sectors.start()) * SECTOR
    }

    /// Where it lies, in bytes.
    pub fn place(&self) -> Range<u64> {
        self.offset()..self.offset() + self.bytes()
    }
}

/// A partition table for a disk of a given size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Which disk it is.
    pub disk: Guid,
    /// All sectors of the disk.
    pub disk_sectors: u64,
    /// In table order.
    pub partitions: Vec<Partition>,
}

/// Bytes to be written at a place of the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extent {
    /// Bytes from the start of the disk.
    pub offset: u64,
    /// What stands there.
    pub bytes: Vec<u8>,
}

/// What is wrong with a partition table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Shorter than a header and its entries.
    #[error("the partition table is cut short")]
    Short,
    /// No GPT here.
    #[error("there is no GUID partition table")]
    Missing,
    /// The header is not what was written.
    #[error("the partition table's header has a wrong checksum")]
    HeaderChecksum,
    /// The entries are not what was written.
    #[error("the partition table's entries have a wrong checksum")]
    EntriesChecksum,
    /// Legal, perhaps, but nothing that Stele writes.
    #[error("the partition table has {0} entries of {1} bytes, not 128 of 128")]
    Shape(u32, u32),
    /// An entry ends before it starts, or leaves what partitions may use.
    #[error("partition {0} lies at sectors {1} to {2}, where none may")]
    Outside(usize, u64, u64),
    /// An empty entry, and one that isn't behind it.
    #[error("the partition table's entry {0} is empty, but a later one isn't")]
    Hole(usize),
    /// The entries are in neither bank.
    #[error("the partition table's entries start at sector {0}, not 2 or 34")]
    Place(u64),
}

/// First sector that is no longer usable on a disk of `disk_sectors`: the backup table begins.
pub fn end_of_usable(disk_sectors: u64) -> u64 {
    disk_sectors.saturating_sub(1 + ENTRY_SECTORS)
}

impl Table {
    /// The five pieces of the table: protective MBR, header and entries, backup entries and header.
    ///
    /// # Panics
    /// When there are more than 128 partitions or one leaves the usable sectors: the planner of a
    /// disk, not its user, decides that.
    pub fn to_extents(&self) -> Vec<Extent> {
        let entries = self.entries();
        let last = self.disk_sectors - 1;
        let backup = last - ENTRY_SECTORS;
        vec![
            Extent { offset: 0, bytes: protective_mbr(self.disk_sectors) },
            Extent { offset: SECTOR, bytes: self.header(&entries, 1, last, 2) },
            Extent { offset: 2 * SECTOR, bytes: entries.clone() },
            Extent { offset: last * SECTOR, bytes: self.header(&entries, last, 1, backup) },
            Extent { offset: backup * SECTOR, bytes: entries },
        ]
    }

    /// Reads the primary table. `disk` is the disk's beginning, at least its first 66 sectors.
    pub fn parse(disk: &[u8]) -> Result<Table, Error> {
        let header = disk.get(512..1024).ok_or(Error::Short)?;
        let header = Header::parse(header)?;
        let entries = header.entries_at.checked_mul(SECTOR).ok_or(Error::Short)?;
        let disk_sectors = header.other.checked_add(1).ok_or(Error::Short)?;
        header.table(disk, entries, disk_sectors)
    }

    /// Reads the backup table of a disk of `disk_sectors`. `tail` is its last 33 sectors.
    pub fn parse_backup(tail: &[u8], disk_sectors: u64) -> Result<Table, Error> {
        let header = tail.get(ENTRIES * ENTRY..TAIL).ok_or(Error::Short)?;
        let header = Header::parse(header)?;
        let start = end_of_usable(disk_sectors);
        if header.entries_at != start {
            return Err(Error::Place(header.entries_at));
        }
        header.table(tail, 0, disk_sectors)
    }

    /// The partition of this name, if there is one.
    pub fn named(&self, name: &str) -> Option<&Partition> {
        self.partitions.iter().find(|partition| partition.name == name)
    }

    fn entries(&self) -> Vec<u8> {
        assert!(self.partitions.len() <= ENTRIES, "a table holds 128 partitions");
        let usable = FIRST_USABLE..end_of_usable(self.disk_sectors);
        let mut bytes = Vec::with_capacity(ENTRIES * ENTRY);
        for partition in &self.partitions {
            let (first, last) = (*partition.sectors.start(), *partition.sectors.end());
            assert!(usable.contains(&first) && usable.contains(&last), "{partition:?} is outside");
            bytes.extend(partition.kind.to_disk());
            bytes.extend(partition.id.to_disk());
            bytes.extend(first.to_le_bytes());
            bytes.extend(last.to_le_bytes());
            bytes.extend(partition.attributes.to_le_bytes());
            let start = bytes.len();
            bytes.extend(partition.name.encode_utf16().take(36).flat_map(u16::to_le_bytes));
            bytes.resize(start + 72, 0);
        }
        bytes.resize(ENTRIES * ENTRY, 0);
        bytes
    }

    fn header(&self, entries: &[u8], here: u64, other: u64, entries_at: u64) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(SECTOR as usize);
        bytes.extend(SIGNATURE);
        bytes.extend(REVISION.to_le_bytes());
        bytes.extend((HEADER as u32).to_le_bytes());
        bytes.extend([0; 8]); // checksum, set below; reserved
        bytes.extend(here.to_le_bytes());
        bytes.extend(other.to_le_bytes());
        bytes.extend(FIRST_USABLE.to_le_bytes());
        bytes.extend((end_of_usable(self.disk_sectors) - 1).to_le_bytes());
        bytes.extend(self.disk.to_disk());
        bytes.extend(entries_at.to_le_bytes());
        bytes.extend((ENTRIES as u32).to_le_bytes());
        bytes.extend((ENTRY as u32).to_le_bytes());
        bytes.extend(crc32(entries).to_le_bytes());
        let checksum = crc32(&bytes);
        bytes[16..20].copy_from_slice(&checksum.to_le_bytes());
        bytes.resize(SECTOR as usize, 0);
        bytes
    }
}

/// What a header says that isn't fixed.
struct Header {
    disk: Guid,
    /// The sector of the other header.
    other: u64,
    entries_at: u64,
    entries_checksum: u32,
}

impl Header {
    /// Of a sector.
    fn parse(header: &[u8]) -> Result<Header, Error> {
        if header.len() < HEADER || &header[..8] != SIGNATURE {
            return Err(Error::Missing);
        }
        let mut unsummed = header[..HEADER].to_vec();
        unsummed[16..20].fill(0);
        if crc32(&unsummed) != u32_at(header, 16) {
            return Err(Error::HeaderChecksum);
        }
        let (count, size) = (u32_at(header, 80), u32_at(header, 84));
        if (count as usize, size as usize) != (ENTRIES, ENTRY) {
            return Err(Error::Shape(count, size));
        }
        Ok(Header {
            disk: guid_at(header, 56),
            other: u64_at(header, 32),
            entries_at: u64_at(header, 72),
            entries_checksum: u32_at(header, 88),
        })
    }

    /// The table whose entries stand at byte `start` of `bytes`.
    fn table(&self, bytes: &[u8], start: u64, disk_sectors: u64) -> Result<Table, Error> {
        let start = usize::try_from(start).map_err(|_| Error::Short)?;
        let end = start.checked_add(ENTRIES * ENTRY).ok_or(Error::Short)?;
        let entries = bytes.get(start..end).ok_or(Error::Short)?;
        if crc32(entries) != self.entries_checksum {
            return Err(Error::EntriesChecksum);
        }
        let is_empty = |entry: &[u8]| entry[..16] == [0; 16];
        let entries: Vec<&[u8]> = entries.chunks(ENTRY).collect();
        let used = entries.iter().rposition(|entry| !is_empty(entry)).map_or(0, |last| last + 1);
        let used = &entries[..used];
        if let Some(hole) = used.iter().position(|entry| is_empty(entry)) {
            return Err(Error::Hole(hole + 1));
        }
        let partitions = used
            .iter()
            .enumerate()
            .map(|(index, entry)| parse_entry(index, entry, disk_sectors))
            .collect::<Result<_, _>>()?;
        Ok(Table { disk: self.disk, disk_sectors, partitions })
    }
}

fn parse_entry(index: usize, entry: &[u8], disk_sectors: u64) -> Result<Partition, Error> {
    let (first, last) = (u64_at(entry, 32), u64_at(entry, 40));
    if first > last || first < FIRST_USABLE || last >= end_of_usable(disk_sectors) {
        return Err(Error::Outside(index + 1, first, last));
    }
    let units = entry[56..128].chunks(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
    let name: Vec<u16> = units.take_while(|&unit| unit != 0).collect();
    Ok(Partition {
        kind: guid_at(entry, 0),
        id: guid_at(entry, 16),
        sectors: first..=last,
        attributes: u64_at(entry, 48),
        name: String::from_utf16_lossy(&name),
    })
}

/// Says to whoever only knows MBRs that the whole disk is taken.
fn protective_mbr(disk_sectors: u64) -> Vec<u8> {
    let mut bytes = vec![0; SECTOR as usize];
    let sectors = u32::try_from(disk_sectors - 1).unwrap_or(u32::MAX);
    bytes[446..454].copy_from_slice(&[0, 0, 2, 0, 0xee, 0xff, 0xff, 0xff]);
    bytes[454..458].copy_from_slice(&1u32.to_le_bytes());
    bytes[458..462].copy_from_slice(&sectors.to_le_bytes());
    bytes[510..].copy_from_slice(&[0x55, 0xaa]);
    bytes
}

/// CRC-32 as GPT wants it (ISO 3309, reflected, polynomial 0xedb88320).
pub(crate) fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc: u32, byte| CRC[usize::from(crc as u8 ^ byte)] ^ (crc >> 8))
}

/// The CRC of each byte.
const CRC: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = (crc >> 1) ^ (0xedb8_8320 * (crc & 1));
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(std::array::from_fn(|i| bytes[at + i]))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]))
}

fn guid_at(bytes: &[u8], at: usize) -> Guid {
    Guid::from_disk(std::array::from_fn(|i| bytes[at + i]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let partition = |name: &str, sectors| Partition {
            kind: Guid::ESP,
            id: Guid::derived(name),
            sectors,
            attributes: NO_AUTO,
            name: name.into(),
        };
        Table {
            disk: Guid::derived("disk"),
            disk_sectors: 65536,
            partitions: vec![partition("esp", 2048..=4095), partition("slot-a", 4096..=8191)],
        }
    }

    fn disk(table: &Table) -> Vec<u8> {
        let mut disk = vec![0; (table.disk_sectors * SECTOR) as usize];
        for Extent { offset, bytes } in table.to_extents() {
            disk[offset as usize..][..bytes.len()].copy_from_slice(&bytes);
        }
        disk
    }

    #[test]
    fn a_table_survives_its_own_bytes() {
        let table = table();
        assert_eq!(Table::parse(&disk(&table)), Ok(table));
    }

    #[test]
    fn damage_is_named() {
        let good = disk(&table());
        let flipped = |at: usize| {
            let mut bad = good.clone();
            bad[at] ^= 1;
            Table::parse(&bad)
        };
        assert_eq!(flipped(512), Err(Error::Missing));
        assert_eq!(flipped(512 + 40), Err(Error::HeaderChecksum));
        assert_eq!(flipped(1024 + 3), Err(Error::EntriesChecksum));
        assert_eq!(Table::parse(&good[..2000]), Err(Error::Short));
        assert_eq!(Table::parse(&[0; 33792]), Err(Error::Missing));
    }

    #[test]
    fn crc32_is_the_usual_one() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }
}
