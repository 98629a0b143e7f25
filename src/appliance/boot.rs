//! What an image tells its own `stele-init`: two small JSON files, one in the initrd, one in the
//! root. Both are under the signature or the root hash, so what they say decides; the kernel's
//! command line, to which firmware may append, never does.

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::service::Service;
use crate::upgrade::Trust;
use crate::verity::Geometry;

/// Where [`Initrd`] lies in the initrd.
pub const INITRD_FILE: &str = "/initrd.json";
/// Where [`Appliance`] lies in the root.
pub const APPLIANCE_FILE: &str = "/usr/share/stele/appliance.json";
/// Where the builder puts `stele-init` in the root. In the initrd it is `/init`.
pub const INIT_PROGRAM: &str = "/usr/lib/stele/stele-init";
/// The folder of kernel modules in the initrd, and the one in the root.
pub const INITRD_MODULES: &str = "/modules";
/// See [`INITRD_MODULES`].
pub const ROOT_MODULES: &str = "/usr/lib/stele/modules";

/// User and group of the child of `stele-init` that speaks DHCP. Nobody else may have it.
pub const DHCP_USER: u32 = 990;
/// The same of the child that asks time servers.
pub const TIME_USER: u32 = 991;
/// The same of the child that asks the Server.
pub const ASK_USER: u32 = 992;
/// The same of the child that writes the Server's configuration.
pub const RENDER_USER: u32 = 993;
/// The same of the children that write and read backups.
pub const BACKUP_USER: u32 = 994;
/// The same of the child that installs upgrades.
pub const INSTALL_USER: u32 = 995;
/// The same of the child that tries whether the services serve.
pub const PROBE_USER: u32 = 996;
/// All of them: no layer's user is one.
pub const OWN_USERS: [u32; 7] =
    [DHCP_USER, TIME_USER, ASK_USER, RENDER_USER, BACKUP_USER, INSTALL_USER, PROBE_USER];

/// The initrd's file: what must be loaded to see the disk, and which root is the only one to open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Initrd {
    /// File names in [`INITRD_MODULES`], in load order. Compressed ones end in `.xz` or `.zst`.
    pub modules: Vec<String>,
    /// The one root that this initrd opens.
    pub root: Geometry,
}

/// The root's file: what this appliance is and what runs in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Appliance {
    /// The recipe's name.
    pub name: String,
    /// The recipe's version.
    pub version: String,
    /// The build's one clock, in seconds since 1970: the time is never earlier than this.
    pub clock: u64,
    /// File names in [`ROOT_MODULES`], in load order.
    pub modules: Vec<String>,
    /// What makes and checks the data's file system. Without it, volumes are in memory.
    #[serde(default)]
    pub data: Option<Data>,
    /// Directories that outlive a boot (and an upgrade).
    pub volumes: Vec<Volume>,
    /// How what is in them is written: a system that knows only lower numbers can't read it.
    #[serde(default = "first_format")]
    pub data_format: u32,
    /// What is taken over from the seed partition.
    #[serde(default)]
    pub seed: Vec<Import>,
    /// In start order: each comes after all it waits for.
    pub services: Vec<Service>,
    /// Whom it believes when it is given a successor.
    #[serde(default)]
    pub trust: Option<Trust>,
}

/// A directory on the data partition, mounted at its path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Volume {
    /// Absolute; an empty directory in the root.
    pub path: String,
    /// Permission bits.
    pub mode: u32,
    /// Owner, by number.
    pub uid: u32,
    /// Group, by number.
    pub gid: u32,
    /// Files in it that are never changed once they have their names, only deleted: paths within
    /// the volume, in which `*` stands for any part of one name.
    #[serde(default)]
    pub immutable: Vec<String>,
}

impl Volume {
    /// Is the file of this path within the volume never changed?
    pub fn is_immutable(&self, inside: &Path) -> bool {
        let is_it = |pattern: &String| {
            let (mut names, mut parts) = (inside.iter(), pattern.split('/'));
            loop {
                match (names.next(), parts.next()) {
                    (None, None) => return true,
                    (Some(name), Some(part)) if matches(part, name.as_bytes()) => {}
                    _ => return false,
                }
            }
        };
        self.immutable.iter().any(is_it)
    }
}

/// Each piece between two `*` is where it comes first behind the one before, which leaves most to
/// those behind it.
fn matches(part: &str, name: &[u8]) -> bool {
    let Some((first, rest)) = part.split_once('*') else { return part.as_bytes() == name };
    let Some(mut name) = name.strip_prefix(first.as_bytes()) else { return false };
    let (pieces, last) = rest.rsplit_once('*').unwrap_or(("", rest));
    for piece in pieces.split('*').map(str::as_bytes).filter(|piece| !piece.is_empty()) {
        let found = name.windows(piece.len()).position(|window| window == piece);
        let Some(found) = found else { return false };
        name = name.get(found + piece.len()..).unwrap_or_default();
    }
    name.ends_with(last.as_bytes())
}

/// Who says nothing of it is of the first.
fn first_format() -> u32 {
    1
}

/// Programs of e2fsprogs, by their absolute paths.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Data {
    /// `mke2fs`.
    pub make: String,
    /// `e2fsck`.
    pub check: String,
}

/// Files that the operator puts on the seed partition and that belong on a volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Import {
    /// A file's name, or a folder's and a slash: then all files directly in it. Capitals or not
    /// makes no difference, as on a FAT.
    pub from: String,
    /// Where it goes: a path on a volume; a folder's and a slash where `from` is one.
    pub to: String,
    /// Permission bits of the files.
    pub mode: u32,
    /// Owner, by number.
    pub uid: u32,
    /// Group, by number.
    pub gid: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_of_immutable_files_is_one_of_names() {
        for (pattern, path, is) in [
            ("*/http_file_share/*.bin", "upload%2eexample%2eorg/http_file_share/a%2db.bin", true),
            ("*/http_file_share/*.bin", "upload%2eexample%2eorg/http_file_share/a.bin~", false),
            ("*/http_file_share/*.bin", "http_file_share/a.bin", false),
            ("*/http_file_share/*.bin", "x/y/http_file_share/a.bin", false),
            ("*/http_file_share/*.bin", "x/http_file_share/y/a.bin", false),
            ("*", "a", true),
            ("*", "a/b", false),
            ("a", "a", true),
            ("a", "ab", false),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c-b", false),
            ("a*a", "a", false),
            ("", "a", false),
        ] {
            let immutable = vec![pattern.to_owned()];
            let volume = Volume { path: "/v".into(), mode: 0, uid: 0, gid: 0, immutable };
            assert_eq!(volume.is_immutable(Path::new(path)), is, "{pattern} and {path}");
        }
    }
}
