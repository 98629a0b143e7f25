//! `measure`: how long a boot and a build take, how large the image is, how much memory it needs, how
//! fast the API answers, what an upgrade takes.
//!
//! ```text
//! cargo run --release -p vm-tests --bin measure -- --json measured.json
//! cargo run --release -p vm-tests --bin measure -- --only api        # without a machine
//! ```
//!
//! Everything is repeated, and the median told. On a busy host compare CPU seconds, not wall time.

mod api;
mod boot;
mod build;
mod hello;
mod image;
mod memory;
mod table;
mod upgrade;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;

use anyhow::{Context, Result};
use clap::Parser;
use serde::Serialize;
use vm_tests::images::{Image, Tools};

/// Measures boots, builds and the image.
#[derive(Debug, Parser)]
struct Options {
    /// How often everything is repeated.
    #[arg(long, value_name = "N", default_value_t = 5)]
    runs: usize,
    /// Write the figures there, too.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Also lock and build with an empty store: everything is downloaded once.
    #[arg(long)]
    cold: bool,
    /// Also look for the smallest memory that the image serves with.
    #[arg(long)]
    smallest: bool,
    /// Only these parts.
    #[arg(long, value_name = "PART", value_delimiter = ',')]
    only: Vec<Part>,
}

/// A part of the measuring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    Image,
    Build,
    Boot,
    Memory,
    Api,
    Upgrade,
}

/// All figures.
#[derive(Debug, Serialize)]
pub struct Figures {
    runs: usize,
    /// How many processes wanted to run here when it began (the mean of a minute), and on how many
    /// processors: more processes than processors, and wall times tell little.
    host_load: f64,
    host_processors: usize,
    image: Option<image::Sizes>,
    build: Option<build::Builds>,
    boot: Vec<boot::Boot>,
    memory: Vec<memory::Use>,
    smallest_memory_mib: Option<u32>,
    api: Option<api::Api>,
    upgrade: Option<upgrade::Upgrade>,
}

/// What something took: time on the clock, and of processors.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Took {
    /// Seconds on the clock.
    wall_s: f64,
    /// Seconds of all processors.
    cpu_s: f64,
}

impl Took {
    /// The median of each.
    fn median(of: &[Took]) -> Took {
        let column = |field: fn(&Took) -> f64| median(of.iter().map(field).collect());
        Took { wall_s: column(|took| took.wall_s), cpu_s: column(|took| took.cpu_s) }
    }
}

/// The mean of the last minute (proc(5)).
fn load() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().and_then(|first| first.parse().ok()).unwrap_or(f64::NAN)
}

/// Of an even number, the mean of the two in the middle.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.as_slice() {
        [] => f64::NAN,
        values => (values[(values.len() - 1) / 2] + values[values.len() / 2]) / 2.0,
    }
}

fn main() -> Result<()> {
    let mut arguments = env::args_os().skip(1);
    if arguments.next().is_some_and(|first| first == hello::WORD) {
        return hello::serve(Path::new(&arguments.next().context("no socket")?));
    }
    let options = Options::parse();
    let wants = |part| options.only.is_empty() || options.only.contains(&part);
    let runs = options.runs.max(1);
    let host_load = load();
    let tools = Tools::find()?;
    let mut figures = Figures {
        runs,
        host_load,
        host_processors: thread::available_parallelism().map_or(1, usize::from),
        image: None,
        build: None,
        boot: vec![],
        memory: vec![],
        smallest_memory_mib: None,
        api: None,
        upgrade: None,
    };
    if wants(Part::Image) {
        figures.image = Some(image::measure(&Image::release())?);
    }
    if wants(Part::Build) {
        figures.build = Some(build::measure(tools, runs, options.cold)?);
    }
    if wants(Part::Boot) {
        figures.boot = boot::measure(&Image::release(), runs);
    }
    if wants(Part::Memory) {
        figures.memory = memory::measure();
    }
    if wants(Part::Api) {
        figures.api = Some(api::measure(runs)?);
    }
    if wants(Part::Upgrade) {
        figures.upgrade = Some(upgrade::measure(runs)?);
    }
    if options.smallest {
        figures.smallest_memory_mib = memory::smallest();
    }
    println!("{}", table::of(&figures));
    if let Some(path) = options.json {
        let json = serde_json::to_string_pretty(&figures)? + "\n";
        fs::write(&path, json).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_in_the_middle() {
        let table: [(&[f64], f64); 4] = [
            (&[3.0], 3.0),
            (&[9.0, 1.0, 2.0], 2.0),
            (&[1.0, 2.0, 4.0, 9.0], 3.0),
            (&[1.0, 2.0], 1.5),
        ];
        for (values, expected) in table {
            assert_eq!(median(values.to_vec()), expected, "{values:?}");
        }
        assert!(median(vec![]).is_nan());
    }
}
