//! What this machine does with a block device, as its kernel tells it: in /sys/dev/block,
//! /sys/class/block, /proc/self/mountinfo and /proc/swaps.
//!
//! What a mount of another namespace does is not among it: opening the device exclusively settles
//! that.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// At most so many devices are followed upwards from a disk.
const MOST: usize = 4096;
/// What `size` in sysfs counts, whatever the device.
const SECTOR: u64 = 512;

/// Where a machine tells of itself: `/`, or a folder of a test's.
#[derive(Debug, Clone)]
pub struct Host {
    root: PathBuf,
}

/// What is known of a block device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// As in `/dev`.
    pub name: String,
    /// What its maker calls it; empty, if it isn't told.
    pub model: String,
    /// Its size.
    pub bytes: u64,
    /// Bytes of its sectors.
    pub sector: u64,
    /// It takes no writes.
    pub is_read_only: bool,
    /// The disk that it is a partition of.
    pub partition_of: Option<String>,
    /// How many partitions it has.
    pub partitions: usize,
    /// What it is used for, itself or anything on it.
    pub uses: Vec<Use>,
}

/// A use of a device. `on` is that of it, or of what it holds, which is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Use {
    /// A file system is mounted.
    Mounted { on: String, at: String },
    /// Memory is swapped out to it.
    Swap { on: String },
    /// Another device is made of it: device-mapper, md.
    Held { on: String, by: String },
}

impl Host {
    /// The machine that this runs on.
    pub fn here() -> Host {
        Host::at(Path::new("/"))
    }

    /// One that tells of itself below `root`.
    pub fn at(root: &Path) -> Host {
        Host { root: root.to_owned() }
    }

    /// The block device with this number.
    pub fn device(&self, major: u64, minor: u64) -> Result<Device> {
        let link = self.root.join(format!("sys/dev/block/{major}:{minor}"));
        let folder = link.canonicalize();
        let folder =
            folder.with_context(|| format!("the kernel knows no device {major}:{minor}"))?;
        let partition_of = is_partition(&folder).then(|| folder.parent().map(name_of)).flatten();
        // A partition has its disk's queue, model and sectors.
        let disk = if partition_of.is_some() { folder.parent() } else { None };
        let disk = disk.unwrap_or(&folder);
        let number = |path: PathBuf| -> Result<u64> {
            let context = || format!("cannot understand {}", path.display());
            text(&path).with_context(context)?.parse().with_context(context)
        };
        let above = self.above(&folder)?;
        Ok(Device {
            name: name_of(&folder),
            model: model(disk),
            bytes: number(folder.join("size"))?.saturating_mul(SECTOR),
            sector: number(disk.join("queue/logical_block_size"))?,
            is_read_only: number(folder.join("ro"))? != 0,
            partition_of,
            partitions: partitions(&folder)?.len(),
            uses: self.uses(&above)?,
        })
    }

    /// The loop device that the file at `path` is behind.
    pub fn loop_of(&self, path: &Path) -> Result<Option<String>> {
        for device in folders(&self.root.join("sys/block"))? {
            let file = text(&device.join("loop/backing_file")).unwrap_or_default();
            if Path::new(&file) == path {
                return Ok(Some(name_of(&device)));
            }
        }
        Ok(None)
    }

    /// A device, its partitions, what is made of any of these, and so on: folders and who holds
    /// them, by name.
    fn above(&self, folder: &Path) -> Result<BTreeMap<String, Above>> {
        let mut found = BTreeMap::<String, Above>::new();
        let mut next = vec![folder.to_owned()];
        while let Some(folder) = next.pop() {
            let name = name_of(&folder);
            if found.contains_key(&name) || found.len() == MOST {
                continue;
            }
            let holders: Vec<String> =
                folders(&folder.join("holders"))?.iter().map(|path| name_of(path)).collect();
            for holder in &holders {
                let link = self.root.join("sys/class/block").join(holder);
                next.extend(link.canonicalize());
            }
            next.extend(partitions(&folder)?);
            let number = text(&folder.join("dev")).unwrap_or_default();
            found.insert(name, Above { number, holders });
        }
        Ok(found)
    }

