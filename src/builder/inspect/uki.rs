//! The UKIs in an ESP.

use std::io::Read as _;

use anyhow::{Context, Result};
use appliance::boot::{INITRD_FILE, Initrd};

use crate::compression::decompress;
use crate::image::{cpio, uki};
use crate::inspect::part::Part;

/// Where the loader looks for UKIs.
const FOLDER: &str = "EFI/Linux";

/// A UKI and its name.
#[derive(Debug)]
pub struct Uki {
    /// Its file name: `p14+3-0.efi`.
    pub name: String,
    bytes: Vec<u8>,
}

/// The UKIs of the ESP in `part`, in the order in which the loader tries them.
pub fn in_esp(part: Part) -> Result<Vec<Uki>> {
    let volume = fatfs::FileSystem::new(part, fatfs::FsOptions::new())?;
    let folder = volume.root_dir().open_dir(FOLDER).with_context(|| format!("no {FOLDER}"))?;
    let mut ukis = Vec::new();
    for entry in folder.iter() {
        let entry = entry.with_context(|| format!("cannot list {FOLDER}"))?;
        let name = entry.file_name();
        if !entry.is_file() || !name.to_lowercase().ends_with(".efi") {
            continue;
        }
        let mut bytes = Vec::new();
        let read = entry.to_file().read_to_end(&mut bytes);
        read.with_context(|| format!("cannot read {FOLDER}/{name}"))?;
        ukis.push(Uki { name, bytes });
    }
    ukis.sort_by_key(|uki| std::cmp::Reverse(rank(&uki.name)));
    Ok(ukis)
}

impl Uki {
    /// A UKI that stands in no ESP.
    pub fn new(name: &str, bytes: Vec<u8>) -> Uki {
        Uki { name: name.to_owned(), bytes }
    }

    /// All of it; in an ESP, with the zeros behind it that fill its place.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The kernel image.
    pub fn kernel(&self) -> Result<&[u8]> {
        self.section(".linux")
    }

    /// The initrd, compressed as it is.
    pub fn initrd(&self) -> Result<&[u8]> {
        self.section(".initrd")
    }

    /// The kernel's command line.
    pub fn cmdline(&self) -> Result<String> {
        self.text(".cmdline")
    }

    /// The kernel's release.
    pub fn release(&self) -> Result<String> {
        self.text(".uname")
    }

    /// What a boot menu would call it.
    pub fn title(&self) -> Result<String> {
        let release = self.text(".osrel")?;
        let title = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
        Ok(title.unwrap_or(&self.name).trim_matches('"').to_owned())
    }

    /// Names and lengths of all its sections.
    pub fn sections(&self) -> Vec<(String, usize)> {
        uki::sections(&self.bytes)
    }

    /// What its initrd opens.
    pub fn pin(&self) -> Result<Initrd> {
        let context = || format!("cannot read {INITRD_FILE} in the initrd of {}", self.name);
        let archive = decompress("zst", self.initrd()?).with_context(context)?;
        let pin = cpio::find(&archive, INITRD_FILE.trim_start_matches('/'));
        serde_json::from_slice(pin.context("it is not there").with_context(context)?)
            .with_context(context)
    }

    fn section(&self, name: &str) -> Result<&[u8]> {
        uki::section(&self.bytes, name)
            .with_context(|| format!("cannot read UKI {}: it has no {name}", self.name))
    }

    fn text(&self, section: &str) -> Result<String> {
        let text = String::from_utf8_lossy(self.section(section)?);
        Ok(text.trim_end_matches(['\n', '\0']).to_owned())
    }
}

/// How much the loader prefers a UKI, by its name `pNUMBER[+LEFT[-DONE]].efi`: one without tries
/// left comes last, else the highest number first.
fn rank(name: &str) -> (bool, u64) {
    let stem = name.to_lowercase();
    let stem = stem.trim_end_matches(".efi");
    let (stem, tries) = stem.split_once('+').unwrap_or((stem, ""));
    let is_bad = tries.split('-').next().is_some_and(|left| left.parse() == Ok(0u32));
    (!is_bad, stem.trim_start_matches('p').parse().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ukis_are_ordered_as_the_loader_orders_them() {
        let mut names = ["p2.efi", "other.efi", "P14+3-0.EFI", "p15+0-3.efi", "p9+1-2.efi"];
        names.sort_by_key(|name| std::cmp::Reverse(rank(name)));
        assert_eq!(names, ["P14+3-0.EFI", "p9+1-2.efi", "p2.efi", "other.efi", "p15+0-3.efi"]);
    }
}
