//! What firmware would start, taken out of an image: for a boot without firmware.

use std::fs::File;
use std::io::{Cursor, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use fatfs::{FileSystem, FsOptions};

use crate::disk;

/// The parts of a UKI that make a boot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootFiles {
    /// `.linux`
    pub kernel: Vec<u8>,
    /// `.initrd`
    pub initrd: Vec<u8>,
    /// `.cmdline`
    pub cmdline: String,
}

impl BootFiles {
    /// Those of the one UKI in the image at `path`.
    pub fn of(path: &Path) -> Result<BootFiles> {
        let context = || format!("cannot take the UKI out of {}", path.display());
        BootFiles::parse(&uki(path).with_context(context)?).with_context(context)
    }

    fn parse(uki: &[u8]) -> Result<BootFiles> {
        let take = |name| section(uki, name).with_context(|| format!("it has no section {name}"));
        let cmdline = String::from_utf8_lossy(take(".cmdline")?).trim_end_matches('\0').to_owned();
        let (kernel, initrd) = (take(".linux")?.to_vec(), take(".initrd")?.to_vec());
        Ok(BootFiles { kernel, initrd, cmdline })
    }
}

/// The bytes of the file in `\EFI\Linux` that systemd-boot would list.
fn uki(image: &Path) -> Result<Vec<u8>> {
    let esp = disk::partition(image, "esp")?;
    let mut bytes = vec![0; usize::try_from(esp.bytes())?];
    File::open(image)?.read_exact_at(&mut bytes, esp.offset())?;
    let esp = FileSystem::new(Cursor::new(bytes), FsOptions::new()).context("no FAT in the ESP")?;
    let folder = esp.root_dir().open_dir("EFI/Linux").context("no \\EFI\\Linux in the ESP")?;
    let entries = folder.iter().collect::<Result<Vec<_>, _>>()?;
    let mut listed = entries.iter().filter(|entry| entry.file_name().ends_with(".efi"));
    let entry = listed.next().context("no UKI in \\EFI\\Linux")?;
    let mut uki = Vec::new();
    entry.to_file().read_to_end(&mut uki)?;
    Ok(uki)
}

/// A section's data, by name, of a PE file (Microsoft's "PE Format"): from its COFF header, the
/// section table after the optional header, 40 bytes an entry.
pub(crate) fn section<'a>(file: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let header = file.get(header_of(file, name)?..)?;
    let (length, start) = (u32_at(header, 8)?, u32_at(header, 20)?);
    file.get(start..start.checked_add(length)?)
}

/// Where the header of a section is, by its name.
fn header_of(file: &[u8], name: &str) -> Option<usize> {
    let coff = u32_at(file, 0x3c)? + 4;
    let (count, optional) = (u16_at(file, coff + 2)?, u16_at(file, coff + 16)?);
    let first = coff + 20 + optional;
    let headers = file.get(first..)?.chunks_exact(40).take(count);
    let named =
        |header: &[u8]| header[..8].split(|byte| *byte == 0).next() == Some(name.as_bytes());
    Some(first + 40 * headers.into_iter().position(named)?)
}

/// The same UKI with another initrd, which is the last section of it, in the file as in memory.
pub(crate) fn with_initrd(uki: &[u8], initrd: &[u8]) -> Result<Vec<u8>> {
    let header = header_of(uki, ".initrd").context("it has no initrd")?;
    let field = |at| u32_at(uki, at).context("it is cut short");
    let (address, raw, start) = (field(header + 12)?, field(header + 16)?, field(header + 20)?);
    ensure!(start + raw == uki.len(), "its initrd isn't the last section");
    let optional = field(0x3c)? + 24;
    let (in_memory, in_file) = (field(optional + 32)?, field(optional + 36)?);
    let length = initrd.len().next_multiple_of(in_file);
    let mut changed = uki[..start].to_vec();
    changed.extend(initrd);
    changed.resize(start + length, 0);
    let size_of_data = field(optional + 8)? - raw + length;
    let size_of_image = (address + initrd.len()).next_multiple_of(in_memory);
    for (at, value) in [
        (header + 8, initrd.len()),
        (header + 16, length),
        (optional + 8, size_of_data),
        (optional + SIZE_OF_IMAGE, size_of_image),
    ] {
        changed[at..at + 4].copy_from_slice(&u32::try_from(value)?.to_le_bytes());
    }
    Ok(changed)
}

/// Makes it one that firmware refuses to load: its size in memory is none.
pub fn make_unloadable(uki: &mut [u8]) {
    let at = u32_at(uki, 0x3c).map(|coff| coff + 24 + SIZE_OF_IMAGE);
    if let Some(size) = at.and_then(|at| uki.get_mut(at..at + 4)) {
        size.fill(0);
    }
}

/// Where a PE32+ file's optional header has its size in memory.
const SIZE_OF_IMAGE: usize = 56;

fn u32_at(bytes: &[u8], at: usize) -> Option<usize> {
    let bytes = bytes.get(at..at + 4)?.try_into().ok()?;
    usize::try_from(u32::from_le_bytes(bytes)).ok()
}

fn u16_at(bytes: &[u8], at: usize) -> Option<usize> {
    Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Headers as short as they may be, then one section after another.
    fn pe(sections: &[(&str, &[u8])]) -> Vec<u8> {
        let mut file = vec![0; 0x40];
        file[0x3c] = 0x40;
        file.extend(b"PE\0\0\x64\x86");
        file.extend((sections.len() as u16).to_le_bytes());
        file.extend([0; 16]);
        let mut start = file.len() + 40 * sections.len();
        for (name, data) in sections {
            let mut header = [0; 40];
            header[..name.len()].copy_from_slice(name.as_bytes());
            header[8..12].copy_from_slice(&(data.len() as u32).to_le_bytes());
            header[20..24].copy_from_slice(&(start as u32).to_le_bytes());
            file.extend(header);
            start += data.len();
        }
        sections.iter().for_each(|(_, data)| file.extend(*data));
        file
    }

    #[test]
    fn a_uki_has_the_parts_of_a_boot() {
        let uki = pe(&[
            (".osrel", b"x"),
            (".linux", b"kernel"),
            (".cmdline", b"gpt a=b\0"),
            (".initrd", b"initrd"),
        ]);
        let boot = BootFiles::parse(&uki).unwrap();
        assert_eq!(boot.kernel, b"kernel");
        assert_eq!(boot.initrd, b"initrd");
        assert_eq!(boot.cmdline, "gpt a=b");
    }

    #[test]
    fn what_is_missing_is_named() {
        let error = BootFiles::parse(&pe(&[(".cmdline", b"")])).unwrap_err().to_string();
        assert_eq!(error, "it has no section .linux");
        assert!(BootFiles::parse(b"torn").is_err());
    }
}
