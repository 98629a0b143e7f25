//! A bundle on its way to what installs it: piece by piece as it is taken, and none is kept.
//!
//! ```text
//! client ══ body ══► front ══ stream ══► stele-install
//!        ◄─ reply ──       ◄── Line … ──
//! ```
//!
//! The stream is closed with whatever ends this first: what installs sees at once that nobody sends.

use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd as _;
use std::path::Path;

use appliance::control::{Refusal, Reply, Verb};
use appliance::upgrade::{Code, Line, Refused, Wish};
use hyper::body::{Body as _, Incoming};
use nix::sys::socket::{Shutdown, shutdown};
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::body::next;
use crate::control;
use crate::limits::{LONGEST_REPORT, Limits};
use crate::problem::Problem;

/// Has a bundle installed; what is armed then, as [`Line::Armed`].
pub async fn install(
    control: &Path,
    body: &mut Incoming,
    limits: &Limits,
) -> Result<Line, Problem> {
    let announced = body.size_hint().exact();
    let asked = control::ask_for_stream(control, Verb::Upgrade(Wish::Install { announced }));
    let (packet, stream) = match timeout(limits.state_within, asked).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => return Err(lost(&error.to_string())),
        Err(_) => return Err(lost("it takes too long")),
    };
    granted(&packet)?;
    let stream = stream.ok_or_else(|| lost("it hands no stream over"))?;
    let stream = UnixStream::from_std(stream).map_err(|error| lost(&error.to_string()))?;
    relay(&stream, body, limits).await
}

/// Reads what `stele-init` answers to a wish.
pub fn granted(packet: &[u8]) -> Result<(), Problem> {
    match serde_json::from_slice(packet) {
        Ok(Reply::Accepted) => Ok(()),
        Ok(Reply::Refused(Refusal::Upgrade(refused))) => Err(Problem::Upgrade(refused)),
        Ok(Reply::Refused(Refusal::Busy)) => {
            Err(busy("something else is being done with the data"))
        }
        Ok(Reply::Refused(Refusal::Ending)) => Err(Problem::NotDone("it is about to end")),
        Ok(Reply::Refused(why)) => {
            eprintln!("stele-init refuses: {why:?}");
            Err(Problem::NotDone("it may not be told to"))
        }
        Ok(_) | Err(_) => Err(lost("its reply is none")),
    }
}

/// Another one is at it.
pub fn busy(message: &str) -> Problem {
    Problem::Upgrade(Refused { code: Code::Busy, message: message.to_owned() })
}

fn lost(why: &str) -> Problem {
    eprintln!("cannot ask stele-init for an upgrade: {why}");
    Problem::NoState
}

/// Sends a body to the stream's end, and waits for the word that ends it.
async fn relay(stream: &UnixStream, body: &mut Incoming, limits: &Limits) -> Result<Line, Problem> {
    let mut verdict = Box::pin(verdict(stream));
    tokio::select! {
        biased;
        verdict = &mut verdict => return verdict,
        sent = timeout(limits.bundle_within, send(stream, body, limits)) => {
            sent.unwrap_or(Err(Problem::SlowBody))?;
        }
    }
    timeout(limits.install_within, verdict).await.unwrap_or(Err(Problem::SlowInstall))
}

/// Sends all of it, unless the other side wants no more: why, it says itself.
async fn send(stream: &UnixStream, body: &mut Incoming, limits: &Limits) -> Result<(), Problem> {
    let mut left = limits.bundle;
    loop {
        let piece = match timeout(limits.piece_within, next(body)).await {
            Err(_) => return Err(Problem::SlowBody),
            Ok(None) => break,
            Ok(Some(Err(_))) => return Err(Problem::Request("its body breaks off")),
            Ok(Some(Ok(piece))) => piece,
        };
        let rest = left.checked_sub(piece.len() as u64);
        left = rest.ok_or(Problem::LongBody)?;
        match timeout(limits.write_within, write(stream, &piece)).await {
            Err(_) => return Err(Problem::SlowInstall),
            Ok(Err(_)) => return Ok(()),
            Ok(Ok(())) => {}
        }
    }
    // One that is gone has said why, or hasn't.
    let _ = shutdown(stream.as_raw_fd(), Shutdown::Write);
    Ok(())
}

