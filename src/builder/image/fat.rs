//! FAT16 and FAT32 volumes, laid out for an ESP that survives a power cut at any write
//! (Microsoft's FAT specification 1.03; what EDK2's driver does with it was measured).
//!
//! Every directory is one cluster, in the first clusters; files come after [`FIRST_FILE`], each in
//! one run. So the pages in which firmware rewrites a directory hold nothing but directories, and
//! whoever knows a file's place may write it without touching the table.

use anyhow::{Result, bail};
use appliance::gpt::{Extent, SECTOR};

/// The first cluster of the first file: firmware writes directories in pages of 64 KiB, and none
/// of those may hold a part of a file.
const FIRST_FILE: u32 = 30;
/// Bytes in a directory entry.
const ENTRY: usize = 32;
/// 1980-01-01: a date of zero makes EDK2 refuse to rename the file, and boot counting with it.
const DATE: u16 = 0x0021;
const FAT_COPIES: u32 = 2;
/// Entries of a FAT16 root directory.
const ROOT_ENTRIES: u32 = 512;
/// Fewer clusters make a FAT12, more a FAT32.
const FAT16_CLUSTERS: std::ops::RangeInclusive<u32> = 4085..=65524;

/// A volume to be made.
#[derive(Debug)]
pub struct Volume<'a> {
    /// At most 11 capital letters.
    pub label: &'a str,
    /// What tells it from others.
    pub serial: u32,
    /// Its length in bytes.
    pub size: u64,
    /// Bytes in a cluster.
    pub cluster: u32,
    /// What is in its root directory.
    pub root: Vec<Node<'a>>,
}

/// A file or directory.
#[derive(Debug)]
pub struct Node<'a> {
    /// Its name, at most 13 characters: one long-name entry.
    pub name: &'a str,
    /// Its short name, 11 characters; where it says the same as `name`, there is no long one.
    pub short: &'a str,
    /// What it is.
    pub content: Content<'a>,
}

/// What a [`Node`] holds.
#[derive(Debug)]
pub enum Content<'a> {
    /// A directory.
    Directory(Vec<Node<'a>>),
    /// A file of `length` bytes in one run; beyond `bytes` it is zeros.
    File {
        /// What is known of it.
        bytes: &'a [u8],
        /// Its length, and that of its run.
        length: u64,
    },
}

/// The sizes and places that follow from a volume's size.
#[derive(Debug, Clone, Copy)]
pub struct Layout {
    fat32: bool,
    cluster: u32,
    reserved: u32,
    fat_sectors: u32,
    root_sectors: u32,
    clusters: u32,
}

impl Layout {
    /// The layout of a volume of `size` bytes.
    pub fn new(size: u64, cluster: u32) -> Result<Layout> {
        let per_cluster = cluster / SECTOR as u32;
        let Ok(sectors) = u32::try_from(size / SECTOR) else { bail!("it is larger than 2 TiB") };
        let fat32 = sectors / per_cluster > *FAT16_CLUSTERS.end();
        let (reserved, entry, root_sectors) = match fat32 {
            true => (32, 4, 0),
            false => (1, 2, ROOT_ENTRIES * ENTRY as u32 / SECTOR as u32),
        };
        let Some(rest) = sectors.checked_sub(reserved + root_sectors) else {
            bail!("it is too small for a FAT");
        };
        // A little too large, never too small: what is left over is not used.
        let fat_sectors = ((rest / per_cluster + 2) * entry).div_ceil(SECTOR as u32);
        let data = rest.saturating_sub(FAT_COPIES * fat_sectors);
        let clusters = data / per_cluster;
        if !fat32 && !FAT16_CLUSTERS.contains(&clusters) || fat32 && clusters < 65525 {
            bail!("{clusters} clusters of {cluster} bytes are neither a FAT16 nor a FAT32");
        }
        Ok(Layout { fat32, cluster, reserved, fat_sectors, root_sectors, clusters })
    }

    /// Bytes that files may take, in whole clusters.
    pub fn room(&self) -> u64 {
        u64::from(self.clusters + 2 - FIRST_FILE) * u64::from(self.cluster)
    }

    fn data_start(&self) -> u64 {
        let sectors = self.reserved + FAT_COPIES * self.fat_sectors + self.root_sectors;
        u64::from(sectors) * SECTOR
    }

    fn cluster_offset(&self, cluster: u32) -> u64 {
        self.data_start() + u64::from(cluster - 2) * u64::from(self.cluster)
    }

