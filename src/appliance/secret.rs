//! A password, which shows nowhere.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The most bytes of one.
const LONGEST: usize = 1024;

/// A password: not empty, bounded, without control characters. Printed for whatever reason, it
/// doesn't show; only [`Secret::reveal`] and the packets that carry it do that.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Secret(String);

/// What can't be one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is empty, longer than {LONGEST} bytes, or has control characters")]
pub struct NoSecret;

impl Secret {
    /// Its text, for whoever may have it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Secret {
    type Error = NoSecret;

    fn try_from(text: String) -> Result<Secret, NoSecret> {
        let is_fine = !text.is_empty() && text.len() <= LONGEST;
        (is_fine && !text.chars().any(char::is_control)).then_some(Secret(text)).ok_or(NoSecret)
    }
}

impl From<Secret> for String {
    fn from(secret: Secret) -> String {
        secret.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(a secret)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_a_password_and_shows_nowhere() {
        let secret = Secret::try_from("first".to_owned()).unwrap();
        assert_eq!((format!("{secret:?}").as_str(), secret.reveal()), ("(a secret)", "first"));
        for text in ["", "two\nlines", "nul\0", &"x".repeat(LONGEST + 1)] {
            assert_eq!(Secret::try_from(text.to_owned()), Err(NoSecret));
        }
    }
}
