//! From the initrd's file system to the root: frees the one, moves into the other, becomes its
//! `stele-init`.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use appliance::boot::INIT_PROGRAM;
use nix::mount::{MsFlags, mount};
use nix::sys::statfs::{FsType, TMPFS_MAGIC, statfs};
use nix::unistd::{chdir, chroot};

use crate::sys::Exec;
use appliance::failure::{Failure, OrCannot as _};

/// Where the root is mounted until it is the root.
const NEW_ROOT: &str = "/sysroot";
/// One of the two file systems that an initramfs can be; nix knows the other.
const RAMFS_MAGIC: FsType = FsType(0x8584_58f6);
/// What moves along.
const MOUNTS: [&str; 4] = ["dev", "proc", "sys", "run"];

/// Is this still the initrd? The kernel unpacks it into memory; a root is on a disk.
pub fn is_initrd() -> bool {
    let kind = statfs("/").map(|root| root.filesystem_type());
    kind.is_ok_and(|kind| [TMPFS_MAGIC, RAMFS_MAGIC].contains(&kind))
}

/// Mounts the verified device as the root to be.
pub fn mount_root(device: &Path) -> Result<(), Failure> {
    crate::mounts::make_folder(NEW_ROOT)?;
    let flags = MsFlags::MS_RDONLY | MsFlags::MS_NODEV | MsFlags::MS_NOSUID;
    mount(Some(device), NEW_ROOT, Some("squashfs"), flags, None::<&str>)
        .or_cannot(format_args!("mount {} as squashfs", device.display()))
}

/// Makes it the root and becomes [`INIT_PROGRAM`]; comes back only with what went wrong.
pub fn hand_over() -> Failure {
    let exec = Exec::new(program(), vec![program()], vec![]);
    match free_initrd().and_then(|()| move_in()) {
        Ok(()) => Failure::new(format_args!("run {INIT_PROGRAM}"), exec.run()),
        Err(failure) => failure,
    }
}

fn program() -> CString {
    CString::new(INIT_PROGRAM).unwrap_or_default()
}

/// Gives back the memory that the initrd takes.
fn free_initrd() -> Result<(), Failure> {
    // Deleting everything is right for an initramfs and for nothing else in the world.
    if !is_initrd() {
        return Err(Failure::new("free the initrd", "/ isn't an initramfs"));
    }
    let device = fs::metadata("/").or_cannot("look at /")?.dev();
    empty(Path::new("/"), device).or_cannot("free the initrd")
}

/// Deletes what is in `folder`, on this device only: the mounts stay.
fn empty(folder: &Path, device: u64) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let (path, metadata) = (entry.path(), entry.metadata()?);
        if metadata.dev() != device {
            continue;
        }
        if metadata.is_dir() {
            empty(&path, device)?;
            // One that still holds a mount stays.
            let _ = fs::remove_dir(&path);
        } else {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

/// The initramfs is the one file system that pivot_root cannot leave; moving over it can.
fn move_in() -> Result<(), Failure> {
    let none = None::<&str>;
    for name in MOUNTS {
        let (from, to) = (format!("/{name}"), format!("{NEW_ROOT}/{name}"));
        mount(Some(from.as_str()), to.as_str(), none, MsFlags::MS_MOVE, none)
            .or_cannot(format_args!("move {from} to {to}"))?;
    }
    let what = "switch to the root";
    chdir(NEW_ROOT).or_cannot(what)?;
    mount(Some("."), "/", none, MsFlags::MS_MOVE, none).or_cannot(what)?;
    chroot(".").or_cannot(what)?;
    chdir("/").or_cannot(what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_emptied_on_its_own_device_only() {
        let folder = std::env::temp_dir().join(format!("stele-init-{}", std::process::id()));
        fs::create_dir_all(folder.join("modules/deep")).unwrap();
        fs::write(folder.join("modules/deep/a.ko"), "x").unwrap();
        std::os::unix::fs::symlink("/etc", folder.join("link")).unwrap();
        let device = fs::metadata(&folder).unwrap().dev();
        empty(&folder, device + 1).unwrap();
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 2);
        empty(&folder, device).unwrap();
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
        assert!(Path::new("/etc").exists());
        fs::remove_dir(folder).unwrap();
    }
}
