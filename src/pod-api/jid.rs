//! Names: local parts, and the bare JIDs made of them and domains. Whoever holds one needn't check
//! it again.

use std::fmt;

use appliance::probe;
use appliance::settings::Domain;
use unicode_normalization::UnicodeNormalization as _;

/// The most bytes in a local part, by RFC 7622.
const LONGEST: usize = 1023;
/// The most bytes in the name of a new account: Prosody names a file by it, a byte as `%e9`.
const LONGEST_NEW: usize = 64;
/// What RFC 7622 keeps out of a local part.
const EXCLUDED: [char; 8] = ['"', '&', '\'', '/', ':', '<', '>', '@'];

/// What stands before the `@`, in the form that Prosody keeps: composed and lower-case.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Localpart(String);

/// `localpart@domain`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Jid {
    /// Who.
    pub local: Localpart,
    /// Where.
    pub domain: Domain,
}

/// Why a text is no such name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadName {
    /// It, or a part of it, is missing.
    #[error("it is empty")]
    Empty,
    /// It has more bytes than allowed.
    #[error("it is too long")]
    TooLong,
    /// It has a character that it must not.
    #[error("it must not contain {0:?}")]
    Character(char),
    /// It is of an account of the appliance's own.
    #[error("it is reserved")]
    Reserved,
    /// There is no `@`.
    #[error("it is not like name@example.org")]
    NoAt,
    /// The domain isn't one.
    #[error("it is not a domain name like example.org")]
    NotADomain,
}

impl Localpart {
    /// Reads one that may exist already.
    pub fn parse(text: &str) -> Result<Localpart, BadName> {
        if text.len() > LONGEST {
            return Err(BadName::TooLong);
        }
        let folded: String = text.nfkc().flat_map(char::to_lowercase).nfkc().collect();
        let is_bad = |c: &char| c.is_control() || c.is_whitespace() || EXCLUDED.contains(c);
        match folded.chars().find(is_bad) {
            Some(bad) => Err(BadName::Character(bad)),
            None if folded.is_empty() => Err(BadName::Empty),
            None if folded.len() > LONGEST => Err(BadName::TooLong),
            None => Ok(Localpart(folded)),
        }
    }

    /// Reads the name of an account to be made.
    pub fn parse_new(text: &str) -> Result<Localpart, BadName> {
        let local = Localpart::parse(text)?;
        match local.0.len() {
            _ if local.is_reserved() => Err(BadName::Reserved),
            length if length > LONGEST_NEW => Err(BadName::TooLong),
            _ => Ok(local),
        }
    }

    /// Is it a name that no account of a Pod's has?
    pub fn is_reserved(&self) -> bool {
        self.0 == probe::ACCOUNT
    }

    /// As Prosody writes it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Jid {
    /// Reads a bare JID; one with a resource isn't.
    pub fn parse(text: &str) -> Result<Jid, BadName> {
        let (local, domain) = text.split_once('@').ok_or(BadName::NoAt)?;
        let local = Localpart::parse(local)?;
        let domain = domain.strip_suffix('.').unwrap_or(domain).parse();
        Ok(Jid { local, domain: domain.map_err(|_| BadName::NotADomain)? })
    }
}

impl fmt::Display for Jid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.local.0, self.domain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jid_is_read_in_one_form_or_not_at_all() {
        for (text, expected) in [
            ("alice@example.org", Ok("alice@example.org")),
            ("Alice@Example.ORG.", Ok("alice@example.org")),
            ("J\u{fc}rgen@example.org", Ok("j\u{fc}rgen@example.org")),
            ("Ju\u{308}rgen@example.org", Ok("j\u{fc}rgen@example.org")),
            ("a\\b`]]@example.org", Ok("a\\b`]]@example.org")),
            ("", Err(BadName::NoAt)),
            ("null", Err(BadName::NoAt)),
            ("@example.org", Err(BadName::Empty)),
            ("alice@", Err(BadName::NotADomain)),
            ("alice@ex ample", Err(BadName::NotADomain)),
            ("alice@a..b", Err(BadName::NotADomain)),
            ("alice@10.0.0.1", Err(BadName::NotADomain)),
            ("alice@-a.org", Err(BadName::NotADomain)),
            ("alice@example.org/phone", Err(BadName::NotADomain)),
            ("a@b@example.org", Err(BadName::NotADomain)),
            ("al ice@example.org", Err(BadName::Character(' '))),
            ("al\0ice@example.org", Err(BadName::Character('\0'))),
            ("al\nice@example.org", Err(BadName::Character('\n'))),
            ("al\"ice@example.org", Err(BadName::Character('"'))),
        ] {
            let read = Jid::parse(text).map(|jid| jid.to_string());
            assert_eq!(read, expected.map(str::to_owned), "{text:?}");
        }
    }

    #[test]
    fn names_are_bounded() {
        let long = |length: usize| "a".repeat(length);
        assert!(Localpart::parse(&long(1023)).is_ok());
        assert_eq!(Localpart::parse(&long(1024)), Err(BadName::TooLong));
        assert!(Localpart::parse_new(&long(64)).is_ok());
        assert!(Localpart::parse_new("stele-probe2").is_ok());
        assert_eq!(Localpart::parse_new("Stele-Probe"), Err(BadName::Reserved));
        assert_eq!(Localpart::parse_new(&long(65)), Err(BadName::TooLong));
        // One character that becomes eighteen.
        assert_eq!(Localpart::parse(&"\u{fdfa}".repeat(341)), Err(BadName::Character(' ')));
    }
}
