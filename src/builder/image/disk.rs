//! The disk: a GPT with the ESP, the seed partition and slot A. Slot B and the data partition are
//! added behind them by the first boot.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};

use anyhow::{Context, Result, bail};
use appliance::gpt::{self, Extent, FIRST_USABLE, Guid, Partition, SECTOR, Table};
use appliance::verity::Tree as HashTree;

use crate::architecture::Architecture;
use crate::image::fat::{self, Content, Layout, Node, Volume};
use crate::quantity::Size;

/// Partitions begin at whole mebibytes.
const ALIGNMENT: u64 = 1 << 20;
/// So large that directories of an ESP never outgrow one (see [`fat`]).
const ESP_CLUSTER: u32 = 4096;
const SEED_CLUSTER: u32 = 1024;
/// Where `stele-loader` looks for systemd-boot: in `\EFI\systemd`.
const LOADER: &str = "sd.efi";
/// What systemd-boot does: starts the best entry at once. No key and no noise on a serial line
/// opens its menu or an editor, and nothing but the UKIs is offered.
const LOADER_CONF: &str = "timeout menu-disabled\neditor no\nauto-entries no\nauto-firmware no\n";
/// How an operator learns what the seed partition is for.
const SEED_README: &str = "Put the configuration of this appliance here before it starts:\r\n\
    Prose.toml, env, certs, network.toml. It is taken over at the next boot.\r\n";
/// Slot A's first UKI. The number only grows; see the upgrade's rules for names.
const FIRST_UKI: &str = "p1.efi";

/// What goes onto a disk.
#[derive(Debug, Clone, Copy)]
pub struct Parts<'a> {
    /// The appliance's name: all identifiers follow from it.
    pub name: &'a str,
    /// For the name of what firmware starts and the slots' partition type.
    pub architecture: Architecture,
    /// How large everything is.
    pub sizes: Sizes,
    /// What firmware starts: `stele-loader`.
    pub first: &'a [u8],
    /// systemd-boot, which that starts.
    pub loader: &'a [u8],
    /// The UKI of slot A.
    pub uki: &'a [u8],
    /// The root file system.
    pub root: &'a [u8],
    /// Its hash tree.
    pub hashes: &'a HashTree,
}

/// How much room the disk gives to what, in bytes.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    /// The EFI system partition.
    pub esp: u64,
    /// The seed partition.
    pub seed: u64,
    /// One slot.
    pub slot: u64,
}

/// The disk: its size in bytes and everything on it that isn't zero.
#[derive(Debug)]
pub struct Disk {
    /// Length of the image.
    pub size: u64,
    /// In no particular order.
    pub extents: Vec<Extent>,
}

impl Disk {
    /// Lays `parts` out.
    pub fn new(parts: &Parts<'_>) -> Result<Disk> {
        let table = table(parts);
        let [esp, seed, slot] = table.partitions.as_slice() else {
            bail!("internal error: a fresh disk has three partitions");
        };
        let size = table.disk_sectors * SECTOR;
        let mut extents = table.to_extents();
        extents.extend(at(esp, self::esp(parts, esp.bytes())?));
        extents.extend(at(seed, self::seed(parts, seed.bytes())?));
        extents.extend(at(slot, self::slot(parts, slot.bytes())?));
        Ok(Disk { size, extents })
    }

    /// Writes the image to a new file; what is zero stays a hole.
    pub fn write_to(&self, file: &mut File) -> io::Result<()> {
        file.set_len(self.size)?;
        for extent in &self.extents {
            write_sparse(file, extent)?;
        }
        file.sync_all()
    }
}

/// Skips blocks of zeros.
fn write_sparse(file: &mut File, extent: &Extent) -> io::Result<()> {
    const BLOCK: usize = 4096;
    let mut offset = extent.offset;
    for block in extent.bytes.chunks(BLOCK) {
        if block.iter().any(|&byte| byte != 0) {
            file.seek(SeekFrom::Start(offset))?;
            file.write_all(block)?;
        }
        offset += block.len() as u64;
    }
    Ok(())
}

fn table(parts: &Parts<'_>) -> Table {
    let wanted = [
        ("esp", Guid::ESP, parts.sizes.esp, gpt::NO_AUTO),
        ("seed", Guid::BASIC_DATA, parts.sizes.seed, 0),
        (
            "slot-a",
            parts.architecture.root_partition(),
            parts.sizes.slot,
            gpt::READ_ONLY | gpt::NO_AUTO,
        ),
    ];
    let mut next = FIRST_USABLE;
    let mut partitions = Vec::new();
    for (name, kind, size, attributes) in wanted {
        let sectors = size.next_multiple_of(ALIGNMENT) / SECTOR;
        partitions.push(Partition {
            kind,
            id: Guid::derived(&format!("{} {name}", parts.name)),
            sectors: next..=next + sectors - 1,
            attributes,
            name: name.to_owned(),
        });
        next += sectors;
    }
    // Room for the backup table, and whole mebibytes again.
    let disk_sectors = (next * SECTOR + 1).next_multiple_of(ALIGNMENT) / SECTOR;
    Table { disk: Guid::derived(&format!("{} disk", parts.name)), disk_sectors, partitions }
}

