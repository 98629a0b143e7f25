//! Asks the Server for PID 1, which never reads what a server says: a child that speaks just enough
//! HTTP (RFC 9112) over loopback, and tells what came of it.
//!
//! ```text
//! PID 1 ── a question with its secrets, in a file without a name ──► `stele-init ask`
//!       ◄── one line: the question's number, one word ──
//! ```

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use appliance::boot::ASK_USER;
use appliance::secret::Secret;
use appliance::service::{Kind, Millis, Service};
use appliance::settings::Domain;
use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde::{Deserialize, Serialize};

use crate::child;
use crate::configuration::Loaded;
use crate::gate::Verdict;

/// Where our module of the Server listens.
const PORT: u16 = 5280;
/// The account whose secret it is.
const USER: &str = "prose-pod-api@admin.prose.local";
/// How long the Server may take to say who it is.
const WITHIN: Duration = Duration::from_secs(10);
/// And to load a configuration: its hosts come and go meanwhile, on one thread.
const LOADS_WITHIN: Duration = Duration::from_secs(30);
/// No question has more bytes than that.
const LONGEST_QUESTION: u64 = 8 * 1024;
/// The longest answer that is one.
const LONGEST: u64 = 16 * 1024;

/// What the child is given.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Question {
    /// What the answer is known by: one that was asked before may be answered late.
    pub number: u32,
    /// What shall be asked.
    pub about: About,
}

/// What can be asked.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum About {
    /// Has the secret been changed?
    Rotation {
        /// What must be refused.
        old: Secret,
        /// What must be accepted.
        new: Secret,
    },
    /// Take over the configuration that lies there now.
    Load {
        /// The account's secret.
        secret: Secret,
    },
    /// Let the probe's account log in.
    Probe {
        /// The account's secret: the other one's.
        secret: Secret,
        /// What is to be let in, and for how long.
        probe: Probe,
    },
}

/// What the Server is told of the probe's account.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Probe {
    /// Where it is.
    pub host: Domain,
    /// By what it logs in.
    pub password: Secret,
    /// For how long.
    pub seconds: u64,
}

/// What the Server said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// To [`About::Rotation`].
    Rotation(Verdict),
    /// To [`About::Load`].
    Load(Loaded),
    /// To [`About::Probe`]: may it log in?
    Probe(bool),
}

/// The child.
pub fn service(name: &str) -> Service {
    let service = child::service(name, &["ask"], "stele-ask", ASK_USER);
    let within = Millis((WITHIN + LOADS_WITHIN).as_millis() as u64);
    Service { kind: Kind::Task { creates: None, done_within: within }, ..service }
}

/// Runs to its end.
pub fn run() {
    let server = SocketAddr::from((Ipv4Addr::LOCALHOST, PORT));
    match child::document::<Question>(LONGEST_QUESTION) {
        Ok(Question { number, about }) => println!("{}", to_line(number, answer(server, &about))),
        Err(failure) => {
            eprintln!("{failure}");
            std::process::exit(1)
        }
    }
}

fn answer(server: SocketAddr, about: &About) -> Answer {
    let ask_with = |verb, secret: &Secret, body: &str, within| {
        ask(server, &request(verb, secret.reveal(), body), within).unwrap_or(None)
    };
    let ask = |verb, secret: &Secret, within| ask_with(verb, secret, "{}", within);
    match about {
        About::Rotation { old, new } => {
            // The old one first: who accepts both is found out.
            let status = |secret| ask("version", secret, WITHIN).map(|(status, _)| status);
            Answer::Rotation(judge(status(old), status(new)))
        }
        About::Load { secret } => Answer::Load(outcome(ask("reload", secret, LOADS_WITHIN))),
        About::Probe { secret, probe } => {
            // Plain data: it can be written as JSON.
            let body = serde_json::to_string(probe).unwrap_or_default();
            let answer = ask_with("probe", secret, &body, WITHIN);
            Answer::Probe(answer.is_some_and(|(status, _)| status == 200))
        }
    }
}

/// From the status codes of both answers; `None`: there was none.
fn judge(old: Option<u16>, new: Option<u16>) -> Verdict {
    match (old, new) {
        (Some(200), Some(_)) => Verdict::OldAccepted,
        (Some(401), Some(200)) => Verdict::Rotated,
        (Some(401), Some(401)) => Verdict::NewRefused,
        _ => Verdict::Unclear,
    }
}

/// What our module says of a configuration.
#[derive(Deserialize)]
struct Reloaded {
    restart: bool,
}

fn outcome(answer: Option<(u16, Vec<u8>)>) -> Loaded {
    match answer {
        Some((200, body)) => match serde_json::from_slice(&body) {
            Ok(Reloaded { restart: false }) => Loaded::Wholly,
            Ok(Reloaded { restart: true }) => Loaded::AfterRestart,
            Err(_) => Loaded::Unclear,
        },
        Some((409, _)) => Loaded::Refused,
        _ => Loaded::Unclear,
    }
}

/// Status and body, if it is an answer.
fn ask(server: SocketAddr, request: &str, within: Duration) -> io::Result<Option<(u16, Vec<u8>)>> {
    let mut stream = TcpStream::connect_timeout(&server, WITHIN)?;
    stream.set_read_timeout(Some(within))?;
    stream.set_write_timeout(Some(WITHIN))?;
    stream.write_all(request.as_bytes())?;
    let mut answer = vec![];
    stream.take(LONGEST).read_to_end(&mut answer)?;
    Ok(status_of(&answer).map(|status| (status, body_of(&answer).to_vec())))
}

