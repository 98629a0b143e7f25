//! SHA-256 digests, and the root hash that names a verified file system.

use std::array;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

/// Text that should have been 64 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not 64 hexadecimal digits")]
pub struct BadHash(String);

macro_rules! sha256_newtype {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; 32]);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl FromStr for $name {
            type Err = BadHash;

            fn from_str(hex: &str) -> Result<Self, BadHash> {
                parse_hex(hex).map($name)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

sha256_newtype! {
    /// A SHA-256 digest, written as 64 lower-case hexadecimal digits.
    Digest
}

sha256_newtype! {
    /// The hash at the top of a dm-verity tree: it names one exact root file system.
    RootHash
}

sha256_newtype! {
    /// The salt of a dm-verity tree.
    Salt
}

impl Digest {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Digest {
        Digest(Sha256::digest(bytes).into())
    }
}

fn parse_hex(hex: &str) -> Result<[u8; 32], BadHash> {
    let digits: Option<Vec<u32>> = hex.chars().map(|c| c.to_digit(16)).collect();
    match digits {
        Some(digits) if digits.len() == 64 => {
            Ok(array::from_fn(|i| (digits[2 * i] << 4 | digits[2 * i + 1]) as u8))
        }
        _ => Err(BadHash(hex.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_survives_its_own_text() {
        let digest = Digest::of(b"stele");
        assert_eq!(digest.to_string().parse(), Ok(digest));
        assert_eq!(
            Digest::of(b"").to_string(),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
    }

    #[test]
    fn only_64_hexadecimal_digits_are_a_hash() {
        let good = "0".repeat(64);
        assert!(good.parse::<RootHash>().is_ok());
        for bad in ["", "0", &"0".repeat(63), &"0".repeat(65), &"g".repeat(64), &"+f".repeat(32)] {
            assert!(bad.parse::<RootHash>().is_err(), "{bad:?} was taken");
        }
    }
}
