//! What the first boot adds to an image's partition table, and how a table is replaced so that
//! every state in between is valid.
//!
//! An image carries `esp`, `seed` and `slot-a`; its first boot adds `slot-b` and `data` behind them.
//! A table has two banks for its entries, sectors 2 to 33 and 34 to 65. A new table goes into the
//! one that the header doesn't name; then the header, one sector, is written: the commit. Measured
//! with firmware and kernel: none of them ever sees a table that isn't either the old or the new.
//!
//! ```text
//!  0    1       2 … 33   34 … 65  66    2048 …                                 … last-32 … last
//!  MBR  header  bank 1   bank 2   mark  esp seed slot-a | slot-b data          | backup entries, header
//! ```

use std::ops::RangeInclusive;

use super::{
    ENTRY_SECTORS, Error, Extent, Guid, Header, NO_AUTO, Partition, SECTOR, TAIL, Table,
    end_of_usable, protective_mbr,
};

/// Sectors of a disk's beginning that are of interest here: up to the mark.
pub const HEAD_SECTORS: u64 = MARK + 1;
/// Sectors of a disk's end that are of interest here: the backup table.
pub const TAIL_SECTORS: u64 = ENTRY_SECTORS + 1;
/// The sector that says: what lies in the data's place is a half-made file system of ours.
pub const MARK: u64 = 66;
/// The names of the two partitions that the first boot makes.
pub const SLOT_B: &str = "slot-b";
/// See [`SLOT_B`].
pub const DATA: &str = "data";
/// Partitions begin and end at whole mebibytes.
const ALIGNMENT: u64 = (1 << 20) / SECTOR;
/// Less has no copy of its superblock, which a cut can tear: the first copy is 128 MiB on.
const LEAST_DATA: u64 = 160 * ALIGNMENT;
/// Where the two banks start.
const BANKS: [u64; 2] = [2, 34];
/// Where an MBR's first record of a partition starts; before it is code, behind the records a mark.
const RECORDS: usize = 446;

/// Why a disk gets no complete table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Not an image's table, and not a complete one either.
    #[error("its partition table has no {0}")]
    Lacks(&'static str),
    /// There isn't room for all.
    #[error("it has {has} MiB; a second slot and the least of data need {needs} MiB")]
    TooSmall {
        /// Size of the disk.
        has: u64,
        /// The least that would do.
        needs: u64,
    },
    /// The disk was larger when the table was made.
    #[error("it has {has} sectors, but its partition `data` ends at sector {end}")]
    Shrunk {
        /// Size of the disk.
        has: u64,
        /// Where the data ends.
        end: u64,
    },
}

/// The table that a disk of `disk_sectors` should have, `found` being the one it has: complete, the
/// data reaching to the end. The same as `found` when there is nothing to do.
///
/// At its first boot, the disk and its partitions get ids of their own (from `fresh`), so that two
/// copies of one image can be told apart. Only the ESP keeps its id: firmware remembers it.
pub fn wanted(
    found: &Table,
    disk_sectors: u64,
    fresh: impl FnMut() -> Guid,
) -> Result<Table, Refusal> {
    let end = end_of_usable(disk_sectors) / ALIGNMENT * ALIGNMENT;
    let mut table = Table { disk_sectors, ..found.clone() };
    match (found.named(SLOT_B), found.named(DATA)) {
        (Some(_), Some(_)) => {}
        (None, None) => return first(found, disk_sectors, fresh),
        (None, _) => return Err(Refusal::Lacks(SLOT_B)),
        (_, None) => return Err(Refusal::Lacks(DATA)),
    }
    let partitions = found.partitions.iter().map(|partition| *partition.sectors.end());
    let last = partitions.max().unwrap_or_default();
    if last >= end_of_usable(disk_sectors) {
        return Err(Refusal::Shrunk { has: disk_sectors, end: last });
    }
    // What lies behind the data, somebody put there: then it stays as it is.
    for data in table.partitions.iter_mut().filter(|partition| partition.name == DATA) {
        if *data.sectors.end() == last && end > last + 1 {
            data.sectors = *data.sectors.start()..=end - 1;
        }
    }
    Ok(table)
}

