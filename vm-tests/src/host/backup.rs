//! What the stand-in for `stele-init` does about backups, as PID 1 does it in the small: the very
//! program that writes and reads them is its child, services are frozen or stopped meanwhile, and what
//! was laid out takes the place of what there is. Only power cuts are left to the machines of
//! `tests/stories`.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Error, Result, bail};
use appliance::backup::{
    self, INCOMING, Id, Job, KEPT, Kind, Line, Order, Origin, Report, Stats, Task, Trouble, Wish,
};
use appliance::boot::Volume;
use appliance::control::{Refusal, Reply};
use nix::sys::signal::Signal;

use crate::server::Server;

use super::init::{self, Services, State, lock};
use super::program::{Program, View, command, send};
use super::wait_for;

/// Directories that outlive a boot.
const VOLUMES: [&str; 7] = [
    "/etc/prose",
    "/etc/prose-pod-api",
    "/etc/prosody",
    "/var/lib/prose-pod-api",
    "/var/lib/prosody",
    KEPT,
    INCOMING,
];
const MODE: u32 = 0o750;
/// As long as the Pod API may finish what it answers.
const STOPS_WITHIN: Duration = Duration::from_secs(10);

/// What is being done, or was last.
#[derive(Debug, Default)]
pub struct Backups {
    told: backup::State,
    is_busy: bool,
}

impl Backups {
    /// What a caller gets. What is accepted is to be granted.
    pub fn answer(&mut self, wish: &Wish) -> Reply {
        match wish {
            Wish::State => return Reply::Backup(Box::new(self.told.clone())),
            _ if self.is_busy => return Reply::Refused(Refusal::Busy),
            Wish::Restore { id } if self.told.prepared.as_ref() != Some(id) => {
                return Reply::Refused(Refusal::NotPrepared);
            }
            Wish::Prepare { .. } | Wish::Restore { .. } | Wish::Erase | Wish::Delete { .. } => {
                self.told.prepared = None;
            }
            _ => {}
        }
        let id = match wish {
            Wish::Restore { id } => Some(id.clone()),
            wish => job(wish).and_then(|job| job.id().cloned()),
        };
        self.told.task = Some(Task { id, progress: Default::default(), outcome: None });
        self.is_busy = true;
        Reply::Accepted
    }

    fn report(&mut self, change: impl FnOnce(&mut Task)) {
        self.told.task.as_mut().map(change);
    }

    fn end(&mut self, outcome: Result<Stats, Trouble>, prepared: Option<Id>) {
        self.told.prepared = prepared.filter(|_| outcome.is_ok()).or(self.told.prepared.take());
        self.report(|task| task.outcome = Some(outcome));
    }
}

/// Where a volume lies on a machine's data.
pub fn volume(data: &Path, path: &str) -> PathBuf {
    data.join("volumes").join(path.trim_start_matches('/'))
}

/// Makes them, as a first boot does.
pub fn make_volumes(data: &Path) -> Result<()> {
    let context = "cannot make volumes";
    for path in VOLUMES {
        let path = volume(data, path);
        fs::create_dir_all(&path).context(context)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(MODE)).context(context)?;
    }
    fs::create_dir_all(data.join("backup")).context(context)
}

/// Does what was accepted; what came of it is told, and nothing else is accepted until it is done.
pub fn grant(wish: Wish, state: &Mutex<State>, services: &Services) -> Result<()> {
    let outcome = match job(&wish) {
        Some(job) => order(job, state, services),
        None => Ok(Stats::default()),
    };
    let granted = match wish {
        Wish::Erase | Wish::Restore { .. } if outcome.is_ok() => exchange(state, services),
        wish => {
            let prepared = match wish {
                Wish::Prepare { id, .. } => Some(id),
                _ => None,
            };
            lock(state).backups.end(outcome, prepared);
            Ok(())
        }
    };
    lock(state).backups.is_busy = false;
    granted
}

/// What the child does for it; the second step of a restoration is none of its business.
fn job(wish: &Wish) -> Option<Job> {
    Some(match wish.clone() {
        Wish::Create { id, description, lock } => Job::Create { id, description, lock },
        Wish::Accept { id, description } => Job::Accept { id, description },
        Wish::Describe { id, description } => Job::Describe { id, description },
        Wish::Delete { ids } => Job::Delete { ids },
        Wish::Prepare { id, key } => Job::Prepare { id, key },
        Wish::Erase => Job::Erase,
        Wish::State | Wish::Restore { .. } => return None,
    })
}

