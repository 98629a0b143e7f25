//! How a boot ends: in order, by a failure, or by a bug. PID 1 never returns: the kernel would halt.

use std::collections::VecDeque;
use std::fmt::{self, Display};
use std::fs;
use std::os::fd::BorrowedFd;
use std::panic;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::reboot::{RebootMode, reboot, set_cad_enabled};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::{Pid, sync};

use crate::log::{error, notice, warning};
use crate::{clock, esp_device, keep, last_failure, second_net, sys, watchdog};
use appliance::failure::{Failure, OrCannot as _};

/// How long the last words stay on the console.
const PAUSE: Duration = Duration::from_secs(2);
/// How long services may take to stop, all together; what is left is killed.
pub const SERVICES_WITHIN: Duration = Duration::from_secs(50);
/// How long killed processes may take to go.
const GONE_WITHIN: Duration = Duration::from_secs(2);
/// How long writing out may take; a disk that died must not keep the machine up.
const SYNC_WITHIN: Duration = Duration::from_secs(30);
/// How long unmounting may take.
const UNMOUNTED_WITHIN: Duration = Duration::from_secs(5);

/// What the machine does when everything has stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It goes off.
    PowerOff,
    /// It starts anew.
    Reboot,
}

impl Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            End::PowerOff => "power off",
            End::Reboot => "reboot",
        })
    }
}

/// What the event loop reads: all but those that a bug raises.
pub fn signals() -> SigSet {
    let mut signals = SigSet::all();
    sys::FAULTS.into_iter().for_each(|fault| signals.remove(fault));
    signals
}

/// From here on nothing ends PID 1 silently: a bug or a fault is told to `log` and reboots, and
/// Ctrl-Alt-Del is a signal (SIGINT) instead of a hard reset. A signal that asks for the end waits,
/// even across exec, until the event loop reads it.
pub fn arm(log: BorrowedFd<'static>) -> Result<(), Failure> {
    // One that isn't blocked is lost: the kernel has PID 1 ignore what it doesn't handle.
    signals().thread_block().or_cannot("block signals")?;
    panic::set_hook(Box::new(|bug| {
        error!("internal error: {bug}; rebooting");
        last_failure::keep(format_args!("internal error: {bug}"));
        esp_device::on_failure();
        second_net::on_failure();
        sleep(PAUSE);
        restart(RebootMode::RB_AUTOBOOT)
    }));
    sys::reboot_on_fatal_signals(log).or_cannot("catch fatal signals")?;
    set_cad_enabled(false).or_cannot("take over Ctrl-Alt-Del")
}

/// This boot has failed: says why, and reboots. A loader that counts tries then counts one.
pub fn fail(failure: &Failure) -> ! {
    error!("{failure}; rebooting");
    last_failure::keep(failure);
    esp_device::on_failure();
    second_net::on_failure();
    write_out(|| {});
    sleep(PAUSE);
    restart(RebootMode::RB_AUTOBOOT)
}

/// Ends an orderly boot, whose services have stopped.
pub fn finish(end: End) -> ! {
    watchdog::bite_after(watchdog::LONG);
    let _ = kill(Pid::from_raw(-1), Signal::SIGKILL);
    if !wait_until_alone(GONE_WITHIN) {
        warning!("some processes did not end");
    }
    write_out(|| {
        keep::save_all();
        second_net::ended();
    });
    watchdog::feed();
    if !in_child(UNMOUNTED_WITHIN, unmount_all) {
        error!("cannot unmount the disks in time");
    }
    match end {
        End::PowerOff => {
            notice!("system: powers off");
            restart(RebootMode::RB_POWER_OFF)
        }
        End::Reboot => {
            notice!("system: reboots");
            restart(RebootMode::RB_AUTOBOOT)
        }
    }
}

