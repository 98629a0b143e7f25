//! The disk that the running root is on: its two ends, and what the kernel knows of its partitions.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use appliance::gpt::completion::{HEAD_SECTORS, SLOT_B, TAIL_SECTORS};
use appliance::gpt::{Extent, Partition, SECTOR, Table};

use crate::direct;
use crate::sys::{self, PartitionChange};
use appliance::failure::{Failure, OrCannot as _};

const BLOCK_DEVICES: &str = "/sys/block";

/// A disk.
#[derive(Debug)]
pub struct Disk {
    /// As in `/dev`.
    pub name: String,
    /// How many, of 512 bytes.
    pub sectors: u64,
    file: File,
}

/// What stands at the two ends of a disk.
#[derive(Debug)]
pub struct Ends {
    /// Its first [`HEAD_SECTORS`].
    pub head: Vec<u8>,
    /// Its last [`TAIL_SECTORS`].
    pub tail: Vec<u8>,
}

impl Disk {
    /// The one below the root: through dm-verity to the slot, and from that to its disk.
    pub fn of_root() -> Result<Disk, Failure> {
        Ok(Disk::and_slot_of_root()?.0)
    }

    /// The same, and the sector at which the slot begins.
    pub fn and_slot_of_root() -> Result<(Disk, u64), Failure> {
        let what = "find the disk of the root";
        let device = fs::metadata("/").or_cannot(what)?.dev();
        let (major, minor) = (nix::sys::stat::major(device), nix::sys::stat::minor(device));
        let slaves = PathBuf::from(format!("/sys/dev/block/{major}:{minor}/slaves"));
        let mut slots = fs::read_dir(&slaves).or_cannot(what)?;
        let slot = slots.next().ok_or("it is on none").or_cannot(what)?.or_cannot(what)?;
        Disk::of_slot(&slot.path())
    }

    /// The one that this partition of sysfs is on, and the sector at which that begins.
    pub fn of_slot(slot: &Path) -> Result<(Disk, u64), Failure> {
        let what = "find the disk of the root";
        let slot = slot.canonicalize().or_cannot(what)?;
        // …/block/vda/vda3: a partition lies in its disk's folder.
        let name = slot.parent().and_then(Path::file_name).and_then(|name| name.to_str());
        let start = number(&slot.join("start")).or_cannot(what)?;
        Ok((Disk::open(name.ok_or("the slot is no partition").or_cannot(what)?)?, start))
    }

    /// The disk of this name.
    pub fn open(name: &str) -> Result<Disk, Failure> {
        let what = format_args!("open disk {name}");
        let file = File::open(Path::new("/dev").join(name)).or_cannot(what)?;
        let sectors = number(&Path::new(BLOCK_DEVICES).join(name).join("size")).or_cannot(what)?;
        let block = number(&Path::new(BLOCK_DEVICES).join(name).join("queue/logical_block_size"));
        match block.or_cannot(what)? {
            SECTOR if sectors > HEAD_SECTORS + TAIL_SECTORS => {
                Ok(Disk { name: name.to_owned(), sectors, file })
            }
            SECTOR => Err(Failure::new(what, format_args!("it has only {sectors} sectors"))),
            other => Err(Failure::new(what, format_args!("its sectors have {other} bytes"))),
        }
    }

    /// Reads both ends.
    pub fn ends(&self) -> Result<Ends, Failure> {
        let what = format_args!("read the partition table of {}", self.name);
        let read =
            |sector: u64, sectors: u64| self.read(sector * SECTOR, (sectors * SECTOR) as usize);
        let head = read(0, HEAD_SECTORS).or_cannot(what)?;
        let tail = read(self.sectors - TAIL_SECTORS, TAIL_SECTORS).or_cannot(what)?;
        Ok(Ends { head, tail })
    }

    /// Reads some bytes.
    pub fn read(&self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.file.read_exact_at(&mut bytes, offset)?;
        Ok(bytes)
    }

    /// Writes whole sectors, and no others. Comes back when they are on the disk for good.
    pub fn write(&self, Extent { offset, bytes }: &Extent) -> io::Result<()> {
        direct::write(&Path::new("/dev").join(&self.name), *offset, bytes)
    }

    /// What the kernel calls `partition`, the `index`-th of the table (from 0), in `/dev`. It is
    /// told of it if it doesn't know it, and of its length if it knows another.
    pub fn device(&self, index: usize, partition: &Partition) -> Result<PathBuf, Failure> {
        let what = format_args!("use partition {} of {}", partition.name, self.name);
        let number = u32::try_from(index + 1).or_cannot(what)?;
        let (offset, bytes) = (partition.offset(), partition.bytes());
        let change = |change| {
            sys::change_partition(&self.file, change, number, offset, bytes).or_cannot(what)
        };
        match self.known(offset / SECTOR).or_cannot(what)? {
            Some((_, length)) if length * SECTOR == bytes => {}
            Some(_) => change(PartitionChange::Resize)?,
            None => change(PartitionChange::Add)?,
        }
        let known = self.known(offset / SECTOR).or_cannot(what)?;
        let (name, _) = known.ok_or("the kernel doesn't know it").or_cannot(what)?;
        Ok(Path::new("/dev").join(name))
    }

    /// Name and length, in sectors, of the partition that the kernel knows at this sector.
    fn known(&self, start: u64) -> io::Result<Option<(String, u64)>> {
        for entry in fs::read_dir(Path::new(BLOCK_DEVICES).join(&self.name))? {
            let entry = entry?;
            let path = entry.path();
            if path.join("partition").exists() && number(&path.join("start"))? == start {
                let name = entry.file_name().to_string_lossy().into_owned();
                return Ok(Some((name, number(&path.join("size"))?)));
            }
        }
        Ok(None)
    }

    /// The only one that carries an appliance.
    pub fn alone() -> Result<Disk, Failure> {
        let what = "find the disk of the appliance";
        let mut disks = appliances()?;
        match (disks.next(), disks.next()) {
            (Some(disk), None) => Ok(disk),
            (None, _) => Err(Failure::new(what, "there is none")),
            (Some(_), Some(_)) => Err(Failure::new(what, "there are two")),
        }
    }

    /// Refuses to go on when another disk carries an appliance too: which one's data was meant
    /// isn't for us to guess.
    pub fn must_be_alone(&self) -> Result<(), Failure> {
        match appliances()?.find(|disk| disk.name != self.name) {
            None => Ok(()),
            Some(other) => Err(Failure::new(
                "choose the data",
                format_args!(
                    "{} and {} both carry an appliance; remove one disk",
                    self.name, other.name
                ),
            )),
        }
    }
}

/// All that carry an appliance. What can't be opened or has no medium is no disk of ours.
fn appliances() -> Result<impl Iterator<Item = Disk>, Failure> {
    let disks = fs::read_dir(BLOCK_DEVICES).or_cannot("list disks")?;
    let names = disks.filter_map(|disk| disk.ok()?.file_name().into_string().ok());
    let disks = names.filter(|name| !name.starts_with("dm-"));
    let disks = disks.filter_map(|name| Disk::open(&name).ok());
    Ok(disks.filter(|disk| {
        let table = disk.ends().ok().and_then(|ends| Table::parse(&ends.head).ok());
        table.is_some_and(|table| table.named("slot-a").is_some() && table.named(SLOT_B).is_some())
    }))
}

fn number(path: &Path) -> io::Result<u64> {
    let text = fs::read_to_string(path)?;
    text.trim().parse().map_err(|_| io::ErrorKind::InvalidData.into())
}
