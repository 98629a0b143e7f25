//! What the command line says. Pure.

use std::net::SocketAddr;
use std::path::PathBuf;

use appliance::control::CONTROL_SOCKET;

/// Where the front listens, unless told.
pub const LISTEN: [&str; 2] = ["0.0.0.0:3030", "[::]:3030"];
/// Where pod-api listens, unless told.
pub const POD_API: &str = "/run/pod-api/http.sock";

/// How to call it.
pub const USAGE: &str =
    "usage: front [--listen ADDRESS:PORT]… [--pod-api SOCKET] [--control SOCKET]";

/// Where it is met, and whom it asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Addresses to listen at.
    pub listen: Vec<SocketAddr>,
    /// pod-api's socket.
    pub pod_api: PathBuf,
    /// `stele-init`'s.
    pub control: PathBuf,
}

impl Options {
    /// Reads arguments, the program's name not among them. The error is for the one who typed them.
    pub fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Options, String> {
        let mut arguments = arguments.into_iter();
        let mut options =
            Options { listen: vec![], pod_api: POD_API.into(), control: CONTROL_SOCKET.into() };
        while let Some(name) = arguments.next() {
            let mut value =
                || arguments.next().ok_or(format!("cannot use {name}: no value follows"));
            match name.as_str() {
                "--listen" => {
                    let value = value()?;
                    options.listen.push(address(&value)?);
                }
                "--pod-api" => options.pod_api = value()?.into(),
                "--control" => options.control = value()?.into(),
                _ => return Err(format!("cannot use {name}: it is no option")),
            }
        }
        if options.listen.is_empty() {
            options.listen = LISTEN.into_iter().map(address).collect::<Result<_, String>>()?;
        }
        Ok(options)
    }
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| format!("cannot listen at {text}: it is not like 0.0.0.0:3030"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read() {
        let parse = |text: &str| Options::parse(text.split_whitespace().map(str::to_owned));
        let usual = parse("").unwrap();
        let ports: Vec<String> = usual.listen.iter().map(ToString::to_string).collect();
        assert_eq!(ports, LISTEN);
        assert_eq!((usual.pod_api, usual.control), (POD_API.into(), CONTROL_SOCKET.into()));
        let told =
            parse("--listen 127.0.0.1:0 --pod-api /a --listen [::1]:1 --control /b").unwrap();
        assert_eq!(told.listen.len(), 2);
        assert_eq!((told.pod_api, told.control), ("/a".into(), "/b".into()));
        for bad in ["--listen", "--listen 3030", "--listen localhost:1", "--pod-api", "-v", "x"] {
            assert!(parse(bad).unwrap_err().starts_with("cannot "), "{bad}");
        }
    }
}
