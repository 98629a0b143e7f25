//! How long `stele build` takes: with everything at hand, with nothing to do, with nothing at hand.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use serde::Serialize;
use vm_tests::images::{self, POD, Tools};
use vm_tests::scratch::{self, bounded};

use crate::Took;

/// In seconds; a cold build downloads some 60 MB.
const WITHIN: u32 = 1800;

/// All builds: medians.
#[derive(Debug, Serialize)]
pub struct Builds {
    /// The store has all packages; nothing was built before.
    pub warm: Took,
    /// Nothing has changed; the guest programs are given.
    pub no_op: Took,
    /// Nothing has changed; the guest programs are those of the checkout, which cargo looks at. Not
    /// measured when the recipe stands in none.
    pub no_op_in_checkout: Option<Took>,
    /// With an empty store.
    pub cold: Option<Cold>,
}

/// A build with an empty store.
#[derive(Debug, Serialize)]
pub struct Cold {
    /// `stele lock`: downloads and checks indexes and packages.
    pub lock_and_fetch: Took,
    /// `stele build`, right after it.
    pub build: Took,
}

/// Builds so many times each way.
pub fn measure(tools: &Tools, runs: usize, cold: bool) -> Result<Builds> {
    let recipe = images::recipes().join(POD).with_extension("toml");
    let scratch = tempfile::tempdir_in(scratch::target()?).context("cannot make a folder")?;
    let out = scratch.path().join("out");
    let given = |recipe: &Path| {
        let mut stele = stele(tools, "build", recipe);
        stele.arg("--out").arg(&out).arg("--programs").arg(&tools.programs);
        stele
    };
    let (mut warm, mut no_op, mut in_checkout) = (vec![], vec![], vec![]);
    for run in 0..runs {
        eprintln!("build: run {} of {runs}", run + 1);
        let _ = fs::remove_dir_all(&out);
        warm.push(timed(&mut given(&recipe))?);
        no_op.push(timed(&mut given(&recipe))?);
    }
    if recipe.starts_with(scratch::workspace()) {
        let mut usual = stele(tools, "build", &recipe);
        usual.arg("--out").arg(scratch.path().join("usual"));
        timed(&mut usual)?; // compiles, perhaps, and builds
        for _ in 0..runs {
            in_checkout.push(timed(&mut usual)?);
        }
    }
    Ok(Builds {
        warm: Took::median(&warm),
        no_op: Took::median(&no_op),
        no_op_in_checkout: (!in_checkout.is_empty()).then(|| Took::median(&in_checkout)),
        cold: cold.then(|| measure_cold(tools, scratch.path())).transpose()?,
    })
}

/// Once: the network is no thing to measure often.
fn measure_cold(tools: &Tools, scratch: &Path) -> Result<Cold> {
    eprintln!("build: cold");
    let recipe = scratch.join(POD).with_extension("toml");
    let text = fs::read_to_string(images::recipes().join(POD).with_extension("toml"))?;
    fs::write(&recipe, images::variant(&text, &[], &images::recipes(), &[])?)?;
    let (store, out) = (scratch.join("store"), scratch.join("cold"));
    let lock_and_fetch = timed(stele(tools, "lock", &recipe).arg("--store").arg(&store))?;
    let mut build = stele(tools, "build", &recipe);
    build.arg("--store").arg(&store).arg("--out").arg(&out).arg("--programs").arg(&tools.programs);
    Ok(Cold { lock_and_fetch, build: timed(&mut build)? })
}

fn stele(tools: &Tools, verb: &str, recipe: &Path) -> Command {
    let mut stele = bounded(&tools.stele, WITHIN);
    stele.arg(verb).arg(recipe).arg("--json").current_dir(scratch::workspace());
    stele
}

fn timed(command: &mut Command) -> Result<Took> {
    let (started, before) = (Instant::now(), cpu_time_of_children()?);
    images::run(command, "measure a build")?;
    let (wall, cpu) = (started.elapsed(), cpu_time_of_children()? - before);
    Ok(Took { wall_s: wall.as_secs_f64(), cpu_s: cpu.as_secs_f64() })
}

/// Of all that have ended, and their children.
fn cpu_time_of_children() -> Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).context("cannot ask for CPU times")?;
    let sum = usage.user_time() + usage.system_time();
    Ok(Duration::from_micros(u64::try_from(sum.num_microseconds()).unwrap_or_default()))
}
