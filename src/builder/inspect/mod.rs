//! A finished image, looked into: its partitions, the UKIs in its ESP, and the roots that they pin;
//! and bundles, which hold the same. Nothing is ever written.

pub mod bundle;
pub mod part;
pub mod root;
pub mod uki;

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use appliance::boot::Appliance;
use appliance::gpt::{Guid, Partition, SECTOR, Table};
use appliance::verity::{self, BLOCK, Geometry};
use clap::ValueEnum as _;

use crate::architecture::Architecture;
use crate::inspect::part::Part;
use crate::inspect::root::Root;
use crate::inspect::uki::Uki;

/// What a table is read from: it may have moved to the second bank, sectors 34 to 65.
const TABLE_SECTORS: u64 = 66;
/// Bytes of a digest in a hash tree.
const DIGEST: usize = 32;

/// A disk image.
#[derive(Debug)]
pub struct Image {
    /// Where it is, as the user wrote it.
    pub path: PathBuf,
    /// Its partitions.
    pub table: Table,
    /// What its slots are for.
    pub architecture: Architecture,
    file: File,
}

/// Is the root there that a UKI pins?
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// The slot whose top block is the pinned one.
    pub slot: Option<String>,
    /// What is wrong; nothing, when data and hash tree are wholly what is pinned.
    pub fault: Option<String>,
}

impl Image {
    /// Opens the image at `path`.
    pub fn open(path: &Path) -> Result<Image> {
        let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
        Image::of(path, file)
    }

    /// The image in `file`, which is at `path`.
    pub fn of(path: &Path, file: File) -> Result<Image> {
        let shown = path.display();
        let context = || format!("cannot read image {shown}");
        let mut start = Vec::new();
        let length = file.metadata().with_context(context)?.len();
        let head = Part::new(file.try_clone().with_context(context)?, 0, length);
        head.take(TABLE_SECTORS * SECTOR).read_to_end(&mut start).with_context(context)?;
        let table = Table::parse(&start).with_context(context)?;
        if let Some(cut) = table.partitions.iter().find(|p| p.offset() + p.bytes() > length) {
            bail!("cannot read image {shown}: it is cut short, before the end of {}", cut.name);
        }
        let slots = table.partitions.iter().filter_map(slot_of).next();
        let architecture = slots
            .with_context(|| format!("cannot read image {shown}: it has no slot for a root"))?;
        Ok(Image { path: path.to_owned(), table, architecture, file })
    }

    /// The UKIs in its ESP, in the order in which the loader would try them.
    pub fn ukis(&self) -> Result<Vec<Uki>> {
        let context = || format!("cannot read the ESP of {}", self.path.display());
        let mut partitions = self.table.partitions.iter();
        let esp = partitions.find(|partition| partition.kind == Guid::ESP);
        let esp = esp.context("there is none").with_context(context)?;
        uki::in_esp(self.part(esp)?).with_context(context)
    }

    /// The UKI that the loader would start.
    pub fn first_uki(&self) -> Result<Uki> {
        let first = self.ukis()?.into_iter().next();
        first.with_context(|| format!("cannot boot {}: its ESP has no UKI", self.path.display()))
    }

    /// What the appliance is that the loader would start; the root is not checked.
    pub fn appliance(&self) -> Result<Appliance> {
        self.root(&self.first_uki()?.pin()?.root)?.appliance()
    }

    /// The file itself.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// The root that `pin` names, unchecked.
    pub fn root(&self, pin: &Geometry) -> Result<Root> {
        let context = || format!("cannot read the root of {}", self.path.display());
        let slot =
            self.slot(pin)?.context("no slot holds what its UKI pins").with_context(context)?;
        Root::open(self.part(slot)?).with_context(context)
    }

    /// Reads the whole root that `pin` names, and its hash tree.
    pub fn check(&self, pin: &Geometry) -> Result<Check> {
        let Some(slot) = self.slot(pin)? else {
            let fault = "no slot holds it".to_owned();
            return Ok(Check { slot: None, fault: Some(fault) });
        };
        let (data, stored) = self.data_and_tree(slot, pin)?;
        let fault = fault(pin, &data, &stored);
        Ok(Check { slot: Some(slot.name.clone()), fault })
    }

