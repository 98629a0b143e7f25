//! A client that sees every byte of an answer: a connection a request.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

/// Knows where.
#[derive(Debug, Clone)]
pub struct Client(PathBuf);

/// What came back.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// Names in lower case.
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

pub fn basic(name: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{name}:{password}")))
}

impl Client {
    pub fn at(socket: &Path) -> Client {
        Client(socket.to_owned())
    }

    pub async fn ask(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&str>,
    ) -> Answer {
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: pod\r\nConnection: close\r\n");
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        if let Some(body) = body {
            head += &format!("content-length: {}\r\n", body.len());
        }
        self.raw(format!("{head}\r\n{}", body.unwrap_or("")).as_bytes()).await
    }

    /// Sends these bytes.
    pub async fn raw(&self, bytes: &[u8]) -> Answer {
        let mut stream = UnixStream::connect(&self.0).await.unwrap();
        // It may answer before it has read all, and then hang up.
        let _ = stream.write_all(bytes).await;
        let mut answer = vec![];
        let _ = stream.read_to_end(&mut answer).await;
        Answer::read(std::str::from_utf8(&answer).unwrap())
    }
}

impl Answer {
    fn read(text: &str) -> Answer {
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("odd: {text:?}"));
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1)).unwrap();
        let headers = lines.filter_map(|line| line.split_once(": "));
        let headers = headers.map(|(name, value)| (name.to_lowercase(), value.to_owned()));
        let headers: BTreeMap<String, String> = headers.collect();
        let is_chunked = headers.get("transfer-encoding").is_some_and(|it| it == "chunked");
        let body = if is_chunked { whole(body) } else { body.to_owned() };
        Answer { status: status.parse().unwrap(), headers, body }
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// The `error` of a JSON error body; each has a `message` too.
    pub fn error(&self) -> String {
        assert_eq!(self.header("content-type"), Some("application/json"), "{self:?}");
        let json = self.json();
        assert!(json["message"].as_str().is_some_and(|message| !message.is_empty()), "{self:?}");
        json["error"].as_str().unwrap().to_owned()
    }
}

/// Puts chunks together: each is after its length in bytes, and the last one has none.
fn whole(mut chunks: &str) -> String {
    let mut body = String::new();
    loop {
        let (length, rest) = chunks.split_once("\r\n").expect("it breaks off");
        let (chunk, rest) = rest.split_at(usize::from_str_radix(length, 16).unwrap());
        chunks = rest.strip_prefix("\r\n").expect("it breaks off");
        match chunk {
            "" => return body,
            chunk => body += chunk,
        }
    }
}
