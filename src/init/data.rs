//! The data partition: completes the disk at its first boot, then finds, checks, mounts and grows
//! the one file system that is written to.
//!
//! In what order, and what if the power goes in between:
//!
//! | step | cut after it, the next boot |
//! |---|---|
//! | the kernel alone is told of slot-b and data | starts over |
//! | what is there is looked at; foreign: refused, nothing is written | says it again |
//! | the mark is written (sector 66) | starts over: the place is still blank |
//! | mke2fs; its superblock is the last it writes | without that, or half of it: makes it anew |
//! | the table's backup, the entries into the other bank | finds our ext4, adopts it |
//! | the table's header: the commit | finds the data in the table |
//! | the mark is blanked | as ever |
//!
//! A disk that grew: first the table (in the same order), then the kernel, then, mounted, the file
//! system; each step is taken again by the next boot if it is still outstanding.

pub mod content;
pub mod disk;

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use appliance::boot::Data as Programs;
use appliance::gpt::completion::{self, DATA, MARK, SLOT_B};
use appliance::gpt::{Extent, Guid, Partition, SECTOR, Table};
use appliance::verity::BLOCK;
use nix::mount::{MsFlags, mount};
use nix::unistd::{Whence, lseek};

use self::content::{Action, Content, FileSystem, LABEL, LOOKED_AT};
use self::disk::{Disk, Ends};
use crate::log::{error, notice};
use crate::{random, sys, systems, tool, watchdog};
use appliance::failure::{Failure, OrCannot as _};

/// Where the data file system is mounted. Nobody but root gets in here; services meet their
/// volumes at the volumes' own paths.
pub const AT: &str = "/run/stele/data";
/// Nothing on it is a program.
pub const BARE: MsFlags = MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV).union(MsFlags::MS_NOEXEC);
/// What a service wrote is lost to a cut only within so many seconds, or not at all if synced. Blocks
/// are taken when they are written: else what a service appends would wait for half a minute.
const OPTIONS: &str = "errors=remount-ro,commit=5,nodelalloc";
const MAKE_WITHIN: Duration = Duration::from_secs(60);
const CHECK_WITHIN: Duration = Duration::from_secs(600);
/// How long a refusal stays on the console before the machine tries again.
const PAUSE: Duration = Duration::from_secs(60);
const MIB: u64 = 1 << 20;

/// A disk whose data is mounted.
#[derive(Debug)]
pub struct Data {
    disk: Disk,
    table: Table,
}

/// Mounts the data at [`AT`].
///
/// A messaging server that silently forgets is worse than none: when there is no data, the machine
/// says why for a while and restarts, and has touched nothing.
pub fn open(programs: &Programs) -> Result<Data, Failure> {
    mount_data(programs).inspect_err(|failure| {
        error!("{failure}");
        error!("data: nothing is served without it; tries again in {} s", PAUSE.as_secs());
        for _ in 0..PAUSE.as_secs() {
            watchdog::feed();
            sleep(Duration::from_secs(1));
        }
    })
}

impl Data {
    /// The device of the partition of this name.
    pub fn device(&self, name: &str) -> Result<Option<PathBuf>, Failure> {
        let mut all = self.table.partitions.iter().enumerate();
        let found = all.find(|(_, partition)| partition.name == name);
        found.map(|(index, partition)| self.disk.device(index, partition)).transpose()
    }
}

fn mount_data(programs: &Programs) -> Result<Data, Failure> {
    let disk = Disk::of_root()?;
    disk.must_be_alone()?;
    let ends = disk.ends()?;
    let (found, table) = plan(&disk, &ends)?;
    let is_first = found.named(DATA).is_none();
    if is_first {
        refuse_used(&disk, &table, &ends)?;
    }
    let data = Data { disk, table };
    let device = prepare(&data, programs, is_first, &ends)?;
    commit(&data, &found, &ends)?;
    // Of a clean one, e2fsck itself would look at no more than this.
    let (found, _) = file_system(&device)?;
    if !found.is_clean {
        check(programs, &device, &found)?;
    }
    mount_device(&device)?;
    grow(&device)?;
    Ok(data)
}

/// The table that there is, and the one that there should be.
fn plan(disk: &Disk, ends: &Ends) -> Result<(Table, Table), Failure> {
    let what = format_args!("use disk {}", disk.name);
    match Table::parse(&ends.head) {
        Ok(found) => {
            let ids = random::bytes((found.partitions.len() + 3) * 16)?;
            let mut ids = ids.chunks(16).filter_map(|id| id.try_into().ok().map(Guid::random));
            let fresh = || ids.next().unwrap_or(Guid(0));
            let wanted = completion::wanted(&found, disk.sectors, fresh).or_cannot(what)?;
            Ok((found, wanted))
        }
        // What is left of it is restored as it is; anything new waits for the next boot.
        Err(error) => match Table::parse_backup(&ends.tail, disk.sectors) {
            Ok(backup) => Ok((backup.clone(), backup)),
            Err(_) => Err(Failure::new(what, error)),
        },
    }
}

