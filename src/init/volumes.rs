//! Directories that outlive a boot, each mounted at its path in the read-only root.
//!
//! For now what stands in the data partition's place is memory.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _, chown};
use std::path::{Component, Path, PathBuf};

use appliance::boot::Volume;
use nix::mount::{MsFlags, mount};

use crate::failure::{Failure, OrCannot as _};
use crate::log::notice;

/// Where the data file system is mounted. Nobody but root gets in here; services meet their
/// volumes at the volumes' own paths.
const DATA: &str = "/run/stele/data";
const BARE: MsFlags = MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV);
/// How much of the memory may become data.
const IN_MEMORY: &str = "mode=0700,size=50%";

/// Mounts the data and every volume.
pub fn mount_all(volumes: &[Volume]) -> Result<(), Failure> {
    fs::create_dir_all(DATA).or_cannot(format_args!("make folder {DATA}"))?;
    mount(Some("tmpfs"), DATA, Some("tmpfs"), BARE, Some(IN_MEMORY))
        .or_cannot(format_args!("mount memory at {DATA}"))?;
    volumes.iter().try_for_each(mount_one)?;
    notice!("root: {} volumes in memory", volumes.len());
    Ok(())
}

fn mount_one(volume: &Volume) -> Result<(), Failure> {
    let Volume { path, mode, uid, gid } = volume;
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
    (is_plain && inside.components().next().is_some()).then(|| Path::new(DATA).join(inside))
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
            ("/var/lib/prosody", Some("/run/stele/data/var/lib/prosody")),
            ("/etc/../etc/prosody", None),
            ("var/lib", None),
            ("/", None),
        ] {
            assert_eq!(place_of(Path::new(path)), place.map(PathBuf::from), "{path}");
        }
    }
}
