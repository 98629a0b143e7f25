//! `stele programs`: compile what runs in an appliance.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::architecture::Architecture;
use crate::programs::{self, Programs};

/// Compiles the programs of the checkout that the working directory stands in, and copies them to
/// `out`.
pub fn programs(out: Option<&Path>, architecture: Architecture) -> Result<()> {
    let folder = programs::compile(&programs::checkout(Path::new("."))?, architecture, false)?;
    Programs::load(&folder)?;
    let Some(out) = out else {
        println!("{}", folder.display());
        return Ok(());
    };
    let context = || format!("cannot write to {}", out.display());
    fs::create_dir_all(out).with_context(context)?;
    for name in programs::NAMES {
        fs::copy(folder.join(name), out.join(name)).with_context(context)?;
        println!("{}", out.join(name).display());
    }
    Ok(())
}
