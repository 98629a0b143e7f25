//! Each service's processes in a group of their own, which can be killed as one.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use crate::failure::{Failure, OrCannot as _};
use crate::mounts::make_folder;

const ROOT: &str = "/sys/fs/cgroup";
/// Where PID 1 itself is: only groups without processes may have limited subgroups.
const OWN: &str = "init";
/// What will be limited, as far as the kernel has it.
const CONTROLLERS: [&str; 4] = ["cpu", "io", "memory", "pids"];

/// A service's group.
#[derive(Debug)]
pub struct Cgroup(PathBuf);

/// Moves PID 1 to a group of its own and lets services' groups be limited.
pub fn set_up() -> Result<(), Failure> {
    let own = Cgroup::make(OWN)?;
    fs::write(own.0.join("cgroup.procs"), "0").or_cannot("move to a cgroup")?;
    let known = fs::read_to_string(Path::new(ROOT).join("cgroup.controllers"));
    let known = known.or_cannot("read the list of cgroup controllers")?;
    for name in known.split_whitespace().filter(|name| CONTROLLERS.contains(name)) {
        fs::write(Path::new(ROOT).join("cgroup.subtree_control"), format!("+{name}"))
            .or_cannot(format_args!("use the cgroup controller {name}"))?;
    }
    Ok(())
}

impl Cgroup {
    /// The group of this name.
    pub fn make(name: &str) -> Result<Cgroup, Failure> {
        let path = Path::new(ROOT).join(name);
        make_folder(&path)?;
        Ok(Cgroup(path))
    }

    /// A process that writes `0` here is in the group.
    pub fn door(&self) -> io::Result<File> {
        File::options().write(true).open(self.0.join("cgroup.procs"))
    }

    /// Kills every process of the group, even one that is just being forked.
    pub fn kill(&self) -> io::Result<()> {
        fs::write(self.0.join("cgroup.kill"), "1")
    }
}
