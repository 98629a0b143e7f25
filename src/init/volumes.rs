//! Directories that outlive a boot, each mounted at its path in the read-only root.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _, chown};
use std::path::{Component, Path, PathBuf};

use appliance::boot::Volume;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::data::{AT, BARE};
use appliance::failure::{Failure, OrCannot as _};

/// Where they are in the data.
const FOLDER: &str = "volumes";
/// How much of the memory may become data.
const IN_MEMORY: &str = "mode=0700,size=50%";

/// Memory in the place of a data partition: for an appliance that keeps nothing.
pub fn mount_memory() -> Result<(), Failure> {
    fs::create_dir_all(AT).or_cannot(format_args!("make folder {AT}"))?;
    mount(Some("tmpfs"), AT, Some("tmpfs"), BARE, Some(IN_MEMORY))
        .or_cannot(format_args!("mount memory at {AT}"))
}

/// Mounts every volume; the data must be.
pub fn mount_all(volumes: &[Volume]) -> Result<(), Failure> {
    // Whatever the file system's own top looks like.
    fs::set_permissions(AT, Permissions::from_mode(0o700)).or_cannot("close the data to others")?;
    volumes.iter().try_for_each(mount_one)
}

/// What is mounted there is another directory's now.
pub fn mount_again(volume: &Volume) -> Result<(), Failure> {
    let path = volume.path.as_str();
    // Whoever still has a file open there keeps that.
    umount2(path, MntFlags::MNT_DETACH).or_cannot(format_args!("unmount volume {path}"))?;
    mount_one(volume)
}

fn mount_one(volume: &Volume) -> Result<(), Failure> {
    let Volume { path, mode, uid, gid, .. } = volume;
    let what = format_args!("mount volume {path}");
    let place = place_of(Path::new(path)).ok_or("not an absolute path").or_cannot(what)?;
    make_folder_of(&place, *mode, *uid, *gid).or_cannot(what)?;
    let none = None::<&str>;
    let bind = MsFlags::MS_BIND;
    mount(Some(&place), path.as_str(), none, bind, none).or_cannot(what)?;
    // A bind mount takes its own flags only when it is mounted again.
    mount(none, path.as_str(), none, bind | MsFlags::MS_REMOUNT | BARE, none).or_cannot(what)
}

/// A volume's directory in the data: under its own path. `None`: the path isn't absolute, or leads
/// out again.
fn place_of(path: &Path) -> Option<PathBuf> {
    let inside = path.strip_prefix("/").ok()?;
    let is_plain = inside.components().all(|part| matches!(part, Component::Normal(_)));
    (is_plain && inside.components().next().is_some())
        .then(|| Path::new(AT).join(FOLDER).join(inside))
}

/// Makes a folder, unless it is there, and gives it an owner and a mode.
pub fn make_folder_of(path: &Path, mode: u32, uid: u32, gid: u32) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o755).create(path)?;
    chown(path, Some(uid), Some(gid))?;
    fs::set_permissions(path, Permissions::from_mode(mode))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_has_its_place_in_the_data() {
        for (path, place) in [
            ("/var/lib/prosody", Some("/run/stele/data/volumes/var/lib/prosody")),
            ("/etc/../etc/prosody", None),
            ("var/lib", None),
            ("/", None),
        ] {
            assert_eq!(place_of(Path::new(path)), place.map(PathBuf::from), "{path}");
        }
    }
}
