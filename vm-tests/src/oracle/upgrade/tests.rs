//! A disk made by hand, as small as a FAT16 may be, and logs of installers: one as it should be, and
//! some that a cut would not forgive.

use std::io::Write as _;

use appliance::gpt::{Guid, Partition, Table as Made};
use tempfile::NamedTempFile;

use super::*;
use crate::cuts::{Cuts, Effort};
use crate::writes::Entry as Logged;

const DISK: u64 = 10_000;
const ESP: u64 = 2048;
/// The parts of the ESP, in sectors of it; a cluster is a sector.
const FAT: u64 = 1;
const FAT_LENGTH: u64 = 16;
const ROOT: u64 = FAT + 2 * FAT_LENGTH;
const FIRST_DATA: u64 = ROOT + 32;
const ESP_LENGTH: u64 = FIRST_DATA + 4090;
/// First clusters.
const EFI: u64 = 2;
const LINUX: u64 = 3;
const RUNS: [u64; 2] = [10, 30];
const RUN: u64 = 16;
const SLOT: u64 = 40;
const PLACES: [u64; 2] = [8192, 8192 + SLOT];
const SALT: [u8; 4] = *b"salt";
const EFFORT: Effort = Effort { all_of: 6, picks: 16, tears: 16 };

fn sector_of(cluster: u64) -> u64 {
    ESP + FIRST_DATA + cluster - 2
}

/// A system by its letter: a UKI that doesn't fill its run, a root of three blocks, its tree.
struct Parts {
    uki: Vec<u8>,
    root: Vec<u8>,
    tree: Vec<u8>,
    system: System,
}

fn parts(letter: u8) -> Parts {
    let uki: Vec<u8> = (0..5000u32).map(|at| letter.wrapping_add((at / 7) as u8)).collect();
    let root: Vec<u8> = (0..3 * BLOCK).map(|at| letter ^ (at / 100) as u8).collect();
    let hash = |block: &[u8]| Digest::of(&[&SALT, block].concat());
    let mut tree: Vec<u8> = root.chunks(BLOCK).flat_map(|block| hash(block).0).collect();
    tree.resize(BLOCK, 0);
    let system = System {
        uki: (uki.len() as u64, Digest::of(&uki)),
        root_hash: hash(&tree),
        salt: SALT.to_vec(),
        blocks: 3,
    };
    Parts { uki, root, tree, system }
}

/// A short entry.
fn short(name: &str, attributes: u8, first: u64, size: u64, date: u16) -> Vec<u8> {
    let mut entry = name.as_bytes().to_vec();
    entry.push(attributes);
    entry.resize(32, 0);
    for at in [16, 18, 24] {
        entry[at..at + 2].copy_from_slice(&date.to_le_bytes());
    }
    entry[26..28].copy_from_slice(&(first as u16).to_le_bytes());
    entry[28..32].copy_from_slice(&(size as u32).to_le_bytes());
    entry
}

/// 1980-01-01.
const DATE: u16 = 0x21;

/// A run's entry, with a long name of at most 13 characters if it is listed.
fn listed(side: usize, long: Option<&str>, date: u16) -> Vec<u8> {
    let name = ["SLOTA   OFF", "SLOTB   OFF"][side];
    let entry = short(name, 0x20, RUNS[side], RUN * 512, date);
    let Some(long) = long else { return entry };
    let sum = name.bytes().fold(0u8, |sum, byte| sum.rotate_right(1).wrapping_add(byte));
    let mut units: Vec<u16> = long.encode_utf16().chain([0]).collect();
    units.resize(13, 0xffff);
    let units: Vec<u8> = units.into_iter().flat_map(u16::to_le_bytes).collect();
    let piece = [&[0x41][..], &units[..10], &[0x0f, 0, sum], &units[10..22], &[0, 0], &units[22..]];
    [piece.concat(), entry].concat()
}

/// The sector of \EFI\Linux with these entries.
fn folder(entries: &[Vec<u8>]) -> Vec<u8> {
    let dot = short(".          ", 0x10, LINUX, 0, DATE);
    let dots = short("..         ", 0x10, EFI, 0, DATE);
    let mut sector = [&[dot, dots], entries].concat().concat();
    sector.resize(SECTOR, 0);
    sector
}

fn boot_sector() -> Vec<u8> {
    let mut boot = vec![0; SECTOR];
    let mut put = |at: usize, bytes: &[u8]| boot[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &[0xeb, 0x3c, 0x90]);
    put(3, b"STELE   ");
    put(11, &[0, 2, 1, FAT as u8, 0, 2, 0, 2]);
    put(19, &(ESP_LENGTH as u16).to_le_bytes());
    put(21, &[0xf8, FAT_LENGTH as u8, 0, 32, 0, 2, 0]);
    put(36, &[0x80, 0, 0x29, 1, 2, 3, 4]);
    put(43, b"NO NAME    FAT16   ");
    put(510, &[0x55, 0xaa]);
    boot
}