/// A disk whose end still tells of other partitions had a life before this image.
fn refuse_used(disk: &Disk, table: &Table, ends: &Ends) -> Result<(), Failure> {
    let Some(old) = completion::stranger(table, &ends.tail) else { return Ok(()) };
    let (name, first, last) = (&disk.name, old.sectors.start(), old.sectors.end());
    Err(Failure::new(
        format_args!("use disk {name}"),
        format_args!(
            "the partition table at its end has `{}` at sectors {first} to {last}; to give that \
             up, blank the disk's last MiB: dd if=/dev/zero of=DISK bs=512 seek={} count={}",
            old.name,
            disk.sectors - MIB / SECTOR,
            MIB / SECTOR
        ),
    ))
}

/// There is a file system of ours in the data's place afterwards. Returns its device.
fn prepare(
    data: &Data,
    programs: &Programs,
    is_first: bool,
    ends: &Ends,
) -> Result<PathBuf, Failure> {
    let Data { disk, table } = data;
    data.device(SLOT_B)?;
    let missing = || Failure::new("find the data", "the partition table doesn't name it");
    let device = data.device(DATA)?.ok_or_else(missing)?;
    let partition = table.named(DATA).ok_or_else(missing)?;
    let mark = completion::mark(&partition.sectors);
    let is_marked = completion::marked(&ends.head) == Some(mark.as_slice());
    let found = look(&device, partition)?;
    match content::decide(&found, is_first, is_marked) {
        Action::Use if is_first => notice!("data: {} adopted as it is", shown(&device)),
        Action::Use => {}
        Action::Refuse => return Err(refusal(disk, &device, partition, &found, is_first)),
        Action::Make => {
            slot_b_must_be_blank(data)?;
            behead_slot_b(data)?;
            if !is_marked {
                let mark = Extent { offset: MARK * SECTOR, bytes: mark };
                disk.write(&mark).or_cannot(format_args!("mark disk {}", disk.name))?;
            }
            make(programs, &device, partition)?;
        }
    }
    Ok(device)
}

fn look(device: &Path, partition: &Partition) -> Result<Content, Failure> {
    let what = format_args!("look at {}", device.display());
    let mut start = vec![0; LOOKED_AT];
    let file = File::open(device).or_cannot(what)?;
    file.read_exact_at(&mut start, 0).or_cannot(what)?;
    Ok(content::look(&start, partition.bytes()))
}

/// Whatever is in slot B's place before there is a slot B belongs to somebody else.
fn slot_b_must_be_blank(data: &Data) -> Result<(), Failure> {
    let Some(device) = data.device(SLOT_B)? else { return Ok(()) };
    let Some(partition) = data.table.named(SLOT_B) else { return Ok(()) };
    match look(&device, partition)? {
        Content::Blank => Ok(()),
        other => Err(refusal(&data.disk, &device, partition, &other, true)),
    }
}

/// An older life of the disk may have left the very root there that runs: no bundle could be written
/// over it, since it would be taken for that. Without its top block it is none.
fn behead_slot_b(data: &Data) -> Result<(), Failure> {
    let Some(partition) = data.table.named(SLOT_B) else { return Ok(()) };
    let root = systems::root()?;
    if root.slot_bytes() > partition.bytes() {
        return Ok(());
    }
    let offset = partition.offset() + root.tree_offset();
    let top = Extent { offset, bytes: vec![0; BLOCK] };
    data.disk.write(&top).or_cannot(format_args!("blank slot-b of {}", data.disk.name))
}

fn refusal(
    disk: &Disk,
    device: &Path,
    partition: &Partition,
    found: &Content,
    is_first: bool,
) -> Failure {
    let (first, last) = (partition.sectors.start(), partition.sectors.end());
    let place = format!("sectors {first} to {last} of {}", disk.name);
    match is_first {
        true => Failure::new(
            format_args!("take {place} for {}", partition.name),
            format_args!(
                "there is {found}; to give that up, blank the first MiB of it: \
                 dd if=/dev/zero of=DISK bs=512 seek={first} count={}",
                MIB / SECTOR
            ),
        ),
        false => Failure::new(
            format_args!("use the data on {}", shown(device)),
            format_args!("at {place} there is {found}, not the data's file system"),
        ),
    }
}

fn make(programs: &Programs, device: &Path, partition: &Partition) -> Result<(), Failure> {
    let what = format_args!("make a file system on {}", shown(device));
    let path = device.to_string_lossy();
    // Blocks of 4 KiB however small the disk, some of them root's: a service that fills the disk
    // must not keep PID 1 from writing. The journal is zeroed, the inode tables are later, by the
    // kernel. Nothing is discarded: a device may take minutes for that.
    let arguments = [
        "-q",
        "-F",
        "-t",
        "ext4",
        "-b",
        "4096",
        "-m",
        "2",
        "-L",
        LABEL,
        "-U",
        "random",
        "-E",
        "nodiscard,lazy_itable_init=1,lazy_journal_init=0",
        &path,
    ];
    match tool::run(&programs.make, &arguments, MAKE_WITHIN)? {
        0 => {}
        status => return Err(Failure::new(what, format_args!("mke2fs: exit status {status}"))),
    }
    File::open(device).and_then(|device| device.sync_all()).or_cannot(what)?;
    match look(device, partition)? {
        Content::Ours(made) => {
            notice!("data: file system of {} MiB made on {}", made.bytes() / MIB, shown(device));
            Ok(())
        }
        other => Err(Failure::new(what, format_args!("mke2fs left {other}"))),
    }
}

