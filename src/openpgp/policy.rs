//! Which signatures to rely on at all, before and beside their maths: kind, hash and dates.
//!
//! The same rules hold for the signature over a text and for those that make up a certificate.

use std::time::{SystemTime, UNIX_EPOCH};

use pgp::crypto::hash::HashAlgorithm;
use pgp::packet::{Signature, SignatureVersion, SubpacketData};
use time::{Date, OffsetDateTime};

use crate::{Error, Fingerprint};

/// How far a maker's clock may be ahead of ours.
const SLACK_SECONDS: u64 = 5 * 60;

/// The time to judge by, in seconds since 1970.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Now(u64);

impl From<SystemTime> for Now {
    fn from(now: SystemTime) -> Now {
        Now(now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()))
    }
}

impl Now {
    /// When something made at `start` ended, if it did. No lifetime, and one of 0, mean forever.
    pub(crate) fn end(
        self,
        start: pgp::types::Timestamp,
        lifetime: Option<pgp::types::Duration>,
    ) -> Option<Date> {
        let lifetime = u64::from(lifetime?.as_secs());
        let end = u64::from(start.as_secs()) + lifetime;
        (lifetime != 0 && end <= self.0).then(|| day(end))
    }
}

/// Refuses the kinds of signatures that say nothing, or not what we would take them for.
pub(crate) fn check_kind(signature: &Signature, key: &Fingerprint) -> Result<(), Error> {
    let unsupported = || Error::Unsupported(key.clone());
    let config = signature.config().ok_or_else(unsupported)?;
    if !matches!(config.version(), SignatureVersion::V4 | SignatureVersion::V6) {
        return Err(unsupported());
    }
    // "Critical" means: who does not understand this must not believe the rest.
    let critical_unknown = config.hashed_subpackets().any(|subpacket| {
        use SubpacketData::{Experimental, Notation, Other};
        subpacket.is_critical
            && matches!(subpacket.data, Experimental(..) | Notation(_) | Other(..))
    });
    if critical_unknown {
        return Err(unsupported());
    }
    use HashAlgorithm::{Sha3_256, Sha3_512, Sha256, Sha384, Sha512};
    match config.hash_alg {
        Sha256 | Sha384 | Sha512 | Sha3_256 | Sha3_512 => Ok(()),
        weak => Err(Error::WeakHash { key: key.clone(), hash: weak.to_string() }),
    }
}

/// Refuses signatures that are not of their time.
pub(crate) fn check_dates(signature: &Signature, key: &Fingerprint, now: Now) -> Result<(), Error> {
    let made = signature.created().ok_or_else(|| Error::Unsupported(key.clone()))?;
    let seconds = u64::from(made.as_secs());
    if seconds > now.0.saturating_add(SLACK_SECONDS) {
        return Err(Error::SignatureFromFuture { key: key.clone(), on: day(seconds) });
    }
    match now.end(made, signature.signature_expiration_time()) {
        Some(on) => Err(Error::SignatureExpired { key: key.clone(), on }),
        None => Ok(()),
    }
}

/// The day of a time that OpenPGP can write: below 2^33 seconds, so before the year 2243.
fn day(seconds: u64) -> Date {
    let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
    OffsetDateTime::from_unix_timestamp(seconds).map_or(Date::MAX, OffsetDateTime::date)
}

#[cfg(test)]
mod tests {
    use pgp::composed::KeyType;
    use pgp::packet::UserId;

    use super::*;
    use crate::testing::*;
    use crate::tests::{TEXT, verify};

    #[test]
    fn a_weak_hash_is_refused() {
        let options = KeyOptions { signer: Signer::Primary, ..KeyOptions::default() };
        let mut key = new_key_of(KeyType::Rsa(2048), "archive", &options);
        for hash in [HashAlgorithm::Sha1, HashAlgorithm::Sha224, HashAlgorithm::Md5] {
            let signed = SignOptions { hash, ..SignOptions::default() };
            let document = sign_cleartext_with(TEXT, &[&key], &signed);
            let error = Error::WeakHash { key: key.fingerprint(), hash: hash.to_string() };
            assert_eq!(verify(&document, &[&key]), Err(error));
        }
        let document = sign_cleartext(TEXT, &key);
        assert!(verify(&document, &[&key]).is_ok());

        let user = UserId::from_str(Default::default(), "archive").unwrap();
        key.certificate.details.users =
            vec![certify_user(&key.primary, user, &options, HashAlgorithm::Sha1)];
        let error = verify(&document, &[&key]).unwrap_err();
        assert_eq!(error, Error::NotForSigning(key.fingerprint()), "a weak self-signature");
    }
}
