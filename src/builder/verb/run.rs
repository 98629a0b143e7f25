//! `stele run`: boots an image in QEMU, its ports forwarded, its console on the terminal.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use appliance::hash::Digest;
use serde::Serialize;
use tempfile::TempDir;

use crate::archive::store::Store;
use crate::inspect::Image;
use crate::inspect::uki::Uki;
use crate::progress::Progress;
use crate::qemu::accelerator::{self, Accelerator, Choice, Circumstances, Wish};
use crate::qemu::command::{self, Boot, Machine};
use crate::qemu::disk::{self, Disk};
use crate::qemu::ending::State;
use crate::qemu::guest::{self, Stops};
use crate::qemu::ports::{self, Forward, Loopback, Wanted};
use crate::qemu::{self, firmware, probe};
use crate::quantity::Size;

/// The longest path of a unix socket.
const LONGEST_SOCKET: usize = 107;
/// The socket's name.
const MONITOR: &str = "monitor";

/// How to run.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Forward port HOST of 127.0.0.1 to port GUEST of the appliance; HOST 0 is any free one.
    /// Instead of 5222, 5269 and 3030. May be said more than once.
    #[arg(long = "forward", value_name = "HOST:GUEST")]
    forwards: Vec<Wanted>,
    /// Keep the appliance's disk in this file, so that its data outlive the run. Made from the image
    /// if it isn't there; else it only gets the image's system, if that is another.
    #[arg(long, value_name = "DATA")]
    keep: Option<PathBuf>,
    /// The size of the appliance's disk, such as `8 GiB`; else 4 GiB, or that of a disk that is
    /// kept already. That one may grow: its data then do too.
    #[arg(long, value_name = "SIZE")]
    disk: Option<Size>,
    /// What runs the appliance's processor; `auto` is KVM if a guest runs under it here.
    #[arg(long, value_name = "NAME", default_value = "auto")]
    accelerator: Wish,
    /// Boot by UEFI firmware and the image's own loader, as a real machine does. Else QEMU loads
    /// kernel and initrd, which is faster, but always starts what the image started with.
    #[arg(long)]
    firmware: bool,
    /// The appliance's memory in MiB.
    #[arg(long, value_name = "MIB", default_value_t = 1024)]
    memory: u32,
    /// How many processors the appliance has.
    #[arg(long, value_name = "N", default_value_t = 1)]
    cpus: u32,
    /// Power off after so many seconds, as Ctrl-C does.
    #[arg(long, value_name = "SECS")]
    timeout: Option<u64>,
    /// Don't run anything: print the QEMU command as JSON, and keep the folder of files it needs.
    #[arg(long)]
    print: bool,
}

/// What is about to run, for a person or a machine.
#[derive(Debug, Serialize)]
struct Launch<'a> {
    image: &'a Path,
    /// What the appliance has for a disk.
    disk: &'a Disk,
    title: String,
    architecture: &'static str,
    accelerator: Accelerator,
    /// Why that accelerator.
    why: String,
    /// The firmware's file, if there is any.
    firmware: Option<String>,
    forwards: Vec<Forward>,
    /// Where files are that QEMU needs, and the socket of its monitor.
    folder: &'a Path,
    /// QEMU and its arguments. Its standard output is the serial console.
    command: Vec<String>,
}

/// Boots the image at `path`, and returns when it has powered off.
pub fn run(
    path: &Path,
    options: &Options,
    store: &Store,
    progress: &Progress,
    json: bool,
) -> Result<()> {
    let image = Image::open(path)?;
    let uki = image.first_uki()?;
    boot(&image, &uki, options, store, progress, json)
        .with_context(|| format!("cannot run {}", path.display()))
}

fn boot(
    image: &Image,
    uki: &Uki,
    options: &Options,
    store: &Store,
    progress: &Progress,
    json: bool,
) -> Result<()> {
    let plan = disk::Plan::new(image, options.keep.as_deref(), options.disk)?;
    let version = qemu::version(image.architecture)?;
    let stops = Stops::catch()?;
    let folder = folder()?;
    let start = Start { image, uki, options, folder: folder.path() };
    let boot = start.boot()?;
    let choice = start.accelerator(version, store, &stops, progress)?;
    let disk = plan.carry_out(image, folder.path())?;
    let launch = start.launch(&disk, boot, choice)?;
    if options.print {
        println!("{}", serde_json::to_string_pretty(&launch)?);
        let _kept = folder.keep();
        return Ok(());
    }
    match json {
        true => println!("{}", serde_json::to_string(&launch)?),
        false => launch.print(),
    }
    let timeout = options.timeout.map(Duration::from_secs);
    let ended = guest::run(&launch.command, &folder.path().join(MONITOR), &stops, timeout)?;
    match ended.state {
        State::Quitting | State::Killed => bail!("it did not power off by itself and was cut off"),
        State::Running | State::PoweringOff(_) if !ended.status.success() => {
            bail!("QEMU ended with {}", ended.status)
        }
        State::Running | State::PoweringOff(_) => Ok(()),
    }
}

