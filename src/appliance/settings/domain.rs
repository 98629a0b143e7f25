//! Domains.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::INTERNAL_HOST;

/// A domain that can be served, or talked to: labels of `a-z`, `0-9` and dashes, in lower case.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Domain(String);

/// The longest: what DNS allows, and room for the labels that rooms and uploads have in front.
const LONGEST: usize = 253 - "groups.".len();
const LONGEST_LABEL: usize = 63;

/// Why some text isn't a [`Domain`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a domain that can be served: {1}")]
pub struct BadDomain(String, &'static str);

impl FromStr for Domain {
    type Err = BadDomain;

    fn from_str(text: &str) -> Result<Domain, BadDomain> {
        let name = text.to_ascii_lowercase();
        match fault(&name) {
            // No more of it than a line's worth: it may be anything.
            Some(why) => Err(BadDomain(text.chars().take(100).collect(), why)),
            None => Ok(Domain(name)),
        }
    }
}

fn fault(name: &str) -> Option<&'static str> {
    let is_plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    let is_label = |label: &str| {
        (1..=LONGEST_LABEL).contains(&label.len())
            && label.bytes().all(is_plain)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let last = name.rsplit('.').next().unwrap_or_default();
    if name.len() > LONGEST {
        Some("it is too long")
    } else if !name.split('.').all(is_label) {
        Some("its labels must be of letters, digits and dashes")
    } else if last.bytes().all(|c| c.is_ascii_digit()) {
        Some("it is an address, or ends as one does")
    } else if name == INTERNAL_HOST || name.ends_with(&format!(".{INTERNAL_HOST}")) {
        Some("the Pod itself uses it")
    } else {
        None
    }
}

impl Domain {
    /// A domain below this one.
    pub fn below(&self, label: &str) -> String {
        format!("{label}.{self}")
    }
}

impl AsRef<str> for Domain {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Domain {
    type Error = BadDomain;

    fn try_from(text: String) -> Result<Domain, BadDomain> {
        text.parse()
    }
}

impl From<Domain> for String {
    fn from(domain: Domain) -> String {
        domain.0
    }
}

/// Domains in the order that somebody gave them, each once.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<Domain>", into = "Vec<Domain>")]
pub struct Domains(Vec<Domain>);

/// A list that isn't [`Domains`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is in the list twice")]
pub struct Twice(Domain);

impl TryFrom<Vec<Domain>> for Domains {
    type Error = Twice;

    fn try_from(list: Vec<Domain>) -> Result<Domains, Twice> {
        let mut sorted: Vec<&Domain> = list.iter().collect();
        sorted.sort();
        match sorted.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(Twice(pair[0].clone())),
            None => Ok(Domains(list)),
        }
    }
}

impl From<Domains> for Vec<Domain> {
    fn from(domains: Domains) -> Vec<Domain> {
        domains.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_can_be_served_is_a_domain() {
        let long = format!("{}.org", vec!["a".repeat(63); 4].join("."));
        for (text, is) in [
            ("example.org", Some("example.org")),
            ("Example.ORG", Some("example.org")),
            ("prose.local", Some("prose.local")),
            ("localhost", Some("localhost")),
            ("xn--bcher-kva.example", Some("xn--bcher-kva.example")),
            ("1.example", Some("1.example")),
            ("", None),
            (".", None),
            ("a..b", None),
            ("example.org.", None),
            ("-a.org", None),
            ("a-.org", None),
            ("a b.org", None),
            ("a_b.org", None),
            ("bücher.example", None),
            ("10.0.0.1", None),
            ("[::1]", None),
            ("user@example.org", None),
            ("example.org/x", None),
            ("a\".org", None),
            ("a\\.org", None),
            ("a]].org", None),
            ("a\n.org", None),
            ("a\0.org", None),
            (&"a".repeat(64), None),
            (&long, None),
            ("admin.prose.local", None),
            ("ADMIN.prose.local", None),
            ("x.admin.prose.local", None),
        ] {
            let parsed = text.parse::<Domain>().ok();
            assert_eq!(parsed.as_ref().map(Domain::as_ref), is, "{text:?}");
        }
    }

    #[test]
    fn a_list_has_each_domain_once() {
        let domains = |names: &[&str]| -> Vec<Domain> {
            names.iter().map(|name| name.parse().unwrap()).collect()
        };
        let kept = Domains::try_from(domains(&["b.org", "a.org"])).unwrap();
        assert_eq!(Vec::from(kept), domains(&["b.org", "a.org"]));
        let error = Domains::try_from(domains(&["a.org", "b.org", "A.org"])).unwrap_err();
        assert_eq!(error.to_string(), "`a.org` is in the list twice");
    }
}