/// Services stop, what was laid out takes the place of what there is, and they start with that.
fn exchange(state: &Mutex<State>, services: &Services) -> Result<()> {
    let mut server = lock(&services.server);
    let mut api = lock(&services.api);
    api.stop(STOPS_WITHIN)?;
    server.stop();
    let exchanged = put_in_place(&services.data);
    let outcome = exchanged.as_ref().map(|()| Stats::default()).map_err(failed);
    let mut known = lock(state);
    known.backups.end(outcome, None);
    known.forget_settings();
    let secret = known.secret().to_owned();
    drop(known);
    init::shut(&mut server, &secret);
    api.restart()?;
    drop((server, api));
    exchanged?;
    order(Job::Clear, state, services).map(drop).map_err(Error::msg)
}

/// Data as a whole, operators' files one by one: those that aren't there.
fn put_in_place(data: &Path) -> Result<()> {
    let (new, old) = (data.join("backup/new"), data.join("backup/old"));
    fs::create_dir_all(&old).context("cannot make a folder")?;
    for path in VOLUMES {
        let (new, here) = (volume(&new, path), volume(data, path));
        if !new.is_dir() {
            continue;
        }
        let context = || format!("cannot put {path} in its place");
        if !path.starts_with("/etc/") {
            let aside = old.join(path.replace('/', "-"));
            fs::rename(&here, aside)
                .and_then(|()| fs::rename(&new, &here))
                .with_context(context)?;
            continue;
        }
        for entry in fs::read_dir(&new).with_context(context)? {
            let entry = entry.with_context(context)?;
            fs::rename(entry.path(), here.join(entry.file_name())).with_context(context)?;
        }
    }
    Ok(())
}

/// Has the child do something, and tells how it goes.
fn order(job: Job, state: &Mutex<State>, services: &Services) -> Result<Stats, Trouble> {
    let mut frozen = match job {
        Job::Create { .. } => Some(Frozen::freeze(services).map_err(|error| failed(&error))?),
        _ => None,
    };
    let mut outcome = None;
    let ran = run(job, state, &services.data, |report| match report {
        Report::Taken => frozen = None,
        Report::Progress(progress) => lock(state).backups.report(|task| task.progress = progress),
        Report::Done(stats) => outcome = Some(Ok(stats)),
        Report::Failed(trouble) => outcome = Some(Err(trouble)),
    });
    ran.map_err(|error| failed(&error))?;
    outcome.unwrap_or_else(|| Err(Trouble::new(Kind::Failed, "the child ended without a word")))
}

fn run(job: Job, state: &Mutex<State>, data: &Path, mut hear: impl FnMut(Report)) -> Result<()> {
    let volume =
        |path: &str| Volume { path: path.into(), mode: MODE, uid: 0, gid: 0, immutable: vec![] };
    let date = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs();
    let domain = lock(state).domain();
    let origin = Origin { name: "prose-pod".into(), version: "1.0.0".into(), date, domain };
    let order = Order { number: 1, job, volumes: VOLUMES.map(volume).into(), origin };
    let view = View { over: "/run", shown: &[(data, "/run/stele/data")] };
    let mut command = command("stele-backup", Path::new("/etc/resolv.conf"), Some(&view))?;
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
        bail!("the child has no pipes");
    };
    serde_json::to_writer(&input, &order).context("cannot hand over an order")?;
    drop(input);
    for line in BufReader::new(output).lines() {
        hear(serde_json::from_str::<Line>(&line?).context("the child says something else")?.report);
    }
    child.wait().context("cannot wait for the child").map(drop)
}

/// The services, which do nothing as long as this is held.
struct Frozen<'a> {
    server: MutexGuard<'a, Server>,
    api: MutexGuard<'a, Program>,
}

impl Frozen<'_> {
    fn freeze(services: &Services) -> Result<Frozen<'_>> {
        let frozen = Frozen { server: lock(&services.server), api: lock(&services.api) };
        for pid in frozen.pids() {
            send(pid, Signal::SIGSTOP)?;
            wait_for("a service that is frozen", || {
                let told = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
                told.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T')).then_some(())
            });
        }
        Ok(frozen)
    }

    fn pids(&self) -> [u32; 2] {
        [self.server.pid(), self.api.pid()]
    }
}

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        for pid in self.pids() {
            let _ = send(pid, Signal::SIGCONT);
        }
    }
}

fn failed(error: &Error) -> Trouble {
    Trouble::new(Kind::Failed, format_args!("{error:#}"))
}
