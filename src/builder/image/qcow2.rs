//! QEMU's own format, version 3: what is zero takes no room. The same disk gives the same bytes.
//!
//! Format: `docs/interop/qcow2.rst` of QEMU. All numbers are big-endian; a cluster has 64 KiB.
//!
//! ```text
//! header │ refcount table │ refcount blocks │ L1 table │ L2 tables │ data …
//! ```
//! An L2 table covers 512 MiB of the disk, and is there if anything of that isn't zero. Each cluster
//! is used once.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

/// Bytes in a cluster.
const CLUSTER: u64 = 1 << CLUSTER_BITS;
const CLUSTER_BITS: u32 = 16;
/// Clusters that an L2 table, or a cluster of any table, names.
const NAMED: u64 = CLUSTER / 8;
/// Clusters that a block of refcounts counts, in 16 bits each.
const COUNTED: u64 = CLUSTER / 2;
/// Of an entry of L1 and L2: what it names is used once.
const ONCE: u64 = 1 << 63;

/// How a disk's clusters are laid out.
#[derive(Debug, PartialEq, Eq)]
struct Layout {
    refcount_table: u64,
    refcount_blocks: u64,
    l1: u64,
    l2: u64,
    data: u64,
}

impl Layout {
    /// Of a disk of `bytes`, of whose clusters so many aren't zero, which so many L2 tables name.
    fn new(bytes: u64, l2: u64, data: u64) -> Layout {
        let l1 = bytes.div_ceil(CLUSTER * NAMED).div_ceil(NAMED).max(1);
        let mut layout = Layout { refcount_table: 1, refcount_blocks: 1, l1, l2, data };
        // What counts the clusters is counted, too: until that fits.
        while layout.refcount_blocks * COUNTED < layout.clusters()
            || layout.refcount_table * NAMED < layout.refcount_blocks
        {
            layout.refcount_blocks = layout.clusters().div_ceil(COUNTED);
            layout.refcount_table = layout.refcount_blocks.div_ceil(NAMED);
        }
        layout
    }

    /// All that the file has.
    fn clusters(&self) -> u64 {
        self.first_data() + self.data
    }

    fn first_refcount_block(&self) -> u64 {
        1 + self.refcount_table
    }

    fn first_l1(&self) -> u64 {
        self.first_refcount_block() + self.refcount_blocks
    }

    fn first_l2(&self) -> u64 {
        self.first_l1() + self.l1
    }

    fn first_data(&self) -> u64 {
        self.first_l2() + self.l2
    }
}

/// Writes the disk `from`, of so many bytes, to the empty file `to`.
pub fn write(from: &File, bytes: u64, to: &File) -> io::Result<()> {
    let used = used(from, bytes)?;
    let mut tables: Vec<u64> = used.iter().map(|cluster| cluster / NAMED).collect();
    tables.dedup();
    let layout = Layout::new(bytes, tables.len() as u64, used.len() as u64);
    to.set_len(layout.clusters() * CLUSTER)?;
    to.write_all_at(&header(&layout, bytes), 0)?;
    let blocks = (0..layout.refcount_blocks).map(|block| layout.first_refcount_block() + block);
    numbers(to, CLUSTER, blocks.map(|block| block * CLUSTER))?;
    let counts = vec![[0, 1]; layout.clusters() as usize].concat();
    to.write_all_at(&counts, layout.first_refcount_block() * CLUSTER)?;

    let (l1, l2) = (layout.first_l1() * CLUSTER, layout.first_l2() * CLUSTER);
    for (position, table) in tables.iter().enumerate() {
        let at = l2 + position as u64 * CLUSTER;
        numbers(to, l1 + table * 8, [at | ONCE])?;
    }
    let mut cluster = vec![0; CLUSTER as usize];
    for (position, number) in used.iter().enumerate() {
        let at = (layout.first_data() + position as u64) * CLUSTER;
        let table = tables.partition_point(|table| *table < number / NAMED) as u64;
        numbers(to, l2 + table * CLUSTER + number % NAMED * 8, [at | ONCE])?;
        let length = CLUSTER.min(bytes - number * CLUSTER) as usize;
        from.read_exact_at(&mut cluster[..length], number * CLUSTER)?;
        to.write_all_at(&cluster[..length], at)?;
    }
    to.sync_all()
}

