//! The disk that a guest gets: the image, and behind it room for what the first boot adds. It is
//! made for one run, or kept in a file of the user's.
//!
//! Of a kept one, what the image brings (ESP and slot A) may be replaced; what came to be on it
//! (seed partition, slot B, data) is never touched.

use std::fs::File;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use appliance::gpt::completion::{self, Refusal};
use appliance::gpt::{Guid, Partition, SECTOR, Table};
use appliance::seed;
use serde::Serialize;

use crate::held::Held;
use crate::image::blocks;
use crate::inspect::Image;
use crate::quantity::Size;

/// The size of a disk when none is asked for.
const USUAL: u64 = 4 << 30;
/// The file's name when nobody keeps it.
const NAME: &str = "disk";
/// What an image brings to a disk.
const SYSTEM: [&str; 2] = ["esp", "slot-a"];
/// All partitions that an image and its disk have in common.
const SHARED: [&str; 3] = ["esp", seed::PARTITION, "slot-a"];

/// What becomes of a disk before a guest gets it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    /// It is made, of so many bytes.
    Make(u64),
    /// It is there.
    Use {
        /// It grows to so many bytes.
        grow: Option<u64>,
        /// It gets the image's system.
        replace: bool,
    },
}

/// A disk that is there.
#[derive(Debug, Clone, Copy)]
struct There<'a> {
    table: &'a Table,
    bytes: u64,
    has_system: bool,
}

/// What to do about a guest's disk; nothing is written yet.
#[derive(Debug)]
pub struct Plan<'a> {
    keep: Option<&'a Path>,
    action: Action,
    held: Option<Held>,
}

/// The disk of a guest, for a person or a machine.
#[derive(Debug, Serialize)]
pub struct Disk {
    /// Where it is.
    pub file: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// Does it outlive the run?
    pub kept: bool,
    /// Was it made just now?
    pub made: bool,
    /// Did it get another system, that of the image?
    pub replaced: bool,
    /// Was it smaller before?
    pub grown: bool,
    /// Nobody else has it for as long as this lasts.
    #[serde(skip)]
    #[allow(dead_code)]
    held: Option<Held>,
}

