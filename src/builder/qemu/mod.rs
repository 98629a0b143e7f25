//! QEMU: what to start it with, whether its accelerator works here, and how a guest is ended.
//!
//! What decides is pure: [`command`], [`accelerator`], [`ports`], [`ending`]. What does: [`disk`],
//! [`probe`], [`process`], [`monitor`], [`guest`].

pub mod accelerator;
pub mod command;
pub mod disk;
pub mod ending;
pub mod firmware;
pub mod guest;
pub mod monitor;
pub mod ports;
pub mod probe;
pub mod process;

use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::architecture::Architecture;

/// The program that emulates `architecture`.
pub fn program(architecture: Architecture) -> &'static str {
    match architecture {
        Architecture::Amd64 => "qemu-system-x86_64",
        Architecture::Arm64 => "qemu-system-aarch64",
    }
}

/// The version that this program says it has.
pub fn version(architecture: Architecture) -> Result<String> {
    let program = program(architecture);
    let package = match architecture {
        Architecture::Amd64 => "qemu-system-x86",
        Architecture::Arm64 => "qemu-system-arm",
    };
    let output = match Command::new(program).arg("--version").output() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            bail!("{program} is not installed\nhint: apt-get install {package}")
        }
        other => other.with_context(|| format!("{program} does not start"))?,
    };
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.lines().next().unwrap_or_default().trim().to_owned())
}
