//! Runs a program to its end, before there is an event loop: with a deadline, with no rights but
//! root's name, and with what it prints in the log.

use std::ffi::CString;
use std::fs::File;
use std::os::fd::AsFd as _;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl::set_no_new_privs;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, dup2_stderr, dup2_stdin, dup2_stdout, setsid, write};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::log::{self, Priority, notice};
use crate::output::Output;
use crate::sys::{self, Ending, Exec};
use crate::{clock, watchdog};
use appliance::failure::{Failure, OrCannot as _};

/// How often an end is looked for, in milliseconds.
const LOOK_EVERY: u8 = 50;
/// How often a long run is mentioned.
const MENTIONED_EVERY: Duration = Duration::from_secs(10);
/// What a shell's child exits with when there is no such program.
const NOT_STARTED: i32 = 127;
/// The most bytes of a reason that a child gives.
const LONGEST_REASON: usize = 350;

/// Runs `program` with `arguments`; its lines are logged under its name. Comes back with its exit
/// status; who was killed by a signal, or had to be because it took longer than `within`, failed.
pub fn run(program: &str, arguments: &[&str], within: Duration) -> Result<i32, Failure> {
    let name = program.rsplit('/').next().unwrap_or(program);
    let what = format_args!("run {program}");
    let exec = prepare(program, arguments).or_cannot(what)?;
    let mut output = Output::new().or_cannot(what)?;
    let input = File::open("/dev/null").or_cannot(what)?;
    let child = sys::fork(&[input.as_fd(), output.writer()], || {
        let become_it = || -> nix::Result<Errno> {
            setsid()?;
            dup2_stdin(&input)?;
            dup2_stdout(output.writer())?;
            dup2_stderr(output.writer())?;
            sys::drop_bounding_set(&[])?;
            set_no_new_privs()?;
            sys::forget_signals_and_files(3);
            Ok(exec.run())
        };
        let _ = become_it();
        NOT_STARTED
    });
    let mut say = |line: &str| say(name, line);
    let ending = watch(name, child.or_cannot(what)?, &mut output, within, &mut say);
    match ending {
        Some(Ending::Exited(NOT_STARTED)) => Err(Failure::new(what, "it can't be started")),
        Some(Ending::Exited(status)) => Ok(status),
        Some(killed) => Err(Failure::new(what, killed)),
        None => Err(Failure::new(what, late(within))),
    }
}

/// Does `what` in a child, which may take long, or hang on a disk that died, and comes back with what
/// it came to.
pub fn in_child<T: Serialize + DeserializeOwned>(
    name: &str,
    what: &str,
    within: Duration,
    act: impl FnOnce() -> Result<T, Failure>,
) -> Result<T, Failure> {
    let mut output = Output::new().or_cannot(what)?;
    let child = sys::fork(&[output.writer()], || {
        let result = act().map_err(|failure| shortened(&failure.to_string()));
        let mut line = serde_json::to_vec(&result).unwrap_or_default();
        line.push(b'\n');
        write(output.writer(), &line).map_or(1, |_| 0)
    });
    let mut said = String::new();
    let mut hear = |line: &str| said = line.to_owned();
    let ending = watch(name, child.or_cannot(what)?, &mut output, within, &mut hear);
    match (ending, serde_json::from_str::<Result<T, String>>(&said)) {
        (_, Ok(result)) => result.or_cannot(what),
        (Some(ending), Err(_)) => Err(Failure::new(what, ending)),
        (None, Err(_)) => Err(Failure::new(what, late(within))),
    }
}

/// So that it is one line, as long as [`Output`] reads them, when it has been quoted.
fn shortened(text: &str) -> String {
    let line = log::one_line(text);
    line.chars()
        .scan(0, |bytes, c| {
            *bytes += c.len_utf8();
            (*bytes <= LONGEST_REASON).then_some(c)
        })
        .collect()
}

fn late(within: Duration) -> String {
    format!("not done in {} s", within.as_secs())
}

fn prepare(program: &str, arguments: &[&str]) -> Result<Exec, std::ffi::NulError> {
    let all = [program].into_iter().chain(arguments.iter().copied());
    let arguments = all.map(CString::new).collect::<Result<_, _>>()?;
    let environment = ["LANG=C.UTF-8", "PATH=/usr/bin:/usr/sbin", "TZ=UTC"].map(CString::new);
    let environment = environment.into_iter().collect::<Result<_, _>>()?;
    Ok(Exec::new(CString::new(program)?, arguments, environment))
}

fn say(name: &str, line: &str) {
    if !line.trim().is_empty() {
        log::write(Priority::Notice, name, line);
    }
}

/// Until it has ended. `None`: it took too long and was killed.
fn watch(
    name: &str,
    child: Pid,
    output: &mut Output,
    within: Duration,
    hear: &mut dyn FnMut(&str),
) -> Option<Ending> {
    let ending = wait(name, child, output, within, hear);
    output.finish().iter().for_each(|line| hear(line));
    ending
}

fn wait(
    name: &str,
    child: Pid,
    output: &mut Output,
    within: Duration,
    hear: &mut dyn FnMut(&str),
) -> Option<Ending> {
    let start = clock::now();
    let mut mentioned = Duration::ZERO;
    let mut is_killed = false;
    loop {
        // This wait has an end of its own.
        watchdog::feed();
        let _ = poll(
            &mut [PollFd::new(output.as_fd(), PollFlags::POLLIN)],
            PollTimeout::from(LOOK_EVERY),
        );
        output.read().iter().for_each(|line| hear(line));
        match sys::ended_child() {
            Ok(Some((pid, ending))) => {
                sys::reap(pid);
                if pid == child {
                    return Some(ending).filter(|_| !is_killed);
                }
            }
            Err(Errno::ECHILD) => return None,
            Ok(None) | Err(_) => {}
        }
        let taken = clock::now().saturating_sub(start);
        if taken >= within && !is_killed {
            let _ = kill(child, Signal::SIGKILL);
            is_killed = true;
        }
        // A process that hangs on a dead disk isn't gone by SIGKILL.
        if taken >= within + MENTIONED_EVERY {
            return None;
        }
        if taken >= mentioned + MENTIONED_EVERY {
            mentioned = taken;
            notice!(
                "data: {name} is at it for {} s, of {} at most",
                taken.as_secs(),
                within.as_secs()
            );
        }
    }
}