impl<'a> Plan<'a> {
    /// For a guest of `image`, whose disk is kept at `keep` and has `size`, if that is asked for.
    pub fn new(image: &Image, keep: Option<&'a Path>, size: Option<Size>) -> Result<Plan<'a>> {
        let size = size.map(|size| size.0);
        let least = image.file().metadata()?.len();
        let held = keep.map(Held::open).transpose()?.flatten();
        let (Some(path), Some(held)) = (keep, held) else {
            let action = decide(&image.table, least, size, None)?;
            return Ok(Plan { keep, action, held: None });
        };
        let context = || format!("cannot keep the disk in {}", path.display());
        let action = match is_one_file(image.file(), held.file()).with_context(context)? {
            true => bail!("{}: it is the image itself", context()),
            false => judge(image, path, &held, size).with_context(context)?,
        };
        Ok(Plan { keep, action, held: Some(held) })
    }

    /// Does it. A disk that nobody keeps goes into `folder`.
    pub fn carry_out(self, image: &Image, folder: &Path) -> Result<Disk> {
        let Plan { keep, action, held } = self;
        let file = keep.map_or_else(|| folder.join(NAME), Path::to_owned);
        let context = || format!("cannot write {}", file.display());
        let (held, bytes) = match (action, held) {
            (Action::Make(bytes), _) => {
                let held = match keep {
                    Some(path) => Some(make_kept(image, path, bytes).with_context(context)?),
                    None => {
                        make(image, &File::create_new(&file)?, bytes).with_context(context)?;
                        None
                    }
                };
                (held, bytes)
            }
            (Action::Use { grow, replace }, Some(held)) => {
                change(image, held.file(), grow, replace).with_context(context)?;
                let bytes = held.file().metadata().with_context(context)?.len();
                (Some(held.for_guest()), bytes)
            }
            (Action::Use { .. }, None) => bail!("internal error: a disk is used that isn't there"),
        };
        let (grown, replaced) = match action {
            Action::Make(_) => (false, false),
            Action::Use { grow, replace } => (grow.is_some(), replace),
        };
        let made = matches!(action, Action::Make(_));
        Ok(Disk { file, bytes, kept: keep.is_some(), made, replaced, grown, held })
    }
}

impl Disk {
    /// What a person reads about what is kept.
    pub fn in_words(&self) -> String {
        if !self.kept {
            return "nothing: the image stays as it is (--keep FILE keeps the disk)".to_owned();
        }
        let mut words = self.file.display().to_string();
        if self.made {
            words += ", made from the image";
        }
        if self.replaced {
            words += ", its system replaced by the image's, its data as they were";
        }
        if self.grown {
            words += &format!(", grown to {}", Size(self.bytes));
        }
        words
    }
}

/// What becomes of the disk at `path`.
fn judge(image: &Image, path: &Path, held: &Held, size: Option<u64>) -> Result<Action> {
    let disk = Image::of(path, held.file().try_clone()?)
        .context("it is no disk of an appliance\nhint: it stays as it is; --keep another file")?;
    must_match(&image.table, &disk.table)?;
    let mut has_system = true;
    for partition in system(&image.table) {
        has_system = has_system && blocks::are_same(image.file(), held.file(), partition.place())?;
    }
    let there = There { table: &disk.table, bytes: held.file().metadata()?.len(), has_system };
    decide(&image.table, image.file().metadata()?.len(), size, Some(there))
}

/// Is this a disk of an image with such a table? Only then may its system be replaced.
fn must_match(image: &Table, disk: &Table) -> Result<()> {
    let place = |table: &Table, name| {
        table.named(name).map(|partition| (partition.kind, partition.sectors.clone()))
    };
    match SHARED.iter().find(|name| place(image, name) != place(disk, name)) {
        None => Ok(()),
        Some(name) => bail!(
            "its partition {name} is not where the image has it\nhint: it stays as it is; --keep \
             another file, or run the image that it was made from"
        ),
    }
}

/// What becomes of the disk of an image of `least` bytes, if it shall have `size`.
fn decide(
    image: &Table,
    least: u64,
    size: Option<u64>,
    there: Option<There<'_>>,
) -> Result<Action> {
    let Some(there) = there else {
        let bytes = size.unwrap_or(USUAL.max(least));
        must_suffice(image, least, bytes)?;
        return Ok(Action::Make(bytes));
    };
    let grow = match size {
        Some(size) if size < there.bytes => bail!(
            "it has {}, and cannot shrink to {}\nhint: without --disk it keeps its size",
            Size(there.bytes),
            Size(size)
        ),
        size => size.filter(|size| *size > there.bytes),
    };
    must_suffice(there.table, least, grow.unwrap_or(there.bytes))?;
    Ok(Action::Use { grow, replace: !there.has_system })
}

/// Is there room for what the first boot adds to `table`?
fn must_suffice(table: &Table, least: u64, bytes: u64) -> Result<()> {
    let needs = match completion::wanted(table, bytes / SECTOR, || Guid(0)) {
        Err(Refusal::TooSmall { needs, .. }) => needs,
        Ok(_) if bytes < least => least.div_ceil(1 << 20),
        Ok(_) => return Ok(()),
        Err(other) => bail!(other),
    };
    bail!(
        "a disk of {} is too small: image, second slot and the least of data need {needs} MiB\n\
         hint: --disk '{needs} MiB'",
        Size(bytes)
    )
}

fn system(table: &Table) -> impl Iterator<Item = &Partition> {
    SYSTEM.iter().filter_map(|name| table.named(name))
}

fn is_one_file(one: &File, other: &File) -> std::io::Result<bool> {
    let id = |file: &File| file.metadata().map(|metadata| (metadata.dev(), metadata.ino()));
    Ok(id(one)? == id(other)?)
}

/// Fills an empty file.
fn make(image: &Image, file: &File, bytes: u64) -> Result<()> {
    file.set_len(bytes)?;
    let length = image.file().metadata()?.len();
    Ok(blocks::copy(image.file(), file, 0..length)?)
}

/// The disk is at its path wholly or not at all.
fn make_kept(image: &Image, path: &Path, bytes: u64) -> Result<Held> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    // For its owner alone.
    let file = tempfile::Builder::new().prefix(".stele-").tempfile_in(folder)?;
    make(image, file.as_file(), bytes)?;
    file.as_file().sync_all()?;
    let held = Held::new(file.as_file().try_clone()?);
    file.persist_noclobber(path).map_err(|error| error.error)?;
    File::open(folder)?.sync_all()?;
    Ok(held)
}

