//! Secrets that are made here.

use appliance::secret::Secret;

/// A new one: a prefix, and 256 random bits as 64 hex digits. Fails if there is no randomness.
pub fn random(prefix: &str) -> Result<Secret, String> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| error.to_string())?;
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    Secret::try_from(format!("{prefix}{digits}")).map_err(|error| error.to_string())
}

/// One of this text.
#[cfg(test)]
pub fn of(text: &str) -> Secret {
    Secret::try_from(text.to_owned()).unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_one_is_strong() {
        let (one, other) = (random("").unwrap(), random("a:").unwrap());
        assert_eq!(one.reveal().len(), 64);
        assert!(one.reveal().bytes().all(|byte| byte.is_ascii_hexdigit()));
        assert!(other.reveal().starts_with("a:") && !other.reveal().ends_with(one.reveal()));
    }
}
