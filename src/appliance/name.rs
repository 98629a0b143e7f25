//! What things are called.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The most bytes of one.
const LONGEST: usize = 32;

/// The name of an appliance, a layer, a service, an architecture: lower-case letters, digits and
/// inner dashes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

/// What can't be one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a name: lower-case letters, digits and dashes, at most {LONGEST}")]
pub struct NoName(String);

impl Name {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Name {
    type Error = NoName;

    fn try_from(text: String) -> Result<Name, NoName> {
        let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
        let starts = text.starts_with(|c: char| c.is_ascii_lowercase());
        let is_one = starts && text.len() <= LONGEST && !text.ends_with(['-', '.']);
        match is_one && text.chars().all(good) {
            true => Ok(Name(text)),
            false => Err(NoName(text)),
        }
    }
}

impl From<Name> for String {
    fn from(name: Name) -> String {
        name.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_lower_case_and_short() {
        for (text, is_one) in [
            ("prose-pod-0.12", true),
            ("amd64", true),
            ("Prose", false),
            ("0", false),
            ("-a", false),
            ("a-", false),
            ("a.", false),
            ("a b", false),
            ("", false),
            (&"a".repeat(LONGEST), true),
            (&"a".repeat(LONGEST + 1), false),
        ] {
            assert_eq!(Name::try_from(text.to_owned()).is_ok(), is_one, "{text:?}");
        }
    }
}
