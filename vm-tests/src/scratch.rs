//! Where the harness works: folders below cargo's target folder, and the locks that let no more VMs
//! run at a time than this host has processors for.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::env;
use std::fs::{self, File, TryLockError};
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// This checkout.
pub fn workspace() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here)
}

/// Cargo's target folder, found from the running program: `TARGET/debug/deps/boot-0123`.
pub fn target() -> Result<PathBuf> {
    let program = env::current_exe().context("cannot find the running program")?;
    let marked = |folder: &&Path| folder.join("CACHEDIR.TAG").is_file();
    match program.ancestors().find(marked) {
        Some(folder) => Ok(folder.to_owned()),
        None => Ok(workspace().join("target")),
    }
}

/// A folder below the target folder, made if it isn't there.
pub fn folder(name: &str) -> Result<PathBuf> {
    let path = target()?.join(name);
    fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
    Ok(path)
}

/// Holds a lock file until it is dropped.
#[derive(Debug)]
pub struct Held(#[allow(dead_code)] File);

/// Waits for the lock of this name; threads and processes alike take turns.
pub fn lock(name: &str) -> Result<Held> {
    let path = folder("vm-locks")?.join(name);
    let context = || format!("cannot lock {}", path.display());
    let file = File::create(&path).with_context(context)?;
    file.lock().with_context(context)?;
    Ok(Held(file))
}

/// So many VMs run at a time, at most: each keeps a processor busy. More would disturb one another.
const SEATS: usize = 2;
/// How long until all seats are looked at again.
const AGAIN: Duration = Duration::from_millis(100);

thread_local! {
    static HAS_TURN: Cell<bool> = const { Cell::new(false) };
}

/// The right to run a VM: a seat, of those for all tests of all processes.
#[derive(Debug)]
pub struct Turn(#[allow(dead_code)] Held);

impl Turn {
    /// Waits for it.
    pub fn take() -> Result<Turn> {
        if HAS_TURN.get() {
            bail!("cannot start a second VM beside the first: a test has one at a time");
        }
        let processors = thread::available_parallelism().map_or(1, NonZero::get);
        let folder = folder("vm-locks")?;
        loop {
            for seat in 0..processors.min(SEATS) {
                let path = folder.join(format!("seat-{seat}"));
                let context = || format!("cannot lock {}", path.display());
                let file = File::create(&path).with_context(context)?;
                match file.try_lock() {
                    Ok(()) => {
                        HAS_TURN.set(true);
                        return Ok(Turn(Held(file)));
                    }
                    Err(TryLockError::WouldBlock) => {}
                    Err(TryLockError::Error(error)) => return Err(error).with_context(context),
                }
            }
            thread::sleep(AGAIN);
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        HAS_TURN.set(false);
    }
}

/// A fresh folder for one VM of the running test: `vm-evidence/TEST/1`, then `2` …; what an earlier
/// run left is deleted.
pub fn evidence() -> Result<PathBuf> {
    static USED: Mutex<BTreeMap<String, u32>> = Mutex::new(BTreeMap::new());
    let test = thread::current().name().unwrap_or("unnamed").replace("::", "-");
    let mut used = USED.lock().unwrap_or_else(PoisonError::into_inner);
    let count = used.entry(test.clone()).or_default();
    let own = target()?.join("vm-evidence").join(&test);
    if *count == 0 && own.exists() {
        fs::remove_dir_all(&own).with_context(|| format!("cannot empty {}", own.display()))?;
    }
    *count += 1;
    folder(&format!("vm-evidence/{test}/{count}"))
}

/// Deletes the folder of a VM whose story ended well.
pub fn forget(evidence: &Path) {
    let _ = fs::remove_dir_all(evidence);
    // Of the test's own folder only if no other VM of it has left something.
    let _ = evidence.parent().map(fs::remove_dir);
}

/// `program`, killed if it takes longer than so many seconds.
pub fn bounded(program: impl AsRef<std::ffi::OsStr>, seconds: u32) -> Command {
    let mut command = Command::new("timeout");
    command.arg("--kill-after=5").arg(seconds.to_string()).arg(program);
    command
}

/// A foreign program that judges, also from where only root looks for programs. (With another `PATH`
/// all memory would be forked each time, which takes longer than judging.)
pub fn judge(program: &str, seconds: u32) -> Command {
    let places =
        ["/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(|place| Path::new(place).join(program));
    let found = places.into_iter().find(|place| place.is_file());
    bounded(found.unwrap_or_else(|| program.into()), seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_thread_cannot_wait_for_itself() {
        let turn = Turn::take().unwrap();
        let error = Turn::take().unwrap_err().to_string();
        assert!(error.contains("one at a time"), "{error}");
        drop(turn);
        drop(Turn::take().unwrap());
    }

    #[test]
    fn each_vm_of_a_test_has_a_folder_of_its_own() {
        let (first, second) = (evidence().unwrap(), evidence().unwrap());
        assert!(first.ends_with("each_vm_of_a_test_has_a_folder_of_its_own/1") || first != second);
        forget(&first);
        assert!(second.is_dir() && !first.exists());
        forget(&second);
        assert!(!second.parent().unwrap().exists());
    }
}
