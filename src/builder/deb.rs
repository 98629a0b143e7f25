//! Reads a .deb: an `ar` archive of a version, control files and a tree (deb(5)).

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::Arc;

use anyhow::{Context, Result, bail};

use crate::compression::decompress;

/// One path of a package's tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DebPath {
    /// Absolute, as the package has it (not yet merged into `/usr`).
    pub path: String,
    /// What is there.
    pub kind: DebKind,
    /// Permission bits, set-id and sticky among them.
    pub mode: u16,
    /// Owner and group by number; packages name only those that every Debian has.
    pub owner: (u64, u64),
    /// Names of extended attributes.
    pub xattrs: Vec<String>,
}

/// What stands at a path of a package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DebKind {
    /// A directory.
    Directory,
    /// A file and its bytes.
    File(Arc<[u8]>),
    /// A symbolic link and its target.
    Link(String),
    /// A second name of an earlier path.
    HardLink(String),
}

const AR_MAGIC: &[u8] = b"!<arch>\n";
const AR_HEADER: usize = 60;

/// The tree of the package in `bytes`, in the archive's order.
pub fn read_tree(bytes: &[u8]) -> Result<Vec<DebPath>> {
    unpack_tree(&tarball(&members(bytes)?, "data.tar")?).context("file tree")
}

/// The control files of the package in `bytes`, by name: `control`, `postinst`, `triggers` …
pub fn read_control(bytes: &[u8]) -> Result<BTreeMap<String, String>> {
    unpack_control(&tarball(&members(bytes)?, "control.tar")?).context("control files")
}

/// The members of a package's `ar` archive, in order; the first says that it is a package.
fn members(bytes: &[u8]) -> Result<Vec<(String, &[u8])>> {
    let mut rest = bytes.strip_prefix(AR_MAGIC).context("it is not an ar archive")?;
    let mut members = Vec::new();
    while !rest.is_empty() {
        let (header, after) = rest.split_at_checked(AR_HEADER).context("it is cut short")?;
        if &header[58..] != b"`\n" {
            bail!("it has a broken member header");
        }
        let text = |range: std::ops::Range<usize>| String::from_utf8_lossy(&header[range]);
        let name = text(0..16).trim_end().trim_end_matches('/').to_owned();
        let size: usize = text(48..58).trim_end().parse().context("it has a broken member size")?;
        let (content, after) = after.split_at_checked(size).context("it is cut short")?;
        members.push((name, content));
        rest = after.get(size % 2..).unwrap_or_default();
    }
    match members.first() {
        Some((name, version)) if name == "debian-binary" && version.starts_with(b"2.") => {}
        _ => bail!("it is not a Debian package of format 2"),
    }
    Ok(members)
}

fn tarball(members: &[(String, &[u8])], stem: &str) -> Result<Vec<u8>> {
    let found = members.iter().find_map(|(name, content)| {
        let kind = name.strip_prefix(stem)?;
        Some((kind.strip_prefix('.').unwrap_or(kind), content))
    });
    let (kind, content) = found.with_context(|| format!("it has no {stem}"))?;
    decompress(kind, content).with_context(|| stem.to_owned())
}

fn unpack_control(tarball: &[u8]) -> Result<BTreeMap<String, String>> {
    let mut files = BTreeMap::new();
    for entry in tar::Archive::new(tarball).entries()? {
        let mut entry = entry?;
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let name = absolute(&entry.path_bytes())?;
        let mut content = Vec::new();
        entry.read_to_end(&mut content)?;
        let content = String::from_utf8_lossy(&content).into_owned();
        files.insert(name.trim_start_matches('/').to_owned(), content);
    }
    Ok(files)
}

fn unpack_tree(tarball: &[u8]) -> Result<Vec<DebPath>> {
    let mut paths = Vec::new();
    for entry in tar::Archive::new(tarball).entries()? {
        let mut entry = entry?;
        let path = absolute(&entry.path_bytes())?;
        if path == "/" {
            continue;
        }
        paths.push(read_path(path.clone(), &mut entry).with_context(|| path)?);
    }
    Ok(paths)
}

fn read_path(path: String, entry: &mut tar::Entry<'_, &[u8]>) -> Result<DebPath> {
    let target = |entry: &tar::Entry<'_, &[u8]>| -> Result<String> {
        let bytes = entry.link_name_bytes().context("a link without a target")?.into_owned();
        String::from_utf8(bytes).context("a link whose target is not UTF-8")
    };
    use tar::EntryType;
    let kind = match entry.header().entry_type() {
        EntryType::Directory => DebKind::Directory,
        EntryType::Symlink => DebKind::Link(target(entry)?),
        EntryType::Link => DebKind::HardLink(absolute(target(entry)?.as_bytes())?),
        EntryType::Regular | EntryType::Continuous => {
            let mut content = Vec::new();
            entry.read_to_end(&mut content)?;
            DebKind::File(content.into())
        }
        other => bail!("an entry of type {other:?}, which no image can hold"),
    };
    let mut xattrs = Vec::new();
    for extension in entry.pax_extensions()?.into_iter().flatten() {
        let key = extension?.key().unwrap_or_default().to_owned();
        xattrs.extend(key.strip_prefix("SCHILY.xattr.").map(str::to_owned));
    }
    let header = entry.header();
    let mode = (header.mode()? & 0o7777) as u16;
    Ok(DebPath { path, kind, mode, owner: (header.uid()?, header.gid()?), xattrs })
}

/// `./usr/bin/` → `/usr/bin`; nothing may climb.
fn absolute(path: &[u8]) -> Result<String> {
    let text = std::str::from_utf8(path).context("a path that is not UTF-8")?;
    let parts: Vec<&str> = text.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    if parts.contains(&"..") || text.contains('\0') {
        bail!("path {text:?} leaves the package");
    }
    Ok(format!("/{}", parts.join("/")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_made_absolute_and_may_not_climb() {
        assert_eq!(absolute(b"./usr/bin/").unwrap(), "/usr/bin");
        assert_eq!(absolute(b"./").unwrap(), "/");
        assert!(absolute(b"./../etc").is_err() && absolute(b"\xff").is_err());
    }

    #[test]
    fn what_is_no_package_is_refused() {
        for bad in [&b""[..], b"!<arch>\n", b"!<arch>\nshort", b"zip"] {
            assert!(read_tree(bad).is_err(), "{bad:?}");
        }
        let mut archive = AR_MAGIC.to_vec();
        archive.extend(format!("{:<16}{:<32}{:<10}`\n", "debian-binary", "", 99).bytes());
        archive.extend(b"2.0\n");
        assert!(read_tree(&archive).unwrap_err().to_string().contains("cut short"));
    }
}
