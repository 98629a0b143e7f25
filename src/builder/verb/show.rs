//! `stele show`: what is in an image, a bundle, a lock, or a build report.

mod bundle;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use appliance::boot::{Appliance, Volume};
use appliance::gpt::{Guid, Partition, READ_ONLY};
use appliance::hash::RootHash;
use appliance::service::{Kind, Ready, Service};
use serde::Serialize;
use time::OffsetDateTime;

use crate::document;
use crate::inspect::uki::Uki;
use crate::inspect::{Check, Image};
use crate::lock::{Clock, Lock};
use crate::quantity::Size;
use crate::report::Report;
use crate::verb::show::bundle::BundleOutcome;

/// What was looked at.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Outcome {
    /// An image.
    Image(Box<ImageOutcome>),
    /// A bundle.
    Bundle(Box<BundleOutcome>),
    /// A lock.
    Lock(Box<Lock>),
    /// A build report.
    Report(Box<Report>),
}

/// What is in an image.
#[derive(Debug, Serialize)]
pub struct ImageOutcome {
    /// Debian's name of the architecture.
    pub architecture: &'static str,
    /// Its partitions, in table order.
    pub partitions: Vec<PartitionOutcome>,
    /// Its UKIs, in the order in which the loader would try them.
    pub ukis: Vec<UkiOutcome>,
}

/// A partition.
#[derive(Debug, Serialize)]
pub struct PartitionOutcome {
    /// Its name.
    pub name: String,
    /// The GUID of its type.
    #[serde(rename = "type")]
    pub kind: String,
    /// What that type is called.
    pub purpose: &'static str,
    /// Where it starts, in bytes.
    pub offset: u64,
    /// Its length.
    pub bytes: u64,
    /// May it be written?
    pub read_only: bool,
}

/// A UKI, and the root that it pins.
#[derive(Debug, Serialize)]
pub struct UkiOutcome {
    /// Its file name.
    pub file: String,
    /// What a boot menu calls it.
    pub title: String,
    /// The kernel's command line.
    pub cmdline: String,
    /// The kernel's release.
    pub kernel: String,
    /// Lengths of all sections.
    pub sections: Vec<SectionOutcome>,
    /// The root that its initrd opens.
    pub root_hash: RootHash,
    /// That root's length.
    pub root_bytes: u64,
    /// Where that root is.
    pub slot: Option<String>,
    /// What is wrong with that root; nothing, when all of it is what is pinned.
    pub fault: Option<String>,
    /// What the root says of itself, when all of it is what is pinned.
    pub appliance: Option<Appliance>,
    /// Versions of the packages that the root has something of.
    pub packages: BTreeMap<String, String>,
}

/// A section of a UKI.
#[derive(Debug, Serialize)]
pub struct SectionOutcome {
    /// Its name.
    pub name: String,
    /// Its length.
    pub bytes: usize,
}

/// Looks into `file`; a bundle must be signed by one of the keys `trust`, if there are any.
pub fn show(file: &Path, trust: &[PathBuf]) -> Result<Outcome> {
    let extension = file.extension().unwrap_or_default();
    if extension == "bundle" {
        return Ok(Outcome::Bundle(Box::new(BundleOutcome::of(file, trust)?)));
    }
    if !trust.is_empty() {
        bail!("cannot trust {}: only bundles (.bundle) are signed", file.display());
    }
    if extension == "lock" {
        return Ok(Outcome::Lock(Box::new(document::load(file)?)));
    }
    if extension == "json" {
        let shown = file.display();
        let text = fs::read(file).with_context(|| format!("cannot read {shown}"))?;
        let report = serde_json::from_slice(&text)
            .with_context(|| format!("cannot understand {shown} as a build report"))?;
        return Ok(Outcome::Report(Box::new(report)));
    }
    if extension == "toml" {
        bail!(
            "cannot show {}: it is no image (.img), bundle (.bundle), lock (.lock) or build report \
             (.json)",
            file.display()
        );
    }
    Ok(Outcome::Image(Box::new(ImageOutcome::of(&Image::open(file)?)?)))
}

impl Outcome {
    /// What a person reads.
    pub fn print(&self) {
        match self {
            Outcome::Image(image) => image.print(),
            Outcome::Bundle(bundle) => bundle.print(),
            Outcome::Lock(lock) => print_lock(lock),
            Outcome::Report(report) => {
                println!("{} {} ({})", report.name, report.version, report.architecture);
                println!("clock {}", report.clock);
                report.print();
            }
        }
    }

    /// Refuses an image whose root isn't what its UKI pins, and a bundle that isn't what it says or
    /// isn't signed by a key that is trusted.
    pub fn must_be_sound(&self, file: &Path) -> Result<()> {
        let image = match self {
            Outcome::Image(image) => image,
            Outcome::Bundle(bundle) => return bundle.must_be_sound(file),
            Outcome::Lock(_) | Outcome::Report(_) => return Ok(()),
        };
        match image.ukis.iter().find_map(|uki| uki.fault.as_ref().map(|fault| (uki, fault))) {
            Some((uki, fault)) => {
                bail!("cannot trust {}: the root of {}: {fault}", file.display(), uki.file)
            }
            None => Ok(()),
        }
    }
}

impl ImageOutcome {
    fn of(image: &Image) -> Result<ImageOutcome> {
        let ukis = image.ukis()?;
        let ukis = ukis.iter().map(|uki| UkiOutcome::of(image, uki));
        Ok(ImageOutcome {
            architecture: image.architecture.debian(),
            partitions: image.table.partitions.iter().map(PartitionOutcome::of).collect(),
            ukis: ukis.collect::<Result<_>>()?,
        })
    }

