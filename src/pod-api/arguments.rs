//! Where everything is. By hand: a guest program parses no more than it must.

use std::ffi::OsString;
use std::path::PathBuf;

use appliance::control::CONTROL_SOCKET;

/// The defaults are the appliance's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arguments {
    /// Where to listen: a path, or an address and a port.
    pub listen: String,
    /// Where the Server's HTTP is.
    pub server: String,
    /// The folder of the database.
    pub data: PathBuf,
    /// `stele-init`'s socket.
    pub control: PathBuf,
    /// What the operator wrote.
    pub config: PathBuf,
    /// The folder in which `stele-init` leaves secrets.
    pub credentials: PathBuf,
}

const USAGE: &str = "usage: pod-api [--listen PATH|ADDRESS:PORT] [--server http://ADDRESS:PORT] \
                     [--data DIR] [--control PATH] [--config FILE] [--credentials DIR]";

impl Arguments {
    /// Reads what stands behind the program's name; `credentials` is `CREDENTIALS_DIRECTORY`.
    pub fn parse(
        mut words: impl Iterator<Item = String>,
        credentials: Option<OsString>,
    ) -> Result<Arguments, String> {
        let mut arguments = Arguments {
            listen: "/run/pod-api/http.sock".into(),
            server: "http://127.0.0.1:5280".into(),
            data: "/var/lib/prose-pod-api".into(),
            control: CONTROL_SOCKET.into(),
            config: "/etc/prose-pod-api/Prose.toml".into(),
            credentials: credentials.unwrap_or_else(|| "/run/credentials/pod-api".into()).into(),
        };
        while let Some(name) = words.next() {
            let value = words.next().ok_or_else(|| format!("{name} lacks a value\n{USAGE}"))?;
            match name.as_str() {
                "--listen" => arguments.listen = value,
                "--server" => arguments.server = value,
                "--data" => arguments.data = value.into(),
                "--control" => arguments.control = value.into(),
                "--config" => arguments.config = value.into(),
                "--credentials" => arguments.credentials = value.into(),
                _ => return Err(format!("cannot understand {name}\n{USAGE}")),
            }
        }
        Ok(arguments)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_override_the_appliances_defaults() {
        let parse = |words: &str| {
            Arguments::parse(words.split_whitespace().map(str::to_owned), Some("/creds".into()))
        };
        let defaults = parse("").unwrap();
        assert_eq!(defaults.credentials, PathBuf::from("/creds"));
        let other = parse("--listen 127.0.0.1:0 --data /d").unwrap();
        let expected = Arguments { listen: "127.0.0.1:0".into(), data: "/d".into(), ..defaults };
        assert_eq!(other, expected);
        for wrong in ["--listen", "--nonsense x", "help"] {
            assert!(parse(wrong).unwrap_err().contains("usage: pod-api"), "{wrong}");
        }
    }
}