    /// The data and the hash tree of the root that `pin` names; they are wholly what is pinned.
    pub fn sound_root(&self, pin: &Geometry) -> Result<(Vec<u8>, Vec<u8>)> {
        let context = || format!("cannot trust the root of {}", self.path.display());
        let slot = self.slot(pin)?.context("no slot holds it").with_context(context)?;
        let (data, stored) = self.data_and_tree(slot, pin)?;
        match fault(pin, &data, &stored) {
            Some(fault) => Err(anyhow!(fault)).with_context(context),
            None => Ok((data, stored)),
        }
    }

    fn data_and_tree(&self, slot: &Partition, pin: &Geometry) -> Result<(Vec<u8>, Vec<u8>)> {
        let context = || format!("cannot read {} of {}", slot.name, self.path.display());
        let mut data = Vec::new();
        let part = self.part(slot)?;
        part.take(pin.slot_bytes()).read_to_end(&mut data).with_context(context)?;
        let stored = data.split_off(pin.tree_offset() as usize);
        Ok((data, stored))
    }

    /// The slot that holds the root of `pin`, by its top block alone.
    fn slot(&self, pin: &Geometry) -> Result<Option<&Partition>> {
        for slot in self.table.partitions.iter().filter(|partition| slot_of(partition).is_some()) {
            let fits = pin.data_blocks > 0
                && pin.data_blocks < slot.bytes() / BLOCK as u64
                && pin.slot_bytes() <= slot.bytes();
            if fits && pin.is_topped_by(&self.part(slot)?.block(pin.tree_offset())?) {
                return Ok(Some(slot));
            }
        }
        Ok(None)
    }

    fn part(&self, partition: &Partition) -> Result<Part> {
        let file = self.file.try_clone().context("cannot open the image once more")?;
        Ok(Part::new(file, partition.offset(), partition.bytes()))
    }
}

/// The architecture whose root the partition is for.
fn slot_of(partition: &Partition) -> Option<Architecture> {
    let known = Architecture::value_variants().iter().copied();
    known.into_iter().find(|known| known.root_partition() == partition.kind)
}

/// What is wrong with a root of this data and of this hash tree.
fn fault(pin: &Geometry, data: &[u8], stored: &[u8]) -> Option<String> {
    let computed = verity::tree(data, &pin.salt);
    if computed.root_hash == pin.root_hash {
        let same = computed.blocks == stored;
        return (!same).then(|| "its hash tree is not that of its data".to_owned());
    }
    // The leaves come last.
    let leaves = pin.data_blocks.div_ceil((BLOCK / DIGEST) as u64) as usize * BLOCK;
    let start = computed.blocks.len().saturating_sub(leaves);
    let pairs = computed.blocks[start..].chunks(DIGEST).zip(stored.get(start..)?.chunks(DIGEST));
    let wrong: Vec<usize> =
        pairs.enumerate().filter(|(_, (a, b))| a != b).map(|(number, _)| number).collect();
    Some(match wrong.first() {
        Some(first) => format!(
            "of {} blocks, {} are not what is pinned; the first is block {first}",
            pin.data_blocks,
            wrong.len()
        ),
        None => "its hash tree is damaged".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use appliance::hash::Salt;

    use super::*;

    #[test]
    fn what_is_wrong_with_a_slot_is_said() {
        let salt = Salt([3; 32]);
        let data: Vec<u8> = (0..300 * BLOCK).map(|i| (i / BLOCK + i) as u8).collect();
        let good = verity::tree(&data, &salt);
        let pin = Geometry { root_hash: good.root_hash, salt, data_blocks: 300 };
        assert_eq!(fault(&pin, &data, &good.blocks), None);
        let mut torn = good.blocks.clone();
        torn[BLOCK + 7] ^= 1;
        let expected = "its hash tree is not that of its data";
        assert_eq!(fault(&pin, &data, &torn).as_deref(), Some(expected));
        let mut bad = data;
        bad[200 * BLOCK] ^= 1;
        bad[299 * BLOCK] ^= 1;
        let expected = "of 300 blocks, 2 are not what is pinned; the first is block 200";
        assert_eq!(fault(&pin, &bad, &good.blocks).as_deref(), Some(expected));
    }
}
