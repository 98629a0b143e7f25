//! What an upgrade takes: bytes, time, time without the Server, and memory of what installs it.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use appliance::bundle::{Head, Manifest};
use appliance::upgrade::{Line, Order, Side, Space, Trust};
use serde::Serialize;
use vm_tests::disk::Kept;
use vm_tests::images::Tools;
use vm_tests::machine::{DISK, Machine};
use vm_tests::releases::{self, Release};
use vm_tests::{process, xmpp};

use crate::median;

/// Two boots, and a trial.
const LIFE: Duration = Duration::from_secs(900);
/// How often somebody outside looks whether the Server answers.
const LOOKS_EVERY: Duration = Duration::from_millis(100);

/// The figures; times are medians.
#[derive(Debug, Serialize)]
pub struct Upgrade {
    /// What is sent.
    pub bundle: u64,
    /// From `stele upgrade` until the new system is armed.
    pub armed_s: f64,
    /// From `stele upgrade` until the new system is blessed.
    pub blessed_s: f64,
    /// Without an answer to an XMPP stream.
    pub down_s: f64,
    /// The most memory of `stele-install` that was resident, run on this host.
    pub installer_kib: u64,
}

struct Once {
    armed: f64,
    blessed: f64,
    down: f64,
}

/// Upgrades a Pod so many times, each from a fresh disk.
pub fn measure(runs: usize) -> Result<Upgrade> {
    let [old, new] = ["1.0.0", "1.1.0"].map(|version| Release::of(version, &[]));
    let all: Vec<Once> = (0..runs)
        .map(|run| {
            eprintln!("upgrade: run {} of {runs}", run + 1);
            once(&old, &new)
        })
        .collect::<Result<_>>()?;
    let of = |field: fn(&Once) -> f64| median(all.iter().map(field).collect());
    Ok(Upgrade {
        bundle: fs::metadata(&new.bundle)?.len(),
        armed_s: of(|it| it.armed),
        blessed_s: of(|it| it.blessed),
        down_s: of(|it| it.down),
        installer_kib: installer_kib(&old, &new)?,
    })
}

fn once(old: &Release, new: &Release) -> Result<Once> {
    let disk = Kept::of(&old.image, DISK);
    let vm = Machine::firmware(&old.image).on(&disk).reboots().deadline(LIFE).start();
    vm.pod_serves();
    vm.make_admin();
    let (is_over, server) = (AtomicBool::new(false), vm.xmpp());
    thread::scope(|scope| {
        let looking = scope.spawn(|| longest_gap(server, &is_over));
        let (begun, start) = (vm.age().0, Instant::now());
        let said = vm.upgrade(&new.bundle);
        let blessed = start.elapsed().as_secs_f64();
        is_over.store(true, Ordering::Relaxed);
        let down = looking.join().ok().context("who looked at the Server failed")?;
        ensure!(said.code == Some(0), "the upgrade failed: {said:?}");
        let armed = vm.lines_with("is tried at the next boot");
        let armed = armed.first().context("nothing was armed")?.at.saturating_sub(begun);
        Ok(Once { armed: armed.as_secs_f64(), blessed, down: down.as_secs_f64() })
    })
}

/// The longest time between two answers of the Server.
fn longest_gap(server: std::net::SocketAddr, is_over: &AtomicBool) -> Duration {
    let (mut last, mut longest) = (Instant::now(), Duration::ZERO);
    while !is_over.load(Ordering::Relaxed) {
        if xmpp::ask(server, "prose.local").is_ok() {
            longest = longest.max(last.elapsed());
            last = Instant::now();
        }
        thread::sleep(LOOKS_EVERY);
    }
    longest
}

/// Has the guest's program install on this host, onto what a disk's partitions hold.
fn installer_kib(old: &Release, new: &Release) -> Result<u64> {
    let disk = Kept::of(&old.image, DISK);
    // The other slot comes with the first boot, and is as long.
    let (esp, slot) = (disk.take_out("esp"), disk.take_out("slot-a"));
    let length = fs::metadata(&slot)?.len();
    File::create(&slot)?.set_len(length)?;
    let order = esp.with_extension("order");
    fs::write(&order, serde_json::to_vec(&self::order(&manifest(&old.bundle)?)?)?)?;
    let (ours, theirs) = UnixStream::pair()?;
    let mut command = Command::new("sh");
    command.args(["-c", r#"exec "$0" 3<>"$1" 4<>"$2" 5<"$3""#]);
    command.arg(Tools::find()?.programs.join("stele-install")).args([&esp, &slot, &order]);
    command.stdin(Stdio::from(OwnedFd::from(theirs))).stdout(Stdio::piped());
    let mut child = command.spawn().context("cannot start stele-install")?;
    drop(command);
    let pid = child.id();
    let lines = BufReader::new(child.stdout.take().context("it has no output")?).lines();
    let sent = thread::spawn({
        let bundle = new.bundle.clone();
        move || send(&bundle, ours)
    });
    let (mut peak, mut is_armed) = (0, false);
    for line in lines {
        is_armed |= matches!(serde_json::from_str::<Line>(&line?)?, Line::Armed { .. });
        peak = peak.max(process::peak_kib(pid).unwrap_or_default());
    }
    child.wait()?;
    sent.join().ok().context("who sent it failed")??;
    ensure!(is_armed && peak > 0, "stele-install installed nothing");
    Ok(peak)
}

/// Sends a bundle, and reads all that is said of it.
fn send(bundle: &Path, stream: UnixStream) -> Result<()> {
    let reading = stream.try_clone()?;
    let reader = thread::spawn(move || io::copy(&mut &reading, &mut io::sink()));
    io::copy(&mut File::open(bundle)?, &mut &stream)?;
    (&stream).flush()?;
    stream.shutdown(std::net::Shutdown::Write)?;
    reader.join().ok().context("who listens failed")??;
    Ok(())
}

fn manifest(bundle: &Path) -> Result<Manifest> {
    let bytes = fs::read(bundle)?;
    let head = bytes.first_chunk().context("the bundle is too short")?;
    let length = Head::parse(head)?.manifest_length;
    let manifest = bytes.get(Head::BYTES..Head::BYTES + length);
    Ok(Manifest::parse(manifest.context("the bundle is too short")?)?)
}

/// As a Pod that runs this would give it.
fn order(running: &Manifest) -> Result<Order> {
    let key = fs::read_to_string(releases::key()?.with_extension("pub"))?;
    let key = key.split_whitespace().last().context("the key's file is empty")?;
    let trust = Trust {
        product: running.product.as_str().to_owned(),
        architecture: running.architecture.as_str().to_owned(),
        keys: vec![key.to_owned()],
        floor: None,
    };
    Ok(Order {
        side: Side::B,
        announced: None,
        trust,
        version: running.version.to_string(),
        running: running.root.clone(),
        data_format: running.data,
        floor: None,
        bad: vec![],
        space: Space::default(),
    })
}