    fn root_offset(&self) -> u64 {
        match self.fat32 {
            true => self.cluster_offset(2),
            false => self.data_start() - u64::from(self.root_sectors) * SECTOR,
        }
    }
}

/// The bytes of `volume`, from its start; what isn't named is zero.
pub fn format(volume: &Volume<'_>) -> Result<Vec<Extent>> {
    let layout = Layout::new(volume.size, volume.cluster)?;
    let mut writer = Writer {
        layout,
        table: vec![0x0fff_fff8, 0x0fff_ffff],
        next_directory: 2,
        next_file: FIRST_FILE,
        extents: Vec::new(),
    };
    writer.write_root(volume)?;
    let mut extents = boot_sectors(volume, &layout, writer.free_clusters());
    let table = writer.table_bytes();
    for copy in 0..FAT_COPIES {
        let sector = layout.reserved + copy * layout.fat_sectors;
        extents.push(Extent { offset: u64::from(sector) * SECTOR, bytes: table.clone() });
    }
    extents.append(&mut writer.extents);
    Ok(extents)
}

struct Writer {
    layout: Layout,
    /// What follows each cluster.
    table: Vec<u32>,
    next_directory: u32,
    next_file: u32,
    extents: Vec<Extent>,
}

const END_OF_CHAIN: u32 = 0x0fff_ffff;

impl Writer {
    fn write_root(&mut self, volume: &Volume<'_>) -> Result<()> {
        let own = if self.layout.fat32 { self.take_directory()? } else { 0 };
        let mut bytes = short_entry(&padded(volume.label), 0x08, 0, 0).to_vec();
        self.append_nodes(&mut bytes, &volume.root, own)?;
        self.extents.push(Extent { offset: self.layout.root_offset(), bytes });
        Ok(())
    }

