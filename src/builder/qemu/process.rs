//! A QEMU process: in a process group of its own, so that Ctrl-C is ours alone to answer, and ended
//! whenever we end, however that is.
//!
//! Dropping it kills it. That we are killed ourselves is the kernel's to notice: QEMU is started
//! through `stele leash`, which asks for a signal at its parent's death and then becomes QEMU.

use std::ffi::OsString;
use std::os::unix::process::{CommandExt as _, parent_id};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};

use anyhow::{Context, Result, bail};
use nix::sys::prctl;
use nix::sys::signal::Signal;

/// A QEMU that runs.
#[derive(Debug)]
pub struct Process(Child);

impl Process {
    /// Starts `command`, a program and its arguments. Must be called by a thread that lasts as long
    /// as the process: to the kernel, that thread is the parent.
    pub fn start(command: &[String], stdout: Stdio, stderr: Stdio) -> Result<Process> {
        let child = Command::new("/proc/self/exe")
            .args(["leash", &std::process::id().to_string()])
            .args(command)
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(stderr)
            .spawn();
        child.map(Process).context("cannot start a process")
    }

    /// Its standard output, if that is piped and wasn't taken before.
    pub fn take_stdout(&mut self) -> Option<ChildStdout> {
        self.0.stdout.take()
    }

    /// How it ended, if it has.
    pub fn end(&mut self) -> Result<Option<ExitStatus>> {
        self.0.try_wait().context("cannot wait for QEMU")
    }

    /// Ends it at once.
    pub fn kill(&mut self) {
        // An error means that it has ended.
        let _ = self.0.kill();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        let _ = self.0.wait();
    }
}

/// Becomes `command`, and dies with the process `parent`, which started this one.
pub fn leash(parent: u32, command: &[OsString]) -> Result<()> {
    prctl::set_pdeathsig(Signal::SIGKILL).context("cannot die with the parent process")?;
    if parent_id() != parent {
        bail!("cannot run in vain: the parent process has ended");
    }
    let Some((program, arguments)) = command.split_first() else { bail!("cannot run nothing") };
    let error = Command::new(program).args(arguments).exec();
    Err(error).with_context(|| format!("cannot start {}", program.display()))
}
