//! What is mounted where, besides the root and the volumes.

use std::fs;
use std::path::Path;

use nix::mount::{MsFlags, mount};

use appliance::failure::{Failure, OrCannot as _};

/// A file system without a device.
#[derive(Debug, Clone, Copy)]
struct Mount {
    kind: &'static str,
    at: &'static str,
    flags: MsFlags,
    options: &'static str,
}

const BARE: MsFlags = MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV).union(MsFlags::MS_NOEXEC);
const DEVICES: MsFlags = MsFlags::MS_NOSUID.union(MsFlags::MS_NOEXEC);

/// In the initrd, before anything else; [`crate::switch_root`] takes these along.
const FIRST: [Mount; 4] = [
    Mount { kind: "devtmpfs", at: "/dev", flags: DEVICES, options: "mode=0755" },
    Mount { kind: "proc", at: "/proc", flags: BARE, options: "" },
    Mount { kind: "sysfs", at: "/sys", flags: BARE, options: "" },
    Mount { kind: "tmpfs", at: "/run", flags: BARE, options: "mode=0755,size=20%" },
];

/// In the root.
const REST: [Mount; 5] = [
    // Who isn't root sees no processes but its own.
    Mount {
        kind: "proc",
        at: "/proc",
        flags: BARE.union(MsFlags::MS_REMOUNT),
        options: "hidepid=invisible",
    },
    Mount {
        kind: "devpts",
        at: "/dev/pts",
        flags: DEVICES,
        options: "gid=5,mode=620,ptmxmode=000",
    },
    Mount { kind: "tmpfs", at: "/dev/shm", flags: BARE, options: "mode=1777,size=20%" },
    Mount { kind: "tmpfs", at: "/tmp", flags: BARE, options: "mode=1777,size=20%" },
    Mount {
        kind: "cgroup2",
        at: "/sys/fs/cgroup",
        flags: BARE,
        options: "nsdelegate,memory_recursiveprot",
    },
];

/// There only when the machine was started by UEFI. Read-only: a stray write can brick a board.
const FIRMWARE_VARIABLES: Mount = Mount {
    kind: "efivarfs",
    at: "/sys/firmware/efi/efivars",
    flags: BARE.union(MsFlags::MS_RDONLY),
    options: "",
};

/// Mounts what the initrd needs, and the root inherits.
pub fn first() -> Result<(), Failure> {
    FIRST.iter().try_for_each(Mount::make)
}

/// Mounts what only the root has.
pub fn rest() -> Result<(), Failure> {
    REST.iter().try_for_each(Mount::make)
}

/// Mounts UEFI's variables, if there are any; their module must be loaded.
pub fn firmware_variables() -> Result<(), Failure> {
    match Path::new(FIRMWARE_VARIABLES.at).exists() {
        true => FIRMWARE_VARIABLES.make(),
        false => Ok(()),
    }
}

impl Mount {
    fn make(&self) -> Result<(), Failure> {
        make_folder(self.at)?;
        mount(Some(self.kind), self.at, Some(self.kind), self.flags, Some(self.options))
            .or_cannot(format_args!("mount {} at {}", self.kind, self.at))
    }
}

/// Makes a folder, unless it is there.
pub fn make_folder(path: impl AsRef<Path>) -> Result<(), Failure> {
    let path = path.as_ref();
    match fs::create_dir(path) {
        // A read-only root says so before it says that the folder exists.
        Err(error) if !path.is_dir() => {
            Err(Failure::new(format_args!("make folder {}", path.display()), error))
        }
        _ => Ok(()),
    }
}
