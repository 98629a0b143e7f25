//! Each service's processes in a group of their own, which is limited, and can be killed, as one.

use std::fmt::Display;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use appliance::service::Limits;
use nix::sys::sysinfo::sysinfo;

use crate::log::warning;
use crate::mounts::make_folder;
use appliance::failure::{Failure, OrCannot as _};

const ROOT: &str = "/sys/fs/cgroup";
/// Where PID 1 itself is: only groups without processes may have limited subgroups.
const OWN: &str = "init";
/// What will be limited, as far as the kernel has it.
const CONTROLLERS: [&str; 4] = ["cpu", "io", "memory", "pids"];
/// What PID 1 keeps when all others want memory, and its share of a busy processor.
const OWN_SHARE: [(&str, &str); 2] = [("memory.min", "16M"), ("cpu.weight", "1000")];

/// A service's group.
#[derive(Debug)]
pub struct Cgroup {
    path: PathBuf,
    limits: Limits,
    /// What had happened in it when that was looked at last.
    seen: Incidents,
}

/// How often its processes ran into their limits.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Incidents {
    /// All were killed for want of memory.
    memory: u64,
    /// One was refused.
    pids: u64,
}

/// Moves PID 1 to a group of its own, and lets services' groups be limited.
pub fn set_up() -> Result<(), Failure> {
    let own = Path::new(ROOT).join(OWN);
    make_folder(&own)?;
    fs::write(own.join("cgroup.procs"), "0").or_cannot("move to a cgroup")?;
    let known = fs::read_to_string(Path::new(ROOT).join("cgroup.controllers"));
    let known = known.or_cannot("read the list of cgroup controllers")?;
    for name in known.split_whitespace().filter(|name| CONTROLLERS.contains(name)) {
        fs::write(Path::new(ROOT).join("cgroup.subtree_control"), format!("+{name}"))
            .or_cannot(format_args!("use the cgroup controller {name}"))?;
    }
    for (file, value) in OWN_SHARE {
        if let Err(error) = fs::write(own.join(file), value) {
            warning!("cannot set {file} of PID 1 to {value}: {error}");
        }
    }
    // Whoever else takes too much memory: it isn't PID 1 that goes.
    fs::write("/proc/self/oom_score_adj", "-1000").or_cannot("protect PID 1")
}

impl Cgroup {
    /// The group of this name, not limited yet.
    pub fn make(name: &str, limits: Limits) -> Result<Cgroup, Failure> {
        let path = Path::new(ROOT).join(name);
        make_folder(&path)?;
        Ok(Cgroup { path, limits, seen: Incidents::default() })
    }

    /// Sets its limits, and opens it: a process that writes `0` there is in it.
    pub fn open(&self) -> Result<File, Failure> {
        let memory = sysinfo().or_cannot("learn how much memory there is")?.ram_total();
        for (file, value) in settings(&self.limits, memory) {
            match fs::write(self.path.join(file), &value) {
                // A kernel that cannot swap.
                Err(error) if error.kind() == io::ErrorKind::NotFound && file == SWAP => {}
                written => written.or_cannot(format_args!("set its {file} to {value}"))?,
            }
        }
        let list = File::options().write(true).open(self.path.join("cgroup.procs"));
        list.or_cannot("open its cgroup")
    }

    /// Kills every process of the group, even one that is just being forked.
    pub fn kill(&self) -> io::Result<()> {
        fs::write(self.path.join("cgroup.kill"), "1")
    }

    /// Which limits its processes have met since this was asked last.
    pub fn incidents(&mut self) -> Vec<String> {
        let now = Incidents {
            memory: counter(&self.read("memory.events"), "oom_group_kill"),
            pids: counter(&self.read("pids.events"), "max"),
        };
        let seen = std::mem::replace(&mut self.seen, now);
        let mut met = vec![];
        if now.memory > seen.memory {
            met.push("killed: out of the memory it may take".to_owned());
        }
        if now.pids > seen.pids {
            met.push(format!("met its limit of {} processes", self.limits.pids));
        }
        met
    }

    /// Lets its processes run, or none of them, from soon on.
    pub fn freeze(&self, is_frozen: bool) -> io::Result<()> {
        fs::write(self.path.join("cgroup.freeze"), if is_frozen { "1" } else { "0" })
    }

    /// Does none of them run?
    pub fn is_frozen(&self) -> bool {
        counter(&self.read("cgroup.events"), "frozen") == 1
    }

    /// What its processes take, in bytes.
    pub fn memory(&self) -> Option<u64> {
        self.read("memory.current").trim_end().parse().ok()
    }

    fn read(&self, file: &str) -> String {
        fs::read_to_string(self.path.join(file)).unwrap_or_default()
    }
}

const SWAP: &str = "memory.swap.max";

/// The group's files and what goes into them, on a machine with so much memory.
fn settings(limits: &Limits, memory: u64) -> [(&'static str, String); 5] {
    let text = |value: &dyn Display| value.to_string();
    [
        ("memory.max", text(&limits.memory.of(memory))),
        (SWAP, text(&0)),
        // Half of a service is worse than none: it is killed whole, and started again.
        ("memory.oom.group", text(&1)),
        ("pids.max", text(&limits.pids)),
        ("cpu.weight", text(&limits.cpu_weight)),
    ]
}

/// A line `name 7` of a file of counters.
fn counter(text: &str, name: &str) -> u64 {
    let mut lines = text.lines().filter_map(|line| line.split_once(' '));
    let value = lines.find(|(found, _)| *found == name).map(|(_, value)| value.parse());
    value.and_then(Result::ok).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use appliance::service::Memory;

    #[test]
    fn limits_become_settings() {
        let limits = Limits { memory: Memory::Percent(50), pids: 32, cpu_weight: 200 };
        let expected = [
            ("memory.max", "500".to_owned()),
            ("memory.swap.max", "0".to_owned()),
            ("memory.oom.group", "1".to_owned()),
            ("pids.max", "32".to_owned()),
            ("cpu.weight", "200".to_owned()),
        ];
        assert_eq!(settings(&limits, 1000), expected);
    }

    #[test]
    fn a_counter_is_found_by_its_whole_name() {
        let text = "low 0\nmax 12\noom 3\noom_kill 2\noom_group_kill 1\n";
        assert_eq!(counter(text, "oom_group_kill"), 1);
        assert_eq!(counter(text, "max"), 12);
        assert_eq!(counter(text, "none"), 0);
        assert_eq!(counter("max x", "max"), 0);
    }
}
