//! Writes the Server's configuration for PID 1: a child that renders settings, and has the Server's
//! own program check the text, in a jail without anything of the Server's.
//!
//! ```text
//! PID 1 ── settings, in a file without a name ──► `stele-init render` ──► `prosodyctl check config`
//!       ◄── the text, in their place in that file; one line: the number, `rendered` or why not ──
//! ```

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use appliance::boot::RENDER_USER;
use appliance::service::{Kind, Limits, Memory, Millis, Service};
use appliance::settings::{Certificate, Place, Prosody, Settings, render};
use serde::{Deserialize, Serialize};

use crate::{child, sys};
use appliance::failure::{Failure, OrCannot as _};

/// How long it may take on a slow machine.
const WITHIN: Millis = Millis(60_000);
/// The longest document, and the longest configuration.
const LONGEST: u64 = 256 * 1024;
/// Where the text lies while it is checked, in the jail's own memory.
const DRAFT: &str = "/tmp/prosody.cfg.lua";
/// What runs the Server's programs.
const LUA: &str = "/usr/bin/lua5.4";
const CHECKER: &str = "/usr/bin/prosodyctl";
/// A module that Prosody has since 13.0.
const NEWER: &str = "/usr/lib/prosody/modules/mod_cloud_notify.lua";
/// How much is told of why not.
const TOLD: usize = 400;
/// How long the check may take: Lua of an admin's can take for ever.
const CHECKED_WITHIN: Duration = Duration::from_secs(30);
/// Between two looks whether it has ended.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// The most bytes that are read of what it says.
const LONGEST_SAID: u64 = 16 * 1024;

/// What the child is given.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    /// What the answer is known by.
    pub number: u32,
    /// Of what a text is made.
    pub settings: Settings,
    /// Has the operator given a certificate?
    pub has_certificate: bool,
}

/// The child.
pub fn service() -> Service {
    let service = child::service("render", &["render"], "stele-render", RENDER_USER);
    let limits = Limits { memory: Memory::Bytes(96 << 20), pids: 8, cpu_weight: 100 };
    let kind = Kind::Task { creates: None, done_within: WITHIN };
    Service { kind, limits, open_files: 256, ..service }
}

/// Runs to its end.
pub fn run() {
    let answer = child::document(LONGEST).and_then(|order: Order| {
        let text = text_of(&order);
        match check(&text)? {
            None => hand_over(&text).map(|()| format!("{} rendered", order.number)),
            Some(why) => Ok(format!("{} {why}", order.number)),
        }
    });
    match answer {
        Ok(line) => println!("{line}"),
        Err(failure) => {
            eprintln!("{failure}");
            std::process::exit(1)
        }
    }
}

fn text_of(order: &Order) -> String {
    let prosody = if Path::new(NEWER).exists() { Prosody::V13_0 } else { Prosody::V0_12 };
    let certificate = match order.has_certificate {
        true => Certificate::Discovered,
        false => Certificate::self_signed(),
    };
    render(&order.settings, &Place::appliance(prosody, certificate))
}

/// Why the Server wouldn't take it, in its own words.
fn check(text: &str) -> Result<Option<String>, Failure> {
    fs::write(DRAFT, text).or_cannot("write a draft")?;
    let mut command = Command::new(LUA);
    command.args([CHECKER, "--config", DRAFT, "check", "config"]);
    run_within(command, CHECKED_WITHIN).or_cannot("run the Server's check")
}

/// Why a command failed, in its own words; or that it took too long.
fn run_within(mut command: Command, within: Duration) -> io::Result<Option<String>> {
    let (said, saying) = io::pipe()?;
    command.stdin(Stdio::null()).stdout(saying.try_clone()?).stderr(saying);
    let mut child = command.spawn()?;
    // Its ends of the pipe: with them open, there would be no end to read to.
    drop(command);
    let reader = thread::spawn(move || {
        let mut text = vec![];
        // Then it is closed: whoever says more fails.
        let _ = said.take(LONGEST_SAID).read_to_end(&mut text);
        text
    });
    let start = Instant::now();
    let status = loop {
        match child.try_wait()? {
            Some(status) => break status,
            None if start.elapsed() < within => thread::sleep(LOOK_EVERY),
            None => {
                child.kill()?;
                child.wait()?;
                return Ok(Some(format!("its check takes longer than {} s", within.as_secs())));
            }
        }
    };
    let said = reader.join().unwrap_or_default();
    Ok((!status.success()).then(|| one_line(&String::from_utf8_lossy(&said))))
}

/// What a person wants to know of it.
fn one_line(said: &str) -> String {
    let lines = said.lines().map(str::trim).filter(|line| !line.is_empty());
    let line: String = lines.collect::<Vec<_>>().join(" | ");
    let line: String = line.chars().filter(|it| !it.is_control()).take(TOLD).collect();
    if line.is_empty() { "the Server's check failed".to_owned() } else { line }
}

/// Into the file that the order came in.
fn hand_over(text: &str) -> Result<(), Failure> {
    let what = "hand over the configuration";
    let mut file = File::from(sys::standard_input());
    let write = |file: &mut File| -> io::Result<()> {
        file.set_len(0)?;
        file.rewind()?;
        file.write_all(text.as_bytes())
    };
    write(&mut file).or_cannot(what)
}

/// What the child told: the number of its order, and the text that it left in the `paper`, or why
/// there is none.
pub fn from_line(line: &str, paper: &mut File) -> Option<(u32, Result<String, String>)> {
    let (number, word) = line.split_once(' ')?;
    let number = number.parse().ok()?;
    if word != "rendered" {
        return Some((number, Err(word.to_owned())));
    }
    let mut text = String::new();
    let read = paper.rewind().and_then(|()| paper.take(LONGEST).read_to_string(&mut text));
    Some((number, read.map(|_| text).map_err(|error| format!("cannot read it: {error}"))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_crosses_in_the_paper_of_its_order() {
        let mut paper = child::paper(b"a long order, longer than what comes back").unwrap();
        assert_eq!(from_line("3 line 1: no", &mut paper), Some((3, Err("line 1: no".into()))));
        paper.set_len(0).unwrap();
        paper.rewind().unwrap();
        paper.write_all(b"x = 1\n").unwrap();
        assert_eq!(from_line("4 rendered", &mut paper), Some((4, Ok("x = 1\n".into()))));
        for line in ["rendered", "x rendered", ""] {
            assert_eq!(from_line(line, &mut paper), None);
        }
    }

    #[test]
    fn a_check_that_says_too_much_or_takes_too_long_fails() {
        let run = |script: &str, within| {
            let mut command = Command::new("/bin/sh");
            command.args(["-c", script]);
            run_within(command, within).unwrap()
        };
        let long = Duration::from_secs(60);
        for (script, expected) in [
            ("true; echo fine", None),
            ("echo a; echo b >&2; exit 1", Some("a | b")),
            ("exit 3", Some("the Server's check failed")),
        ] {
            assert_eq!(run(script, long).as_deref(), expected, "{script}");
        }
        assert_eq!(run("while echo x; do :; done 2>/dev/null; exit 1", long).unwrap().len(), TOLD);
        let late = run("exec sleep 60", Duration::ZERO);
        assert_eq!(late.as_deref(), Some("its check takes longer than 0 s"));
    }

    #[test]
    fn why_not_is_one_bounded_line() {
        assert_eq!(one_line("a\n\n  b\x1b[1m\n"), "a | b[1m");
        assert_eq!(one_line("\n"), "the Server's check failed");
        assert_eq!(one_line(&"x".repeat(1000)).len(), TOLD);
    }
}
