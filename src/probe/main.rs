//! The program `stele-probe`: tries whether the services of this appliance serve, as a short-lived
//! child of `stele-init`, and as those see it who use them.
//!
//! Apart from PID 1's own program, which speaks neither TLS nor XMPP, and which every initrd carries.
//! It reads one question from its standard input, and tells what came of each check, a line each.
//!
//! | module | what it knows |
//! |---|---|
//! | [`bounded`] | a connection that takes neither for ever nor all memory |
//! | [`tls`] | TLS to whoever listens there |
//! | [`stanzas`] | XMPP's streams of XML |
//! | [`scram`] | how a password is proved without being told |
//! | [`xmpp`], [`api`] | what can be asked |

mod api;
mod bounded;
mod scram;
#[cfg(test)]
mod stand_in;
mod stanzas;
mod tls;
mod xmpp;

use std::io::{self, Read as _};
use std::process::ExitCode;
use std::time::Duration;

use appliance::probe::{API, Line, Question, XMPP};
use appliance::upgrade::Check;

use appliance::failure::Failure;

/// The longest question.
const LONGEST: u64 = 8 * 1024;
/// How long the API may take for all that it is asked.
const API_WITHIN: Duration = Duration::from_secs(5);
/// How long it may take to log in and hear oneself. With the one above it is less than PID 1 waits.
const XMPP_WITHIN: Duration = Duration::from_secs(12);
/// How much is told of why not, in characters.
const TOLD: usize = 400;

fn main() -> ExitCode {
    let mut text = vec![];
    let read = io::stdin().take(LONGEST).read_to_end(&mut text).map_err(|error| error.to_string());
    let question = read
        .and_then(|_| serde_json::from_slice::<Question>(&text).map_err(|error| error.to_string()));
    match question {
        Ok(question) => {
            ask(&question, &mut |line| println!("{line}"));
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("cannot understand the question: {error}");
            ExitCode::FAILURE
        }
    }
}

fn ask(question: &Question, tell: &mut dyn FnMut(String)) {
    if let Some(port) = question.api {
        tell(line(question.number, API, api::check(port, API_WITHIN)));
    }
    if let Some(login) = &question.xmpp {
        tell(line(question.number, XMPP, xmpp::check(login, XMPP_WITHIN)));
    }
}

/// What others said may be in it: it is bounded, and JSON holds it in one line.
fn line(number: u32, name: &str, outcome: Result<(), Failure>) -> String {
    let why = outcome.err().map(|failure| failure.to_string().chars().take(TOLD).collect());
    let check = Check { name: name.to_owned(), passes: why.is_none(), why };
    // Plain data: it can be written as JSON.
    serde_json::to_string(&Line { number, check }).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_check_that_is_asked_for_is_told() {
        let question = |api, xmpp| Question { number: 7, api, xmpp };
        let told = |question: &Question| {
            let mut lines = vec![];
            ask(question, &mut |line| lines.push(serde_json::from_str::<Line>(&line).unwrap()));
            lines
        };
        assert_eq!(told(&question(None, None)), []);
        let port = stand_in::nobody();
        let lines = told(&question(Some(port), Some(stand_in::login(port))));
        let names: Vec<_> = lines.iter().map(|line| (line.number, &*line.check.name)).collect();
        assert_eq!(names, [(7, "api"), (7, "xmpp")]);
        for Line { check, .. } in lines {
            assert!(!check.passes);
            assert!(check.why.unwrap().contains("cannot connect to port "), "{}", check.name);
        }
    }

    #[test]
    fn why_not_is_bounded() {
        let long = Failure::new("say it", "\n\u{1f4a9}\u{7}".repeat(1000));
        let line = line(u32::MAX, API, Err(long));
        assert!(line.len() < 4096 && !line.contains('\n'), "{}", line.len());
    }
}
