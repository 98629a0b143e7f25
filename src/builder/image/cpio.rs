//! The initrd: a cpio archive of the "newc" kind (the kernel's `initramfs-buffer-format.rst`),
//! compressed with zstd.

use anyhow::{Context, Result};

/// zstd's level for an initrd: it is small, and read once a boot.
const LEVEL: i32 = 19;
/// What a member's header begins with.
const MAGIC: &[u8] = b"070701";
/// Bytes in a member's header: the magic and 13 fields of 8 digits.
const HEADER: usize = 6 + 13 * 8;
/// The member that ends an archive.
const TRAILER: &str = "TRAILER!!!";

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
    append(&mut bytes, 0, &Member { path: TRAILER, mode: 0, content: &[] })?;
    zstd::encode_all(bytes.as_slice(), LEVEL).context("cannot compress the initrd")
}

/// The content of a member of an archive that is not compressed.
pub fn find<'a>(archive: &'a [u8], path: &str) -> Option<&'a [u8]> {
    let mut rest = archive;
    loop {
        let field = |number: usize| {
            let digits = rest.get(6 + 8 * number..14 + 8 * number)?;
            usize::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()
        };
        let (length, name_length) = (field(6)?, field(11)?);
        let name_end = HEADER.checked_add(name_length)?;
        let content = name_end.next_multiple_of(4);
        let end = content.checked_add(length)?;
        let name = rest.get(HEADER..name_end.checked_sub(1)?)?;
        match rest.starts_with(MAGIC) && name != TRAILER.as_bytes() {
            true if name == path.as_bytes() => return rest.get(content..end),
            true => rest = rest.get(end.checked_next_multiple_of(4)?..)?,
            false => return None,
        }
    }
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
    bytes.extend(MAGIC);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_is_found_again() {
        let members = [
            Member { path: "init", mode: PROGRAM, content: b"program" },
            Member { path: "modules", mode: DIRECTORY, content: &[] },
            Member { path: "a.json", mode: FILE, content: b"{}" },
        ];
        let archive = zstd::decode_all(write(&members).unwrap().as_slice()).unwrap();
        assert_eq!(find(&archive, "init"), Some(&b"program"[..]));
        assert_eq!(find(&archive, "modules"), Some(&b""[..]));
        assert_eq!(find(&archive, "a.json"), Some(&b"{}"[..]));
        assert_eq!(find(&archive, "none"), None);
        for end in 0..archive.len() {
            assert_eq!(find(&archive[..end], "none"), None, "cut at {end}");
        }
        assert_eq!(find(&[b'f'; 400], "none"), None);
    }
}
