//! A real XMPP client that stays connected, by others: slixmpp, driven by `clients/session.py`, an
//! order a line. For what is between people: rosters, profiles, and whether a stream is kept.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::client::python;
use crate::scratch;

/// The longest that one may last, in seconds; each order has its own, shorter limit.
const LASTS: u32 = 180;

/// Somebody who is online.
#[derive(Debug)]
pub struct Session {
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    process: Child,
}

impl Session {
    /// Logs in at `server`, which must show this certificate, reads the roster and is available.
    pub fn open(
        server: SocketAddr,
        jid: &str,
        password: &str,
        certificate: &Path,
    ) -> Result<Session> {
        let mut command = scratch::bounded(python(), LASTS);
        command.arg(scratch::workspace().join("vm-tests/clients/session.py"));
        command.args(["--host", &server.ip().to_string(), "--port", &server.port().to_string()]);
        command.args(["--jid", jid, "--password", password, "--certificate"]).arg(certificate);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().with_context(|| format!("cannot start {command:?}"))?;
        let answers = process.stdout.take().context("it has no output")?;
        let orders = process.stdin.take();
        let mut session = Session { orders, answers: BufReader::new(answers), process };
        session.answer().with_context(|| format!("cannot log in as {jid}"))?;
        Ok(session)
    }

    /// Sends an IQ and returns the answer's XML; `to` may be empty: the own account. One that is
    /// answered by an error fails with its condition.
    pub fn iq(&mut self, kind: &str, to: &str, xml: &str) -> Result<String> {
        self.order(json!({"do": "iq", "type": kind, "to": to, "xml": xml})).map(xml_of)
    }

    /// What the roster has, as XML.
    #[track_caller]
    pub fn roster(&mut self) -> String {
        self.iq("get", "", "<query xmlns='jabber:iq:roster'/>").unwrap_or_else(|e| panic!("{e:#}"))
    }

    /// Is the stream still there?
    #[track_caller]
    pub fn ping(&mut self) {
        let ponged = self.iq("get", "", "<ping xmlns='urn:xmpp:ping'/>");
        ponged.unwrap_or_else(|error| panic!("the stream is gone: {error:#}"));
    }

    /// Writes to somebody.
    #[track_caller]
    pub fn message(&mut self, to: &str, body: &str) {
        let sent = self.order(json!({"do": "message", "to": to, "body": body}));
        sent.unwrap_or_else(|error| panic!("{error:#}"));
    }

    /// Waits for a `message`, `presence`, `iq` or `disconnected` that holds this text, or finds it
    /// among those that came; returns its XML.
    pub fn wait_for(&mut self, what: &str, text: &str) -> Result<String> {
        let order = json!({"do": "await", "what": what, "text": text});
        self.order(order).map(xml_of).with_context(|| format!("no {what} with `{text}`"))
    }

    /// The texts that are archived, the oldest first.
    pub fn archive(&mut self) -> Result<Vec<String>> {
        let answer = self.order(json!({"do": "archive"}))?;
        Ok(serde_json::from_value(answer["bodies"].clone())?)
    }

    fn order(&mut self, order: Value) -> Result<Value> {
        let orders = self.orders.as_mut().context("it takes no orders")?;
        writeln!(orders, "{order}").and_then(|()| orders.flush()).context("it takes no orders")?;
        self.answer()
    }

    fn answer(&mut self) -> Result<Value> {
        let mut line = String::new();
        self.answers.read_line(&mut line).context("it gives no answer")?;
        let answer: Value = serde_json::from_str(&line)
            .context("the XMPP client gave no answer\nhint: STELE_PYTHON must have slixmpp")?;
        match answer["failed"].as_str() {
            Some(why) => bail!("{why}"),
            None => Ok(answer),
        }
    }
}

fn xml_of(answer: Value) -> String {
    answer["xml"].as_str().unwrap_or_default().to_owned()
}

impl Drop for Session {
    fn drop(&mut self) {
        // It ends at the end of its orders; that it is killed is for one that doesn't.
        drop(self.orders.take());
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