fn fat() -> Vec<u8> {
    let mut table = vec![0u16; FAT_LENGTH as usize * SECTOR / 2];
    table[..4].copy_from_slice(&[0xfff8, 0xffff, 0xffff, 0xffff]);
    for run in RUNS {
        for cluster in run..run + RUN {
            table[cluster as usize] = cluster as u16 + 1;
        }
        table[(run + RUN - 1) as usize] = 0xffff;
    }
    table.into_iter().flat_map(u16::to_le_bytes).collect()
}

/// The disk with the old system, blessed, in slot A.
fn disk(old: &Parts) -> NamedTempFile {
    let partition = |name: &str, first, length| Partition {
        kind: Guid::ESP,
        id: Guid::derived(name),
        sectors: first..=first + length - 1,
        attributes: 0,
        name: name.into(),
    };
    let partitions = vec![
        partition("esp", ESP, ESP_LENGTH),
        partition("slot-a", PLACES[0], SLOT),
        partition("slot-b", PLACES[1], SLOT),
    ];
    let table = Made { disk: Guid::derived("disk"), disk_sectors: DISK, partitions };
    let mut disk = vec![0; DISK as usize * SECTOR];
    let mut put = |sector: u64, bytes: &[u8]| {
        disk[sector as usize * SECTOR..][..bytes.len()].copy_from_slice(bytes);
    };
    table.to_extents().iter().for_each(|extent| put(extent.offset / 512, &extent.bytes));
    put(ESP, &boot_sector());
    put(ESP + FAT, &fat());
    put(ESP + FAT + FAT_LENGTH, &fat());
    put(ESP + ROOT, &short("EFI        ", 0x10, EFI, 0, DATE));
    let dot = short(".          ", 0x10, EFI, 0, DATE);
    let dots = short("..         ", 0x10, 0, 0, DATE);
    put(sector_of(EFI), &[dot, dots, short("LINUX      ", 0x10, LINUX, 0, DATE)].concat());
    put(sector_of(LINUX), &before());
    put(sector_of(RUNS[0]), &old.uki);
    put(PLACES[0], &[&old.root[..], &old.tree].concat());
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(&disk).unwrap();
    file
}

fn before() -> Vec<u8> {
    folder(&[listed(0, Some("p1.efi"), DATE), listed(1, None, DATE)])
}

fn write(sector: u64, bytes: &[u8]) -> Logged {
    let mut bytes = bytes.to_vec();
    bytes.resize(bytes.len().div_ceil(SECTOR) * SECTOR, 0);
    Logged::Write { sector, bytes, lasts: false }
}

/// The folder with the new system under this name.
fn with_new(name: &str) -> Logged {
    let entries = [listed(0, Some("p1.efi"), DATE), listed(1, Some(name), DATE)];
    write(sector_of(LINUX), &folder(&entries))
}

/// An upgrade as it should be, up to and with the commit: entry 14 arms, 13 flushes before it.
fn installed(new: &Parts) -> Vec<Logged> {
    let root = |block: usize| {
        write(PLACES[1] + block as u64 * 8, &new.root[block * BLOCK..(block + 1) * BLOCK])
    };
    let top = PLACES[1] + 3 * 8;
    vec![
        write(sector_of(LINUX), &before()),
        Logged::Flush,
        write(top, &[0; BLOCK]),
        Logged::Flush,
        write(sector_of(RUNS[1]), &new.uki[..2048]),
        write(sector_of(RUNS[1]) + 4, &new.uki[2048..]),
        root(0),
        root(1),
        root(2),
        Logged::Flush,
        write(top, &new.tree),
        Logged::Flush,
        Logged::Mark,
        Logged::Flush,
        with_new("p2+3-0.efi"),
        Logged::Flush,
    ]
}

const FLUSH: usize = 13;
const ARM: usize = 14;

/// How many states of a log boot what, or what is wrong with the first that is broken.
fn judged(log: &[Logged], until: Until) -> Result<BTreeMap<Boots, usize>> {
    let (old, new) = (parts(b'A'), parts(b'N'));
    let base = disk(&old);
    let start = crate::cuts::after(base.path(), &[])?;
    let mut upgrade = Upgrade::new(DISK, &start, old.system, new.system, until)?;
    let mut counts = BTreeMap::new();
    for state in Cuts::of(base.path(), log, EFFORT)? {
        let boots = upgrade.judge(&state).with_context(|| state.to_string())?;
        *counts.entry(boots).or_default() += 1;
    }
    Ok(counts)
}

