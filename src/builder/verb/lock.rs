//! `stele lock`: pin the exact packages of a recipe.

use std::collections::BTreeMap;
use std::time::SystemTime;

use anyhow::{Context, Result, bail};
use serde::Serialize;

use crate::archive::fetch::{Fetcher, Wanted};
use crate::archive::index::Index;
use crate::archive::mirror::Mirrors;
use crate::archive::source::{self, Signed, Source};
use crate::archive::store::Store;
use crate::deb;
use crate::lock::{Clock, Lock, LockedPackage, LockedSource, Omitted};
use crate::plan::Plan;
use crate::progress::Progress;
use crate::quantity::Size;
use crate::resolve::{self, Chosen};
use crate::scripts;

/// What was locked, for a person or a machine.
#[derive(Debug, Serialize)]
pub struct Outcome {
    /// The lock's path.
    pub lock: String,
    /// Was it written?
    pub written: bool,
    /// Packages that something is taken from: name → version.
    pub packages: BTreeMap<String, String>,
    /// Packages of the closure that nothing is taken from.
    pub omitted: BTreeMap<String, String>,
    /// Bytes of the .debs.
    pub bytes: u64,
    /// What is different from the lock before; nothing, when there was none.
    pub changes: Vec<String>,
    /// Was there a lock before?
    pub replaced: bool,
}

/// Locks `plan`: everything is fetched and checked before the lock is written, or nothing is.
/// `dry_run` stops before any package is fetched.
pub fn lock(
    plan: &Plan,
    mirror: Option<&str>,
    dry_run: bool,
    store: &Store,
    progress: &Progress,
) -> Result<Outcome> {
    let path = plan.file.lock_path();
    let old = Lock::load(&path)?;
    let mirrors = Mirrors::find(mirror, &plan.recipe().debian)?;
    let fetcher = Fetcher::new(store, progress);
    let sources = source::sources(plan, &mirrors)?;
    let signed = fetch_indexes(&sources, old.as_ref(), &fetcher, progress)?;
    let index = read_index(plan, &sources, &signed, &fetcher, store, progress)?;
    let closure = resolve::closure(&index, plan.roots.keys().map(String::as_str))?;
    let chosen: Vec<&Chosen<'_>> = closure.values().collect();
    refuse_idle_wants(plan, &chosen)?;
    refuse_idle_suites(plan, &chosen)?;
    let lock = pin(plan, &sources, &signed, &chosen)?;
    if !dry_run {
        fetch_and_check(plan, &sources, &lock, &fetcher, store, progress)?;
        lock.store(&path)?;
    }
    progress.clear();
    Ok(Outcome {
        lock: path.display().to_string(),
        written: !dry_run,
        packages: named(lock.packages.iter().map(|p| (&p.name, &p.version))),
        omitted: named(lock.omitted.iter().map(|p| (&p.name, &p.version))),
        bytes: lock.packages.iter().map(|package| package.size).sum(),
        changes: old.as_ref().map(|old| old.changes(&lock)).unwrap_or_default(),
        replaced: old.is_some(),
    })
}

impl Outcome {
    /// What a person reads.
    pub fn print(&self) {
        for line in &self.changes {
            println!("{line}");
        }
        let same = self.replaced && self.changes.is_empty();
        let unchanged = if same { ", no package changed" } else { "" };
        let did = if self.written { "locked" } else { "would lock" };
        println!(
            "{did} {} packages ({}), {} more omitted{unchanged}: {}",
            self.packages.len(),
            Size(self.bytes),
            self.omitted.len(),
            self.lock
        );
    }
}

fn named<'a>(packages: impl Iterator<Item = (&'a String, &'a String)>) -> BTreeMap<String, String> {
    packages.map(|(name, version)| (name.clone(), version.clone())).collect()
}

fn fetch_indexes(
    sources: &[Source],
    old: Option<&Lock>,
    fetcher: &Fetcher<'_>,
    progress: &Progress,
) -> Result<Vec<Signed>> {
    progress.step("checking signed indexes");
    let now = SystemTime::now();
    let mut all = Vec::new();
    for source in sources {
        let signed = source.signed(fetcher, now)?;
        if let Some(known) = old.and_then(|lock| lock.date_of(&source.archive, &source.suite)) {
            signed.must_not_precede(&source.suite, known)?;
        }
        all.push(signed);
    }
    Ok(all)
}

