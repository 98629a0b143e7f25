//! Requests as they are on the wire, well-formed or not, and their answers.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde_json::Value;

/// Longer than the longest that a server here lets anybody wait.
const WITHIN: Duration = Duration::from_secs(40);

/// A request.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Its first line and headers, each ended by CRLF.
    pub head: String,
    /// What follows.
    pub body: Vec<u8>,
}

/// What came back.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// Its headers, as they were.
    pub head: String,
    /// Its body, if that is JSON; else a string of it.
    pub body: Value,
}

impl Answer {
    /// The value of a header, whatever the case of its name.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut fields = self.head.lines().filter_map(|line| line.split_once(':'));
        fields.find(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }

    /// The word of an error; empty if there is none.
    pub fn error(&self) -> &str {
        self.body["error"].as_str().unwrap_or_default()
    }
}

impl Asked {
    /// Asks for a path; as nobody, so far.
    pub fn new(method: &str, path: &str, body: impl AsRef<[u8]>) -> Asked {
        let body = body.as_ref().to_owned();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\
             Content-Length: {}\r\n",
            body.len()
        );
        Asked { head, body }
    }

    /// Asks the Server's module for a verb.
    pub fn verb(verb: &str, body: impl AsRef<[u8]>) -> Asked {
        Asked::new("POST", &format!("/stele/v1/{verb}"), body)
    }

    /// Asks for what lies at a path.
    pub fn get(path: &str) -> Asked {
        Asked::new("GET", path, "")
    }

    /// Sends this document.
    pub fn json(method: &str, path: &str, document: &Value) -> Asked {
        Asked::new(method, path, document.to_string()).with("Content-Type: application/json")
    }

    /// As this user.
    pub fn by(self, user: &str, secret: &str) -> Asked {
        let credentials = base64(format!("{user}:{secret}").as_bytes());
        self.with(&format!("Authorization: Basic {credentials}"))
    }

    /// As the owner of this token.
    pub fn bearer(self, token: &str) -> Asked {
        self.with(&format!("Authorization: Bearer {token}"))
    }

    /// With one more header.
    pub fn with(mut self, header: &str) -> Asked {
        self.head.push_str(header);
        self.head.push_str("\r\n");
        self
    }

    /// Sends it on a connection of its own.
    pub fn send(&self, server: SocketAddr) -> Result<Answer> {
        parse(&self.exchange(server)?)
    }

    /// The same, where the answer has bytes of any kind: its status, and these.
    pub fn fetch(&self, server: SocketAddr) -> Result<(u16, Vec<u8>)> {
        let mut bytes = self.exchange(server)?;
        let end = bytes.windows(4).position(|it| it == b"\r\n\r\n");
        let body = bytes.split_off(end.context("the answer has no end of headers")? + 4);
        Ok((parse(&bytes)?.status, body))
    }

    fn exchange(&self, server: SocketAddr) -> Result<Vec<u8>> {
        let mut stream = TcpStream::connect_timeout(&server, WITHIN).context("cannot connect")?;
        stream.set_read_timeout(Some(WITHIN))?;
        stream.set_write_timeout(Some(WITHIN))?;
        // A server that closes before it has read everything resets: what it said counts.
        let sent = stream
            .write_all(self.head.as_bytes())
            .and_then(|()| stream.write_all(b"\r\n"))
            .and_then(|()| stream.write_all(&self.body));
        let mut bytes = Vec::new();
        let end = stream.read_to_end(&mut bytes);
        ensure!(end.is_ok() || !bytes.is_empty(), "no answer: sent {sent:?}, read {end:?}");
        Ok(bytes)
    }
}

fn parse(bytes: &[u8]) -> Result<Answer> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
    let end = end.context("the answer has no end of headers")?;
    let head = String::from_utf8(bytes[..end].to_owned()).context("its head isn't UTF-8")?;
    let status = head.split(' ').nth(1).context("the answer has no status")?;
    let status = status.parse().context("the answer's status is no number")?;
    let mut answer = Answer { status, head, body: Value::Null };
    let mut body = bytes[end + 4..].to_owned();
    if answer.header("transfer-encoding").is_some_and(|coding| coding == "chunked") {
        body = joined(&body);
    }
    let text = String::from_utf8_lossy(&body);
    answer.body = serde_json::from_str(&text).unwrap_or_else(|_| Value::from(text));
    Ok(answer)
}

/// Chunks, each after its length, put together: as many as came whole.
fn joined(mut chunks: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = chunks.windows(2).position(|two| two == b"\r\n") {
        let length = std::str::from_utf8(&chunks[..end]).unwrap_or_default();
        let length = usize::from_str_radix(length, 16).unwrap_or_default();
        let Some(chunk) = chunks.get(end + 2..end + 2 + length) else { break };
        body.extend_from_slice(chunk);
        chunks = chunks.get(end + 2 + length + 2..).unwrap_or_default();
    }
    body
}

/// Base 64, with padding.
pub fn base64(bytes: &[u8]) -> String {
    BASE64_STANDARD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_however_its_body_is_framed() {
        let plain = parse(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}").unwrap();
        assert_eq!((plain.status, plain.header("CONTENT-length")), (200, Some("2")));
        for (chunks, body) in [
            (&b"3\r\n[1,\r\n2\r\n2]\r\n0\r\n\r\n"[..], serde_json::json!([1, 2])),
            (b"3\r\nabc\r\n5\r\nbro", Value::from("abc")),
            (b"0\r\n\r\n", Value::from("")),
            (b"", Value::from("")),
        ] {
            let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
            assert_eq!(parse(&[head, chunks].concat()).unwrap().body, body);
        }
        for torn in ["", "HTTP/1.1 200 OK\r\n", "x\r\n\r\n", "HTTP/1.1 x OK\r\n\r\n"] {
            assert!(parse(torn.as_bytes()).is_err(), "{torn}");
        }
    }
}
