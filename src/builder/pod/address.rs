//! Where a Pod is. Pure.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ureq::http::Uri;

/// `http://` or `https://`, a host, and a port if it isn't the usual one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    text: String,
    is_encrypted: bool,
    is_loopback: bool,
}

impl Address {
    /// The address of something there, by its absolute path.
    pub fn at(&self, path: &str) -> String {
        format!("{}{path}", self.text)
    }

    /// Does what is sent there stay on this host?
    pub fn is_loopback(&self) -> bool {
        self.is_loopback
    }

    /// Can nobody in between read what is sent there?
    pub fn is_safe(&self) -> bool {
        self.is_encrypted || self.is_loopback
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Address, String> {
        let bad = || format!("`{text}` is not an address such as http://127.0.0.1:3030");
        let uri: Uri = text.parse().map_err(|_| bad())?;
        let (scheme, authority) = (uri.scheme_str(), uri.authority());
        let is_encrypted = match scheme {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(bad()),
        };
        let authority = authority.filter(|it| !it.as_str().contains('@')).ok_or_else(bad)?;
        if uri.path_and_query().is_some_and(|rest| rest.as_str() != "/") {
            return Err(bad());
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        let is_loopback =
            host == "localhost" || host.parse().is_ok_and(|it: IpAddr| it.is_loopback());
        let text = text.trim_end_matches('/').to_owned();
        Ok(Address { text, is_encrypted, is_loopback })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read() {
        for (text, is_safe, is_loopback) in [
            ("http://127.0.0.1:3030", true, true),
            ("http://127.8.9.1:3030/", true, true),
            ("http://[::1]:3030", true, true),
            ("http://localhost", true, true),
            ("http://192.168.1.9:3030", false, false),
            ("http://localhost.example:3030", false, false),
            ("http://pod.example", false, false),
            ("https://pod.example", true, false),
        ] {
            let address: Address = text.parse().unwrap();
            assert_eq!(
                (address.is_safe(), address.is_loopback()),
                (is_safe, is_loopback),
                "{text}"
            );
            assert_eq!(address.at("/api"), format!("{}/api", text.trim_end_matches('/')));
        }
        for text in [
            "",
            "127.0.0.1:3030",
            "pod.example",
            "ftp://pod.example",
            "http://",
            "http://alice:secret@pod.example",
            "http://pod.example/api",
            "http://pod.example/?x",
        ] {
            let error = text.parse::<Address>().unwrap_err();
            assert!(error.contains("is not an address such as"), "{text}: {error}");
        }
    }
}
