//! `stele flash`: puts an image onto a disk. What is in use, or wouldn't do, is refused before
//! anything is written.

use std::fs::File;
use std::io::{IsTerminal as _, Write as _, stderr, stdin};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::Serialize;

use crate::flash::host::Host;
use crate::flash::pass::{Done, Pass};
use crate::flash::refuse;
use crate::flash::target::Target;
use crate::inspect::Image;
use crate::progress::Progress;
use crate::quantity::Size;

/// What was done, for a person or a machine.
#[derive(Debug, Serialize)]
pub struct Outcome {
    /// The disk or the file.
    pub device: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// The appliance.
    pub appliance: String,
    /// Bytes that were written.
    pub written: u64,
    /// Bytes of an older life that were zeroed.
    pub zeroed: u64,
    /// Bytes that were read back and found to be right.
    pub verified: u64,
}

/// Who agrees that all that was on the disk is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consent {
    /// Whoever called.
    Given,
    /// A person is asked, on the terminal.
    Asked,
}

/// Writes the image at `path` to `device`.
pub fn flash(path: &Path, device: &Path, consent: Consent, progress: &Progress) -> Result<Outcome> {
    let image = Image::open(path)?;
    let appliance =
        must_be_sound(&image).with_context(|| format!("cannot flash {}", path.display()))?;
    let cannot = || format!("cannot flash {}", device.display());
    let target = Target::open(device, &Host::here()).with_context(cannot)?;
    if target.is(image.file())? {
        bail!("{}: it is the image itself", cannot());
    }
    let length = image.file().metadata().with_context(cannot)?.len();
    refuse::size(&image.table, length, target.bytes).with_context(cannot)?;
    if consent == Consent::Asked {
        ask(&appliance, device, &target).with_context(cannot)?;
    }
    let done = write(image.file(), &image, &target, progress).with_context(cannot);
    progress.clear();
    let Done { written, zeroed, verified } = done?;
    let (device, bytes) = (device.to_owned(), target.bytes);
    Ok(Outcome { device, bytes, appliance, written, zeroed, verified })
}

fn write(file: &File, image: &Image, target: &Target, progress: &Progress) -> Result<Done> {
    Pass::new(file, &image.table, target, progress)?.run()
}

/// A damaged image would be found out by the first boot; here it is cheaper. The appliance's name
/// and version.
fn must_be_sound(image: &Image) -> Result<String> {
    let pin = image.first_uki()?.pin()?.root;
    if let Some(fault) = image.check(&pin)?.fault {
        bail!("its root isn't sound: {fault}");
    }
    let appliance = image.appliance()?;
    Ok(format!("{} {}", appliance.name, appliance.version))
}

/// Only a person at a terminal, with three letters, can agree.
fn ask(appliance: &str, device: &Path, target: &Target) -> Result<()> {
    if !stdin().is_terminal() || !stderr().is_terminal() {
        bail!("nobody is there to agree that all on it is lost\nhint: --yes agrees");
    }
    let (shown, description) = (device.display(), &target.description);
    eprintln!("{shown} is {description}. All that is on it will be lost.");
    eprint!("Write {appliance} to it? Type yes: ");
    stderr().flush()?;
    let mut answer = String::new();
    stdin().read_line(&mut answer)?;
    match answer.trim() {
        "yes" => Ok(()),
        _ => bail!("you didn't agree; nothing was written"),
    }
}

impl Outcome {
    /// What a person reads.
    pub fn print(&self) {
        let (written, zeroed) = (Size(self.written), Size(self.zeroed));
        println!("{} is on {}", self.appliance, self.device.display());
        println!("written   {written}; {zeroed} of what was there are zeros now");
        println!("verified  {}, read back", Size(self.verified));
    }
}