fn read_index(
    plan: &Plan,
    sources: &[Source],
    signed: &[Signed],
    fetcher: &Fetcher<'_>,
    store: &Store,
    progress: &Progress,
) -> Result<Index> {
    progress.step("reading package lists");
    let debian = &plan.recipe().debian;
    let mut index = Index::default();
    for (number, (source, signed)) in sources.iter().zip(signed).enumerate() {
        source.read_packages(&signed.release, debian, fetcher, store, &mut index, number)?;
    }
    Ok(index.finish())
}

/// A pattern that matches no package of the closure takes nothing: somebody mistyped, or the
/// package has another name in this suite.
fn refuse_idle_wants(plan: &Plan, closure: &[&Chosen<'_>]) -> Result<()> {
    for want in &plan.wants {
        if !closure.iter().any(|chosen| want.package.matches(&chosen.package.name)) {
            bail!(
                "cannot use layer {}: no package of the closure is called {}",
                want.layer,
                want.package
            );
        }
    }
    Ok(())
}

/// The same of what a recipe takes from other suites.
fn refuse_idle_suites(plan: &Plan, closure: &[&Chosen<'_>]) -> Result<()> {
    for (suite, names) in &plan.recipe().debian.from {
        for name in names {
            if !closure.iter().any(|chosen| name.matches(&chosen.package.name)) {
                bail!("cannot take {name} from {suite}: no package of the closure is called so");
            }
        }
    }
    Ok(())
}

fn pin(
    plan: &Plan,
    sources: &[Source],
    signed: &[Signed],
    closure: &[&Chosen<'_>],
) -> Result<Lock> {
    let (taken, omitted): (Vec<&Chosen<'_>>, Vec<_>) =
        closure.iter().partition(|chosen| plan.takes_from(&chosen.package.name));
    let newest = signed.iter().map(|signed| signed.release.date).max();
    Ok(Lock {
        version: Lock::FORMAT,
        inputs: plan.lock_inputs(),
        architecture: plan.recipe().debian.architecture.debian().to_owned(),
        clock: Clock(newest.context("a recipe has at least one source")?),
        sources: sources
            .iter()
            .zip(signed)
            .map(|(source, signed)| LockedSource {
                archive: source.archive.clone(),
                suite: source.suite.clone(),
                date: Clock(signed.release.date),
                release: signed.digest,
                signed_by: signed.signers.clone(),
            })
            .collect(),
        packages: taken
            .iter()
            .map(|chosen| LockedPackage {
                name: chosen.package.name.clone(),
                version: chosen.package.version.to_string(),
                archive: sources[chosen.package.source].archive.clone(),
                path: chosen.package.path.clone(),
                size: chosen.package.size,
                sha256: chosen.package.digest,
                why: why(plan, chosen),
            })
            .collect(),
        omitted: omitted
            .iter()
            .map(|chosen| Omitted {
                name: chosen.package.name.clone(),
                version: chosen.package.version.to_string(),
                why: why(plan, chosen),
            })
            .collect(),
    })
}

fn why(plan: &Plan, chosen: &Chosen<'_>) -> Vec<String> {
    let layers = plan.roots.get(&chosen.package.name).into_iter().flatten();
    layers.map(|layer| format!("layer {layer}")).chain(chosen.asked_by.iter().cloned()).collect()
}

fn fetch_and_check(
    plan: &Plan,
    sources: &[Source],
    lock: &Lock,
    fetcher: &Fetcher<'_>,
    store: &Store,
    progress: &Progress,
) -> Result<()> {
    let url = |package: &LockedPackage| {
        let source = sources.iter().find(|source| source.archive == package.archive);
        source.map(|source| format!("{}/{}", source.url, package.path)).into_iter().collect()
    };
    let wanted: Vec<Wanted> = lock
        .packages
        .iter()
        .map(|package| Wanted {
            name: format!("{} {}", package.name, package.version),
            urls: url(package),
            size: package.size,
            digest: package.sha256,
        })
        .collect();
    fetcher.fetch_all(&wanted)?;
    progress.step("looking at maintainer scripts");
    let mut unknown = Vec::new();
    for package in &lock.packages {
        let context = || format!("cannot read package {}", package.name);
        let bytes = store.read(&package.sha256)?;
        let control = deb::read_control(&bytes).with_context(context)?;
        let version = crate::archive::version::Version(package.version.clone());
        unknown.extend(scripts::unknown(&package.name, &version, &control, &plan.layers));
    }
    scripts::refuse(&unknown)
}
