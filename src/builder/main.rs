//! The program `stele`: from a recipe to a bootable, verified disk image.

mod architecture;
mod archive;
mod assemble;
mod compression;
mod data;
mod deb;
mod document;
mod elf;
mod flash;
mod freshness;
mod glob;
mod held;
mod image;
mod inspect;
mod kernel;
mod layer;
mod links;
mod lock;
mod plan;
mod pod;
mod programs;
mod progress;
mod provenance;
mod qemu;
mod quantity;
mod recipe;
mod release;
mod report;
mod resolve;
mod sbom;
mod scripts;
mod slice;
mod tree;
mod trust;
mod verb;

use std::ffi::OsString;
use std::panic;
use std::path::{Path, PathBuf};
use std::process::{self, ExitCode};

use anyhow::Result;
use clap::{Args, Parser, Subcommand};
use serde::Serialize;
use tracing_subscriber::EnvFilter;

use crate::architecture::Architecture;
use crate::archive::store::Store;
use crate::plan::Plan;
use crate::progress::Progress;
use crate::recipe::RecipeFile;
use crate::verb::build::Format;

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
        /// What the image is written as: raw (.img), which everything else takes, or qcow2, or both.
        #[arg(long, value_name = "FORMAT", value_delimiter = ',', default_value = "raw")]
        format: Vec<Format>,
        /// Make the bundle too that upgrades an appliance to it.
        #[arg(long, requires = "key")]
        bundle: bool,
        /// What signs the bundle.
        #[arg(long, value_name = "FILE", requires = "bundle")]
        key: Option<PathBuf>,
        #[command(flatten)]
        how: How,
        #[command(flatten)]
        common: Common,
    },
    /// Make the bundle of a recipe, one signed file that upgrades an appliance; the image is built
    /// first, unless nothing has changed.
    Bundle {
        /// For example recipes/prose-pod.toml.
        recipe: PathBuf,
        /// What signs it: a secret key that `key new` made.
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
        #[command(flatten)]
        how: How,
        #[command(flatten)]
        common: Common,
    },
    /// Make the keys that sign bundles.
    Key {
        #[command(subcommand)]
        verb: KeyVerb,
    },
    /// Boot an appliance in QEMU, its ports forwarded to 127.0.0.1, its console on the terminal.
    Run {
        /// A recipe (.toml), which is built first, or an image.
        #[arg(value_name = "RECIPE|IMAGE")]
        what: PathBuf,
        #[command(flatten)]
        how: How,
        #[command(flatten)]
        options: verb::run::Options,
        #[command(flatten)]
        common: Common,
    },
    /// Put an operator's configuration onto the seed partition of an image, or of a disk that `run`
    /// keeps; the appliance takes it over at its next boot. (An image that is built again is new.)
    Seed {
        /// For example out/prose-pod-1.0.0.img.
        image: PathBuf,
        /// For example Prose.toml env certs/; a folder goes there with its files.
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// Print JSON for a machine.
        #[arg(long)]
        json: bool,
    },
    /// Write an image to a disk, or to a file that is there. What is mounted, too small or the
    /// system's is refused; zeros are skipped; all is read back.
    Flash {
        /// For example out/prose-pod-1.0.0.img.
        image: PathBuf,
        /// For example /dev/sdX.
        device: PathBuf,
        /// Agree that all that was on the device is lost; else you are asked.
        #[arg(long)]
        yes: bool,
        /// Print JSON for a machine, and no progress.
        #[arg(long)]
        json: bool,
    },
    /// Show what is in an image, a bundle, a lock or a build report; images and bundles are verified.
    Show {
        /// For example out/prose-pod-1.0.0.img.
        file: PathBuf,
        /// A public key that the bundle must be signed by; may be repeated: by one of them.
        #[arg(long, value_name = "FILE")]
        trust: Vec<PathBuf>,
        /// Print JSON for a machine.
        #[arg(long)]
        json: bool,
    },
    /// Tell who put a path into an image.
    Why {
        /// For example out/prose-pod-1.0.0.img.
        image: PathBuf,
        /// For example /usr/bin/prosody, or a directory.
        path: String,
        /// Print JSON for a machine.
        #[arg(long)]
        json: bool,
    },
    /// Give a Pod that runs a new system, and wait until that is trusted, or the old one is back
    /// (exit code 3).
    Upgrade {
        /// What `bundle` made, for example out/prose-pod-1.1.0.bundle.
        bundle: PathBuf,
        #[command(flatten)]
        switch: Switch,
    },
    /// Have a Pod that runs go back to the system before, and wait as `upgrade` does.
    Rollback(Switch),
    /// Become a program that dies with the process that started it; `run` uses it.
    #[command(hide = true)]
    Leash {
        parent: u32,
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        command: Vec<OsString>,
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

#[derive(Subcommand)]
enum KeyVerb {
    /// Make NAME.key, which signs, and NAME.pub, which recipes name.
    New {
        /// For example keys/pod.
        name: PathBuf,
        /// Print JSON for a machine.
        #[arg(long)]
        json: bool,
    },
}

/// How a Pod that runs is given another system.
#[derive(Args)]
struct Switch {
    #[command(flatten)]
    reach: pod::client::Reach,
    #[command(flatten)]
    patience: pod::switch::Patience,
    /// Print JSON for a machine, and no progress.
    #[arg(long)]
    json: bool,
}

impl Switch {
    /// Prints what became of it. It is an error if the Pod went back.
    fn end(
        self,
        act: impl FnOnce(
            &pod::client::Reach,
            &pod::switch::Patience,
            &Progress,
        ) -> Result<pod::switch::Outcome>,
    ) -> Result<()> {
        let progress = Progress::new(self.json);
        let outcome = act(&self.reach, &self.patience, &progress);
        progress.clear();
        let outcome = outcome?;
        print(self.json, &outcome, pod::switch::Outcome::print)?;
        outcome.must_be_new()
    }
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
    fn options<'a>(&'a self, formats: &'a [Format]) -> verb::build::Options<'a> {
        verb::build::Options {
            out: &self.out,
            programs: self.programs.as_deref(),
            mirror: self.mirror.as_deref(),
            snapshot: self.snapshot.as_deref(),
            formats,
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
    end_quietly_when_unread();
    match run(Arguments::parse().verb) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}", told(&error));
            ExitCode::from(verb::upgrade::exit_code(&error))
        }
    }
}

