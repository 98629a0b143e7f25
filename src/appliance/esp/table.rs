//! The boot sector, and the table of clusters.

use std::ops::Range;

use super::{NotOurs, SECTOR, u16_at, u32_at};

/// Directories of smaller clusters outgrow one, and a cut between two loses files (measured).
const LEAST_CLUSTER: u32 = 4096;
const MOST_CLUSTER: u32 = 65536;
/// Bytes that are read of the table at once.
const PIECE: usize = 65536;

/// Where things lie, in sectors unless it says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Table {
    fat32: bool,
    cluster_bytes: u32,
    /// The first of the two tables.
    start: u64,
    /// FAT16: the root. FAT32: its cluster's.
    root: u64,
    /// Where cluster 2 begins.
    data: u64,
    /// The last cluster's number.
    last: u32,
}

impl Table {
    /// Reads a boot sector.
    pub fn parse(boot: &[u8]) -> Result<Table, NotOurs> {
        let wrong = NotOurs::Format;
        if boot.len() < SECTOR || boot[510..512] != [0x55, 0xaa] {
            return Err(wrong("it has no boot sector"));
        }
        let per_cluster = u32::from(boot[13]);
        let cluster_bytes = per_cluster * SECTOR as u32;
        if usize::from(u16_at(boot, 11)) != SECTOR
            || !(LEAST_CLUSTER..=MOST_CLUSTER).contains(&cluster_bytes)
            || !per_cluster.is_power_of_two()
        {
            return Err(wrong("its sectors or clusters have another size"));
        }
        let number = |short, long| match u16_at(boot, short) {
            0 => u64::from(u32_at(boot, long)),
            number => u64::from(number),
        };
        let (sectors, table_sectors) = (number(19, 32), number(22, 36));
        let start = u64::from(u16_at(boot, 14));
        let root_sectors = u64::from(u16_at(boot, 17)) * 32 / SECTOR as u64;
        let root = start + u64::from(boot[16]) * table_sectors;
        let data = root + root_sectors;
        let clusters = sectors.saturating_sub(data) / u64::from(per_cluster);
        let Ok(clusters @ 4085..0x0fff_fff5) = u32::try_from(clusters) else {
            return Err(wrong("it has too few or too many clusters"));
        };
        let fat32 = clusters > 65524;
        let entry = if fat32 { 4 } else { 2 };
        if table_sectors * (SECTOR as u64) < (u64::from(clusters) + 2) * entry {
            return Err(wrong("its table is too short"));
        }
        let table = Table { fat32, cluster_bytes, start, root, data, last: clusters + 1 };
        if fat32 {
            let root = table.place(u32_at(boot, 44))?.start / SECTOR as u64;
            return Ok(Table { root, ..table });
        }
        if root_sectors * (SECTOR as u64) < u64::from(cluster_bytes) {
            return Err(wrong("its root is too short"));
        }
        Ok(table)
    }

    /// Bytes in a cluster.
    pub fn cluster_bytes(&self) -> u32 {
        self.cluster_bytes
    }

    /// Where the root directory starts, in bytes.
    pub fn root(&self) -> u64 {
        self.root * SECTOR as u64
    }

    /// Where a cluster starts, in bytes.
    pub fn offset(&self, cluster: u32) -> u64 {
        let before = u64::from(cluster.saturating_sub(2));
        self.data * SECTOR as u64 + before * u64::from(self.cluster_bytes)
    }

    /// Where a cluster lies, in bytes, if there is such a one.
    pub fn place(&self, cluster: u32) -> Result<Range<u64>, NotOurs> {
        if !(2..=self.last).contains(&cluster) {
            return Err(NotOurs::Format("a cluster lies outside it"));
        }
        let start = self.offset(cluster);
        Ok(start..start + u64::from(self.cluster_bytes))
    }

    /// Does the chain from `first` on take exactly `bytes`, in one run of whole clusters?
    pub fn is_run(
        &self,
        first: u32,
        bytes: u32,
        read: &mut impl FnMut(u64, usize) -> Result<Vec<u8>, NotOurs>,
    ) -> Result<bool, NotOurs> {
        let count = bytes / self.cluster_bytes;
        let Some(end) = first.checked_add(count) else { return Ok(false) };
        if count == 0 || !bytes.is_multiple_of(self.cluster_bytes) || first < 2 {
            return Ok(false);
        }
        if end - 1 > self.last {
            return Ok(false);
        }
        let width = if self.fat32 { 4 } else { 2 };
        let table = self.start * SECTOR as u64;
        let mut cluster = first;
        while cluster < end {
            let at = u64::from(cluster) * width as u64;
            let piece = at / PIECE as u64 * PIECE as u64;
            let needed = (u64::from(end) * width as u64 - piece).next_multiple_of(SECTOR as u64);
            let length = needed.min(PIECE as u64) as usize;
            let entries = read(table + piece, length)?;
            for entry in entries[(at - piece) as usize..].chunks_exact(width) {
                if cluster == end {
                    break;
                }
                if !self.follows(entry, cluster, cluster + 1 == end) {
                    return Ok(false);
                }
                cluster += 1;
            }
        }
        Ok(true)
    }

    /// Does the entry of `cluster` say what it must: that the next one follows, or that nothing does?
    fn follows(&self, entry: &[u8], cluster: u32, is_last: bool) -> bool {
        let (next, end) = match self.fat32 {
            true => (u32_at(entry, 0) & 0x0fff_ffff, 0x0fff_fff8),
            false => (u32::from(u16_at(entry, 0)), 0xfff8),
        };
        if is_last { next >= end } else { next == cluster + 1 }
    }
}
