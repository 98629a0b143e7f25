//! A real XMPP client, by others: slixmpp, driven by `clients/xmpp.py`.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::scratch;
use crate::vm::Vm;

/// Debian's Python, which python3-slixmpp is for.
const PYTHON: &str = "/usr/bin/python3";
/// How long a login may take, in seconds.
const WITHIN: u32 = 30;

/// The account that the layer `test-account` makes.
pub const JID: &str = "tester@prose.local";
/// Its password.
pub const PASSWORD: &str = "not a secret";

/// Who logs in.
#[derive(Debug, Clone)]
pub struct Login<'a> {
    /// For example `tester@prose.local`.
    pub jid: &'a str,
    /// Their password.
    pub password: &'a str,
    /// A PEM file: the certificate that the Server must have.
    pub certificate: PathBuf,
    /// The message to oneself; else a random one.
    pub body: Option<&'a str>,
    /// To whom else the message goes, and what they say.
    pub peer: Option<(&'a str, &'a str)>,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Session {
    /// Did the message to oneself come back, or the peer's come?
    pub message_returned: bool,
    /// The texts of all messages that the Server has kept for this account, the oldest first.
    pub archive: Vec<String>,
    /// For example `TLSv1.3`.
    pub tls_version: Option<String>,
    /// TLS' cipher suite.
    pub cipher: Option<String>,
    /// For example `SCRAM-SHA-1`.
    pub sasl_mechanism: Option<String>,
    /// Why it went no further.
    pub failed: Option<String>,
}

impl Login<'_> {
    /// Logs in at `server`, sends a message, and waits for it or for the peer's.
    #[track_caller]
    pub fn run(&self, server: SocketAddr) -> Session {
        self.try_run(server).unwrap_or_else(|error| panic!("{error:#}"))
    }

    fn try_run(&self, server: SocketAddr) -> Result<Session> {
        // The client's own time limit comes first, and says how far it got.
        let mut command = scratch::bounded(python(), 2 * WITHIN);
        command.arg(scratch::workspace().join("vm-tests/clients/xmpp.py"));
        command.args(["--host", &server.ip().to_string(), "--port", &server.port().to_string()]);
        command.args(["--jid", self.jid, "--password", self.password]);
        command.args(self.body.iter().flat_map(|body| ["--body", body]));
        if let Some((peer, expected)) = self.peer {
            command.args(["--peer", peer, "--expect", expected]);
        }
        command.args(["--within", &WITHIN.to_string(), "--certificate"]).arg(&self.certificate);
        let output = command.output().with_context(|| format!("cannot start {command:?}"))?;
        let said = String::from_utf8_lossy(&output.stderr);
        let hint = "\nhint: install python3-slixmpp, or set STELE_PYTHON to a Python that has it";
        serde_json::from_slice(&output.stdout)
            .with_context(|| format!("the XMPP client gave no answer: {}{hint}", said.trim_end()))
    }
}

/// The Python that has slixmpp.
pub fn python() -> OsString {
    env::var_os("STELE_PYTHON").unwrap_or_else(|| PYTHON.into())
}

/// The certificate that the layer `test-certificate` shows on the console, as a file in the VM's folder.
#[track_caller]
pub fn shown_certificate(vm: &Vm, within: Duration) -> PathBuf {
    vm.wait_for("stele-init: service show-certificate: done", within);
    let lines = vm.lines_with("show-certificate: ");
    let texts = lines.iter().filter_map(|line| line.rest_after("show-certificate: "));
    let path = vm.folder().join("certificate.pem");
    write_certificate(texts, &path).unwrap_or_else(|error| panic!("{error:#}"));
    path
}

fn write_certificate<'a>(texts: impl Iterator<Item = &'a str>, path: &Path) -> Result<()> {
    const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
    const END: &str = "-----END CERTIFICATE-----";
    let mut lines: Vec<&str> = texts.skip_while(|text| *text != BEGIN).collect();
    let end = lines.iter().position(|text| *text == END);
    ensure!(end.is_some(), "there is no whole certificate on the console");
    lines.truncate(end.unwrap_or_default() + 1);
    let pem = lines.join("\n") + "\n";
    fs::write(path, pem).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_taken_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.pem");
        let (begin, end) = ("-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----");
        write_certificate(["noise", begin, "AAAA", end, "noise"].into_iter(), &path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{begin}\nAAAA\n{end}\n"));
        assert!(write_certificate([begin, "AAAA"].into_iter(), &path).is_err());
        assert!(write_certificate([end].into_iter(), &path).is_err());
    }
}
