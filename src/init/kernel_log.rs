//! What the kernel says, and with it what PID 1 says: both are read back from `/dev/kmsg`, from the
//! first line of the boot on, so that the initrd's are there too.

use std::fs::{File, OpenOptions};
use std::io::Read as _;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::OFlag;

use crate::clock::Moment;
use crate::journal::Journal;
use crate::log::Priority;
use appliance::failure::{Failure, OrCannot as _};

/// No record is longer.
const LONGEST: usize = 8192;
/// So many records are read at a time, so that a kernel in trouble doesn't keep others waiting.
const AT_A_TIME: usize = 64;
/// What PID 1's lines begin with. Those of services do so with their names; their journals have
/// them already.
const OWN: &str = "stele-init: ";
/// Syslog's facility of the kernel itself.
const KERNEL: u32 = 0;

/// Reads the kernel's ring buffer into two journals.
#[derive(Debug)]
pub struct KernelLog {
    file: File,
    kernel: Journal,
    own: Journal,
}

/// A record of `/dev/kmsg`.
#[derive(Debug, PartialEq, Eq)]
struct Record<'a> {
    facility: u32,
    priority: u8,
    /// When it was written, as the kernel counts.
    at: Moment,
    text: &'a str,
}

impl KernelLog {
    /// Begins with the oldest line that the kernel has.
    pub fn open() -> Result<KernelLog, Failure> {
        let file =
            OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open("/dev/kmsg");
        let file = file.or_cannot("read /dev/kmsg")?;
        Ok(KernelLog { file, kernel: Journal::of("kernel"), own: Journal::of("stele-init") })
    }

    /// Takes in what is there.
    pub fn read(&mut self, now: Moment, date: Duration) {
        let mut buffer = [0; LONGEST];
        for _ in 0..AT_A_TIME {
            match self.file.read(&mut buffer) {
                Ok(length) => {
                    let bytes = buffer.get(..length).unwrap_or_default();
                    self.add(&String::from_utf8_lossy(bytes), now, date);
                }
                // Overwritten before it was read; the next read goes on with the oldest there is.
                Err(error) if error.raw_os_error() == Some(Errno::EPIPE as i32) => {
                    self.kernel.add(now, date, Priority::Warning as u8, "some lines lost");
                }
                Err(_) => break,
            }
        }
        self.kernel.flush(date);
        self.own.flush(date);
    }

    fn add(&mut self, record: &str, now: Moment, date: Duration) {
        let Some(Record { facility, priority, at, text }) = parse(record) else { return };
        let date = date.saturating_sub(now.saturating_sub(at));
        match text.strip_prefix(OWN) {
            _ if facility == KERNEL => self.kernel.add(now, date, priority, text),
            Some(text) => self.own.add(now, date, priority, text),
            None => {}
        }
    }

    /// The journal of `kernel` or `stele-init`.
    pub fn journal(&self, name: &str) -> Option<&Journal> {
        match name {
            "kernel" => Some(&self.kernel),
            "stele-init" => Some(&self.own),
            _ => None,
        }
    }
}

impl AsFd for KernelLog {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// `6,339,5140900,-;NET: Registered protocol family\n SUBSYSTEM=net`
fn parse(record: &str) -> Option<Record<'_>> {
    let (head, rest) = record.split_once(';')?;
    let mut head = head.split(',');
    let syslog: u32 = head.next()?.parse().ok()?;
    let micros = head.nth(1)?.parse().ok()?;
    let text = rest.lines().next().unwrap_or_default();
    let (facility, priority) = (syslog >> 3, (syslog & 7) as u8);
    Some(Record { facility, priority, at: Moment::from_micros(micros), text })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_or_left() {
        let record = |facility, priority, at, text| {
            Some(Record { facility, priority, at: Moment::from_micros(at), text })
        };
        for (text, expected) in [
            (
                "6,339,5140900,-;NET: Registered; 1\n SUBSYSTEM=net\n",
                record(0, 6, 5_140_900, "NET: Registered; 1"),
            ),
            ("13,1,7,-,caller=T1;stele-init: x\n", record(1, 5, 7, "stele-init: x")),
            ("4,1,0,c;\n", record(0, 4, 0, "")),
            ("no record", None),
            ("x,1,2,-;text", None),
            ("1,2;text", None),
            ("", None),
        ] {
            assert_eq!(parse(text), expected, "{text}");
        }
    }

    #[test]
    fn the_kernels_and_our_own_lines_are_kept_apart() {
        let file = File::open("/dev/null").unwrap();
        let (kernel, own) = (Journal::of("kernel"), Journal::of("stele-init"));
        let mut log = KernelLog { file, kernel, own };
        let (now, date) = (Moment::from_secs(10), Duration::from_secs(1000));
        for record in
            ["4,1,4000000,-;oops\n", "13,2,9000000,-;stele-init: ready\n", "13,3,9,-;a: line\n"]
        {
            log.add(record, now, date);
        }
        assert_eq!(log.journal("kernel").unwrap().last(9), ["994000 4 oops"]);
        assert_eq!(log.journal("stele-init").unwrap().last(9), ["999000 5 ready"]);
        assert!(log.journal("a").is_none());
    }
}
