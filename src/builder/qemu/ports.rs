//! Which ports of this host lead to which ports of the guest. All are on loopback.

use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::str::FromStr;

use anyhow::{Result, bail};
use serde::Serialize;

/// What is forwarded when nothing is said: each to the port of the same number.
const DEFAULT: [u16; 3] = [5222, 5269, 3030];

/// A port that shall be forwarded, written `HOST:GUEST`. Host port 0: any that is free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// The port of 127.0.0.1.
    pub host: u16,
    /// The guest's port.
    pub guest: u16,
}

impl FromStr for Wanted {
    type Err = String;

    fn from_str(text: &str) -> Result<Wanted, String> {
        let port = |digits: &str| {
            let good = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
            digits.parse::<u16>().ok().filter(|_| good)
        };
        text.split_once(':')
            .and_then(|(host, guest)| Some(Wanted { host: port(host)?, guest: port(guest)? }))
            .filter(|wanted| wanted.guest != 0)
            .ok_or_else(|| format!("`{text}` is not a pair of ports such as `8080:3030`"))
    }
}

/// A port that is forwarded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Forward {
    /// The port of 127.0.0.1.
    pub host: u16,
    /// The guest's port.
    pub guest: u16,
    /// Why it isn't the one that was to be expected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instead: Option<String>,
}

/// Ports of this host: may they be listened on?
pub trait Host {
    /// Takes a port, or any free one for 0; returns which.
    fn take(&mut self, port: u16) -> io::Result<u16>;
}

/// This very host. What is taken is held until this is dropped, so that nothing is taken twice.
#[derive(Debug, Default)]
pub struct Loopback(Vec<TcpListener>);

impl Host for Loopback {
    fn take(&mut self, port: u16) -> io::Result<u16> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
        let taken = listener.local_addr()?.port();
        self.0.push(listener);
        Ok(taken)
    }
}

/// What is forwarded. Where a default port can't be had, a free one takes its place; a port that
/// was `asked` for by number is had or refused, since somebody relies on it.
pub fn choose(asked: &[Wanted], host: &mut impl Host) -> Result<Vec<Forward>> {
    let default = DEFAULT.map(|port| Wanted { host: port, guest: port });
    let (wanted, is_asked) = match asked.is_empty() {
        true => (default.as_slice(), false),
        false => (asked, true),
    };
    wanted
        .iter()
        .map(|&Wanted { host: port, guest }| {
            let error = match host.take(port) {
                Ok(host) => return Ok(Forward { host, guest, instead: None }),
                Err(error) => error,
            };
            let cause = match error.kind() {
                io::ErrorKind::AddrInUse => format!("port {port} is taken"),
                io::ErrorKind::PermissionDenied => format!("port {port} is not allowed"),
                _ => format!("port {port}: {error}"),
            };
            if is_asked {
                bail!(
                    "cannot forward port {port} to {guest}: {cause}\nhint: --forward 0:{guest} \
                     takes a free one"
                );
            }
            Ok(Forward { host: host.take(0)?, guest, instead: Some(cause) })
        })
        .collect()
}

impl Forward {
    /// What a person reads: what the port is for, and where it is.
    pub fn in_words(&self) -> (String, String) {
        let (purpose, scheme) = match self.guest {
            5222 => ("XMPP clients", ""),
            5269 => ("XMPP servers", ""),
            3030 | 80 => ("web", "http://"),
            443 => ("web", "https://"),
            5280 => ("Prosody HTTP", "http://"),
            5281 => ("Prosody HTTP", "https://"),
            _ => ("forward", ""),
        };
        let place = format!("{scheme}127.0.0.1:{}", self.host);
        let purpose = match purpose {
            "forward" => format!("port {}", self.guest),
            other => other.to_owned(),
        };
        match &self.instead {
            Some(cause) => (purpose, format!("{place} ({cause})")),
            None => (purpose, place),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Everything below 1024 is forbidden, these are taken, free ones come from 40000 on.
    struct Fake(Vec<u16>);

    impl Host for Fake {
        fn take(&mut self, port: u16) -> io::Result<u16> {
            let port = if port == 0 { 40000 + self.0.len() as u16 } else { port };
            if self.0.contains(&port) {
                return Err(io::ErrorKind::AddrInUse.into());
            }
            if port < 1024 {
                return Err(io::ErrorKind::PermissionDenied.into());
            }
            self.0.push(port);
            Ok(port)
        }
    }

    #[test]
    fn ports_are_chosen() {
        let pair = |host, guest| Wanted { host, guest };
        let taken = "cannot forward port 5222 to 5222: port 5222 is taken\nhint: --forward 0:5222 \
                     takes a free one";
        type Row<'a> = (&'a [Wanted], &'a [u16], Result<Vec<u16>, &'a str>);
        let rows: [Row; 6] = [
            (&[], &[], Ok(vec![5222, 5269, 3030])),
            (&[], &[5222], Ok(vec![40001, 5269, 3030])),
            (&[pair(5222, 5222)], &[5222], Err(taken)),
            (&[pair(0, 5222), pair(8080, 80)], &[5222], Ok(vec![40001, 8080])),
            (&[pair(81, 80)], &[], Err("cannot forward port 81 to 80: port 81 is not allowed")),
            (&[pair(9000, 1), pair(9000, 2)], &[], Err("cannot forward port 9000 to 2")),
        ];
        for (asked, busy, expected) in rows {
            match (choose(asked, &mut Fake(busy.to_vec())), expected) {
                (Ok(chosen), Ok(expected)) => {
                    let hosts: Vec<u16> = chosen.iter().map(|forward| forward.host).collect();
                    assert_eq!(hosts, expected, "{asked:?} {busy:?}");
                }
                (Err(error), Err(start)) => {
                    assert!(error.to_string().starts_with(start), "{error}")
                }
                (chosen, expected) => panic!("{asked:?} {busy:?}: {chosen:?}, not {expected:?}"),
            }
        }
    }

    #[test]
    fn a_pair_of_ports_is_read_or_refused() {
        assert_eq!("8080:3030".parse(), Ok(Wanted { host: 8080, guest: 3030 }));
        assert_eq!("0:80".parse(), Ok(Wanted { host: 0, guest: 80 }));
        for bad in ["", "80", "80:", ":80", "80:0", "70000:1", "+1:2", "1:2:3", "a:b"] {
            assert!(bad.parse::<Wanted>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_port_that_is_listened_on_is_taken() {
        let mut host = Loopback::default();
        let port = host.take(0).unwrap();
        assert_eq!(host.take(port).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }
}