    fn uses(&self, above: &BTreeMap<String, Above>) -> Result<Vec<Use>> {
        let read = |path: &str| {
            fs::read_to_string(self.root.join(path)).with_context(|| format!("cannot read /{path}"))
        };
        let mut uses = vec![];
        for mount in read("proc/self/mountinfo")?.lines().filter_map(Mount::parse) {
            // A file system with several devices has a number of its own: then its source tells.
            let by_number = above.iter().find(|(_, device)| device.number == mount.number);
            let by_number = by_number.map(|(name, _)| name.clone());
            let by_source = || self.named(&mount.source).filter(|name| above.contains_key(name));
            if let Some(on) = by_number.or_else(by_source) {
                uses.push(Use::Mounted { on, at: mount.at });
            }
        }
        // There is no such file where the kernel knows no swap.
        for line in read("proc/swaps").unwrap_or_default().lines().skip(1) {
            let file = unescaped(line.split_whitespace().next().unwrap_or_default());
            let on = self.named(&file).filter(|name| above.contains_key(name));
            uses.extend(on.map(|on| Use::Swap { on }));
        }
        for (on, device) in above {
            let held = |by: &String| Use::Held { on: on.clone(), by: by.clone() };
            uses.extend(device.holders.iter().map(held));
        }
        Ok(uses)
    }

    /// The name of the device at a path of /dev, through links such as those of /dev/mapper.
    fn named(&self, path: &str) -> Option<String> {
        let inside = path.strip_prefix('/').filter(|inside| inside.starts_with("dev/"))?;
        let path = self.root.join(inside);
        Some(name_of(&path.canonicalize().unwrap_or(path)))
    }
}

/// A device above another.
#[derive(Debug)]
struct Above {
    /// `8:1`
    number: String,
    holders: Vec<String>,
}

/// A line of mountinfo, see proc_pid_mountinfo(5).
struct Mount {
    number: String,
    at: String,
    source: String,
}

impl Mount {
    fn parse(line: &str) -> Option<Mount> {
        let (mount, file_system) = line.split_once(" - ")?;
        let mut mount = mount.split(' ').skip(2);
        let (number, _, at) = (mount.next()?, mount.next()?, mount.next()?);
        let source = file_system.split(' ').nth(1)?;
        Some(Mount { number: number.to_owned(), at: unescaped(at), source: unescaped(source) })
    }
}

/// `\040` is a space.
fn unescaped(text: &str) -> String {
    let mut parts = text.split('\\');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let code = part.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code {
            Some(byte) => bytes.extend([&[byte], &part.as_bytes()[3..]].concat()),
            None => bytes.extend([b"\\", part.as_bytes()].concat()),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn is_partition(folder: &Path) -> bool {
    folder.join("partition").exists()
}

fn partitions(folder: &Path) -> Result<Vec<PathBuf>> {
    Ok(folders(folder)?.into_iter().filter(|path| is_partition(path)).collect())
}

/// What is in a folder; nothing, if there is none.
fn folders(path: &Path) -> Result<Vec<PathBuf>> {
    let context = || format!("cannot list {}", path.display());
    let entries = match fs::read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(vec![]),
        entries => entries.with_context(context)?,
    };
    let paths = entries.map(|entry| Ok(entry.with_context(context)?.path()));
    let mut paths = paths.collect::<Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}

fn model(disk: &Path) -> String {
    let part = |name: &str| text(&disk.join("device").join(name)).unwrap_or_default();
    format!("{} {}", part("vendor"), part("model")).trim().to_owned()
}

fn text(path: &Path) -> io::Result<String> {
    Ok(fs::read_to_string(path)?.trim().to_owned())
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
