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
        stream.write_all(&[self.head.as_bytes(), b"\r\n", &self.body].concat())?;
        let mut bytes = Vec::new();
        // A server that closes before it has read everything resets: what it said counts.
        let end = stream.read_to_end(&mut bytes);
        ensure!(end.is_ok() || !bytes.is_empty(), "no answer: {end:?}");
        Ok(bytes)
    }
}

fn parse(bytes: &[u8]) -> Result<Answer> {
    let text = String::from_utf8(bytes.to_owned()).context("the answer isn't UTF-8")?;
    let (head, body) = text.split_once("\r\n\r\n").context("the answer has no end of headers")?;
    let status = head.split(' ').nth(1).context("the answer has no status")?;
    let status = status.parse().context("the answer's status is no number")?;
    let body = serde_json::from_str(body).unwrap_or_else(|_| Value::from(body));
    Ok(Answer { status, head: head.to_owned(), body })
}

/// Base 64, with padding.
pub fn base64(bytes: &[u8]) -> String {
    BASE64_STANDARD.encode(bytes)
}