/// The table onto the disk, if it isn't there. See [`completion::writes`] for the order.
fn commit(data: &Data, found: &Table, ends: &Ends) -> Result<(), Failure> {
    let Data { disk, table } = data;
    let what = format_args!("write the partition table of {}", disk.name);
    let writes = completion::writes(table, &ends.head, &ends.tail).or_cannot(what)?;
    for write in &writes {
        disk.write(write).or_cannot(what)?;
    }
    if found != table {
        notice!(
            "data: partition table of {} written, for {} MiB",
            disk.name,
            table.disk_sectors * SECTOR / MIB
        );
    } else if !writes.is_empty() {
        notice!("data: partition table of {} repaired", disk.name);
    }
    // It has served its purpose; left behind, it could say something false of a later content.
    let mark = disk.read(MARK * SECTOR, SECTOR as usize).or_cannot(what)?;
    if mark.iter().any(|&byte| byte != 0) {
        let bytes = vec![0; SECTOR as usize];
        disk.write(&Extent { offset: MARK * SECTOR, bytes }).or_cannot(what)?;
    }
    Ok(())
}

/// e2fsck replays the journal and repairs what can be repaired without a question. It runs again
/// if it asks for a reboot, which it does of a mounted file system; this one isn't.
fn check(programs: &Programs, device: &Path, found: &FileSystem) -> Result<(), Failure> {
    /// Corrected; reboot.
    const FINE: [i32; 2] = [0, 1];
    const AGAIN: [i32; 2] = [2, 3];
    let path = device.to_string_lossy();
    let run = |how: &[&str]| tool::run(&programs.check, &[how, &[&path]].concat(), CHECK_WITHIN);
    let mut status = 0;
    for how in content::checks(found) {
        status = match run(how)? {
            again if AGAIN.contains(&again) => run(how)?,
            status => status,
        };
        if FINE.contains(&status) {
            break;
        }
    }
    match FINE.contains(&status) {
        true => Ok(()),
        false => Err(Failure::new(
            format_args!("use the data on {}", shown(device)),
            format_args!(
                "its file system is damaged (e2fsck: exit status {status}); save a copy of the \
                 disk, then run `e2fsck -f` on partition {} of it on another system",
                shown(device)
            ),
        )),
    }
}

fn mount_device(device: &Path) -> Result<(), Failure> {
    fs::create_dir_all(AT).or_cannot(format_args!("make folder {AT}"))?;
    let flags = BARE | MsFlags::MS_NOATIME;
    mount(Some(device), AT, Some("ext4"), flags, Some(OPTIONS))
        .or_cannot(format_args!("mount {} at {AT}", device.display()))?;
    notice!("data: {} mounted", shown(device));
    Ok(())
}

/// Gives the file system the whole of its partition. The kernel does it, as a transaction at a
/// time: cut, it is smaller than it could be, and grows on at the next boot.
fn grow(device: &Path) -> Result<(), Failure> {
    let what = format_args!("grow the data on {}", shown(device));
    watchdog::feed();
    let (before, room) = file_system(device)?;
    // Less than that may be left over by whole groups of blocks.
    if room.saturating_sub(before.bytes()) < MIB {
        return Ok(());
    }
    let place = File::open(AT).or_cannot(what)?;
    if let Err(errno) = sys::resize_ext4(&place, room / before.block) {
        // Data that cannot grow still is data.
        error!("{}", Failure::new(what, errno));
        return Ok(());
    }
    let (after, _) = file_system(device)?;
    if after.blocks != before.blocks {
        notice!("data: grown from {} to {} MiB", before.bytes() / MIB, after.bytes() / MIB);
    }
    Ok(())
}

/// What is on a device that holds ours, and how many bytes it has.
fn file_system(device: &Path) -> Result<(FileSystem, u64), Failure> {
    let what = format_args!("look at {}", shown(device));
    let mut start = vec![0; LOOKED_AT];
    let file = File::open(device).or_cannot(what)?;
    file.read_exact_at(&mut start, 0).or_cannot(what)?;
    let room = lseek(&file, 0, Whence::SeekEnd).or_cannot(what)?;
    let room = u64::try_from(room).unwrap_or_default();
    match content::look(&start, room) {
        Content::Ours(ours) => Ok((ours, room)),
        other => Err(Failure::new(what, format_args!("there is {other}"))),
    }
}

fn shown(device: &Path) -> String {
    let name = device.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}
