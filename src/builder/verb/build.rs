//! `stele build`: from a recipe and its lock to a release on disk.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use appliance::hash::Digest;
use clap::ValueEnum;
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use tempfile::NamedTempFile;

use crate::archive::fetch::{Fetcher, Wanted};
use crate::archive::mirror::Mirrors;
use crate::archive::source::{self, DEBIAN, SECURITY};
use crate::archive::store::Store;
use crate::assemble;
use crate::freshness::{self, Made};
use crate::image::disk::Disk;
use crate::image::qcow2;
use crate::lock::{Lock, LockedPackage};
use crate::plan::Plan;
use crate::programs::Programs;
use crate::progress::Progress;
use crate::provenance::{self, Provenance};
use crate::release;
use crate::report::Report;
use crate::sbom;
use crate::verb::bundle;

/// How to build.
#[derive(Debug)]
pub struct Options<'a> {
    /// Where the results go.
    pub out: &'a Path,
    /// Where the guest programs are; else they are compiled.
    pub programs: Option<&'a Path>,
    /// Where packages that the store lacks are fetched.
    pub mirror: Option<&'a str>,
    /// Where packages are fetched that the mirror no longer has: `{archive}` and `{date}` in it
    /// stand for the archive's name and the lock's date.
    pub snapshot: Option<&'a str>,
    /// What the disk image is written as; at least one.
    pub formats: &'a [Format],
}

/// A kind of file that holds a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// The disk itself, byte for byte; its file ends in `.img`.
    Raw,
    /// QEMU's own.
    Qcow2,
}

impl Format {
    fn extension(self) -> &'static str {
        match self {
            Format::Raw => "img",
            Format::Qcow2 => "qcow2",
        }
    }
}

/// What was made, for a person or a machine.
#[derive(Debug, Serialize)]
pub struct Outcome {
    /// Was anything done, or had nothing changed?
    pub built: bool,
    /// The disk image, in the first of the formats that were asked for.
    pub image: PathBuf,
    /// The same disk in the others.
    pub others: Vec<PathBuf>,
    /// The list of what is in it.
    pub sbom: PathBuf,
    /// The report, as a file.
    pub report_file: PathBuf,
    /// The bundle, if one was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bundle: Option<bundle::Outcome>,
    /// The report.
    pub report: Report,
}

/// Builds `plan`, unless what stands in the output folder was built from the same inputs.
pub fn build(
    plan: &Plan,
    options: &Options<'_>,
    store: &Store,
    progress: &Progress,
    quiet: bool,
) -> Result<Outcome> {
    let recipe = plan.recipe();
    let lock = Lock::of(plan)?;
    let architecture = recipe.debian.architecture;
    let wanted = plan.programs();
    let programs = Programs::find(options.programs, &wanted, &plan.file.path, architecture, quiet)?;
    let stem = format!("{}-{}", recipe.name, recipe.version);
    let place = |extension: &str| options.out.join(format!("{stem}.{extension}"));
    let mut others: Vec<PathBuf> =
        options.formats.iter().map(|format| place(format.extension())).collect();
    let (sbom_file, report_file) = (place("spdx.json"), place("json"));
    let key = freshness::key(plan, &programs)?;
    let files = [&others[..], &[sbom_file.clone(), report_file.clone()]].concat();
    let made = Made { key, files };
    let image = others.remove(0);
    if made.is_fresh(store)
        && let Ok(report) = serde_json::from_slice(&fs::read(&report_file)?)
    {
        let (built, bundle) = (false, None);
        let sbom = sbom_file;
        return Ok(Outcome { built, image, others, sbom, report_file, bundle, report });
    }
    fetch_missing(plan, &lock, options, store, progress)?;
    progress.step("unpacking packages");
    let mut assembled = assemble::assemble(plan, &lock, store, &programs)?;
    let provenance = Provenance::of(&assembled.tree, &lock).to_text()?;
    assembled.tree.add(provenance::FILE, assemble::built(provenance))?;
    progress.step("writing the root file system");
    let release = release::make(plan, &lock, &assembled, &programs)?;
    progress.step("writing the image");
    fs::create_dir_all(options.out)
        .with_context(|| format!("cannot make {}", options.out.display()))?;
    let digest = write_images(&release.disk, options.formats, place)?;
    let report = Report::new(plan, &lock, &assembled, &programs, &release, digest);
    let sbom = sbom::document(plan, &lock, &assembled, &report)?;
    write_file(&sbom_file, sbom.as_bytes())?;
    write_file(&report_file, (serde_json::to_string_pretty(&report)? + "\n").as_bytes())?;
    made.remember(store)?;
    progress.clear();
    let (built, bundle) = (true, None);
    Ok(Outcome { built, image, others, sbom: sbom_file, report_file, bundle, report })
}

