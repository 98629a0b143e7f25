//! Addresses of e-mail. Whoever holds one needn't check it again.

use std::fmt;
use std::str::FromStr;

use lettre::Address;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The most bytes of one, by RFC 5321.
const LONGEST: usize = 254;

/// `bob@corp.example`: without a name, without quotes, without anything that could end a line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(try_from = "String", into = "String")]
#[schema(value_type = String, format = "email", max_length = 254)]
pub struct EmailAddress(Address);

/// What isn't one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is not an e-mail address like bob@example.org")]
pub struct NoAddress;

impl EmailAddress {
    /// As the mail library has it.
    pub fn to_lettre(&self) -> Address {
        self.0.clone()
    }
}

impl FromStr for EmailAddress {
    type Err = NoAddress;

    fn from_str(text: &str) -> Result<EmailAddress, NoAddress> {
        let is_odd = |c: char| c.is_control() || c.is_whitespace() || "\"\\<>()[],;:".contains(c);
        if text.len() > LONGEST || text.contains(is_odd) {
            return Err(NoAddress);
        }
        text.parse().map(EmailAddress).map_err(|_| NoAddress)
    }
}

impl TryFrom<String> for EmailAddress {
    type Error = NoAddress;

    fn try_from(text: String) -> Result<EmailAddress, NoAddress> {
        text.parse()
    }
}

impl From<EmailAddress> for String {
    fn from(address: EmailAddress) -> String {
        address.to_string()
    }
}

impl fmt::Display for EmailAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_one_or_refused() {
        let long = |length: usize| format!("{}@{}example", "a".repeat(64), "b.".repeat(length));
        for (text, is_one) in [
            ("bob@corp.example", true),
            ("bob+prose@corp.example", true),
            ("b\u{f6}b@c\u{f6}rp.example", true),
            ("bob@localhost", true),
            ("", false),
            ("bob", false),
            ("@corp.example", false),
            ("bob@", false),
            ("bob@corp..example", false),
            ("bob @corp.example", false),
            ("Bob <bob@corp.example>", false),
            ("bob@corp.example\r\nBcc: eve@evil.example", false),
            ("\"a\r\nRCPT TO:<eve@evil.example>\"@corp.example", false),
            ("bob@corp.example,eve@evil.example", false),
            ("bob\u{2028}@corp.example", false),
            ("bob@[127.0.0.1]", false),
            (&long(40), true),
            (&long(100), false),
        ] {
            let read = text.parse::<EmailAddress>().map(|it| it.to_string());
            assert_eq!(read.as_deref(), if is_one { Ok(text) } else { Err(&NoAddress) });
        }
    }
}