fn at(partition: &Partition, extents: Vec<Extent>) -> impl Iterator<Item = Extent> {
    let start = partition.offset();
    extents.into_iter().map(move |extent| Extent { offset: start + extent.offset, ..extent })
}

fn esp(parts: &Parts<'_>, size: u64) -> Result<Vec<Extent>> {
    let layout = Layout::new(size, ESP_CLUSTER).context("cannot make the ESP")?;
    let fixed = [parts.first.len(), parts.loader.len(), LOADER_CONF.len()].map(clusters);
    let fixed = fixed.iter().sum();
    let run = layout.room().saturating_sub(fixed) / 2 / u64::from(ESP_CLUSTER);
    let run = run * u64::from(ESP_CLUSTER);
    if parts.uki.len() as u64 > run {
        bail!(
            "cannot fit the UKI into the ESP: it has {}, and an ESP of {} has room for two of {}\n\
             hint: a larger `esp` under [image] in the recipe",
            Size(parts.uki.len() as u64),
            Size(size),
            Size(run)
        );
    }
    let fallback = parts.architecture.efi_fallback();
    let short = format!("{:<8}EFI", fallback.trim_end_matches(".EFI"));
    // The short names end in no `.EFI`: if a cut tears the long one off, the loader doesn't see an
    // entry that it would count no tries of.
    let linux = vec![
        file(FIRST_UKI, "SLOTA   OFF", parts.uki, run),
        file("SLOTB.OFF", "SLOTB   OFF", &[], run),
    ];
    let efi = vec![
        folder("BOOT", "BOOT", vec![whole(fallback, &short, parts.first)]),
        folder("systemd", "SYSTEMD", vec![whole(LOADER, "SD      EFI", parts.loader)]),
        folder("Linux", "LINUX", linux),
    ];
    let conf = whole("loader.conf", "LOADER~1CON", LOADER_CONF.as_bytes());
    let root = vec![folder("EFI", "EFI", efi), folder("loader", "LOADER", vec![conf])];
    let serial = serial(parts, "esp");
    let volume = Volume { label: "STELE-ESP", serial, size, cluster: ESP_CLUSTER, root };
    fat::format(&volume).context("cannot make the ESP")
}

fn folder<'a>(name: &'a str, short: &'a str, nodes: Vec<Node<'a>>) -> Node<'a> {
    Node { name, short, content: Content::Directory(nodes) }
}

/// A file of `length` bytes, zeros beyond `bytes`.
fn file<'a>(name: &'a str, short: &'a str, bytes: &'a [u8], length: u64) -> Node<'a> {
    Node { name, short, content: Content::File { bytes, length } }
}

/// A file of just these bytes.
fn whole<'a>(name: &'a str, short: &'a str, bytes: &'a [u8]) -> Node<'a> {
    file(name, short, bytes, bytes.len() as u64)
}

fn seed(parts: &Parts<'_>, size: u64) -> Result<Vec<Extent>> {
    let bytes = SEED_README.as_bytes();
    let root = vec![whole("README.TXT", "README  TXT", bytes)];
    let serial = serial(parts, "seed");
    let volume = Volume { label: "STELE-SEED", serial, size, cluster: SEED_CLUSTER, root };
    fat::format(&volume).context("cannot make the seed partition")
}

/// The root, then its hash tree, top block first.
fn slot(parts: &Parts<'_>, size: u64) -> Result<Vec<Extent>> {
    let needed = (parts.root.len() + parts.hashes.blocks.len()) as u64;
    if needed > size {
        bail!(
            "cannot fit the root into its slot: root and hash tree have {}, the slot {}\nhint: a \
             larger `slot` under [image] in the recipe",
            Size(needed),
            Size(size)
        );
    }
    Ok(vec![
        Extent { offset: 0, bytes: parts.root.to_vec() },
        Extent { offset: parts.root.len() as u64, bytes: parts.hashes.blocks.clone() },
    ])
}

fn serial(parts: &Parts<'_>, name: &str) -> u32 {
    (Guid::derived(&format!("{} {name} serial", parts.name)).0 >> 96) as u32
}

fn clusters(bytes: usize) -> u64 {
    (bytes as u64).next_multiple_of(ESP_CLUSTER.into())
}

#[cfg(test)]
mod tests;
