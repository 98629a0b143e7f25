//! A guest program on this host: the very one that images get.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::images::Tools;

const RESOLVER: &str = "nameserver 127.0.0.1\n";
const PAUSE: Duration = Duration::from_millis(5);

/// What a program sees in the place of what this host has there.
#[derive(Debug)]
pub struct View<'a> {
    /// Everything in this folder is gone.
    pub over: &'a str,
    /// What it finds there: a folder of this host's, and where that is.
    pub shown: &'a [(&'a Path, &'a str)],
}

/// A guest program, which gets nothing of this host's environment, and another `resolv.conf`.
pub fn command(name: &str, resolver: &Path, view: Option<&View>) -> Result<Command> {
    let mut script = "set -e; mount --bind \"$1\" /etc/resolv.conf; shift; ".to_owned();
    let shown = view.map_or(&[][..], |view| view.shown);
    if let Some(view) = view {
        script += &format!("mount -t tmpfs none {}; ", view.over);
    }
    for (_, at) in shown {
        script += &format!("mkdir -p {at}; mount --bind \"$1\" {at}; shift; ");
    }
    let mut command = Command::new("unshare");
    command.args(["--mount", "--map-root-user", "sh", "-c", &(script + "exec \"$@\""), "sh"]);
    command.arg(resolver).args(shown.iter().map(|(what, _)| what));
    command.arg(Tools::find()?.programs.join(name));
    command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    Ok(command)
}

/// It runs until this is dropped.
#[derive(Debug)]
pub struct Program {
    command: Command,
    process: Child,
    log: PathBuf,
}

impl Program {
    /// Starts it; what it prints goes to `log`. The only name server that it knows is one of
    /// loopback, where there is none.
    pub fn start(
        name: &str,
        arguments: &[&str],
        view: Option<&View>,
        log: &Path,
    ) -> Result<Program> {
        let resolver = log.with_extension("resolv.conf");
        fs::write(&resolver, RESOLVER).context("cannot write a resolv.conf")?;
        let mut command = command(name, &resolver, view)?;
        command.args(arguments).stdin(Stdio::null());
        let process = spawn(&mut command, log)?;
        Ok(Program { command, process, log: log.to_owned() })
    }

    /// Its process's number.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// What it has printed since its last start.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Kills it, and starts it anew.
    pub fn restart(&mut self) -> Result<()> {
        self.kill();
        self.process = spawn(&mut self.command, &self.log)?;
        Ok(())
    }

    /// Kills it.
    pub fn kill(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        send(self.pid(), signal)
    }

    /// Tells it to stop, and waits until it has.
    pub fn stop(&mut self, within: Duration) -> Result<ExitStatus> {
        self.signal(Signal::SIGTERM)?;
        self.end(within)
    }

    /// How it ended by itself.
    pub fn end(&mut self, within: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + within;
        loop {
            match self.process.try_wait().context("cannot ask for its state")? {
                Some(status) => return Ok(status),
                None if Instant::now() < deadline => thread::sleep(PAUSE),
                None => bail!("it goes on:\n{}", self.log()),
            }
        }
    }

    /// Waits for what stands behind `word` on a line that it prints.
    pub fn told(&mut self, word: &str, within: Duration) -> Result<String> {
        let deadline = Instant::now() + within;
        loop {
            let log = self.log();
            // Only of lines that are whole.
            let whole = &log[..log.rfind('\n').unwrap_or_default()];
            if let Some(rest) = whole.lines().find_map(|line| line.strip_prefix(word)) {
                return Ok(rest.trim().to_owned());
            }
            if self.process.try_wait()?.is_some() || Instant::now() > deadline {
                bail!("it doesn't say `{word}`, but:\n{log}");
            }
            thread::sleep(PAUSE);
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Sends a signal to a process of ours.
pub fn send(pid: u32, signal: Signal) -> Result<()> {
    kill(Pid::from_raw(pid.try_into()?), signal).with_context(|| format!("cannot send {signal}"))
}

fn spawn(command: &mut Command, log: &Path) -> Result<Child> {
    let file = File::create(log).with_context(|| format!("cannot make {}", log.display()))?;
    command.stdout(file.try_clone()?).stderr(file);
    command.spawn().with_context(|| format!("cannot start {command:?}"))
}
