//! Lines for the console and the kernel's ring buffer.
//!
//! Everything goes through `/dev/kmsg`: a record is written whole, never torn by a kernel message,
//! keeps its place among those, carries the kernel's time stamp, and survives in a crash dump. The
//! kernel copies to the console what is a notice or worse.
//!
//! These lines are stable; tests wait for them and people read them (each follows the kernel's time
//! stamp and `stele-init: `):
//!
//! | line | said when |
//! |---|---|
//! | `initrd: starts` | the kernel has handed over |
//! | `initrd: watchdog NAME armed` | a hang resets the machine from here on |
//! | `initrd: N modules loaded` | |
//! | `initrd: slot found on vda2` | this partition holds the pinned root |
//! | `initrd: root HASH opened` | it is mounted; dm-verity checks every read |
//! | `initrd: hands over to the root` | next is exec there |
//! | `root: NAME VERSION starts` | |
//! | `root: the last boot failed (phase running): …` | why the one before ended; its console follows, quietly |
//! | `root: clock set from N to N s, the build's` | the clock was behind the build |
//! | `root: clock set from N to N s, the one when it last ran` | or behind the last shutdown |
//! | `data: file system of N MiB made on vda5` | the first boot, in a blank place |
//! | `data: vda5 adopted as it is` | the first boot, where ours was already |
//! | `data: partition table of vda written, for N MiB` | the first boot, or the disk has grown |
//! | `data: partition table of vda repaired` | one of its two copies was damaged or missing |
//! | `data: e2fsck is at it for N s, of N at most` | every 10 s |
//! | `data: vda5 mounted` | |
//! | `data: grown from N to N MiB` | |
//! | `data: nothing is served without it; tries again in N s` | the line before says why |
//! | `root: machine id made for this disk` | the first boot |
//! | `root: N volumes on the data`, `root: N volumes in memory` | |
//! | `seed: env taken over to /etc/prose/env` | copied for good |
//! | `seed: x left alone: …` | it stays on the seed partition |
//! | `seed: N files removed from the seed partition` | those that were taken over |
//! | `root: starts N services` | the supervisor runs |
//! | `gate: shut: the Server isn't ready`, `…: the Pod API has not changed the bootstrap secret`, `…: the change is being proved` | what the gate waits for; in brackets why the last try failed |
//! | `gate: open` | the network comes up |
//! | `settings: none yet`, `being checked`, `waiting for the Server`, `being loaded`, `applied` | where what the Server shall run with is |
//! | `settings: to be tried again (…)`, `refused (…)` | the Server goes on with the last good ones |
//! | `settings: they hold Lua of an admin's, which the operator allows` | it runs next to the messages |
//! | `server: PATH is an operator's own; kept as PATH` | the appliance writes there from now on |
//! | `backup: the data is exchanged; services stop for that` | a restoration or a reset begins |
//! | `backup: the data has been exchanged` | it is done; services start |
//! | `root: what the power cut short is finished: the data has been exchanged` | the boot after a cut in between |
//! | `data: kept aside before VERSION uses it: N files, N MiB copied` | the first boot of an upgrade |
//! | `data: set back to before VERSION, which had changed N files` | an upgrade failed; see [`crate::aside`] |
//! | `network: eth0: link up`, `link down` | somebody is at the other end, or not |
//! | `network: eth0 10.0.2.15/24 via 10.0.2.2, dns 10.0.2.3, for 86400 s` | a lease is applied |
//! | `network: eth0: lease lost` | it ran out, or was withdrawn |
//! | `network: ready` | a lease, no interface, or 5 s: what waits for it may start |
//! | `time: clock set from N to N s` | a server knows better |
//! | `time: synced to 10.0.2.4` | for the first time in this boot |
//! | `time: 10.0.2.4 gives none` | it is silent, or wants no queries; the next is asked |
//! | `time: not set by N s: …` | that would be before the floor, or decades ahead |
//! | `service NAME: STATE` | `starting`, `ready`, `done`, `failing`, `backoff 0.5 s`, `crash-loop, tried again in 60 s`, `stopping`, `killed`, `stopped` |
//! | `service NAME: ended: exit status 1`, `signal 9` | its main process is gone |
//! | `service NAME: suspended by a signal` | it is killed, and started again |
//! | `service NAME: gives no answer` | it is killed, and started again |
//! | `service NAME: killed: out of the memory it may take` | it met its limit |
//! | `service NAME: met its limit of N processes` | said once it has ended |
//! | `service NAME: not ready in time` | it is killed, and tried again |
//! | `service NAME: cannot exec /usr/bin/x: ENOENT: …` | or another step before that |
//! | `service NAME: N lines not shown` | it prints too much |
//! | `service NAME: restart (control)` | somebody asked for it |
//! | `control: user N may not ask` | somebody without any right knocked |
//! | `system: power off (power button)` | or `reboot (Ctrl-Alt-Del)`, `(control)`: services are stopped |
//! | `system: services stopped` | or `system: services not stopped in time`, after 50 s |
//! | `system: powers off`, `system: reboots` | the last line of an orderly end |
//! | `cannot …: …; rebooting` | a failure that ends this boot |
//! | `internal error: …; rebooting`, `fatal signal: …; rebooting` | a bug |
//!
//! What a service prints follows as `NAME: line`. Not on a `quiet` console: `reaped orphan 123
//! (sleep) of NAME`, a process that a service left behind.

