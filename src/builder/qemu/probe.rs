//! Tries KVM with a guest that really runs.

use std::fs::{self, File};
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::architecture::Architecture;
use crate::qemu::accelerator::{Accelerator, End, Verdict};
use crate::qemu::guest::Stops;
use crate::qemu::process::Process;
use crate::qemu::{self, command};

/// Where KVM works, the guest ends after a second or two.
const DEADLINE: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Boots `kernel` under KVM without a disk, and looks whether it gets to where it misses one.
/// What is said meanwhile goes to files in `folder`.
pub fn kvm(
    architecture: Architecture,
    kernel: &str,
    folder: &Path,
    stops: &Stops,
) -> Result<Verdict> {
    let (console, complaints) = (folder.join("probe.console"), folder.join("probe.complaints"));
    let create = |path: &Path| {
        File::create(path).with_context(|| format!("cannot write {}", path.display()))
    };
    let arguments = command::probe_arguments(architecture, Accelerator::Kvm, kernel);
    let command = [vec![qemu::program(architecture).to_owned()], arguments].concat();
    let (stdout, stderr) = (create(&console)?, create(&complaints)?);
    let mut process = Process::start(&command, stdout.into(), stderr.into())?;
    let start = Instant::now();
    let end = loop {
        match process.end()? {
            Some(status) => break End::ByItself(status.success()),
            None if start.elapsed() > DEADLINE => break End::AtDeadline(DEADLINE.as_secs()),
            None if stops.came() => bail!("interrupted"),
            None => sleep(LOOK_EVERY),
        }
    };
    drop(process);
    let said = |path: &Path| {
        let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()));
        bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    };
    Ok(Verdict::new(&said(&console)?, &said(&complaints)?, end))
}