impl Outcome {
    /// What a person reads.
    pub fn print(&self) {
        if self.built {
            self.report.print();
        }
        let did = if self.built { "built" } else { "nothing changed:" };
        println!("{did} {}", self.image.display());
        self.others.iter().for_each(|other| println!("as well as {}", other.display()));
        if let Some(bundle) = &self.bundle {
            bundle.print();
        }
    }
}

/// The network is asked only for what the store lacks.
fn fetch_missing(
    plan: &Plan,
    lock: &Lock,
    options: &Options<'_>,
    store: &Store,
    progress: &Progress,
) -> Result<()> {
    let missing: Vec<&LockedPackage> =
        lock.packages.iter().filter(|package| !store.has(&package.sha256)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let mirrors = Mirrors::find(options.mirror, &plan.recipe().debian)?;
    let base = |archive: &str| match archive {
        DEBIAN => mirrors.debian.clone(),
        SECURITY => mirrors.security.clone(),
        name => {
            let mut own = plan.recipe().repositories.iter();
            own.find(|repository| repository.name.as_str() == name).map(|r| r.url.clone())
        }
    };
    let date: String = lock.clock.to_string().replace(['-', ':'], "");
    let snapshot = |archive: &str| {
        options.snapshot.map(|url| url.replace("{archive}", archive).replace("{date}", &date))
    };
    let wanted: Vec<Wanted> = missing
        .into_iter()
        .map(|package| Wanted {
            name: format!("{} {}", package.name, package.version),
            urls: [base(&package.archive), snapshot(&package.archive)]
                .into_iter()
                .flatten()
                .map(|base| format!("{}/{}", base.trim_end_matches('/'), package.path))
                .collect(),
            size: package.size,
            digest: package.sha256,
        })
        .collect();
    Fetcher::new(store, progress).fetch_all(&wanted).map_err(|error| {
        match source::is_gone(&error) {
            true => error.context(format!(
                "cannot build {}: packages of its lock are gone from the mirror\nhint: stele lock \
                 {} takes newer ones; --snapshot URL finds the old ones",
                plan.recipe().name,
                plan.file.path.display()
            )),
            false => error,
        }
    })
}

/// Writes the disk in these formats, each file beside its place and moved there whole. The digest is
/// that of the disk itself.
fn write_images(
    disk: &Disk,
    formats: &[Format],
    place: impl Fn(&str) -> PathBuf,
) -> Result<Digest> {
    let path = place(Format::Raw.extension());
    let context = || format!("cannot write {}", path.display());
    let mut raw = beside(&path)?;
    disk.write_to(raw.as_file_mut()).with_context(context)?;
    let mut hash = Sha256::new();
    let mut written = File::open(raw.path()).with_context(context)?;
    std::io::copy(&mut written, &mut hash).with_context(context)?;
    if formats.contains(&Format::Qcow2) {
        let path = place(Format::Qcow2.extension());
        let context = || format!("cannot write {}", path.display());
        let file = beside(&path)?;
        qcow2::write(&written, disk.size, file.as_file()).with_context(context)?;
        file.persist(&path).map_err(|error| error.error).with_context(context)?;
    }
    if formats.contains(&Format::Raw) {
        raw.persist(&path).map_err(|error| error.error).with_context(context)?;
    }
    Ok(Digest(hash.finalize().into()))
}

fn write_file(path: &Path, bytes: &[u8]) -> Result<()> {
    let context = || format!("cannot write {}", path.display());
    let mut file = beside(path)?;
    file.write_all(bytes).with_context(context)?;
    file.persist(path).map_err(|error| error.error).with_context(context)?;
    Ok(())
}

/// A file in the folder of `path`, to become that.
fn beside(path: &Path) -> Result<NamedTempFile> {
    tempfile::Builder::new()
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
        .tempfile_in(path.parent().unwrap_or(Path::new(".")))
        .with_context(|| format!("cannot write {}", path.display()))
}