async fn write(stream: &UnixStream, mut piece: &[u8]) -> io::Result<()> {
    while !piece.is_empty() {
        stream.writable().await?;
        match stream.try_write(piece) {
            Ok(length) => piece = piece.get(length..).unwrap_or_default(),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// What is said last. Waits as long as it takes.
async fn verdict(stream: &UnixStream) -> Result<Line, Problem> {
    let mut said = Vec::with_capacity(LONGEST_REPORT);
    loop {
        stream.readable().await.map_err(|_| Problem::NoInstall)?;
        let mut more = [0; LONGEST_REPORT];
        match stream.try_read(&mut more) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
            // A stream that was let go with a piece unread tells that first; what was said, after.
            Err(error) if error.kind() == ErrorKind::ConnectionReset => continue,
            Err(_) | Ok(0) => return Err(Problem::NoInstall),
            Ok(length) => said.extend_from_slice(more.get(..length).unwrap_or_default()),
        }
        if let Some(verdict) = read(&mut said)? {
            return verdict.map_err(Problem::Upgrade);
        }
    }
}

/// Takes the reports that are whole; the verdict, if one of them is it.
fn read(said: &mut Vec<u8>) -> Result<Option<Result<Line, Refused>>, Problem> {
    while let Some(end) = said.iter().position(|byte| *byte == b'\n') {
        let line: Vec<u8> = said.drain(..=end).collect();
        match serde_json::from_slice(&line) {
            Ok(line @ Line::Armed { .. }) => return Ok(Some(Ok(line))),
            Ok(Line::Failed(refused)) => return Ok(Some(Err(refused))),
            Ok(Line::Begun { .. } | Line::Progress { .. }) => {}
            Err(_) => return Err(Problem::NoInstall),
        }
    }
    match said.len() >= LONGEST_REPORT {
        true => Err(Problem::NoInstall),
        false => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ZEROS: &str = "0000000000000000000000000000000000000000000000000000000000000000";

    #[test]
    fn the_last_word_is_found() {
        let begun = format!(r#"{{"begun":{{"version":"2","root_hash":"{ZEROS}","total":9}}}}"#);
        let armed = format!(r#"{{"armed":{{"version":"2","root_hash":"{ZEROS}"}}}}"#);
        let failed = r#"{"failed":{"code":"chunk","message":"chunk 3 is another"}}"#;
        let long = "x".repeat(LONGEST_REPORT);
        for (said, expected) in [
            ("", "nothing yet"),
            (&begun, "nothing yet"),
            (&format!("{begun}\n{{\"progress\":{{\"done\":5}}}}\n{{\"progr"), "nothing yet"),
            (&format!("{begun}\n{armed}\nnonsense\n"), armed.as_str()),
            (&format!("{failed}\n{armed}\n"), "chunk 3 is another"),
            ("nonsense\n", "no report"),
            ("{\"else\":1}\n", "no report"),
            ("\n", "no report"),
            (&long, "no report"),
        ] {
            let found = match read(&mut said.as_bytes().to_vec()) {
                Ok(None) => "nothing yet".to_owned(),
                Ok(Some(Ok(line))) => serde_json::to_string(&line).unwrap(),
                Ok(Some(Err(refused))) => refused.message,
                Err(_) => "no report".to_owned(),
            };
            assert_eq!(found, expected, "{said}");
        }
    }

    #[test]
    fn wishes_are_granted_or_told_why_not() {
        let refusal = |why: Refusal| granted(&Reply::Refused(why).to_packet()).unwrap_err();
        assert_eq!(granted(&Reply::Accepted.to_packet()), Ok(()));
        let refused = Refused { code: Code::Unblessed, message: "on trial".into() };
        assert_eq!(refusal(Refusal::Upgrade(refused.clone())), Problem::Upgrade(refused));
        for (why, status) in
            [(Refusal::Busy, 409), (Refusal::Ending, 503), (Refusal::Forbidden, 503)]
        {
            assert_eq!(refusal(why).status(), status);
        }
        for packet in [&b""[..], b"{}", b"null", br#"{"services":[]}"#] {
            assert_eq!(granted(packet), Err(Problem::NoState), "{packet:?}");
        }
    }
}
