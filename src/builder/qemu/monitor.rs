//! QEMU's monitor: JSON lines on a unix socket (QEMU Machine Protocol).

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::json;

/// How long QEMU may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// A connection to a monitor.
#[derive(Debug)]
pub struct Monitor(BufReader<UnixStream>);

/// A line from QEMU, as far as it matters.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Line {
    /// The greeting.
    #[serde(rename = "QMP")]
    Greeting(serde_json::Value),
    /// A command was carried out.
    Return(serde_json::Value),
    /// It wasn't.
    Error { desc: String },
    /// Something happened; other keys tell what.
    #[serde(untagged)]
    Other(serde_json::Value),
}

impl Monitor {
    /// Connects to the monitor at `socket`.
    pub fn connect(socket: &Path) -> Result<Monitor> {
        let context = "cannot reach QEMU's monitor";
        let stream = UnixStream::connect(socket).context(context)?;
        stream.set_read_timeout(Some(ANSWER_WITHIN)).context(context)?;
        stream.set_write_timeout(Some(ANSWER_WITHIN)).context(context)?;
        let mut monitor = Monitor(BufReader::new(stream));
        match monitor.read()? {
            Line::Greeting(_) => monitor.execute("qmp_capabilities")?,
            other => bail!("{context}: it does not greet: {other:?}"),
        }
        Ok(monitor)
    }

    /// Has a command without arguments carried out.
    pub fn execute(&mut self, command: &str) -> Result<()> {
        let context = || format!("cannot tell QEMU to {command}");
        let mut line = json!({ "execute": command }).to_string();
        line.push('\n');
        self.0.get_mut().write_all(line.as_bytes()).with_context(context)?;
        loop {
            match self.read().with_context(context)? {
                Line::Return(_) => return Ok(()),
                Line::Error { desc } => bail!("cannot tell QEMU to {command}: {desc}"),
                Line::Greeting(_) | Line::Other(_) => {}
            }
        }
    }

    fn read(&mut self) -> Result<Line> {
        let mut line = String::new();
        if self.0.read_line(&mut line).context("no answer")? == 0 {
            bail!("it hung up");
        }
        serde_json::from_str(&line).with_context(|| format!("cannot understand {line:?}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_told_from_others() {
        let other = |text: &str| Line::Other(serde_json::from_str(text).unwrap());
        let event = r#"{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "POWERDOWN"}"#;
        let rows = [
            (r#"{"QMP": {"capabilities": []}}"#, Line::Greeting(json!({"capabilities": []}))),
            (r#"{"return": {}}"#, Line::Return(json!({}))),
            (
                r#"{"error": {"class": "GenericError", "desc": "no"}}"#,
                Line::Error { desc: "no".into() },
            ),
            (event, other(event)),
        ];
        for (text, expected) in rows {
            assert_eq!(serde_json::from_str::<Line>(text).unwrap(), expected, "{text}");
        }
    }
}
