//! The initrd: a cpio archive of the "newc" kind (the kernel's `initramfs-buffer-format.rst`),
//! compressed with zstd.

use anyhow::{Context, Result};

/// zstd's level for an initrd: it is small, and read once a boot.
const LEVEL: i32 = 19;

/// A file or directory of an initrd. Paths are relative; parents come first.
#[derive(Debug, Clone, Copy)]
pub struct Member<'a> {
    /// For example `modules/virtio_blk.ko.xz`.
    pub path: &'a str,
    /// Type and permission bits, as in `st_mode`.
    pub mode: u32,
    /// What is in the file; nothing for a directory.
    pub content: &'a [u8],
}

/// `st_mode` of a directory.
pub const DIRECTORY: u32 = 0o040_755;
/// `st_mode` of a program.
pub const PROGRAM: u32 = 0o100_755;
/// `st_mode` of another file.
pub const FILE: u32 = 0o100_644;

/// The archive, compressed.
pub fn write(members: &[Member<'_>]) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    for (inode, member) in members.iter().enumerate() {
        append(&mut bytes, inode + 1, member)?;
    }
    append(&mut bytes, 0, &Member { path: "TRAILER!!!", mode: 0, content: &[] })?;
    zstd::encode_all(bytes.as_slice(), LEVEL).context("cannot compress the initrd")
}

fn append(bytes: &mut Vec<u8>, inode: usize, member: &Member<'_>) -> Result<()> {
    let length = u32::try_from(member.content.len())
        .with_context(|| format!("cannot put {} into an initrd: it is too long", member.path))?;
    let links = 1;
    let name_length = member.path.len() + 1;
    let fields = [
        inode as u32,
        member.mode,
        0, // uid
        0, // gid
        links,
        0, // mtime
        length,
        0, // device, major
        0, // device, minor
        0, // device that it is, major
        0, // device that it is, minor
        name_length as u32,
        0, // checksum
    ];
    bytes.extend(b"070701");
    for field in fields {
        bytes.extend(format!("{field:08x}").bytes());
    }
    bytes.extend(member.path.bytes());
    bytes.push(0);
    pad(bytes);
    bytes.extend(member.content);
    pad(bytes);
    Ok(())
}

fn pad(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}
