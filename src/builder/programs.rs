//! The guest programs: compiled with cargo from a source checkout, or taken from a folder.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fs;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::thread;

use anyhow::{Context, Result, bail};
use appliance::hash::Digest;
use object::elf::{FileHeader64, PT_INTERP};
use object::read::elf::{FileHeader, ProgramHeader};
use serde::Deserialize;

use crate::architecture::Architecture;
use crate::image::efi;

/// What people set for C compilers, for SQLite, whose C is part of `pod-api`, and for Zstandard,
/// whose C is part of `stele-backup`, by how the names begin: the guest's programs are the same without
/// it and with it. And what cargo says of the package that it runs or tests, if that is who compiles:
/// a build script that looks (`ring`'s) would be run anew each time, and half of `pod-api` with it.
const NOT_THE_GUESTS: [&str; 10] = [
    "CARGO_MANIFEST_",
    "CARGO_PKG_",
    "CFLAGS",
    "CRATE_CC_NO_DEFAULTS",
    "HOST_CFLAGS",
    "LIBSQLITE3_",
    "RUSTFLAGS",
    "SQLITE_MAX_",
    "TARGET_CFLAGS",
    "ZSTD_SYS_",
];

/// Position-independent, by Rust's own linker and thus without a C library; nothing below the stack
/// pointer (where firmware's interrupts write), and nothing for a loader of programs to do.
const FOR_FIRMWARE: [&str; 9] = [
    "-Ctarget-feature=-crt-static",
    "-Cno-redzone=yes",
    "-Cforce-unwind-tables=no",
    "-Crelro-level=off",
    "-Clinker=rust-lld",
    "-Clink-arg=--entry=start",
    "-Clink-arg=--build-id=none",
    "-Clink-arg=--no-dynamic-linker",
    "-Clink-arg=-zmax-page-size=4096",
];

/// A guest program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub enum Program {
    /// What writes and reads backups.
    Backup,
    /// The web front.
    Front,
    /// PID 1.
    Init,
    /// What verifies bundles and writes them.
    Install,
    /// What firmware starts.
    Loader,
    /// The Prose Pod API.
    PodApi,
    /// What tries whether services serve.
    Probe,
}

impl Program {
    /// All there are.
    pub const ALL: [Program; 7] = [
        Program::Backup,
        Program::Front,
        Program::Init,
        Program::Install,
        Program::Loader,
        Program::PodApi,
        Program::Probe,
    ];
    /// Those that are where a layer puts them; the others' places are the builder's business.
    const PLACED: [Program; 5] =
        [Program::Backup, Program::Front, Program::Install, Program::PodApi, Program::Probe];

    /// The name of its file.
    pub fn name(self) -> &'static str {
        match self {
            Program::Backup => "stele-backup",
            Program::Front => "front",
            Program::Init => "stele-init",
            Program::Install => "stele-install",
            Program::Loader => "stele-loader",
            Program::PodApi => "pod-api",
            Program::Probe => "stele-probe",
        }
    }

    /// The package that it is compiled from, and cargo's profile for that.
    fn source(self) -> (&'static str, &'static str) {
        match self {
            Program::Backup => ("backup", "init"),
            Program::Front => ("front", "server"),
            Program::Init => ("init", "init"),
            Program::Install => ("install", "init"),
            Program::Loader => ("loader", "init"),
            Program::PodApi => ("pod-api", "server"),
            Program::Probe => ("probe", "init"),
        }
    }

    /// What rustc is told about it: link statically.
    fn flags(self) -> &'static [&'static str] {
        match self {
            Program::Loader => &FOR_FIRMWARE,
            _ => &["-Ctarget-feature=+crt-static"],
        }
    }
}

impl TryFrom<String> for Program {
    type Error = String;

    fn try_from(name: String) -> Result<Program, String> {
        let found = Program::PLACED.into_iter().find(|program| program.name() == name);
        found.ok_or_else(|| {
            let known = Program::PLACED.map(|program| format!("`{}`", program.name()));
            format!("unknown program `{name}`, expected one of {}", known.join(", "))
        })
    }
}

/// Programs that run in an appliance.
#[derive(Debug, Clone)]
pub struct Programs {
    /// `stele-init`.
    pub init: Arc<[u8]>,
    /// `stele-loader`, as firmware wants it.
    pub loader: Arc<[u8]>,
    placed: BTreeMap<Program, Arc<[u8]>>,
}

impl Programs {
    /// `stele-init`, `stele-loader` and those of `wanted`: the ones in `folder`, or else of the checkout that
    /// `recipe` stands in.
    pub fn find(
        folder: Option<&Path>,
        wanted: &BTreeSet<Program>,
        recipe: &Path,
        architecture: Architecture,
        quiet: bool,
    ) -> Result<Programs> {
        let Some(folder) = folder else {
            let all = wanted.iter().copied().chain([Program::Init, Program::Loader]);
            let made = compile(all, &checkout(recipe)?, architecture, quiet)?;
            return Programs::read(wanted, |program| {
                let path = made.get(&program).cloned();
                path.with_context(|| format!("internal error: no program {}", program.name()))
            });
        };
        Programs::read(wanted, |program| Ok(folder.join(program.name())))
    }

    fn read(
        wanted: &BTreeSet<Program>,
        path: impl Fn(Program) -> Result<PathBuf>,
    ) -> Result<Programs> {
        let read = |program| read(program, &path(program)?);
        let (init, loader) = (read(Program::Init)?, read(Program::Loader)?);
        let placed = wanted.iter().map(|&program| Ok((program, read(program)?)));
        Ok(Programs { init, loader, placed: placed.collect::<Result<_>>()? })
    }

