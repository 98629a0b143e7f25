//! The program `stele`: from a recipe to a bootable, verified disk image.

mod architecture;
mod archive;
mod assemble;
mod compression;
mod data;
mod deb;
mod document;
mod elf;
mod freshness;
mod glob;
mod image;
mod kernel;
mod layer;
mod lock;
mod plan;
mod programs;
mod progress;
mod provenance;
mod quantity;
mod recipe;
mod release;
mod report;
mod resolve;
mod sbom;
mod scripts;
mod slice;
mod tree;
mod verb;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};
use serde::Serialize;
use tracing_subscriber::EnvFilter;

use crate::architecture::Architecture;
use crate::archive::store::Store;
use crate::plan::Plan;
use crate::progress::Progress;
use crate::recipe::RecipeFile;

/// Makes immutable appliances: recipe + layers → lock → verified, bootable disk image.
#[derive(Parser)]
#[command(name = "stele", version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Pin the exact packages of a recipe, and say what changed since last time.
    Lock {
        /// For example recipes/prose-pod.toml.
        recipe: PathBuf,
        /// Base address of a Debian mirror; else the recipe's, else that of this host's apt.
        #[arg(long, value_name = "URL")]
        mirror: Option<String>,
        /// Only say what would be locked: no package is fetched, nothing is written.
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        common: Common,
    },
    /// Make a disk image from a recipe and its lock.
    Build {
        /// For example recipes/prose-pod.toml.
        recipe: PathBuf,
        #[command(flatten)]
        how: How,
        #[command(flatten)]
        common: Common,
    },
    /// Compile the programs that run in an appliance; `build` does it by itself in a checkout.
    Programs {
        /// Copy them there.
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
        /// Which machine they run on.
        #[arg(long, value_name = "NAME", default_value = "amd64")]
        architecture: Architecture,
    },
}

#[derive(Args)]
struct How {
    /// Where the results go.
    #[arg(long, value_name = "DIR", default_value = "out")]
    out: PathBuf,
    /// Guest programs that are compiled already.
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,
    /// Base address of a Debian mirror; else the recipe's, else that of this host's apt.
    #[arg(long, value_name = "URL")]
    mirror: Option<String>,
    /// Where packages are found that the mirror no longer has; {archive} and {date} in it are
    /// replaced.
    #[arg(long, value_name = "URL", env = "STELE_SNAPSHOT")]
    snapshot: Option<String>,
}

impl How {
    fn options(&self) -> verb::build::Options<'_> {
        verb::build::Options {
            out: &self.out,
            programs: self.programs.as_deref(),
            mirror: self.mirror.as_deref(),
            snapshot: self.snapshot.as_deref(),
        }
    }
}

#[derive(Args)]
struct Common {
    /// Where downloads are kept; else ~/.cache/stele.
    #[arg(long, value_name = "DIR", env = "STELE_STORE")]
    store: Option<PathBuf>,
    /// Print JSON for a machine, and no progress.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    // STELE_LOG=debug tells what is fetched from where, and why a build is not fresh.
    let filter = EnvFilter::try_from_env("STELE_LOG").unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    match run(Arguments::parse().verb) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}", told(&error));
            ExitCode::from(1)
        }
    }
}

fn run(verb: Verb) -> Result<()> {
    match verb {
        Verb::Lock { recipe, mirror, dry_run, common } => {
            let store = Store::open(common.store.as_deref())?;
            let plan = Plan::new(RecipeFile::load(&recipe)?)?;
            let progress = Progress::new(common.json);
            let outcome = verb::lock::lock(&plan, mirror.as_deref(), dry_run, &store, &progress)?;
            print(common.json, &outcome, verb::lock::Outcome::print)
        }
        Verb::Build { recipe, how, common } => {
            let store = Store::open(common.store.as_deref())?;
            let plan = Plan::new(RecipeFile::load(&recipe)?)?;
            let progress = Progress::new(common.json);
            let outcome =
                verb::build::build(&plan, &how.options(), &store, &progress, common.json)?;
            print(common.json, &outcome, verb::build::Outcome::print)
        }
        Verb::Programs { out, architecture } => {
            verb::programs::programs(out.as_deref(), architecture)
        }
    }
}

/// An outcome as JSON or in words.
fn print<T: Serialize>(json: bool, outcome: &T, in_words: impl Fn(&T)) -> Result<()> {
    match json {
        true => println!("{}", serde_json::to_string_pretty(outcome)?),
        false => in_words(outcome),
    }
    Ok(())
}

/// `cannot <verb> <object>: <cause>: …`, and hints on lines of their own.
fn told(error: &anyhow::Error) -> String {
    let mut hints = String::new();
    let causes: Vec<String> = error
        .chain()
        .map(|cause| {
            let text = cause.to_string();
            match text.split_once("\nhint: ") {
                Some((cause, hint)) => {
                    hints = format!("{hints}\nhint: {hint}");
                    cause.to_owned()
                }
                None => text,
            }
        })
        .collect();
    format!("error: {}{hints}", causes.join(": "))
}