    fn print(&self) {
        println!("architecture  {}", self.architecture);
        for partition in &self.partitions {
            let (size, offset) = (Size(partition.bytes), Size(partition.offset));
            let access = if partition.read_only { ", read-only" } else { "" };
            let (name, purpose) = (&partition.name, partition.purpose);
            println!("partition     {name}: {size} at {offset}, {purpose}{access}");
        }
        self.ukis.iter().for_each(UkiOutcome::print);
    }
}

impl PartitionOutcome {
    fn of(partition: &Partition) -> PartitionOutcome {
        PartitionOutcome {
            name: partition.name.clone(),
            kind: partition.kind.to_string(),
            purpose: match partition.kind {
                Guid::ESP => "EFI system partition",
                Guid::ROOT_X86_64 => "root of x86-64",
                Guid::ROOT_ARM64 => "root of 64-bit ARM",
                Guid::BASIC_DATA => "basic data",
                _ => "of a type unknown here",
            },
            offset: partition.offset(),
            bytes: partition.bytes(),
            read_only: partition.attributes & READ_ONLY != 0,
        }
    }
}

impl UkiOutcome {
    fn of(image: &Image, uki: &Uki) -> Result<UkiOutcome> {
        let pin = uki.pin()?.root;
        let Check { slot, fault } = image.check(&pin)?;
        let (mut appliance, mut packages) = (None, BTreeMap::new());
        if fault.is_none() {
            let root = image.root(&pin)?;
            appliance = Some(root.appliance()?);
            let provenance = root.provenance()?;
            let taken = provenance.packages.into_iter();
            packages = taken
                .filter(|(name, _)| provenance.paths.contains_key(&format!("package {name}")))
                .map(|(name, note)| (name, note.version))
                .collect();
        }
        let sections = uki.sections().into_iter();
        Ok(UkiOutcome {
            file: uki.name.clone(),
            title: uki.title()?,
            cmdline: uki.cmdline()?,
            kernel: uki.release()?,
            sections: sections.map(|(name, bytes)| SectionOutcome { name, bytes }).collect(),
            root_hash: pin.root_hash,
            root_bytes: pin.data_blocks.saturating_mul(appliance::verity::BLOCK as u64),
            slot,
            fault,
            appliance,
            packages,
        })
    }

    fn print(&self) {
        println!("\n{} ({})", self.title, self.file);
        if let Some(appliance) = &self.appliance {
            let clock = OffsetDateTime::from_unix_timestamp(appliance.clock as i64).map(Clock);
            let clock = clock.map_or_else(|_| "?".to_owned(), |clock| clock.to_string());
            println!("  appliance   {} {}, of {clock}", appliance.name, appliance.version);
        }
        println!("  kernel      {}", self.kernel);
        println!("  cmdline     {}", self.cmdline);
        let sections = self.sections.iter();
        let sections: Vec<String> =
            sections.map(|s| format!("{} {}", s.name, Size(s.bytes as u64))).collect();
        println!("  sections    {}", sections.join(", "));
        println!("  root hash   {}", self.root_hash);
        let slot = self.slot.as_deref().unwrap_or("no slot");
        let verdict = match &self.fault {
            None => "verified: data and hash tree are what the initrd pins".to_owned(),
            Some(fault) => format!("NOT SOUND: {fault}"),
        };
        println!("  root        {} in {slot}, {verdict}", Size(self.root_bytes));
        let Some(appliance) = &self.appliance else { return };
        println!("  packages    {}", self.packages.len());
        for service in &appliance.services {
            println!("  service     {}: {}", service.name, described(service));
        }
        for Volume { path, mode, uid, gid, .. } in &appliance.volumes {
            println!("  volume      {path}, mode {mode:04o}, owner {uid}:{gid}");
        }
    }
}

/// A service in one line.
fn described(service: &Service) -> String {
    let kind = match &service.kind {
        Kind::Daemon { ready: Ready::Started, .. } => "daemon".to_owned(),
        Kind::Daemon { ready: Ready::Tcp(port), .. } => format!("daemon, ready on port {port}"),
        Kind::Daemon { ready: Ready::File(path), .. } => format!("daemon, ready with {path}"),
        Kind::Daemon { ready: Ready::Notify, .. } => "daemon, says when it is ready".to_owned(),
        Kind::Task { creates: Some(path), .. } => format!("task, creates {path}"),
        Kind::Task { creates: None, .. } => "task".to_owned(),
    };
    let after = match service.after.is_empty() {
        true => String::new(),
        false => format!(", after {}", service.after.join(", ")),
    };
    format!("{} as {}; {kind}{after}", service.run.join(" "), service.user.name)
}

fn print_lock(lock: &Lock) {
    println!("architecture  {}", lock.architecture);
    println!("clock         {}", lock.clock);
    for source in &lock.sources {
        let signers = source.signed_by.join(", ");
        println!("source        {} {}, of {}", source.archive, source.suite, source.date);
        println!("              signed by {signers}");
    }
    let bytes = lock.packages.iter().map(|package| package.size).sum();
    println!("packages      {}, {}", lock.packages.len(), Size(bytes));
    for package in &lock.packages {
        let why = package.why.join(", ");
        println!("  {} {} ({}) ← {why}", package.name, package.version, Size(package.size));
    }
    println!("omitted       {}", lock.omitted.len());
}