    /// The bytes of a program that was wanted.
    pub fn get(&self, program: Program) -> Result<Arc<[u8]>> {
        match program {
            Program::Init => Ok(self.init.clone()),
            Program::Loader => Ok(self.loader.clone()),
            placed => self.placed.get(&placed).cloned().with_context(|| {
                format!("internal error: nobody has wanted program {}", placed.name())
            }),
        }
    }

    /// Their digests, by name.
    pub fn digests(&self) -> BTreeMap<String, Digest> {
        let placed = self.placed.iter().map(|(program, bytes)| (*program, bytes));
        let all = placed.chain([(Program::Init, &self.init), (Program::Loader, &self.loader)]);
        all.map(|(program, bytes)| (program.name().to_owned(), Digest::of(bytes))).collect()
    }
}

/// A program's bytes, as its place wants them.
pub fn read(program: Program, path: &Path) -> Result<Arc<[u8]>> {
    let hint = || {
        let folder = path.parent().unwrap_or(Path::new("."));
        format!("hint: stele programs --out {}", folder.display())
    };
    let bytes =
        fs::read(path).with_context(|| format!("cannot read {}\n{}", path.display(), hint()))?;
    let context = || format!("cannot use {}", path.display());
    if program == Program::Loader {
        return Ok(efi::program(&bytes).with_context(context)?.into());
    }
    if is_dynamic(&bytes).with_context(context)? {
        bail!("{}: it is not static\n{}", context(), hint());
    }
    Ok(bytes.into())
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

/// Compiles guest programs of `checkout`; returns where each is.
///
/// Those of one profile are compiled beside those of the other: each ends with a single thread that
/// optimizes it as a whole, and cargo keeps the profiles' files apart.
pub fn compile(
    programs: impl IntoIterator<Item = Program>,
    checkout: &Path,
    architecture: Architecture,
    quiet: bool,
) -> Result<BTreeMap<Program, PathBuf>> {
    let mut profiles = BTreeMap::<&str, BTreeSet<Program>>::new();
    for program in programs {
        profiles.entry(program.source().1).or_default().insert(program);
    }
    let one = |program| Ok((program, compile_one(program, checkout, architecture, quiet)?));
    thread::scope(|scope| {
        let of = |programs: BTreeSet<Program>| {
            scope.spawn(move || programs.into_iter().map(one).collect::<Result<Vec<_>>>())
        };
        let threads: Vec<_> = profiles.into_values().map(of).collect();
        let results = threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic)));
        let made = results.collect::<Result<Vec<_>>>()?;
        Ok(made.into_iter().flatten().collect())
    })
}

/// Compiles a guest program of `checkout`; returns where it is.
///
/// The bytes depend on the sources, the pinned compiler and the host's C library (and compiler, for
/// SQLite and Zstandard), and nothing else: paths are remapped, and each program is compiled by itself, since
/// cargo gives crates the features that any of the packages named wants of them.
fn compile_one(
    program: Program,
    checkout: &Path,
    architecture: Architecture,
    quiet: bool,
) -> Result<PathBuf> {
    let target = architecture.rust_target();
    let target_folder = env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    let target_folder = checkout.join(target_folder.unwrap_or_else(|| "target".into()));
    let (package, profile) = program.source();
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .current_dir(checkout)
        .args(["build", "--locked", "--package", package, "--bin", program.name()])
        .args(["--profile", profile, "--target", target])
        .env("CARGO_ENCODED_RUSTFLAGS", flags(program, checkout, &target_folder)?.join("\x1f"))
        .env("CARGO_TARGET_DIR", &target_folder)
        // Two bars on one line would be none.
        .env("CARGO_TERM_PROGRESS_WHEN", "never");
    if program == Program::Loader {
        command.args(["--features", "program"]);
    }
    // The tests' own profile and coverage settings are none of the guest's business either.
    for (name, _) in env::vars_os() {
        if NOT_THE_GUESTS.iter().any(|prefix| name.to_string_lossy().starts_with(prefix)) {
            command.env_remove(name);
        }
    }
    if quiet {
        command.arg("--quiet");
    }
    let cannot = || format!("cannot compile guest program {}", program.name());
    let status = command.status().with_context(|| {
        format!(
            "{}: cargo does not start\nhint: --programs DIR with those of a release, or install \
             Rust",
            cannot()
        )
    })?;
    if !status.success() {
        bail!("{}: cargo says why above", cannot());
    }
    Ok(target_folder.join(target).join(profile).join(program.name()))
}

/// What rustc is told: how to link, and to name no path of this host.
fn flags(program: Program, checkout: &Path, target_folder: &Path) -> Result<Vec<String>> {
    let cargo_home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo"));
    let mapped = [
        (Some(checkout.to_owned()), "/stele"),
        (Some(target_folder.to_owned()), "/target"),
        (cargo_home.or(home), "/cargo"),
        (Some(sysroot()?), "/rust"),
    ];
    let mapped = mapped.into_iter().filter_map(|(from, to)| Some((from?, to)));
    let mapped = mapped.map(|(from, to)| format!("--remap-path-prefix={}={to}", from.display()));
    Ok(program.flags().iter().map(ToString::to_string).chain(mapped).collect())
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
