//! Proves to PID 1 that the secret was changed: a child that asks the Server with the old one and
//! with the new one, and tells what it said.
//!
//! ```text
//! PID 1 ── both secrets, in a file without a name, as standard input ──► `stele-init prove`
//!       ◄── one line: `rotated`, `old-accepted`, `new-refused`, `unclear` ──
//! ```
//!
//! The child speaks just enough HTTP (RFC 9112) over loopback to read the status of an answer; PID 1
//! never reads what a server says.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::time::Duration;

use appliance::boot::PROVE_USER;
use appliance::secret::Secret;
use appliance::service::{Kind, Millis, Service};
use nix::sys::memfd::{MFdFlags, memfd_create};
use serde::{Deserialize, Serialize};

use crate::child;
use crate::failure::{Failure, OrCannot as _};
use crate::gate::Verdict;

/// Where our module of the Server listens, and the verb that changes nothing.
const PORT: u16 = 5280;
const VERB: &str = "/stele/v1/version";
/// The account whose secret it is.
const USER: &str = "prose-pod-api@admin.prose.local";
/// How long the Server may take to each question.
const WITHIN: Duration = Duration::from_secs(5);
/// The longest status line that is one.
const LONGEST: usize = 256;

/// What the child is given.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Question {
    /// What must be refused.
    pub old: Secret,
    /// What must be accepted.
    pub new: Secret,
}

/// The child.
pub fn service() -> Service {
    let service = child::service("prove", &["prove"], "stele-prove", PROVE_USER);
    let within = Millis(4 * WITHIN.as_millis() as u64);
    Service { kind: Kind::Task { creates: None, done_within: within }, ..service }
}

/// What the child gets as its standard input: a file in memory, without a name.
pub fn input(question: &Question) -> Result<OwnedFd, Failure> {
    let what = "hand over the secrets";
    let file = memfd_create("question", MFdFlags::MFD_CLOEXEC).or_cannot(what)?;
    let mut file = File::from(file);
    let text = serde_json::to_vec(question).or_cannot(what)?;
    file.write_all(&text).and_then(|()| file.rewind()).or_cannot(what)?;
    Ok(file.into())
}

/// Runs to its end.
pub fn run() {
    match prove() {
        Ok(verdict) => println!("{}", to_line(verdict)),
        Err(failure) => {
            eprintln!("{failure}");
            std::process::exit(1)
        }
    }
}

fn prove() -> Result<Verdict, Failure> {
    let mut text = String::new();
    io::stdin().take(8192).read_to_string(&mut text).or_cannot("read the secrets")?;
    let question: Question = serde_json::from_str(&text).or_cannot("understand the secrets")?;
    let ask = |secret: &Secret| {
        let server = SocketAddr::from((Ipv4Addr::LOCALHOST, PORT));
        ask(server, secret.reveal()).unwrap_or(None)
    };
    // The old one first: who accepts both is found out.
    Ok(judge(ask(&question.old), ask(&question.new)))
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

fn ask(server: SocketAddr, secret: &str) -> io::Result<Option<u16>> {
    let mut stream = TcpStream::connect_timeout(&server, WITHIN)?;
    stream.set_read_timeout(Some(WITHIN))?;
    stream.set_write_timeout(Some(WITHIN))?;
    stream.write_all(request(secret).as_bytes())?;
    let mut status = vec![];
    stream.take(LONGEST as u64).read_to_end(&mut status)?;
    Ok(status_of(&status))
}

fn request(secret: &str) -> String {
    let credentials = base64(format!("{USER}:{secret}").as_bytes());
    format!(
        "POST {VERB} HTTP/1.1\r\nHost: localhost:{PORT}\r\nAuthorization: Basic {credentials}\r\n\
         Content-Type: application/json\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{{}}"
    )
}

/// Of `HTTP/1.1 200 OK`.
fn status_of(answer: &[u8]) -> Option<u16> {
    let line = answer.split(|byte| *byte == b'\r').next()?;
    let line = std::str::from_utf8(line).ok()?.strip_prefix("HTTP/1.1 ")?;
    let digits = line.get(..3).filter(|_| matches!(line.as_bytes().get(3), None | Some(b' ')))?;
    digits.parse().ok().filter(|code| (100..600).contains(code))
}

/// RFC 4648, section 4.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let group = [0, 1, 2].map(|i| u32::from(chunk.get(i).copied().unwrap_or_default()));
        let group = group[0] << 16 | group[1] << 8 | group[2];
        for digit in 0..4 {
            let index = (group >> (18 - 6 * digit)) as usize & 63;
            let is_there = digit <= chunk.len();
            text.push(if is_there { char::from(DIGITS[index]) } else { '=' });
        }
    }
    text
}

/// As the child tells it.
fn to_line(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Rotated => "rotated",
        Verdict::OldAccepted => "old-accepted",
        Verdict::NewRefused => "new-refused",
        Verdict::Unclear => "unclear",
    }
}

/// What the child told.
pub fn from_line(line: &str) -> Option<Verdict> {
    use Verdict::{NewRefused, OldAccepted, Rotated, Unclear};
    [Rotated, OldAccepted, NewRefused, Unclear].into_iter().find(|known| to_line(*known) == line)
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
    fn credentials_are_encoded_as_the_rfc_says() {
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }

    #[test]
    fn a_verdict_crosses_as_a_line() {
        for verdict in
            [Verdict::Rotated, Verdict::OldAccepted, Verdict::NewRefused, Verdict::Unclear]
        {
            assert_eq!(from_line(to_line(verdict)), Some(verdict));
        }
        assert_eq!(from_line("rotated "), None);
    }
}