/// The clusters of a disk that aren't zero, in their order.
fn used(disk: &File, bytes: u64) -> io::Result<Vec<u64>> {
    let mut used = vec![];
    let mut cluster = vec![0; CLUSTER as usize];
    for start in (0..bytes).step_by(CLUSTER as usize) {
        let length = CLUSTER.min(bytes - start) as usize;
        disk.read_exact_at(&mut cluster[..length], start)?;
        if cluster[..length].iter().any(|&byte| byte != 0) {
            used.push(start / CLUSTER);
        }
    }
    Ok(used)
}

fn header(layout: &Layout, bytes: u64) -> Vec<u8> {
    /// Bytes of a version-3 header; zeros behind it end its extensions, of which there are none.
    const LENGTH: u32 = 104;
    /// 16 bits, as a power of two.
    const REFCOUNT_ORDER: u32 = 4;
    let l1_entries = bytes.div_ceil(CLUSTER * NAMED) as u32;
    let mut header = b"QFI\xfb".to_vec();
    header.extend(3u32.to_be_bytes());
    header.extend([0; 12]); // no backing file
    header.extend(CLUSTER_BITS.to_be_bytes());
    header.extend(bytes.to_be_bytes());
    header.extend(0u32.to_be_bytes()); // not encrypted
    header.extend(l1_entries.to_be_bytes());
    header.extend((layout.first_l1() * CLUSTER).to_be_bytes());
    header.extend(CLUSTER.to_be_bytes()); // the refcount table
    header.extend((layout.refcount_table as u32).to_be_bytes());
    header.extend([0; 12]); // no snapshots
    header.extend([0; 24]); // no features: incompatible, compatible, auto-clear
    header.extend(REFCOUNT_ORDER.to_be_bytes());
    header.extend(LENGTH.to_be_bytes());
    header
}

fn numbers(file: &File, at: u64, numbers: impl IntoIterator<Item = u64>) -> io::Result<()> {
    let bytes: Vec<u8> = numbers.into_iter().flat_map(u64::to_be_bytes).collect();
    file.write_all_at(&bytes, at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clusters_are_counted_with_what_counts_them() {
        let layout = |bytes, l2, data| Layout::new(bytes, l2, data);
        let small = layout(10 * CLUSTER, 1, 3);
        assert_eq!((small.refcount_table, small.refcount_blocks, small.l1), (1, 1, 1));
        assert_eq!((small.first_l1(), small.first_data(), small.clusters()), (3, 5, 8));
        for data in [COUNTED - 6, COUNTED - 5, COUNTED - 4, 5 * COUNTED, COUNTED * NAMED] {
            let layout = layout(CLUSTER << 34, 1, data);
            assert!(layout.refcount_blocks * COUNTED >= layout.clusters(), "{layout:?}");
            assert!(layout.refcount_table * NAMED >= layout.refcount_blocks, "{layout:?}");
            assert!((layout.refcount_blocks - 2) * COUNTED < layout.clusters(), "{layout:?}");
        }
    }

    #[test]
    fn a_disk_is_found_again_through_its_tables() {
        let disk = tempfile::tempfile().unwrap();
        let bytes = CLUSTER * NAMED + 3 * CLUSTER + 512;
        disk.set_len(bytes).unwrap();
        let places = [0, 5 * CLUSTER + 7, CLUSTER * NAMED + CLUSTER, bytes - 1];
        for place in places {
            disk.write_all_at(b"x", place).unwrap();
        }
        let file = tempfile::tempfile().unwrap();
        write(&disk, bytes, &file).unwrap();
        let number = |at: u64, bytes: usize| {
            let mut number = [0; 8];
            file.read_exact_at(&mut number[8 - bytes..], at).unwrap();
            u64::from_be_bytes(number)
        };
        assert_eq!((number(0, 4), number(4, 4), number(24, 8)), (0x5146_49fb, 3, bytes));
        let (l1, entries) = (number(40, 8), number(36, 4));
        assert_eq!(entries, 2);
        for place in places {
            let (cluster, within) = (place / CLUSTER, place % CLUSTER);
            let l2 = number(l1 + cluster / NAMED * 8, 8) & !ONCE;
            let at = number(l2 + cluster % NAMED * 8, 8) & !ONCE;
            assert_eq!(number(at + within, 1), u64::from(b'x'), "{place}");
        }
        let length = file.metadata().unwrap().len();
        assert_eq!(length, (1 + 1 + 1 + 1 + 2 + 4) * CLUSTER);
        let counts = number(number(48, 8), 8);
        for cluster in 0..COUNTED {
            let is_used = u64::from(cluster < length / CLUSTER);
            assert_eq!(number(counts + cluster * 2, 2), is_used, "{cluster}");
        }
    }
}
