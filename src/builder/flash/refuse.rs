//! What must not be written over, and why: pure. The first reason that holds is told, the worst
//! first.

use std::fmt;

use anyhow::{Result, bail};
use appliance::gpt::completion::{self, Refusal};
use appliance::gpt::{Guid, SECTOR, Table};

use crate::flash::host::{Device, Use};
use crate::quantity::Size;

/// Where the running system lives.
const SYSTEM: [&str; 5] = ["/", "/boot", "/boot/efi", "/efi", "/usr"];
/// More uses of a disk than these needn't be told.
const MOST_USES: usize = 4;

/// May a device be written over?
pub fn device(device: &Device) -> Result<()> {
    if let Some(disk) = &device.partition_of {
        bail!("it is a partition of {disk}\nhint: an image takes a whole disk: /dev/{disk}");
    }
    let is_system = |used: &&Use| matches!(used, Use::Mounted { at, .. } if is_system(at));
    if let Some(used) = device.uses.iter().find(is_system) {
        bail!("the system that is running here is on it: {used}");
    }
    if !device.uses.is_empty() {
        let mut uses: Vec<String> =
            device.uses.iter().take(MOST_USES).map(Use::to_string).collect();
        let more = device.uses.len() - uses.len();
        uses.extend((more > 0).then(|| format!("and {more} more")));
        bail!("it is in use: {}\nhint: unmount it first", uses.join("; "));
    }
    if device.is_read_only {
        bail!("it is read-only");
    }
    // The first boot would refuse it.
    if device.sector != SECTOR {
        bail!("its sectors have {} bytes; the image is for {SECTOR}", device.sector);
    }
    Ok(())
}

fn is_system(at: &str) -> bool {
    SYSTEM.contains(&at)
}

/// Is there room for an image of `least` bytes with this table, and for what the first boot adds?
pub fn size(table: &Table, least: u64, bytes: u64) -> Result<()> {
    let needs = match completion::wanted(table, bytes / SECTOR, || Guid(0)) {
        Err(Refusal::TooSmall { needs, .. }) => needs,
        Ok(_) if bytes < least => least.div_ceil(1 << 20),
        Ok(_) => return Ok(()),
        Err(Refusal::Shrunk { end, .. }) => ((end + 1) * SECTOR).div_ceil(1 << 20) + 1,
        Err(other) => bail!(other),
    };
    bail!(
        "it is too small: it has {}; image, second slot and the least of data need {needs} MiB",
        Size(bytes)
    )
}

impl fmt::Display for Use {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Use::Mounted { on, at } => write!(f, "{on} is mounted at {at}"),
            Use::Swap { on } => write!(f, "{on} is swap space"),
            Use::Held { on, by } => write!(f, "{by} is made of {on}"),
        }
    }
}

#[cfg(test)]
mod tests;