/// Whoever reads what we print may stop to: `stele show FILE | head`. That is no bug.
fn end_quietly_when_unread() {
    let tell = panic::take_hook();
    panic::set_hook(Box::new(move |bug| {
        let is_unread = |text: &str| text.starts_with("failed printing to stdout");
        match bug.payload_as_str().is_some_and(is_unread) {
            true => process::exit(1),
            false => tell(bug),
        }
    }));
}

fn run(verb: Verb) -> Result<()> {
    match verb {
        Verb::Lock { recipe, mirror, dry_run, common } => {
            let store = Store::open(common.store.as_deref())?;
            let plan = plan(&recipe)?;
            let progress = Progress::new(common.json);
            let outcome = verb::lock::lock(&plan, mirror.as_deref(), dry_run, &store, &progress)?;
            print(common.json, &outcome, verb::lock::Outcome::print)
        }
        Verb::Build { recipe, format, bundle: _, key, how, common } => {
            make(&recipe, &format, key.as_deref(), &how, &common)
        }
        Verb::Bundle { recipe, key, how, common } => {
            make(&recipe, &[Format::Raw], Some(&key), &how, &common)
        }
        Verb::Key { verb: KeyVerb::New { name, json } } => {
            print(json, &verb::key::new(&name)?, verb::key::Outcome::print)
        }
        Verb::Run { what, how, options, common } => {
            let store = Store::open(common.store.as_deref())?;
            let mut image = what;
            if image.extension().is_some_and(|extension| extension == "toml") {
                let plan = plan(&image)?;
                let outcome = build(&plan, &how, &[Format::Raw], &store, common.json)?;
                if !common.json {
                    outcome.print();
                }
                image = outcome.image;
            }
            let progress = Progress::new(common.json);
            verb::run::run(&image, &options, &store, &progress, common.json)
        }
        Verb::Seed { image, files, json } => {
            print(json, &verb::seed::seed(&image, &files)?, verb::seed::Outcome::print)
        }
        Verb::Flash { image, device, yes, json } => {
            let consent = match yes {
                true => verb::flash::Consent::Given,
                false => verb::flash::Consent::Asked,
            };
            let outcome = verb::flash::flash(&image, &device, consent, &Progress::new(json))?;
            print(json, &outcome, verb::flash::Outcome::print)
        }
        Verb::Show { file, trust, json } => {
            let outcome = verb::show::show(&file, &trust)?;
            print(json, &outcome, verb::show::Outcome::print)?;
            outcome.must_be_sound(&file)
        }
        Verb::Why { image, path, json } => {
            print(json, &verb::why::why(&image, &path)?, verb::why::Outcome::print)
        }
        Verb::Upgrade { bundle, switch } => switch.end(|reach, patience, progress| {
            verb::upgrade::upgrade(&bundle, reach, patience, progress)
        }),
        Verb::Rollback(switch) => switch.end(verb::rollback::rollback),
        Verb::Leash { parent, command } => qemu::process::leash(parent, &command),
        Verb::Programs { out, architecture } => {
            verb::programs::programs(out.as_deref(), architecture)
        }
    }
}

/// An image, and its bundle if there is a key to sign it. What is wrong with the key is told before
/// anything is built.
fn make(
    recipe: &Path,
    formats: &[Format],
    key: Option<&Path>,
    how: &How,
    common: &Common,
) -> Result<()> {
    let store = Store::open(common.store.as_deref())?;
    let plan = plan(recipe)?;
    let key = key.map(verb::bundle::key).transpose()?;
    if key.is_some() {
        verb::bundle::check(&plan, formats)?;
    }
    let mut outcome = build(&plan, how, formats, &store, common.json)?;
    if let Some(key) = key {
        let uki = &outcome.report.uki;
        outcome.bundle = Some(verb::bundle::make(&plan, &outcome.image, uki, &key)?);
    }
    print(common.json, &outcome, verb::build::Outcome::print)
}

fn plan(recipe: &Path) -> Result<Plan> {
    Plan::new(RecipeFile::load(recipe)?)
}

fn build(
    plan: &Plan,
    how: &How,
    formats: &[Format],
    store: &Store,
    json: bool,
) -> Result<verb::build::Outcome> {
    verb::build::build(plan, &how.options(formats), store, &Progress::new(json), json)
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
