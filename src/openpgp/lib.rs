//! Verifies a text with an OpenPGP cleartext signature, such as an archive's `InRelease`.
//!
//! ```text
//! document ─ cleartext ─► text, Signature*
//!                               │ keyring: which keys are named as its maker?
//!                               ▼
//!              certificate Candidate ─ policy: a kind and a hash to rely on?
//!                                    ─ maths:  did this key sign this text?
//!                                    ─ policy: is it of its time?
//!                                    ─ may the key sign: bound, not expired, not revoked?
//! ```
//!
//! One good signature by a key of the ring is enough: archives sign with two or three keys, so
//! that an old ring and a new one both know one. What is returned is built from the lines that were
//! hashed; nobody needs to look at the document again.
//!
//! Not done: web of trust (the ring *is* the trust), and revocation by somebody else's key.

#![forbid(unsafe_code)]

mod certificate;
mod cleartext;
mod error;
#[cfg(test)]
mod fuzz;
mod keyring;
mod policy;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
#[cfg(test)]
mod tests;

use std::time::SystemTime;

pub use error::{Error, Fingerprint};
pub use keyring::Keyring;

/// The longest document and the longest keyring that are looked at: a hundred times the largest
/// in use.
pub const MAX_BYTES: usize = 16 << 20;

/// What is known once a document's signature is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// The signed lines, each ended by one `\n`, without the blanks at their ends: those are not
    /// signed.
    pub text: String,
    /// The certificates, by their primary keys, whose signatures are good. Never empty.
    pub signers: Vec<Fingerprint>,
}

/// The text of `document`, if a key of `keyring` that is valid at `now` has signed it.
///
/// Bad signatures beside a good one are ignored: whoever could add one could also remove it. When
/// none is good, the error is that of the first one by a known key.
pub fn verify_cleartext(
    document: &[u8],
    keyring: &Keyring,
    now: SystemTime,
) -> Result<Verified, Error> {
    let cleartext = cleartext::split(document)?;
    let hashed = cleartext.hashed();
    let now = policy::Now::from(now);

    let (mut signers, mut strangers, mut first_error) = (Vec::new(), Vec::new(), None);
    for signature in &cleartext.signatures()? {
        match keyring.signer(signature, hashed.as_bytes(), now) {
            Ok(signer) if signers.contains(&signer) => {}
            Ok(signer) => signers.push(signer),
            Err(Error::UnknownKeys(names)) => strangers.extend(names),
            Err(error) => first_error = first_error.or(Some(error)),
        }
    }
    if signers.is_empty() {
        return Err(first_error.unwrap_or(Error::UnknownKeys(strangers)));
    }
    Ok(Verified { text: cleartext.text, signers })
}