fn restart(mode: RebootMode) -> ! {
    // The last time: should the kernel hang from here on, it bites.
    watchdog::feed();
    let errno = match reboot(mode) {
        Ok(never) => match never {},
        Err(errno) => errno,
    };
    error!("cannot reboot: {errno}");
    // The kernel's other door; and PID 1 that ends is a panic, which reboots.
    let _ = fs::write("/proc/sysrq-trigger", "b");
    sys::exit_now(1)
}

/// Reaps until this process has no other, or for so long.
fn wait_until_alone(within: Duration) -> bool {
    let deadline = clock::now() + within;
    while clock::now() < deadline {
        match sys::ended_child() {
            Err(Errno::ECHILD) => return true,
            Ok(Some((pid, _))) => sys::reap(pid),
            Ok(None) | Err(_) => sleep(Duration::from_millis(10)),
        }
    }
    false
}

/// Writes all that is in memory to the disks, after what `last` adds to that.
fn write_out(last: fn()) {
    let write = || {
        last();
        sync();
    };
    if !in_child(SYNC_WITHIN, write) {
        error!("cannot write out the disks in time");
    }
}

/// Does this in a child, which may hang on a disk that died; PID 1 must not. True: it is done.
pub fn in_child(within: Duration, act: impl FnOnce()) -> bool {
    let child = sys::fork(&[], || {
        act();
        0
    });
    let Ok(child) = child else { return false };
    let deadline = clock::now() + within;
    while clock::now() < deadline {
        match sys::ended_child() {
            Ok(Some((pid, _))) => {
                sys::reap(pid);
                if pid == child {
                    return true;
                }
            }
            Err(Errno::ECHILD) => return true,
            Ok(None) | Err(_) => sleep(Duration::from_millis(10)),
        }
    }
    false
}

/// Unmounts what holds data, the last mounted first; what is busy becomes read-only.
fn unmount_all() {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    for path in to_unmount(&mounts) {
        let Err(errno) = umount2(path.as_str(), MntFlags::UMOUNT_NOFOLLOW) else { continue };
        warning!("cannot unmount {path}: {errno}; making it read-only");
        let none = None::<&str>;
        let flags = MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        if let Err(errno) = mount(none, path.as_str(), none, flags, none) {
            warning!("cannot make {path} read-only: {errno}");
        }
    }
}

/// Of the lines of `/proc/self/mounts`, the places to unmount, in that order.
fn to_unmount(mounts: &str) -> VecDeque<String> {
    let mut paths = VecDeque::new();
    for path in mounts.lines().filter_map(|line| line.split(' ').nth(1)).map(unescaped) {
        let is_kept =
            ["/dev", "/proc", "/sys"].iter().any(|kept| Path::new(&path).starts_with(kept));
        if !is_kept && path != "/" && path != "/run" {
            paths.push_front(path);
        }
    }
    paths
}

/// The kernel writes a blank in a path as `\040`, and so on.
fn unescaped(path: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(path.to_owned(), |path, (escape, plain)| path.replace(escape, plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_takes_90_seconds_at_most() {
        let steps = [SERVICES_WITHIN, GONE_WITHIN, SYNC_WITHIN, UNMOUNTED_WITHIN];
        assert!(steps.iter().sum::<Duration>() <= Duration::from_secs(90));
    }

    #[test]
    fn data_is_unmounted_from_the_last_and_the_rest_stays() {
        let mounts = "/dev/dm-0 / squashfs ro 0 0\ndevtmpfs /dev devtmpfs rw 0 0\n\
                      proc /proc proc rw 0 0\ntmpfs /run tmpfs rw 0 0\n\
                      tmpfs /dev/shm tmpfs rw 0 0\ntmpfs /run/stele/data tmpfs rw 0 0\n\
                      tmpfs /var/my\\040data tmpfs rw 0 0\ntmpfs /development tmpfs rw 0 0\n\
                      torn";
        assert_eq!(to_unmount(mounts), ["/development", "/var/my data", "/run/stele/data"]);
    }
}
