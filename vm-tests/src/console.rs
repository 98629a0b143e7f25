//! The serial console: lines with the time at which they came, and a list of what none may show.

use std::fmt;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::time::{Duration, Instant};

use crate::process;
use crate::watch::Watch;

/// One line of the console.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Its place among all.
    pub number: usize,
    /// When it was complete, since QEMU's start.
    pub at: Duration,
    /// CPU time that QEMU had taken by then.
    pub cpu: Duration,
    /// The text, without control characters.
    pub text: String,
}

impl Line {
    /// The kernel's time stamp, since its start: for how long something took in the guest, however
    /// busy this host is.
    pub fn stamp(&self) -> Option<Duration> {
        let (stamp, _) = self.text.strip_prefix('[')?.split_once(']')?;
        stamp.trim().parse().ok().map(Duration::from_secs_f64)
    }

    /// What follows the first `before` in it.
    pub fn rest_after(&self, before: &str) -> Option<&str> {
        self.text.split_once(before).map(|(_, rest)| rest)
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:8.3} {}", self.at.as_secs_f64(), self.text)
    }
}

/// What no machine may show, whatever the story is about: unless it expects just that.
pub const DENYLIST: [&str; 20] = [
    "Kernel panic",
    "Oops",
    "BUG:",
    "WARNING: CPU:",
    "Call Trace:",
    "general protection fault",
    "segfault at",
    "blocked for more than",
    "Out of memory",
    "Unknown symbol",
    "EXT4-fs error",
    "SQUASHFS error",
    "I/O error",
    "is corrupted",
    "panicked at",
    "internal error:",
    "fatal signal",
    "stele-init: cannot ",
    "cannot exec",
    "stack traceback",
];

/// The entry of the denylist that a line shows, if none of `expected` is it.
pub fn trouble(text: &str, expected: &[&str]) -> Option<&'static str> {
    let shown = |entry: &&&'static str| text.contains(**entry);
    let entry = DENYLIST.iter().find(shown)?;
    let is_expected = expected.iter().any(|expected| text.contains(expected));
    (!is_expected).then_some(*entry)
}

/// Reads lines until there are no more, and keeps a copy.
pub fn read(
    console: impl Read,
    mut copy: File,
    started: Instant,
    pid: u32,
    expected: &[&str],
    watch: &Watch,
) {
    let mut console = BufReader::new(console);
    let mut bytes = Vec::new();
    while let Ok(1..) = console.read_until(b'\n', &mut bytes) {
        let text = plain(&bytes);
        bytes.clear();
        if text.is_empty() {
            continue;
        }
        let (at, cpu) = (started.elapsed(), process::cpu_time(pid).unwrap_or_default());
        watch.tell(|seen| {
            let line = Line { number: seen.lines.len(), at, cpu, text };
            // The copy is for people: a full disk must not fail the story.
            let _ = writeln!(copy, "{line}");
            if seen.trouble.is_none() && trouble(&line.text, expected).is_some() {
                seen.trouble = Some(line.text.clone());
            }
            seen.lines.push(line);
        });
    }
    watch.close();
}