fn first(
    found: &Table,
    disk_sectors: u64,
    mut fresh: impl FnMut() -> Guid,
) -> Result<Table, Refusal> {
    let slot_a = found.named("slot-a").ok_or(Refusal::Lacks("slot-a"))?;
    let length = slot_a.sectors.end() - slot_a.sectors.start() + 1;
    let used = found.partitions.iter().map(|partition| partition.sectors.end() + 1).max();
    // Behind the image, so that the image's own backup table lies in no partition.
    let start = used.unwrap_or_default().max(found.disk_sectors).next_multiple_of(ALIGNMENT);
    let data = (start + length).next_multiple_of(ALIGNMENT);
    let end = end_of_usable(disk_sectors) / ALIGNMENT * ALIGNMENT;
    if end < data + LEAST_DATA {
        let needs = data + LEAST_DATA + ALIGNMENT;
        return Err(Refusal::TooSmall { has: mebibytes(disk_sectors), needs: mebibytes(needs) });
    }
    let slot_b =
        Partition { sectors: start..=start + length - 1, name: SLOT_B.into(), ..slot_a.clone() };
    let data = Partition {
        kind: Guid::LINUX,
        id: slot_b.id,
        sectors: data..=end - 1,
        attributes: NO_AUTO,
        name: DATA.into(),
    };
    let partitions = found.partitions.iter().cloned().chain([slot_b, data]).map(|partition| {
        let id = if partition.kind == Guid::ESP { partition.id } else { fresh() };
        Partition { id, ..partition }
    });
    let partitions = partitions.collect();
    Ok(Table { disk: fresh(), disk_sectors, partitions })
}

fn mebibytes(sectors: u64) -> u64 {
    sectors.div_ceil(ALIGNMENT)
}

/// The writes that put `table` onto a disk that begins with `head` and ends with `tail`, in their
/// order; each must be on the disk (flushed) before the next. None: it is there already.
///
/// And if the power goes in between? Until the last write, the header names the old entries, which
/// no write touches: the old table counts. A new one at the disk's end counts for nobody while the
/// primary is whole. The last write is one sector: it is there or it isn't.
pub fn writes(table: &Table, head: &[u8], tail: &[u8]) -> Result<Vec<Extent>, Error> {
    let entries = table.entries();
    let last = table.disk_sectors.saturating_sub(1);
    let mut writes = vec![];
    if Table::parse_backup(tail, table.disk_sectors).as_ref() != Ok(table) {
        let backup = end_of_usable(table.disk_sectors);
        writes.push(Extent { offset: backup * SECTOR, bytes: entries.clone() });
        let header = table.header(&entries, last, 1, backup);
        writes.push(Extent { offset: last * SECTOR, bytes: header });
    }
    let mbr = head.get(..SECTOR as usize).ok_or(Error::Short)?;
    let ours = protective_mbr(table.disk_sectors);
    if mbr[RECORDS..] != ours[RECORDS..] {
        let bytes = [&mbr[..RECORDS], &ours[RECORDS..]].concat();
        writes.push(Extent { offset: 0, bytes });
    }
    if Table::parse(head).as_ref() != Ok(table) {
        let bank = other_bank(head)?;
        writes.push(Extent { offset: bank * SECTOR, bytes: entries.clone() });
        writes.push(Extent { offset: SECTOR, bytes: table.header(&entries, 1, last, bank) });
    }
    Ok(writes)
}

/// The bank that the primary header doesn't name. Is there no such header, nobody reads either.
fn other_bank(head: &[u8]) -> Result<u64, Error> {
    let [first, second] = BANKS;
    let header = head.get(SECTOR as usize..2 * SECTOR as usize).ok_or(Error::Short)?;
    match Header::parse(header).map(|header| header.entries_at) {
        Ok(bank) if bank == second => Ok(first),
        Ok(bank) if bank == first => Ok(second),
        Ok(elsewhere) => Err(Error::Place(elsewhere)),
        Err(_) => Ok(first),
    }
}

/// A partition that a table at the disk's end has where `wanted` has its new ones, although not the
/// same: this disk was used for something else.
pub fn stranger(wanted: &Table, tail: &[u8]) -> Option<Partition> {
    let there = Table::parse_backup(tail, wanted.disk_sectors).ok()?;
    let new: Vec<_> = [SLOT_B, DATA].iter().filter_map(|name| wanted.named(name)).collect();
    there.partitions.into_iter().find(|old| {
        let overlaps = |new: &&&Partition| {
            old.sectors.start() <= new.sectors.end() && new.sectors.start() <= old.sectors.end()
        };
        new.iter().find(overlaps).is_some_and(|new| new.sectors != old.sectors)
    })
}

/// What is written to [`MARK`] before a file system is made at `sectors`.
pub fn mark(sectors: &RangeInclusive<u64>) -> Vec<u8> {
    let (first, last) = (sectors.start(), sectors.end());
    let mut text = format!("Stele makes a file system, sectors {first} to {last}\n").into_bytes();
    text.resize(SECTOR as usize, 0);
    text
}

/// The sector [`MARK`] of a disk that begins with `head`.
pub fn marked(head: &[u8]) -> Option<&[u8]> {
    head.get((MARK * SECTOR) as usize..((MARK + 1) * SECTOR) as usize)
}

// The two lengths are one.
const _: () = assert!(TAIL_SECTORS * SECTOR == TAIL as u64);

#[cfg(test)]
mod tests;