/// What comes after the first empty line.
fn body_of(answer: &[u8]) -> &[u8] {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n");
    end.and_then(|end| answer.get(end + 4..)).unwrap_or_default()
}

fn request(verb: &str, secret: &str, body: &str) -> String {
    let credentials = BASE64_STANDARD.encode(format!("{USER}:{secret}"));
    format!(
        "POST /stele/v1/{verb} HTTP/1.1\r\nHost: localhost:{PORT}\r\nAuthorization: Basic {credentials}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}

/// Of `HTTP/1.1 200 OK`.
fn status_of(answer: &[u8]) -> Option<u16> {
    let line = answer.split(|byte| *byte == b'\r').next()?;
    let line = std::str::from_utf8(line).ok()?.strip_prefix("HTTP/1.1 ")?;
    let digits = line.get(..3).filter(|_| matches!(line.as_bytes().get(3), None | Some(b' ')))?;
    digits.parse().ok().filter(|code| (100..600).contains(code))
}

/// All answers there are, and how the child tells them.
const WORDS: [(Answer, &str); 10] = [
    (Answer::Rotation(Verdict::Rotated), "rotated"),
    (Answer::Rotation(Verdict::OldAccepted), "old-accepted"),
    (Answer::Rotation(Verdict::NewRefused), "new-refused"),
    (Answer::Rotation(Verdict::Unclear), "rotation-unclear"),
    (Answer::Load(Loaded::Wholly), "loaded"),
    (Answer::Load(Loaded::AfterRestart), "restart"),
    (Answer::Load(Loaded::Refused), "refused"),
    (Answer::Load(Loaded::Unclear), "load-unclear"),
    (Answer::Probe(true), "probe-let-in"),
    (Answer::Probe(false), "probe-not-let-in"),
];

fn to_line(number: u32, answer: Answer) -> String {
    let word = WORDS.iter().find(|(known, _)| *known == answer).map_or("", |(_, word)| word);
    format!("{number} {word}")
}

/// What the child told, and the number of its question.
pub fn from_line(line: &str) -> Option<(u32, Answer)> {
    let (number, word) = line.split_once(' ')?;
    let (answer, _) = WORDS.iter().find(|(_, known)| *known == word)?;
    Some((number.parse().ok()?, *answer))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_refusal_and_an_answer_prove_it() {
        for (old, new, verdict) in [
            (Some(401), Some(200), Verdict::Rotated),
            (Some(200), Some(200), Verdict::OldAccepted),
            (Some(200), Some(401), Verdict::OldAccepted),
            (Some(401), Some(401), Verdict::NewRefused),
            // A broken connection is no refusal.
            (None, Some(200), Verdict::Unclear),
            (Some(401), None, Verdict::Unclear),
            (Some(500), Some(200), Verdict::Unclear),
            (Some(401), Some(500), Verdict::Unclear),
            (Some(429), Some(200), Verdict::Unclear),
            (None, None, Verdict::Unclear),
        ] {
            assert_eq!(judge(old, new), verdict, "{old:?}, {new:?}");
        }
    }

    #[test]
    fn a_status_is_read_and_nothing_else() {
        for (answer, status) in [
            (&b"HTTP/1.1 200 OK\r\nX: y\r\n"[..], Some(200)),
            (b"HTTP/1.1 401 Unauthorized\r\n", Some(401)),
            (b"HTTP/1.1 204\r\n", Some(204)),
            (b"HTTP/1.1 2000 OK\r\n", None),
            (b"HTTP/1.1 099 x\r\n", None),
            (b"HTTP/1.1 +20 x\r\n", None),
            (b"<stream:stream", None),
            (b"\xff\xfe", None),
            (b"", None),
        ] {
            let said = String::from_utf8_lossy(answer);
            assert_eq!(status_of(answer), status, "{said}");
        }
    }

    #[test]
    fn a_request_says_how_long_its_body_is() {
        let request = request("probe", "s", "{\"a\":\"\u{e4}\"}");
        assert!(request.starts_with("POST /stele/v1/probe HTTP/1.1\r\n"), "{request}");
        assert!(request.contains("\r\nContent-Length: 10\r\n"), "{request}");
        assert!(request.ends_with("\r\n\r\n{\"a\":\"\u{e4}\"}"), "{request}");
    }

    #[test]
    fn an_answer_crosses_as_a_line() {
        for (answer, _) in WORDS {
            assert_eq!(from_line(&to_line(7, answer)), Some((7, answer)));
        }
        for line in ["7 rotated ", "rotated", "x rotated", "-1 rotated", "7  rotated", ""] {
            assert_eq!(from_line(line), None, "{line}");
        }
    }

    #[test]
    fn what_became_of_a_configuration_is_read_from_status_and_body() {
        let body = |text: &str| text.as_bytes().to_vec();
        for (answer, expected) in [
            (Some((200, body("{\"restart\":false}"))), Loaded::Wholly),
            (Some((200, body("{\"restart\":true}"))), Loaded::AfterRestart),
            (Some((200, body("{}"))), Loaded::Unclear),
            (Some((200, vec![])), Loaded::Unclear),
            (Some((409, body("{\"error\":\"bad_configuration\"}"))), Loaded::Refused),
            (Some((401, vec![])), Loaded::Unclear),
            (Some((500, vec![])), Loaded::Unclear),
            (None, Loaded::Unclear),
        ] {
            assert_eq!(outcome(answer.clone()), expected, "{answer:?}");
        }
        assert_eq!(body_of(b"HTTP/1.1 200 OK\r\nA: b\r\n\r\n{}"), b"{}");
        assert_eq!(body_of(b"HTTP/1.1 200 OK\r\n"), b"");
    }
}