/// Text without control characters; firmware draws on a terminal, so its escape sequences go too.
fn plain(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut plain = String::new();
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            '\u{1b}' => drop(characters.by_ref().find(char::is_ascii_alphabetic)),
            '\t' => plain.push(' '),
            control if control.is_control() => {}
            visible => plain.push(visible),
        }
    }
    plain.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    #[test]
    fn each_trouble_is_seen_and_what_is_harmless_is_not() {
        let table = [
            ("[    1.2] Kernel panic - not syncing: x", Some("Kernel panic")),
            ("[    1.2] Oops: 0000 [#1] SMP", Some("Oops")),
            ("[    1.2] BUG: unable to handle page fault", Some("BUG:")),
            ("[    1.2] WARNING: CPU: 0 PID: 1 at fs/x.c:1", Some("WARNING: CPU:")),
            ("[    1.2] Call Trace:", Some("Call Trace:")),
            ("[    1.2] general protection fault: 0000", Some("general protection fault")),
            ("[    1.2] lua5.4[91]: segfault at 0 ip 0", Some("segfault at")),
            ("[  120.2] task x:1 blocked for more than 120 seconds", Some("blocked for more than")),
            ("[    1.2] Out of memory: Killed process 9 (x)", Some("Out of memory")),
            ("[    1.2] squashfs: Unknown symbol x (err -2)", Some("Unknown symbol")),
            ("[    1.2] EXT4-fs error (device vda5): x", Some("EXT4-fs error")),
            ("[    1.2] SQUASHFS error: Failed to read block", Some("SQUASHFS error")),
            ("[    1.2] Buffer I/O error on dev vda", Some("I/O error")),
            ("[    1.2] device-mapper: verity: data block 3 is corrupted", Some("is corrupted")),
            ("[    1.2] pod-api: thread 'main' panicked at x.rs:1", Some("panicked at")),
            ("[    1.2] stele-init: internal error: x", Some("internal error:")),
            ("[    1.2] stele-init: fatal signal: abort; rebooting", Some("fatal signal")),
            ("[    1.2] stele-init: cannot load module x: y", Some("stele-init: cannot ")),
            ("[    1.2] stele-init: service x: cannot exec /x: ENOENT", Some("cannot exec")),
            ("[    1.2] prosody: stack traceback:", Some("stack traceback")),
            ("[    0.0] Kernel command line: gpt panic=1 console=ttyS0", None),
            ("[    0.0] x86/fpu: xstate_offset: debug: 12", None),
            ("[    4.0] stele-init: service prosody: ready", None),
        ];
        for (line, expected) in table {
            assert_eq!(trouble(line, &[]), expected, "{line}");
        }
        for entry in DENYLIST {
            let has_row = table.iter().any(|(_, expected)| *expected == Some(entry));
            assert!(has_row, "no row proves `{entry}`");
        }
    }

    #[test]
    fn only_the_trouble_that_is_expected_passes() {
        let line = "device-mapper: verity: 254:3: data block 3 is corrupted";
        assert_eq!(trouble(line, &["data block 3 is corrupted"]), None);
        assert_eq!(trouble(line, &["data block 4 is corrupted"]), Some("is corrupted"));
        assert_eq!(trouble(line, &["Oops"]), Some("is corrupted"));
    }

    #[test]
    fn a_line_has_the_kernels_stamp() {
        let line = |text: &str| Line {
            number: 0,
            at: Duration::ZERO,
            cpu: Duration::ZERO,
            text: text.to_owned(),
        };
        let stamp = line("[   12.003456] stele-init: root: x").stamp();
        assert_eq!(stamp, Some(Duration::from_micros(12_003_456)));
        assert_eq!(line("BdsDxe: starting Boot0001").stamp(), None);
    }

    #[test]
    fn lines_lose_what_a_terminal_would_act_on() {
        let table: [(&[u8], &str); 4] = [
            (b"one\r\n", "one"),
            (b"\x1b[2J\x1b[01;01H\x1b[=3hBdsDxe: loading\r\n", "BdsDxe: loading"),
            (b"\x1b", ""),
            (b"a\tb\x07 \n", "a b"),
        ];
        for (bytes, expected) in table {
            assert_eq!(plain(bytes), expected, "{bytes:?}");
        }
    }

    #[test]
    fn what_is_read_can_be_awaited_and_trouble_is_remembered() {
        let watch = Watch::new(1);
        let console = Cursor::new(b"hello\r\n\r\nOops: 0\nlast, unended");
        let copy = tempfile::tempfile().unwrap();
        read(console, copy, Instant::now(), std::process::id(), &[], &watch);
        let seen = watch.seen();
        let texts: Vec<&str> = seen.lines.iter().map(|line| line.text.as_str()).collect();
        assert_eq!(texts, ["hello", "Oops: 0", "last, unended"]);
        assert_eq!(seen.trouble.as_deref(), Some("Oops: 0"));
    }
}
