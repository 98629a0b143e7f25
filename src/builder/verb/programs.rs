//! `stele programs`: compile what runs in an appliance.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::architecture::Architecture;
use crate::programs::{self, Program};

/// Compiles the programs of the checkout that the working directory stands in, and copies them to
/// `out`.
pub fn programs(out: Option<&Path>, architecture: Architecture) -> Result<()> {
    let checkout = programs::checkout(Path::new("."))?;
    for (program, made) in programs::compile(Program::ALL, &checkout, architecture, false)? {
        programs::read(program, &made)?;
        let Some(out) = out else {
            println!("{}", made.display());
            continue;
        };
        let copy = out.join(program.name());
        fs::create_dir_all(out)
            .and_then(|()| fs::copy(&made, &copy))
            .with_context(|| format!("cannot write to {}", out.display()))?;
        println!("{}", copy.display());
    }
    Ok(())
}
