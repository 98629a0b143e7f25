//! A partition table as firmware and kernel judge it, written apart from the code that is judged.
//!
//! UEFI specification 2.10, section 5.3.2: what makes a GPT valid, and Linux's `is_gpt_valid`.

use std::ops::RangeInclusive;

use crate::writes::SECTOR;

/// A valid table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Names and places, in its order.
    pub partitions: Vec<(String, RangeInclusive<u64>)>,
    /// The disk's id, and those of the partitions.
    pub ids: Vec<[u8; 16]>,
    /// The sector of the other copy's header.
    pub other: u64,
}

impl Table {
    /// The one whose header is the sector `at`. `read` returns so many sectors from one on.
    pub fn at(at: u64, disk: u64, read: impl Fn(u64, u64) -> Vec<u8>) -> Result<Table, String> {
        let header = read(at, 1);
        let (u64_at, u32_at) = (|i| number(&header, i, 8), |i| number(&header, i, 4));
        let size = u32_at(12) as usize;
        if &header[..8] != b"EFI PART" || !(92..=SECTOR).contains(&size) {
            return Err("has no header".into());
        }
        let unsummed = [&header[..16], &[0; 4], &header[20..size]].concat();
        if u64::from(crc32(&unsummed)) != u32_at(16) {
            return Err("has a header with a wrong checksum".into());
        }
        let (here, other, first, last) = (u64_at(24), u64_at(32), u64_at(40), u64_at(48));
        if here != at || first > last || last >= disk || other >= disk || other == here {
            return Err(format!("says {here}, {other}, {first} to {last} of itself"));
        }
        let (start, count, length) = (u64_at(72), u32_at(80), u32_at(84));
        if length != 128 || count > 1024 {
            return Err(format!("has {count} entries of {length} bytes"));
        }
        let sectors = (count * length).div_ceil(SECTOR as u64);
        let end = start.saturating_add(sectors);
        let is_outside = if start > last { end <= disk } else { start > 1 && end <= first };
        if !is_outside || (start..end).contains(&here) {
            return Err(format!("has its entries at sector {start}"));
        }
        let entries = &read(start, sectors)[..(count * length) as usize];
        if u64::from(crc32(entries)) != u32_at(88) {
            return Err("has entries with a wrong checksum".into());
        }
        let used = entries.chunks(128).filter(|entry| entry[..16] != [0; 16]);
        let partitions: Vec<_> = used.clone().map(partition).collect();
        let ids = [&header[56..72]].into_iter().chain(used.map(|entry| &entry[16..32]));
        let ids = ids.map(|id| std::array::from_fn(|i| id[i])).collect();
        overlap(&partitions, first..=last)?;
        Ok(Table { partitions, ids, other })
    }

    /// Where the partition of this name lies.
    pub fn place(&self, name: &str) -> Option<RangeInclusive<u64>> {
        let found = self.partitions.iter().find(|(other, _)| other == name);
        found.map(|(_, place)| place.clone())
    }
}

fn partition(entry: &[u8]) -> (String, RangeInclusive<u64>) {
    let units = entry[56..128].chunks(2).map(|pair| number(pair, 0, 2) as u16);
    let name: Vec<u16> = units.take_while(|&unit| unit != 0).collect();
    (String::from_utf16_lossy(&name), number(entry, 32, 8)..=number(entry, 40, 8))
}

fn overlap(
    partitions: &[(String, RangeInclusive<u64>)],
    usable: RangeInclusive<u64>,
) -> Result<(), String> {
    let mut sorted: Vec<_> = partitions.iter().collect();
    sorted.sort_by_key(|(_, place)| *place.start());
    let mut free = *usable.start();
    for (name, place) in sorted {
        if *place.start() < free || place.start() > place.end() || place.end() > usable.end() {
            return Err(format!("has {name} at sectors {} to {}", place.start(), place.end()));
        }
        free = place.end() + 1;
    }
    Ok(())
}

fn number(bytes: &[u8], at: usize, length: usize) -> u64 {
    bytes[at..at + length].iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte))
}

/// The usual CRC-32, bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    !reflected(0xedb8_8320, bytes)
}

/// CRC-32C without its last inversion, as ext4 keeps it.
pub fn crc32c(bytes: &[u8]) -> u32 {
    reflected(0x82f6_3b78, bytes)
}

fn reflected(polynomial: u32, bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| if crc & 1 == 1 { crc >> 1 ^ polynomial } else { crc >> 1 };
    bytes.iter().fold(!0, |crc, &byte| (0..8).fold(crc ^ u32::from(byte), step))
}

#[cfg(test)]
mod tests {
    use super::*;
    use appliance::gpt::{Guid, Partition, Table as Made};

    const DISK: u64 = 65_536;

    /// As the builder writes it, and then some bytes changed.
    fn disk(changes: &[(usize, u8)]) -> Vec<u8> {
        let partition = |name: &str, sectors| Partition {
            kind: Guid::ESP,
            id: Guid::derived(name),
            sectors,
            attributes: 0,
            name: name.into(),
        };
        let partitions = vec![partition("esp", 2048..=4095), partition("data", 4096..=8191)];
        let table = Made { disk: Guid::derived("disk"), disk_sectors: DISK, partitions };
        let mut disk = vec![0; DISK as usize * SECTOR];
        for extent in table.to_extents() {
            disk[extent.offset as usize..][..extent.bytes.len()].copy_from_slice(&extent.bytes);
        }
        changes.iter().for_each(|(at, byte)| disk[*at] = *byte);
        disk
    }

    fn at(disk: &[u8], sector: u64) -> Result<Table, String> {
        Table::at(sector, DISK, |first, sectors| {
            disk[first as usize * SECTOR..][..sectors as usize * SECTOR].into()
        })
    }

    #[test]
    fn both_copies_of_what_the_builder_writes_are_valid() {
        let disk = disk(&[]);
        let table = at(&disk, 1).unwrap();
        assert_eq!(table.place("data"), Some(4096..=8191));
        assert_eq!(table.place("esp"), Some(2048..=4095));
        assert_eq!((table.place("slot-b"), table.other), (None, DISK - 1));
        let backup = at(&disk, DISK - 1).unwrap();
        assert_eq!((backup.other, backup.partitions), (1, table.partitions));
    }

    #[test]
    fn what_makes_a_table_invalid_is_named() {
        for (change, expected) in [
            ((SECTOR, 0), "has no header"),
            ((SECTOR + 12, 0), "has no header"),
            ((SECTOR + 57, 0), "has a header with a wrong checksum"),
            ((2 * SECTOR + 17, 0), "has entries with a wrong checksum"),
        ] {
            assert_eq!(at(&disk(&[change]), 1).unwrap_err(), expected, "{change:?}");
        }
        let mut moved = disk(&[]);
        moved.copy_within(SECTOR..2 * SECTOR, 2046 * SECTOR);
        assert!(at(&moved, 2046).unwrap_err().starts_with("says 1, 65535,"));
        let named = |place| ("x".to_owned(), place);
        for (places, is_fine) in [
            ([10..=19, 20..=29], true),
            ([20..=29, 10..=19], true),
            ([10..=19, 19..=29], false),
            ([9..=19, 20..=29], false),
            ([10..=19, 20..=31], false),
        ] {
            assert_eq!(overlap(&places.clone().map(named), 10..=30).is_ok(), is_fine, "{places:?}");
        }
    }

    #[test]
    fn checksums_are_the_usual_ones() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        assert_eq!(crc32c(b"123456789"), !0xe306_9283);
    }
}