    /// Adds the entries of `nodes`, and whatever they hold.
    fn append_nodes(&mut self, bytes: &mut Vec<u8>, nodes: &[Node<'_>], parent: u32) -> Result<()> {
        for node in nodes {
            let (attribute, cluster, length) = match &node.content {
                Content::File { bytes, length } => {
                    (0x20, self.write_file(bytes, *length)?, *length)
                }
                Content::Directory(children) => (0x10, self.write_directory(children, parent)?, 0),
            };
            let short = padded(node.short);
            if let Some(long) = long_entry(node.name, &short)? {
                bytes.extend(long);
            }
            let Ok(length) = u32::try_from(length) else { bail!("{} is too long", node.name) };
            bytes.extend(short_entry(&short, attribute, cluster, length));
        }
        if bytes.len() > self.layout.cluster as usize {
            bail!("a directory grows beyond one cluster");
        }
        Ok(())
    }

    fn write_directory(&mut self, children: &[Node<'_>], parent: u32) -> Result<u32> {
        let own = self.take_directory()?;
        // The root is cluster 0 to its children, even where it has a cluster of its own.
        let above = if self.layout.fat32 && parent == 2 { 0 } else { parent };
        let mut bytes = short_entry(&padded("."), 0x10, own, 0).to_vec();
        bytes.extend(short_entry(&padded(".."), 0x10, above, 0));
        self.append_nodes(&mut bytes, children, own)?;
        self.extents.push(Extent { offset: self.layout.cluster_offset(own), bytes });
        Ok(own)
    }

    fn take_directory(&mut self) -> Result<u32> {
        let own = self.next_directory;
        if own >= FIRST_FILE {
            bail!("there are more directories than fit before the first file");
        }
        self.next_directory += 1;
        self.set(own, END_OF_CHAIN);
        Ok(own)
    }

    fn write_file(&mut self, bytes: &[u8], length: u64) -> Result<u32> {
        let clusters = length.max(bytes.len() as u64).div_ceil(self.layout.cluster.into());
        let first = self.next_file;
        let last_cluster = u64::from(self.layout.clusters) + 1;
        if u64::from(first) + clusters > last_cluster + 1 {
            bail!("its files need more room than it has");
        }
        if clusters == 0 {
            return Ok(0);
        }
        self.next_file += clusters as u32;
        for cluster in first..self.next_file - 1 {
            self.set(cluster, cluster + 1);
        }
        self.set(self.next_file - 1, END_OF_CHAIN);
        let offset = self.layout.cluster_offset(first);
        self.extents.push(Extent { offset, bytes: bytes.to_vec() });
        Ok(first)
    }

    fn set(&mut self, cluster: u32, next: u32) {
        if self.table.len() <= cluster as usize {
            self.table.resize(cluster as usize + 1, 0);
        }
        self.table[cluster as usize] = next;
    }

    fn free_clusters(&self) -> u32 {
        let used = self.table.iter().skip(2).filter(|&&next| next != 0).count() as u32;
        self.layout.clusters - used
    }

    fn table_bytes(&self) -> Vec<u8> {
        match self.layout.fat32 {
            true => self.table.iter().flat_map(|next| next.to_le_bytes()).collect(),
            false => self.table.iter().flat_map(|next| (*next as u16).to_le_bytes()).collect(),
        }
    }
}

/// The boot sector, and for FAT32 its copy and the two sectors that count free clusters.
fn boot_sectors(volume: &Volume<'_>, layout: &Layout, free: u32) -> Vec<Extent> {
    let mut boot = vec![0; SECTOR as usize];
    boot[..11].copy_from_slice(b"\xeb\x3c\x90STELE   ");
    boot[11..13].copy_from_slice(&(SECTOR as u16).to_le_bytes());
    boot[13] = (layout.cluster / SECTOR as u32) as u8;
    boot[14..16].copy_from_slice(&(layout.reserved as u16).to_le_bytes());
    boot[16] = FAT_COPIES as u8;
    boot[21] = 0xf8;
    boot[24..26].copy_from_slice(&32u16.to_le_bytes()); // sectors a track, for old firmware
    boot[26..28].copy_from_slice(&2u16.to_le_bytes()); // heads
    let sectors = (volume.size / SECTOR) as u32;
    match u16::try_from(sectors) {
        Ok(sectors) if !layout.fat32 => boot[19..21].copy_from_slice(&sectors.to_le_bytes()),
        _ => boot[32..36].copy_from_slice(&sectors.to_le_bytes()),
    }
    let extended = match layout.fat32 {
        true => {
            boot[36..40].copy_from_slice(&layout.fat_sectors.to_le_bytes());
            boot[44..48].copy_from_slice(&2u32.to_le_bytes()); // the root's cluster
            boot[48..50].copy_from_slice(&1u16.to_le_bytes()); // where free clusters are counted
            boot[50..52].copy_from_slice(&6u16.to_le_bytes()); // where the copy is
            64
        }
        false => {
            boot[17..19].copy_from_slice(&(ROOT_ENTRIES as u16).to_le_bytes());
            boot[22..24].copy_from_slice(&(layout.fat_sectors as u16).to_le_bytes());
            36
        }
    };
    boot[extended] = 0x80;
    boot[extended + 2] = 0x29;
    boot[extended + 3..extended + 7].copy_from_slice(&volume.serial.to_le_bytes());
    boot[extended + 7..extended + 18].copy_from_slice(&padded(volume.label));
    let kind = if layout.fat32 { b"FAT32   " } else { b"FAT16   " };
    boot[extended + 18..extended + 26].copy_from_slice(kind);
    boot[510..].copy_from_slice(&[0x55, 0xaa]);
    if !layout.fat32 {
        return vec![Extent { offset: 0, bytes: boot }];
    }
    let mut count = vec![0; SECTOR as usize];
    count[..4].copy_from_slice(b"RRaA");
    count[484..488].copy_from_slice(b"rrAa");
    count[488..492].copy_from_slice(&free.to_le_bytes());
    count[492..496].copy_from_slice(&2u32.to_le_bytes());
    count[508..].copy_from_slice(&[0, 0, 0x55, 0xaa]);
    boot.extend(count);
    let copy = Extent { offset: 6 * SECTOR, bytes: boot.clone() };
    vec![Extent { offset: 0, bytes: boot }, copy]
}

fn short_entry(name: &[u8; 11], attribute: u8, cluster: u32, length: u32) -> [u8; ENTRY] {
    let mut entry = [0; ENTRY];
    entry[..11].copy_from_slice(name);
    entry[11] = attribute;
    for date in [16, 18, 24] {
        entry[date..date + 2].copy_from_slice(&DATE.to_le_bytes());
    }
    entry[20..22].copy_from_slice(&((cluster >> 16) as u16).to_le_bytes());
    entry[26..28].copy_from_slice(&(cluster as u16).to_le_bytes());
    entry[28..].copy_from_slice(&length.to_le_bytes());
    entry
}

/// The entry before the short one that holds the long name, unless the short one says it all.
fn long_entry(name: &str, short: &[u8; 11]) -> Result<Option<[u8; ENTRY]>> {
    if displayed(short) == name {
        return Ok(None);
    }
    let mut units: Vec<u16> = name.encode_utf16().collect();
    if units.len() > 13 {
        bail!("{name} is longer than 13 characters");
    }
    if units.len() < 13 {
        units.push(0);
    }
    units.resize(13, 0xffff);
    let mut entry = [0; ENTRY];
    entry[0] = 0x41;
    entry[11] = 0x0f;
    entry[13] = short.iter().fold(0, |sum: u8, &byte| sum.rotate_right(1).wrapping_add(byte));
    let places = (1..11).step_by(2).chain((14..26).step_by(2)).chain((28..32).step_by(2));
    for (place, unit) in places.zip(units) {
        entry[place..place + 2].copy_from_slice(&unit.to_le_bytes());
    }
    Ok(Some(entry))
}

/// `SLOTA   OFF` → `SLOTA.OFF`
fn displayed(short: &[u8; 11]) -> String {
    let text = String::from_utf8_lossy(short);
    let (stem, extension) = text.split_at(8);
    match (stem.trim_end(), extension.trim_end()) {
        (stem, "") => stem.to_owned(),
        (stem, extension) => format!("{stem}.{extension}"),
    }
}

fn padded(name: &str) -> [u8; 11] {
    let mut bytes = [b' '; 11];
    for (place, byte) in bytes.iter_mut().zip(name.bytes()) {
        *place = byte;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Read};

    use super::*;

    fn image(size: u64, cluster: u32, root: Vec<Node<'_>>) -> Vec<u8> {
        let volume = Volume { label: "LABEL", serial: 7, size, cluster, root };
        let mut bytes = vec![0; size as usize];
        for extent in format(&volume).unwrap() {
            bytes[extent.offset as usize..][..extent.bytes.len()].copy_from_slice(&extent.bytes);
        }
        bytes
    }

    fn tree(content: &[u8]) -> Vec<Node<'_>> {
        let file = Content::File { bytes: content, length: 100_000 };
        let inner = Node { name: "p1+3-0.efi", short: "SLOTA   OFF", content: file };
        let empty = Content::File { bytes: &[], length: 8192 };
        let off = Node { name: "SLOTB.OFF", short: "SLOTB   OFF", content: empty };
        let linux = Content::Directory(vec![inner, off]);
        vec![Node { name: "Linux", short: "LINUX", content: linux }]
    }

    #[test]
    fn another_reader_finds_what_was_written() {
        for (size, cluster) in [(48 << 20, 4096), (300 << 20, 4096), (8 << 20, 1024)] {
            let content: Vec<u8> = (0..99_999u32).map(|i| i as u8).collect();
            let bytes = image(size, cluster, tree(&content));
            let fs = fatfs::FileSystem::new(Cursor::new(bytes), fatfs::FsOptions::new()).unwrap();
            assert_eq!(fs.volume_label(), "LABEL");
            let mut read = Vec::new();
            let mut file = fs.root_dir().open_file("Linux/p1+3-0.efi").unwrap();
            file.read_to_end(&mut read).unwrap();
            assert_eq!(read.len(), 100_000);
            assert_eq!(&read[..99_999], content);
            let linux = fs.root_dir().open_dir("Linux").unwrap();
            let names: Vec<String> = linux.iter().map(|e| e.unwrap().file_name()).collect();
            assert_eq!(names, [".", "..", "p1+3-0.efi", "SLOTB.OFF"]);
        }
    }

    #[test]
    fn a_loader_never_shares_a_page_with_a_directory() {
        let layout = Layout::new(48 << 20, 4096).unwrap();
        let page_end = layout.root_offset() + (64 << 10);
        assert!(layout.cluster_offset(FIRST_FILE) >= page_end);
        let layout = Layout::new(300 << 20, 4096).unwrap();
        assert!(layout.cluster_offset(FIRST_FILE) >= layout.root_offset() + (64 << 10));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        assert!(Layout::new(1 << 20, 4096).is_err());
        let content = Content::File { bytes: &[], length: 47 << 20 };
        let big = |content| vec![Node { name: "BIG", short: "BIG", content }];
        let volume = |root| Volume { label: "L", serial: 0, size: 40 << 20, cluster: 4096, root };
        assert!(format(&volume(big(content))).is_err());
    }
}
