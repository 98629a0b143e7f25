//! A guest program on this host: the very one that images get.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::images::Tools;

const RESOLVER: &str = "nameserver 127.0.0.1\n";
/// What gives a program a `resolv.conf` of its own, and becomes it.
const ALONE: &str = "mount --bind \"$0\" /etc/resolv.conf && exec \"$@\"";
const PAUSE: Duration = Duration::from_millis(5);

/// It runs until this is dropped.
#[derive(Debug)]
pub struct Program {
    command: Command,
    process: Child,
    log: PathBuf,
}

impl Program {
    /// Starts it; what it prints goes to `log`. Of this host's environment it gets nothing, and the
    /// only name server that it knows is one of loopback, where there is none.
    pub fn start(name: &str, arguments: &[&str], log: &Path) -> Result<Program> {
        let resolver = log.with_extension("resolv.conf");
        fs::write(&resolver, RESOLVER).context("cannot write a resolv.conf")?;
        let mut command = Command::new("unshare");
        command.args(["--mount", "--map-root-user", "sh", "-c", ALONE]).arg(&resolver);
        command.arg(Tools::find()?.programs.join(name)).args(arguments);
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").stdin(Stdio::null());
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

fn spawn(command: &mut Command, log: &Path) -> Result<Child> {
    let file = File::create(log).with_context(|| format!("cannot make {}", log.display()))?;
    command.stdout(file.try_clone()?).stderr(file);
    command.spawn().with_context(|| format!("cannot start {command:?}"))
}