/// Interrupted, it is done again by the next run: whatever of the system differs then is written.
fn change(image: &Image, file: &File, grow: Option<u64>, replace: bool) -> Result<()> {
    if let Some(bytes) = grow {
        file.set_len(bytes)?;
    }
    for partition in system(&image.table).filter(|_| replace) {
        blocks::copy(image.file(), file, partition.place())?;
    }
    Ok(file.sync_all()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    /// Of an image of 20 MiB: its slots have 8.
    fn table() -> Table {
        let partition = |name: &str, mib: std::ops::Range<u64>| Partition {
            kind: Guid::derived(name),
            id: Guid(0),
            sectors: mib.start * MIB / SECTOR..=mib.end * MIB / SECTOR - 1,
            attributes: 0,
            name: name.into(),
        };
        let partitions =
            vec![partition("esp", 1..9), partition("seed", 9..11), partition("slot-a", 11..19)];
        Table { disk: Guid(0), disk_sectors: 20 * MIB / SECTOR, partitions }
    }

    /// After its first boot, as a disk of 200 MiB.
    fn complete() -> Table {
        completion::wanted(&table(), 200 * MIB / SECTOR, || Guid(1)).unwrap()
    }

    #[test]
    fn what_becomes_of_a_disk() {
        let (image, complete) = (table(), complete());
        let there = |bytes, has_system| Some(There { table: &complete, bytes, has_system });
        let make = |bytes| Ok(Action::Make(bytes));
        let using = |grow, replace| Ok(Action::Use { grow, replace });
        let mib = |count| Some(count * MIB);
        let small = "a disk of 90.0 MiB is too small: image, second slot and the least of data \
                     need 189 MiB\nhint: --disk '189 MiB'";
        let raw = There { table: &image, bytes: 20 * MIB, has_system: true };
        type Row<'a> = (Option<u64>, Option<There<'a>>, Result<Action, &'a str>);
        let rows: [Row; 10] = [
            (None, None, make(4 << 30)),
            (mib(189), None, make(189 * MIB)),
            (mib(90), None, Err(small)),
            (None, there(200 * MIB, true), using(None, false)),
            (mib(200), there(200 * MIB, false), using(None, true)),
            (mib(300), there(200 * MIB, true), using(mib(300), false)),
            (mib(199), there(200 * MIB, true), Err("it has 200.0 MiB, and cannot shrink to 199.0")),
            // Somebody has cut it.
            (None, there(150 * MIB, true), Err("it has 307200 sectors, but its partition `data`")),
            // Somebody has copied the image there.
            (None, Some(raw), Err("a disk of 20.0 MiB is too small")),
            (mib(200), Some(raw), using(mib(200), false)),
        ];
        for (size, there, expected) in rows {
            let decided = decide(&image, 20 * MIB, size, there).map_err(|e| e.to_string());
            match (&decided, expected) {
                (Ok(action), Ok(expected)) => assert_eq!(*action, expected, "{size:?} {there:?}"),
                (Err(error), Err(start)) => assert!(error.starts_with(start), "{error}"),
                _ => panic!("{size:?} {there:?}: {decided:?}"),
            }
        }
    }

    #[test]
    fn only_a_disk_of_such_an_image_gets_another_system() {
        let changed = |change: fn(&mut Partition), at: usize| {
            let mut table = complete();
            change(&mut table.partitions[at]);
            table
        };
        let kind = |partition: &mut Partition| partition.kind = Guid::LINUX;
        let place = |partition: &mut Partition| partition.sectors = 50000..=60000;
        let name = |partition: &mut Partition| partition.name = "other".into();
        for (disk, expected) in [
            (table(), None),
            (complete(), None),
            // The operator may have changed nothing, but the disk did at its first boot.
            (changed(|partition| partition.id = Guid(7), 1), None),
            (changed(place, 4), None),
            (changed(place, 0), Some("its partition esp is not where the image has it")),
            (changed(name, 1), Some("its partition seed is not where the image has it")),
            (changed(kind, 2), Some("its partition slot-a is not where the image has it")),
        ] {
            let error = must_match(&table(), &disk).err().map(|error| error.to_string());
            let first = error.as_deref().and_then(|error| error.lines().next());
            assert_eq!(first, expected, "{disk:?}");
        }
    }
}