use std::fmt::{self, Display};
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::OnceLock;

use appliance::failure::{Failure, OrCannot as _};

/// How bad it is, as syslog numbers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Priority {
    /// Something that should work doesn't.
    Error = 3,
    /// Odd, and got over.
    Warning = 4,
    /// The normal course of things.
    Notice = 5,
    /// For who looks for it; not for the console.
    Detail = 6,
}

/// The kernel refuses records longer than 1024 bytes; the rest is for prefixes.
const LONGEST: usize = 960;
/// Syslog's facility for user programs, in a record's prefix.
const USER: u8 = 1 << 3;
/// Which messages reach the console: those below this, so notices and worse.
const CONSOLE_LEVEL: u8 = Priority::Notice as u8 + 1;

static KMSG: OnceLock<File> = OnceLock::new();

/// Opens `/dev/kmsg`. Until then lines go to standard error.
pub fn open() -> Result<BorrowedFd<'static>, Failure> {
    let file = OpenOptions::new().write(true).open("/dev/kmsg").or_cannot("open /dev/kmsg")?;
    Ok(KMSG.get_or_init(|| file).as_fd())
}

/// What lines are written to, once it is open.
pub fn file() -> Option<BorrowedFd<'static>> {
    KMSG.get().map(File::as_fd)
}

/// Lets the console show notices, however `quiet` the kernel was started, and lifts the rate limit
/// on `/dev/kmsg`. A console that cannot be set still shows errors: not worth failing for.
pub fn show_notices() {
    let printk = fs::read_to_string("/proc/sys/kernel/printk").unwrap_or_default();
    let level = printk.split_whitespace().next().and_then(|level| level.parse().ok());
    if level.is_some_and(|level: u8| level < CONSOLE_LEVEL) {
        let _ = fs::write("/proc/sys/kernel/printk", CONSOLE_LEVEL.to_string());
    }
    let _ = fs::write("/proc/sys/kernel/printk_devkmsg", "on\n");
}

/// One line from `who`. Never fails and never blocks on a reader.
pub fn write(priority: Priority, who: &str, text: impl Display) {
    let line = record(priority, who, text);
    match KMSG.get() {
        Some(mut kmsg) => drop(kmsg.write_all(line.as_bytes())),
        None => eprintln!("{line}"),
    }
}

/// A record for `/dev/kmsg`: a priority, then one line that holds nothing but text.
fn record(priority: Priority, who: &str, text: impl Display) -> String {
    let mut line = format!("<{}>{who}: ", USER | priority as u8);
    let _ = fmt::write(&mut OneLine(&mut line), format_args!("{text}"));
    // Without it the kernel holds the line back until the next one comes.
    line.push('\n');
    line
}

/// Text that holds no end of a line, and is not too long for one.
pub fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    let _ = fmt::write(&mut OneLine(&mut line), format_args!("{text}"));
    line
}

/// Cuts at [`LONGEST`]; a control character, which could forge a line or upset a terminal, is
/// written as its escape.
struct OneLine<'a>(&'a mut String);

impl fmt::Write for OneLine<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for character in text.chars() {
            if self.0.len() > LONGEST {
                return Ok(());
            }
            match character {
                '\t' => self.0.push('\t'),
                control if control.is_control() => self.0.extend(control.escape_default()),
                plain => self.0.push(plain),
            }
        }
        Ok(())
    }
}

/// A line of init's own.
pub fn own(priority: Priority, text: impl Display) {
    write(priority, "stele-init", text);
}

/// `notice!("initrd: slot found on {name}")`: the normal course of things.
macro_rules! notice {
    ($($text:tt)*) => {
        $crate::log::write($crate::log::Priority::Notice, "stele-init", format_args!($($text)*))
    };
}

/// For who looks for it; not for the console.
macro_rules! detail {
    ($($text:tt)*) => {
        $crate::log::write($crate::log::Priority::Detail, "stele-init", format_args!($($text)*))
    };
}

/// Odd, and got over.
macro_rules! warning {
    ($($text:tt)*) => {
        $crate::log::write($crate::log::Priority::Warning, "stele-init", format_args!($($text)*))
    };
}

/// Something that should work doesn't.
macro_rules! error {
    ($($text:tt)*) => {
        $crate::log::write($crate::log::Priority::Error, "stele-init", format_args!($($text)*))
    };
}

pub(crate) use {detail, error, notice, warning};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_one_bounded_line_of_text() {
        let record = |text: &str| record(Priority::Notice, "x", text);
        assert_eq!(record("all\twell"), "<13>x: all\twell\n");
        assert_eq!(record("two\nlines\r\u{1b}[31m"), "<13>x: two\\nlines\\r\\u{1b}[31m\n");
        assert!(record(&"é".repeat(4000)).len() < 1024);
    }
}
