//! QEMU's machine protocol: one JSON document a line, over a socket that QEMU inherits, so there is
//! no path, no race to connect, and an end of file when QEMU ends.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::watch::Watch;

/// QEMU answers at once, or something is very wrong.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);

/// Something that happened to the machine as a whole.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// When, since QEMU's start.
    pub at: Duration,
    /// For example `SHUTDOWN`, `RESET`, `POWERDOWN`, `GUEST_PANICKED`.
    pub name: String,
    /// What else QEMU says about it.
    pub data: Value,
}

impl Event {
    /// Why the machine ended (`guest-shutdown`, `guest-reset`, …), if this tells that it did.
    pub fn shutdown_reason(&self) -> Option<String> {
        let reason = self.data.get("reason").and_then(Value::as_str);
        reason.filter(|_| self.name == "SHUTDOWN").map(str::to_owned)
    }

    /// Did the guest reset the machine?
    pub fn is_guests_reset(&self) -> bool {
        self.name == "RESET" && self.data.get("guest").is_some_and(|guest| guest == true)
    }
}

/// The asking end.
#[derive(Debug)]
pub struct Qmp {
    watch: Arc<Watch>,
    asking: Mutex<Asking>,
}

#[derive(Debug)]
struct Asking {
    socket: UnixStream,
    copy: File,
    asked: u64,
}

impl Qmp {
    /// Over `socket`, whose other end QEMU has. Someone must [`read`] what comes.
    pub fn new(socket: UnixStream, copy: File, watch: Arc<Watch>) -> Qmp {
        Qmp { watch, asking: Mutex::new(Asking { socket, copy, asked: 0 }) }
    }

    /// Does `command`, and returns what QEMU returned.
    pub fn execute(&self, command: &str, arguments: Value) -> Result<Value> {
        let context = || format!("cannot have QEMU do {command}");
        let number = self.send(command, arguments).with_context(context)?;
        let what = format!("QEMU's answer to {command}");
        let reply =
            self.watch.wait(&what, ANSWER_WITHIN, |seen| seen.replies.get(&number).cloned())?;
        match reply.get("return") {
            Some(returned) => Ok(returned.clone()),
            None => bail!("{}: {reply}", context()),
        }
    }

    /// A command of the monitor that people use.
    pub fn monitor(&self, line: &str) -> Result<String> {
        let said = self.execute("human-monitor-command", json!({ "command-line": line }))?;
        Ok(said.as_str().unwrap_or_default().to_owned())
    }

    fn send(&self, command: &str, arguments: Value) -> Result<u64> {
        let mut asking = self.asking.lock().unwrap_or_else(PoisonError::into_inner);
        asking.asked += 1;
        let number = asking.asked;
        let question = json!({ "execute": command, "arguments": arguments, "id": number });
        writeln!(asking.copy, "> {question}")?;
        asking.socket.write_all(format!("{question}\n").as_bytes())?;
        Ok(number)
    }
}

/// Reads what QEMU says until it ends, and keeps a copy.
pub fn read(socket: UnixStream, mut copy: File, started: Instant, watch: &Watch) {
    for line in BufReader::new(socket).lines().map_while(Result::ok) {
        let _ = writeln!(copy, "< {line}");
        match Message::parse(&line, started.elapsed()) {
            Message::Event(event) => watch.tell(|seen| seen.events.push(event)),
            Message::Reply(number, reply) => {
                watch.tell(|seen| drop(seen.replies.insert(number, reply)));
            }
            Message::Other => {}
        }
    }
    watch.close();
}

#[derive(Debug, PartialEq)]
enum Message {
    Event(Event),
    Reply(u64, Value),
    /// The greeting.
    Other,
}

impl Message {
    fn parse(line: &str, at: Duration) -> Message {
        let message: Value = serde_json::from_str(line).unwrap_or_default();
        if let Some(name) = message.get("event").and_then(Value::as_str) {
            let data = message.get("data").cloned().unwrap_or_default();
            return Message::Event(Event { at, name: name.to_owned(), data });
        }
        match message.get("id").and_then(Value::as_u64) {
            Some(number) => Message::Reply(number, message),
            None => Message::Other,
        }
    }
}

/// From a table of `info usernet`: the host's port that leads to the guest's `port`.
pub fn forwarded_port(table: &str, port: u16) -> Option<u16> {
    let rows = table.lines().map(|row| row.split_whitespace().collect::<Vec<_>>());
    rows.filter(|row| row.first() == Some(&"TCP[HOST_FORWARD]")).find_map(|row| {
        let is_it = row.get(5)?.parse() == Ok(port);
        is_it.then(|| row.get(3)?.parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_told_apart() {
        let at = Duration::ZERO;
        let data = json!({ "guest": true, "reason": "guest-reset" });
        let shutdown = Event { at, name: "SHUTDOWN".into(), data };
        assert_eq!(shutdown.shutdown_reason().as_deref(), Some("guest-reset"));
        let reset = Event { name: "RESET".into(), ..shutdown.clone() };
        assert_eq!(reset.shutdown_reason(), None);
        let table = [
            (r#"{"QMP": {"version": {}}}"#, Message::Other),
            ("torn", Message::Other),
            (
                r#"{"event": "SHUTDOWN", "data": {"guest": true, "reason": "guest-reset"}}"#,
                Message::Event(shutdown),
            ),
            (r#"{"return": {}, "id": 7}"#, Message::Reply(7, json!({ "return": {}, "id": 7 }))),
        ];
        for (line, expected) in table {
            assert_eq!(Message::parse(line, at), expected, "{line}");
        }
    }

    #[test]
    fn a_refusal_is_an_error_with_qemus_words() {
        let (ours, qemus) = UnixStream::pair().unwrap();
        let watch = Arc::new(Watch::new(1));
        watch.tell(|seen| {
            let reply = json!({ "id": 1, "error": { "desc": "no such thing" } });
            drop(seen.replies.insert(1, reply));
        });
        let qmp = Qmp::new(ours, tempfile::tempfile().unwrap(), watch);
        let error = qmp.execute("fly", json!({})).unwrap_err().to_string();
        assert!(error.starts_with("cannot have QEMU do fly: "), "{error}");
        assert!(error.contains("no such thing"), "{error}");
        drop(qemus);
    }

    #[test]
    fn a_forwarded_port_is_found() {
        let table = "Hub -1 (net):\r\n  Protocol[State]    FD  Source Address  Port   Dest. \
                     Address  Port RecvQ SendQ\r\n  TCP[HOST_FORWARD]   3       127.0.0.1 33157   \
                     10.0.2.15  5222     0     0\r\n";
        assert_eq!(forwarded_port(table, 5222), Some(33157));
        assert_eq!(forwarded_port(table, 5223), None);
        assert_eq!(forwarded_port("", 5222), None);
    }
}
