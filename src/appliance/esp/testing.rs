//! A small ESP as the builder makes them: a FAT16 with `/EFI/Linux`, side A trusted, side B off.

use super::{SECTOR, entry};
use crate::upgrade::Side;

/// Bytes of a cluster.
pub const CLUSTER: usize = 4096;
/// The first cluster of side A's run; the other one is right behind.
pub const FIRST: u32 = 30;
/// The least that makes a FAT16.
const CLUSTERS: usize = 4085;
const TABLE_SECTORS: usize = 17;
const ROOT_ENTRIES: usize = 512;
/// Where the tables and the root end, in bytes.
const DATA: usize = (1 + 2 * TABLE_SECTORS) * SECTOR + ROOT_ENTRIES * entry::SIZE;
const EFI: u32 = 2;
const LINUX: u32 = 3;

/// The ESP's bytes, with `uki` in side A's run; each run is of so many clusters.
///
/// # Panics
/// When that doesn't fit.
pub fn image(uki: &[u8], clusters: u32) -> Vec<u8> {
    let length = clusters * CLUSTER as u32;
    assert!(uki.len() <= length as usize && FIRST + 2 * clusters < CLUSTERS as u32);
    let mut image = vec![0; DATA + CLUSTERS * CLUSTER];
    image[..SECTOR].copy_from_slice(&boot_sector());
    let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
    for copy in 0..2 {
        put((1 + copy * TABLE_SECTORS) * SECTOR, &table(clusters));
    }
    put(DATA - ROOT_ENTRIES * entry::SIZE, &folder(b"EFI        ", EFI));
    put(offset(EFI), &dots(EFI, 0).concat());
    put(offset(EFI) + 2 * entry::SIZE, &folder(b"LINUX      ", LINUX));
    let (a, b) = (b"SLOTA   OFF", b"SLOTB   OFF");
    let files = [
        entry::long("p1.efi", a),
        entry::file(a, FIRST, length),
        entry::file(b, FIRST + clusters, length),
    ];
    put(offset(LINUX), &dots(LINUX, EFI).concat());
    put(offset(LINUX) + 2 * entry::SIZE, &files.concat());
    put(offset(FIRST), uki);
    image
}

/// Where the directory's sector lies in [`image`].
pub fn directory() -> usize {
    offset(LINUX)
}

/// Where a side's run starts in [`image`].
pub fn run(side: Side, clusters: u32) -> usize {
    offset(if side == Side::A { FIRST } else { FIRST + clusters })
}

fn offset(cluster: u32) -> usize {
    DATA + (cluster as usize - 2) * CLUSTER
}

fn boot_sector() -> [u8; SECTOR] {
    let mut boot = [0; SECTOR];
    let sectors = ((DATA + CLUSTERS * CLUSTER) / SECTOR) as u16;
    for (at, value) in [
        (11, SECTOR as u16),
        (14, 1),
        (17, ROOT_ENTRIES as u16),
        (19, sectors),
        (22, TABLE_SECTORS as u16),
        (510, 0xaa55),
    ] {
        boot[at..at + 2].copy_from_slice(&value.to_le_bytes());
    }
    (boot[13], boot[16]) = ((CLUSTER / SECTOR) as u8, 2);
    boot
}

fn table(clusters: u32) -> Vec<u8> {
    let mut table = vec![0u16; (FIRST + 2 * clusters) as usize];
    (table[0], table[1]) = (0xfff8, 0xffff);
    (table[EFI as usize], table[LINUX as usize]) = (0xffff, 0xffff);
    for first in [FIRST, FIRST + clusters] {
        let last = first + clusters - 1;
        (first..last).for_each(|cluster| table[cluster as usize] = cluster as u16 + 1);
        table[last as usize] = 0xffff;
    }
    table.into_iter().flat_map(u16::to_le_bytes).collect()
}

fn dots(own: u32, above: u32) -> [entry::Bytes; 2] {
    [folder(b".          ", own), folder(b"..         ", above)]
}

fn folder(name: &[u8; 11], cluster: u32) -> entry::Bytes {
    let mut entry = entry::file(name, cluster, 0);
    entry[11] = 0x10;
    entry
}
