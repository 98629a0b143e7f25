//! What a service's processes print: a pipe, cut into lines, with a bound on how much is shown.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::{pipe2, read};

use crate::clock::Moment;

/// The longest line; what is longer is broken.
const LONGEST: usize = 800;
/// The same of a report, which nobody reads who isn't a program.
const LONGEST_REPORT: usize = 4096;
/// How much is read at a time, so that one who prints without end doesn't keep others waiting.
const AT_A_TIME: usize = 16 * 1024;

/// The reading end of a pipe whose writing end all of a service's processes share, one after
/// another: what the last one printed before it died is still there.
#[derive(Debug)]
pub struct Output {
    reader: OwnedFd,
    writer: OwnedFd,
    lines: Lines,
}

impl Output {
    /// A pipe that doesn't block its reader.
    pub fn new() -> nix::Result<Output> {
        Output::of_lines(LONGEST)
    }

    /// One for what children of init's own report.
    pub fn of_reports() -> nix::Result<Output> {
        Output::of_lines(LONGEST_REPORT)
    }

    fn of_lines(longest: usize) -> nix::Result<Output> {
        let (reader, writer) = pipe2(OFlag::O_CLOEXEC)?;
        fcntl(&reader, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        Ok(Output { reader, writer, lines: Lines::of(longest) })
    }

    /// What a process gets to write to.
    pub fn writer(&self) -> BorrowedFd<'_> {
        self.writer.as_fd()
    }

    /// The lines that are complete now.
    pub fn read(&mut self) -> Vec<String> {
        let mut bytes = vec![0; AT_A_TIME];
        let length = read(&self.reader, &mut bytes).unwrap_or_default();
        bytes.truncate(length);
        self.lines.push(&bytes)
    }

    /// The rest, when nobody will end its last line.
    pub fn finish(&mut self) -> Vec<String> {
        let mut lines = self.read();
        lines.extend(self.lines.rest());
        lines
    }
}

impl AsFd for Output {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.reader.as_fd()
    }
}

/// Bytes in, lines out.
#[derive(Debug)]
struct Lines {
    longest: usize,
    unfinished: Vec<u8>,
}

impl Lines {
    fn of(longest: usize) -> Lines {
        Lines { longest, unfinished: vec![] }
    }

    fn push(&mut self, bytes: &[u8]) -> Vec<String> {
        let mut lines = vec![];
        for &byte in bytes {
            if byte != b'\n' {
                self.unfinished.push(byte);
            }
            if byte == b'\n' || self.unfinished.len() >= self.longest {
                lines.extend(self.rest());
            }
        }
        lines
    }

    /// An empty line tells nothing and is left out.
    fn rest(&mut self) -> Option<String> {
        let line = String::from_utf8_lossy(&self.unfinished).trim_end().to_owned();
        self.unfinished.clear();
        (!line.is_empty()).then_some(line)
    }
}

/// How much may be shown: so many lines in each stretch of time.
#[derive(Debug)]
pub struct Throttle {
    /// How many.
    lines: u32,
    /// When the present stretch began.
    since: Moment,
    shown: u32,
    withheld: u32,
}

/// May this line be shown?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Yes, and so many before it were not.
    Show { withheld: u32 },
    /// No.
    Withhold,
}

impl Throttle {
    /// What a person can still follow, or scroll through.
    const LINES: u32 = 200;
    const STRETCH: Duration = Duration::from_secs(5);

    /// For so many lines.
    pub fn of(lines: u32) -> Throttle {
        Throttle { lines, since: Moment::ZERO, shown: 0, withheld: 0 }
    }

    /// Asks for one line.
    pub fn ask(&mut self, now: Moment) -> Verdict {
        if now.saturating_sub(self.since) >= Throttle::STRETCH {
            self.since = now;
            self.shown = 0;
        }
        if self.shown >= self.lines {
            self.withheld = self.withheld.saturating_add(1);
            return Verdict::Withhold;
        }
        self.shown += 1;
        Verdict::Show { withheld: std::mem::take(&mut self.withheld) }
    }
}

impl Default for Throttle {
    /// For the console.
    fn default() -> Throttle {
        Throttle::of(Throttle::LINES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::unistd::write;

    #[test]
    fn bytes_become_lines() {
        let table: [(&[&[u8]], &[&str]); 6] = [
            (&[b"one\ntwo\n"], &["one", "two"]),
            (&[b"o", b"ne", b"\n"], &["one"]),
            (&[b"one\r\n\n \ntwo\n"], &["one", "two"]),
            (&[b"not ended"], &[]),
            (&[b"\xff\xfe\n"], &["\u{fffd}\u{fffd}"]),
            (&[&[b'x'; 2 * LONGEST], b"y\n"], &[&"x".repeat(LONGEST), &"x".repeat(LONGEST), "y"]),
        ];
        for (pieces, expected) in table {
            let mut lines = Lines::of(LONGEST);
            let got: Vec<String> = pieces.iter().flat_map(|piece| lines.push(piece)).collect();
            assert_eq!(got, expected);
        }
    }

    #[test]
    fn a_pipe_gives_lines_and_the_unfinished_rest() {
        let mut output = Output::new().unwrap();
        assert!(output.read().is_empty());
        write(output.writer(), b"one\ntwo").unwrap();
        assert_eq!(output.read(), ["one"]);
        assert_eq!(output.finish(), ["two"]);
        assert!(output.finish().is_empty());
    }

    #[test]
    fn a_flood_is_cut_and_counted() {
        let mut throttle = Throttle::default();
        let at = Duration::from_secs;
        for _ in 0..Throttle::LINES {
            assert_eq!(throttle.ask(at(6)), Verdict::Show { withheld: 0 });
        }
        for _ in 0..7 {
            assert_eq!(throttle.ask(at(10)), Verdict::Withhold);
        }
        assert_eq!(throttle.ask(at(11)), Verdict::Show { withheld: 7 });
        assert_eq!(throttle.ask(at(11)), Verdict::Show { withheld: 0 });
    }
}
