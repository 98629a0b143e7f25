//! What must not be seen: it never shows in a log, and comparing it takes equally long wherever it
//! differs.

use std::fmt;

use subtle::ConstantTimeEq as _;

/// A password or a token. Printing it shows nothing of it.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// One that somebody else made.
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(text.into())
    }

    /// A new one: 256 random bits, as 64 hex digits. Fails if the kernel has no randomness.
    pub fn random() -> Result<Secret, getrandom::Error> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes)?;
        Ok(Secret(bytes.iter().map(|byte| format!("{byte:02x}")).collect()))
    }

    /// What it is, for the one who must know.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Secret) -> bool {
        self.0.as_bytes().ct_eq(other.0.as_bytes()).into()
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_one_is_strong_and_shows_nothing() {
        let (one, other) = (Secret::random().unwrap(), Secret::random().unwrap());
        assert_ne!(one, other);
        assert_eq!(one.expose().len(), 64);
        assert!(one.expose().bytes().all(|byte| byte.is_ascii_hexdigit()));
        assert_eq!(format!("{one:?}"), "Secret(…)");
    }

    #[test]
    fn only_the_same_is_equal() {
        for (one, other, same) in
            [("a", "a", true), ("a", "b", false), ("a", "aa", false), ("", "", true)]
        {
            assert_eq!(Secret::new(one) == Secret::new(other), same, "{one} {other}");
        }
    }
}
