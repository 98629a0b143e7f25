//! From QEMU's start to the Server's answer, by phase.

use serde::Serialize;
use vm_tests::BOOT;
use vm_tests::console::Line;
use vm_tests::disk::Kept;
use vm_tests::images::Image;
use vm_tests::machine::{DISK, Machine};

use crate::{Took, median};

/// The lines that end a phase. (The kernel's own are not shown by a `quiet` one.)
const PHASES: [(&str, &str); 9] = [
    ("initrd starts", "stele-init: initrd: starts"),
    ("root opened", "stele-init: initrd: hands over to the root"),
    ("services start", "stele-init: root: starts"),
    ("network is ready", "stele-init: network: ready"),
    ("Prosody starts", "stele-init: service prosody: starting"),
    ("Prosody is ready", "stele-init: service prosody: ready"),
    ("the API listens", "stele-init: service pod-api: ready"),
    ("the gate is open", "stele-init: gate: open"),
    ("settings are applied", "stele-init: settings: applied"),
];

/// A way to boot.
#[derive(Debug, Serialize)]
pub struct Boot {
    /// `direct` or `firmware`, from a disk that has been used; `first` is direct, from a fresh one.
    pub way: &'static str,
    /// Until the stream reply: the median.
    pub reply: Took,
    /// Until the API answers that all is well: the median. It is asked once the stream reply is there.
    pub api: Took,
    /// Until the kernel started, by its own time stamps.
    pub kernel_starts_wall_s: f64,
    /// What happened on the way: medians, since QEMU's start.
    pub phases: Vec<Phase>,
    /// Until the stream reply, run by run.
    pub runs: Vec<Took>,
}

/// A point on the way.
#[derive(Debug, Serialize)]
pub struct Phase {
    /// What has happened.
    pub name: &'static str,
    /// Since QEMU's start.
    pub since_start: Took,
}

/// Boots so many times each way.
pub fn measure(image: &Image, runs: usize) -> Vec<Boot> {
    type Way = (&'static str, fn(&Image) -> Machine);
    let ways: [Way; 3] =
        [("first", Machine::direct), ("direct", Machine::direct), ("firmware", Machine::firmware)];
    let (fresh, used) = (Kept::of(image, DISK), Kept::of(image, DISK));
    let vm = Machine::direct(image).on(&used).start();
    vm.stream_reply("prose.local", BOOT);
    vm.power_off(BOOT);
    ways.into_iter()
        .map(|(way, machine)| {
            let boots = (0..runs).map(|run| {
                eprintln!("boot, {way}: run {} of {runs}", run + 1);
                let disk = if way == "first" { fresh.fork() } else { used.fork() };
                once(machine(image).on(&disk))
            });
            summary(way, boots.collect())
        })
        .collect()
}

/// One boot's points, in the order of [`PHASES`].
struct Once {
    kernel: f64,
    points: Vec<Took>,
    reply: Took,
    api: Took,
}

fn once(machine: Machine) -> Once {
    let vm = machine.start();
    let reply = vm.stream_reply("prose.local", BOOT);
    vm.pod_serves();
    let (at, cpu) = vm.age();
    let lines: Vec<Line> = PHASES.iter().map(|(_, text)| vm.wait_for(text, BOOT)).collect();
    let stamp = lines[0].stamp().unwrap_or_default();
    Once {
        kernel: lines[0].at.saturating_sub(stamp).as_secs_f64(),
        points: lines.iter().map(|line| took(line.at, line.cpu)).collect(),
        reply: took(reply.at, reply.cpu),
        api: took(at, cpu),
    }
}

fn took(wall: std::time::Duration, cpu: std::time::Duration) -> Took {
    Took { wall_s: wall.as_secs_f64(), cpu_s: cpu.as_secs_f64() }
}

fn summary(way: &'static str, boots: Vec<Once>) -> Boot {
    let phases = PHASES.iter().enumerate().map(|(index, (name, _))| {
        let points: Vec<Took> = boots.iter().map(|boot| boot.points[index]).collect();
        Phase { name, since_start: Took::median(&points) }
    });
    let mut phases: Vec<Phase> = phases.collect();
    phases.sort_by(|a, b| a.since_start.wall_s.total_cmp(&b.since_start.wall_s));
    let runs: Vec<Took> = boots.iter().map(|boot| boot.reply).collect();
    Boot {
        way,
        reply: Took::median(&runs),
        api: Took::median(&boots.iter().map(|boot| boot.api).collect::<Vec<_>>()),
        kernel_starts_wall_s: median(boots.iter().map(|boot| boot.kernel).collect()),
        phases,
        runs,
    }
}