#[test]
fn every_cut_of_an_upgrade_boots_the_old_or_the_new() {
    let new = parts(b'N');
    let mut log = installed(&new);
    let counts = judged(&log, Until::Armed).unwrap();
    assert!(counts[&Boots::Old] >= 90, "{counts:?}");
    assert_eq!(counts.keys().copied().collect::<Vec<_>>(), [Boots::Old, Boots::Trial]);
    // Firmware counts, then the new system is blessed.
    for name in ["p2+2-1.efi", "p2+1-2.efi", "p2.efi"] {
        log.extend([with_new(name), Logged::Flush]);
    }
    let counts = judged(&log, Until::Blessed).unwrap();
    assert_eq!(counts.len(), 3, "{counts:?}");
    // All tries are used up: the old one again.
    log.truncate(16);
    log.extend([with_new("p2+0-3.efi"), Logged::Flush]);
    assert!(judged(&log, Until::Armed).unwrap()[&Boots::Old] > 90);
}

#[test]
fn an_installer_that_a_cut_would_not_forgive_is_caught() {
    let new = parts(b'N');
    let good = installed(&new);
    type Change<'a> = &'a dyn Fn(&mut Vec<Logged>);
    let entries = |first: Option<&str>, second: Option<&str>| {
        write(sector_of(LINUX), &folder(&[listed(0, first, DATE), listed(1, second, DATE)]))
    };
    let undated = folder(&[listed(0, Some("p1.efi"), DATE), listed(1, Some("p2+3-0.efi"), 0)]);
    let faults: [(&str, Change); 10] = [
        ("the new system's root: its hash tree isn't that of its data", &|log| {
            // The two last flushes of all before the commit come after it.
            log.drain(11..=FLUSH);
        }),
        ("which is neither of the two", &|log| {
            let arm = log.remove(ARM);
            log.insert(4, arm);
        }),
        ("the old system isn't listed", &|log| {
            // A rename as it comes first to mind: the old name goes, the new one comes.
            log.splice(ARM.., [entries(None, None), entries(Some("p1.efi"), Some("p2+3-0.efi"))]);
        }),
        ("and its tries aren't counted", &|log| log[ARM] = with_new("p2.efi")),
        ("has no valid dates", &|log| log[ARM] = write(sector_of(LINUX), &undated)),
        ("the old system isn't listed, or its UKI isn't whole", &|log| {
            log[5] = write(sector_of(RUNS[0]), &new.uki[2048..]);
        }),
        ("the old system's root: it isn't what is pinned", &|log| {
            log[8] = write(PLACES[0] + 8, &new.root[..BLOCK]);
        }),
        ("the old system's root: its hash tree isn't that of its data", &|log| {
            log.push(write(PLACES[0] + 3 * 8 + 7, &[1; SECTOR]));
        }),
        ("fsck.fat says: ", &|log| {
            // A chain that nobody has any more.
            let alone = folder(&[listed(0, Some("p1.efi"), DATE)]);
            log[0] = write(sector_of(LINUX), &alone);
        }),
        ("its two FATs differ", &|log| {
            let mut table = fat();
            table[200] = 7;
            log.push(write(ESP + FAT, &table));
        }),
    ];
    for (expected, change) in faults {
        let mut log = good.clone();
        change(&mut log);
        let said = format!("{:#}", judged(&log, Until::Armed).expect_err(expected));
        assert!(said.contains(expected), "{expected}: {said}");
    }
}

#[test]
fn what_the_partition_table_or_another_file_loses_is_told() {
    for (write, expected) in [
        (write(1, &[0; SECTOR]), "the table at sector 1 has no header"),
        (write(DISK - 1, &[0; SECTOR]), "the table at sector 9999 has no header"),
        (write(ESP, &[0; SECTOR]), "the ESP: its boot sector isn't signed"),
        (write(ESP + ROOT, &[0; SECTOR]), "the ESP: it has no folder EFI"),
        (
            write(
                ESP + ROOT,
                &[short("EFI        ", 0x10, EFI, 0, DATE), short("NEW     TXT", 0x20, 0, 0, DATE)]
                    .concat(),
            ),
            "files beside the systems have changed",
        ),
    ] {
        let said = format!("{:#}", judged(&[write, Logged::Flush], Until::Armed).unwrap_err());
        assert!(said.contains(expected), "{expected}: {said}");
    }
}
