//! The guest programs: compiled with cargo from a source checkout, or taken from a folder.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use object::elf::{FileHeader64, PT_INTERP};
use object::read::elf::{FileHeader, ProgramHeader};

use crate::architecture::Architecture;

/// PID 1.
const INIT: &str = "stele-init";
/// All guest programs.
pub const NAMES: [&str; 1] = [INIT];

/// Programs that run in an appliance.
#[derive(Debug, Clone)]
pub struct Programs {
    /// `stele-init`.
    pub init: Arc<[u8]>,
}

impl Programs {
    /// Reads the programs in `folder`.
    pub fn load(folder: &Path) -> Result<Programs> {
        let path = folder.join(INIT);
        let bytes = fs::read(&path).with_context(|| {
            format!(
                "cannot read {}\nhint: stele programs --out {}",
                path.display(),
                folder.display()
            )
        })?;
        if is_dynamic(&bytes).with_context(|| format!("cannot use {}", path.display()))? {
            bail!(
                "cannot use {}: it is not static\nhint: stele programs --out {}",
                path.display(),
                folder.display()
            );
        }
        Ok(Programs { init: bytes.into() })
    }

    /// The programs in `folder`, or those of the checkout that `recipe` stands in.
    pub fn find(
        folder: Option<&Path>,
        recipe: &Path,
        architecture: Architecture,
        quiet: bool,
    ) -> Result<Programs> {
        match folder {
            Some(folder) => Programs::load(folder),
            None => Programs::load(&compile(&checkout(recipe)?, architecture, quiet)?),
        }
    }
}

/// The source checkout that `path` stands in.
pub fn checkout(path: &Path) -> Result<PathBuf> {
    let path = path.canonicalize().with_context(|| format!("cannot find {}", path.display()))?;
    let found = path.ancestors().find(|folder| folder.join("src/init/Cargo.toml").is_file());
    found.map(Path::to_owned).with_context(|| {
        format!(
            "cannot compile guest programs: {} stands in no source checkout\nhint: --programs DIR \
             with those of a release",
            path.display()
        )
    })
}

/// Compiles the guest programs of `checkout`; returns the folder that holds them.
///
/// The bytes depend on the sources, the pinned compiler and nothing else: paths are remapped.
pub fn compile(checkout: &Path, architecture: Architecture, quiet: bool) -> Result<PathBuf> {
    let target = architecture.rust_target();
    let target_folder = env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    let target_folder = checkout.join(target_folder.unwrap_or_else(|| "target".into()));
    let mut flags = vec!["-Ctarget-feature=+crt-static".to_owned()];
    let cargo_home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo"));
    let mapped = [
        (Some(checkout.to_owned()), "/stele"),
        (Some(target_folder.clone()), "/target"),
        (cargo_home.or(home), "/cargo"),
        (Some(sysroot()?), "/rust"),
    ];
    for (from, to) in mapped {
        let from = from.map(|from| from.display().to_string());
        flags.extend(from.map(|from| format!("--remap-path-prefix={from}={to}")));
    }
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .current_dir(checkout)
        .args(["build", "--locked", "--package", "init", "--profile", "init", "--target", target])
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
        .env("CARGO_TARGET_DIR", &target_folder)
        // The tests' own profile and coverage settings are none of the guest's business.
        .env_remove("RUSTFLAGS");
    if quiet {
        command.arg("--quiet");
    }
    let status = command.status().context(
        "cannot compile guest programs: cargo does not start\nhint: --programs DIR with those of a \
         release, or install Rust",
    )?;
    if !status.success() {
        bail!("cannot compile guest programs: cargo says why above");
    }
    Ok(target_folder.join(target).join("init"))
}

fn sysroot() -> Result<PathBuf> {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc)
        .args(["--print", "sysroot"])
        .output()
        .context("cannot compile guest programs: rustc does not start")?;
    Ok(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()))
}

fn is_dynamic(bytes: &[u8]) -> Result<bool> {
    let header = FileHeader64::<object::Endianness>::parse(bytes).context("it is no program")?;
    let endian = header.endian()?;
    let mut segments = header.program_headers(endian, bytes)?.iter();
    Ok(segments.any(|segment| segment.p_type(endian) == PT_INTERP))
}
