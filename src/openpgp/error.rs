//! Why a document is not believed.

use std::fmt;

use pgp::types::KeyDetails;
use time::Date;

/// A key's fingerprint, printed as archives publish theirs: in upper-case hexadecimal digits.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint(String);

impl Fingerprint {
    pub(crate) fn of(key: &dyn KeyDetails) -> Fingerprint {
        Fingerprint(format!("{:X}", key.fingerprint()))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

/// Why a document is not believed, or a keyring not read. Keys are named by the one that signed,
/// which may be a subkey.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// More than [`MAX_BYTES`](crate::MAX_BYTES).
    #[error("{0} bytes are more than the {max} that are looked at", max = crate::MAX_BYTES)]
    TooLong(usize),
    /// Neither a signed text nor part of one: the signature may have been stripped.
    #[error("it has no cleartext signature")]
    NotSigned,
    /// Something stands before the signed text.
    #[error("there is text before the signed text")]
    TextBefore,
    /// Something stands after the signature.
    #[error("there is text after the signature")]
    TextAfter,
    /// Not what OpenPGP says it should be.
    #[error("malformed OpenPGP data: {0}")]
    Malformed(&'static str),
    /// A keyring file without a certificate.
    #[error("there is no OpenPGP certificate in it")]
    NoCertificates,
    /// No signature is by a key of the ring. Holds what the signatures say of their makers:
    /// fingerprints, or key ids.
    #[error("signed by unknown keys only: {}", .0.join(", "))]
    UnknownKeys(Vec<String>),
    /// Forged: the key that is named did not sign this text.
    #[error("bad signature: key {0} did not sign this text")]
    BadSignature(Fingerprint),
    /// A hash for which collisions can be made.
    #[error("the signature by key {key} uses {hash}, which is too weak")]
    WeakHash {
        /// Who signed.
        key: Fingerprint,
        /// The hash's name.
        hash: String,
    },
    /// Of another type, version or meaning than a signature over a text.
    #[error("the signature by key {0} is of an unsupported kind")]
    Unsupported(Fingerprint),
    /// Its own time has run out.
    #[error("the signature by key {key} expired on {on}")]
    SignatureExpired {
        /// Who signed.
        key: Fingerprint,
        /// The last day (UTC).
        on: Date,
    },
    /// Made later than now: one of the two clocks is wrong.
    #[error("the signature by key {key} is dated {on}, in the future")]
    SignatureFromFuture {
        /// Who signed.
        key: Fingerprint,
        /// The day (UTC) that the signature says.
        on: Date,
    },
    /// Made, by its own word, before there was such a key.
    #[error("the signature by key {0} is older than that key")]
    SignatureBeforeKey(Fingerprint),
    /// The key, or its primary key, has run out.
    #[error("key {key} expired on {on}")]
    KeyExpired {
        /// The one that expired: the signer or its primary key.
        key: Fingerprint,
        /// The last day (UTC).
        on: Date,
    },
    /// The key, or its primary key, was revoked.
    #[error("key {0} is revoked")]
    KeyRevoked(Fingerprint),
    /// Its certificate does not say that this key may sign texts, or proves it badly.
    #[error("key {0} is not bound to its certificate as a signing key")]
    NotForSigning(Fingerprint),
}