/// A folder whose sockets have short enough paths.
fn folder() -> Result<TempDir> {
    let make = |within: &Path| {
        let made = tempfile::Builder::new().prefix("stele-run-").tempdir_in(within);
        made.with_context(|| format!("cannot make a folder in {}", within.display()))
    };
    let folder = make(&std::path::absolute(env::temp_dir())?)?;
    match folder.path().join(MONITOR).as_os_str().len() > LONGEST_SOCKET {
        true => make(Path::new("/tmp")),
        false => Ok(folder),
    }
}

/// What a launch is made from.
struct Start<'a> {
    image: &'a Image,
    uki: &'a Uki,
    options: &'a Options,
    folder: &'a Path,
}

impl<'a> Start<'a> {
    /// Puts whatever starts the machine into the folder.
    fn boot(&self) -> Result<Boot> {
        if !self.options.firmware {
            let kernel = self.put("linux", self.uki.kernel()?)?;
            let initrd = self.put("initrd", self.uki.initrd()?)?;
            return Ok(Boot::Direct { kernel, initrd, cmdline: self.uki.cmdline()? });
        }
        let (code, template) = firmware::find(self.image.architecture, Path::is_file)?;
        let vars =
            fs::read(template).with_context(|| format!("cannot read {}", template.display()))?;
        Ok(Boot::Firmware { code: text(code)?, vars: self.put("vars.fd", &vars)? })
    }

    /// KVM or TCG: tries KVM unless that was done before with this kernel and this QEMU.
    fn accelerator(
        &self,
        qemu: String,
        store: &Store,
        stops: &Stops,
        progress: &Progress,
    ) -> Result<Choice> {
        let architecture = self.image.architecture;
        let wish = self.options.accelerator;
        accelerator::choose(wish, architecture, env::consts::ARCH, || {
            let kernel = self.uki.kernel()?;
            let digest = Digest::of(kernel);
            let circumstances = Circumstances { boot_id: boot_id()?, qemu, kernel: digest };
            // Who insists on KVM has it tried again.
            let known = accelerator::remembered(store, &circumstances);
            if let Some(verdict) = known.filter(|_| wish == Wish::Auto) {
                return Ok(verdict);
            }
            progress.step("trying KVM");
            let kernel = self.put("linux", kernel)?;
            let verdict = probe::kvm(architecture, &kernel, self.folder, stops);
            progress.clear();
            let verdict = verdict?;
            accelerator::remember(store, circumstances, verdict.clone())?;
            Ok(verdict)
        })
    }

    /// Chooses ports, as late as can be: what is free now is soon taken.
    fn launch(
        &self,
        disk: &'a Disk,
        boot: Boot,
        Choice { accelerator, why }: Choice,
    ) -> Result<Launch<'a>> {
        let architecture = self.image.architecture;
        let forwards = ports::choose(&self.options.forwards, &mut Loopback::default())?;
        let firmware = match &boot {
            Boot::Direct { .. } => None,
            Boot::Firmware { code, .. } => Some(code.clone()),
        };
        let machine = Machine {
            architecture,
            accelerator,
            memory: self.options.memory,
            cpus: self.options.cpus,
            disk: &text(&std::path::absolute(&disk.file)?)?,
            is_kept: disk.kept,
            forwards: &forwards,
            boot,
            monitor: &text(&self.folder.join(MONITOR))?,
        };
        let program = qemu::program(architecture).to_owned();
        let command = [vec![program], command::arguments(&machine)].concat();
        Ok(Launch {
            image: &self.image.path,
            disk,
            title: self.uki.title()?,
            architecture: architecture.debian(),
            accelerator,
            why,
            firmware,
            forwards,
            folder: self.folder,
            command,
        })
    }

    /// Writes a file of the folder; returns its path.
    fn put(&self, name: &str, bytes: &[u8]) -> Result<String> {
        let path = self.folder.join(name);
        fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
        text(&path)
    }
}

/// What tells this boot of the host from others.
fn boot_id() -> Result<String> {
    const FILE: &str = "/proc/sys/kernel/random/boot_id";
    let id = fs::read_to_string(FILE).with_context(|| format!("cannot read {FILE}"))?;
    Ok(id.trim().to_owned())
}

/// QEMU's options are text.
fn text(path: &Path) -> Result<String> {
    let text = path.to_str().map(str::to_owned);
    text.with_context(|| format!("the path {} is not UTF-8", path.display()))
}

impl Launch<'_> {
    /// What a person reads; not where the console goes, which somebody may want to keep alone.
    fn print(&self) {
        let accelerator = self.accelerator.name().to_uppercase();
        let boot = match &self.firmware {
            None => "directly".to_owned(),
            Some(code) => format!("by {code}"),
        };
        let mut lines = vec![
            ("image".to_owned(), format!("{} ({})", self.image.display(), self.title)),
            ("kept".to_owned(), self.disk.in_words()),
            ("accelerator".to_owned(), format!("{accelerator} ({})", self.why)),
            ("boots".to_owned(), boot),
        ];
        lines.extend(self.forwards.iter().map(Forward::in_words));
        lines.push(("stop".to_owned(), "Ctrl-C powers off".to_owned()));
        for (what, how) in lines {
            eprintln!("{what:<13} {how}");
        }
    }
}
