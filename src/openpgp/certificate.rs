//! A certificate's keys, and whether one of them may sign at a given time.
//!
//! ```text
//! primary key ◄─ revocations: any that verifies counts
//!      ▲  ▲
//!      │  └─ self-signatures: the newest over the key itself and the newest over a user id say
//!      │                      until when the key is valid and what it is for
//!      └─ subkey ◄─ bindings: the newest says so of the subkey, which must sign back
//! ```
//!
//! Each signature is verified alone, where the OpenPGP crate's `verify_bindings` wants all of them
//! to be good: archive keys carry signatures by other people, of which we have no key.

use std::iter;

use pgp::composed::{SignedPublicKey, SignedPublicSubKey};
use pgp::packet::{KeyFlags, PacketTrait as _, Signature, SignatureType, SubpacketData};
use pgp::types::{KeyDetails, SignedUser};

use crate::policy::{Now, check_dates, check_kind};
use crate::{Error, Fingerprint};

/// A key that may have made a signature.
#[derive(Clone, Copy)]
pub(crate) struct Candidate<'a> {
    certificate: &'a SignedPublicKey,
    /// `None` is the primary key.
    subkey: Option<&'a SignedPublicSubKey>,
}

impl<'a> Candidate<'a> {
    /// The primary key, then the subkeys.
    pub(crate) fn all(certificate: &'a SignedPublicKey) -> impl Iterator<Item = Candidate<'a>> {
        let subkeys = certificate.public_subkeys.iter().map(Some);
        iter::once(None).chain(subkeys).map(move |subkey| Candidate { certificate, subkey })
    }

    /// Whether the signature says that this key made it; not yet that it is true.
    pub(crate) fn is_named_by(self, signature: &Signature) -> bool {
        let (id, print) = (self.details().legacy_key_id(), self.details().fingerprint());
        signature.issuer_fingerprint().contains(&&print) || signature.issuer_key_id().contains(&&id)
    }

    /// Whether this key made this signature over this text, and may sign.
    pub(crate) fn check(self, signature: &Signature, text: &[u8], now: Now) -> Result<(), Error> {
        let me = Fingerprint::of(self.details());
        if !matches!(signature.typ(), Some(SignatureType::Text | SignatureType::Binary)) {
            return Err(Error::Unsupported(me));
        }
        check_kind(signature, &me)?;
        let verified = match self.subkey {
            None => signature.verify(self.certificate, text),
            Some(subkey) => signature.verify(subkey, text),
        };
        verified.map_err(|_| Error::BadSignature(me.clone()))?;
        check_dates(signature, &me, now)?;
        if signature.created() < Some(self.details().created_at()) {
            return Err(Error::SignatureBeforeKey(me));
        }
        self.check_may_sign(me, now)
    }

    fn details(self) -> &'a dyn KeyDetails {
        match self.subkey {
            None => self.certificate,
            Some(subkey) => subkey,
        }
    }

    fn check_may_sign(self, me: Fingerprint, now: Now) -> Result<(), Error> {
        let certificate = self.certificate;
        if is_revoked(certificate) {
            return Err(Error::KeyRevoked(Fingerprint::of(certificate)));
        }
        let own = self_signatures(certificate, now);
        for says in &own {
            check_not_expired(certificate, says, now)?;
        }
        let Some(subkey) = self.subkey else {
            // Old keys don't say what they are for, and then are for all that they can do.
            let signs = own.iter().all(|says| flags(says).is_none_or(KeyFlags::sign));
            return if signs && !own.is_empty() { Ok(()) } else { Err(Error::NotForSigning(me)) };
        };
        if is_subkey_revoked(certificate, subkey) {
            return Err(Error::KeyRevoked(me));
        }
        let Some(binding) = newest(bindings(certificate, subkey), certificate, now) else {
            return Err(Error::NotForSigning(me));
        };
        check_not_expired(subkey, binding, now)?;
        let signs = flags(binding).is_some_and(KeyFlags::sign);
        if signs && !own.is_empty() && signs_back(certificate, subkey, binding, now) {
            Ok(())
        } else {
            Err(Error::NotForSigning(me))
        }
    }
}

/// The newest of the signatures by `certificate` that are in force.
fn newest<'a>(
    signatures: impl Iterator<Item = &'a Signature>,
    certificate: &SignedPublicKey,
    now: Now,
) -> Option<&'a Signature> {
    signatures
        .filter(|signature| is_in_force(signature, certificate, now))
        .max_by_key(|signature| signature.created())
}

fn is_in_force(signature: &Signature, maker: &dyn KeyDetails, now: Now) -> bool {
    let maker = Fingerprint::of(maker);
    check_kind(signature, &maker).and_then(|()| check_dates(signature, &maker, now)).is_ok()
}

/// Refuses a key whose lifetime, as `says` has it, is over.
fn check_not_expired(key: &dyn KeyDetails, says: &Signature, now: Now) -> Result<(), Error> {
    match now.end(key.created_at(), says.key_expiration_time()) {
        Some(on) => Err(Error::KeyExpired { key: Fingerprint::of(key), on }),
        None => Ok(()),
    }
}

/// A revocation counts whatever its date and its hash: the one thing that could come of believing
/// a doubtful one is that a document is refused.
fn is_revoked(certificate: &SignedPublicKey) -> bool {
    let primary = &certificate.primary_key;
    let mut revocations = certificate.details.revocation_signatures.iter();
    revocations.any(|revocation| revocation.verify_key(primary).is_ok())
}

fn is_subkey_revoked(certificate: &SignedPublicKey, subkey: &SignedPublicSubKey) -> bool {
    let of_type = |signature: &&Signature| signature.typ() == Some(SignatureType::SubkeyRevocation);
    subkey.signatures.iter().filter(of_type).any(|revocation| {
        revocation.verify_subkey_binding(&certificate.primary_key, &subkey.key).is_ok()
    })
}

/// What a primary key says of itself now. Where two signatures say it, both hold: archive keys have
/// one over the key which only names who else may revoke it, and neither its end nor its use.
fn self_signatures(certificate: &SignedPublicKey, now: Now) -> Vec<&Signature> {
    let details = &certificate.details;
    let over_key = details.direct_signatures.iter().filter(|signature| {
        signature.typ() == Some(SignatureType::Key)
            && signature.verify_key(&certificate.primary_key).is_ok()
    });
    let over_users = details.users.iter().flat_map(|user| user_certifications(certificate, user));
    let newest = [newest(over_key, certificate, now), newest(over_users, certificate, now)];
    newest.into_iter().flatten().collect()
}

fn user_certifications<'a>(
    certificate: &'a SignedPublicKey,
    user: &'a SignedUser,
) -> impl Iterator<Item = &'a Signature> {
    let own = user.signatures.iter().filter(|signature| {
        signature.verify_certification(&certificate.primary_key, user.id.tag(), &user.id).is_ok()
    });
    let (revocations, certifications): (Vec<_>, Vec<_>) =
        own.partition(|signature| signature.typ() == Some(SignatureType::CertRevocation));
    let revoked = revocations.into_iter().filter_map(Signature::created).max();
    certifications.into_iter().filter(move |signature| signature.created() > revoked)
}

fn bindings<'a>(
    certificate: &'a SignedPublicKey,
    subkey: &'a SignedPublicSubKey,
) -> impl Iterator<Item = &'a Signature> {
    subkey.signatures.iter().filter(|signature| {
        signature.typ() == Some(SignatureType::SubkeyBinding)
            && signature.verify_subkey_binding(&certificate.primary_key, &subkey.key).is_ok()
    })
}

/// Whether the subkey agrees to belong to this primary key. Else anybody could take an archive's
/// subkey into a certificate of his own, and claim what it has signed.
fn signs_back(
    certificate: &SignedPublicKey,
    subkey: &SignedPublicSubKey,
    binding: &Signature,
    now: Now,
) -> bool {
    binding.embedded_signature().is_some_and(|back| {
        is_in_force(back, subkey, now)
            && back.verify_primary_key_binding(&subkey.key, &certificate.primary_key).is_ok()
    })
}

/// What a key is for, if the signature says.
fn flags(signature: &Signature) -> Option<&KeyFlags> {
    signature.config()?.hashed_subpackets().find_map(|subpacket| match &subpacket.data {
        SubpacketData::KeyFlags(flags) => Some(flags),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use pgp::types::{Password, Tag};

    use super::*;
    use crate::testing::*;
    use crate::tests::{DAY, TEXT, day, now, ring, signer, verify};
    use crate::verify_cleartext;

    const HASH: HashAlgorithm = HashAlgorithm::Sha512;

    fn with(key: &Key, change: impl FnOnce(&mut SignedPublicKey)) -> Key {
        let mut key = key.clone();
        change(&mut key.certificate);
        key
    }

    fn with_binding(key: &Key, binding: Signature) -> Key {
        with(key, |certificate| certificate.public_subkeys[0].signatures = vec![binding])
    }

    /// A signature by `maker` over the primary key of `key`.
    fn over_key(typ: SignatureType, maker: &Key, key: &Key) -> Signature {
        config(typ, &maker.primary, now(), HASH, None)
            .sign_key(&maker.primary, &Password::empty(), key.primary.public_key())
            .unwrap()
    }

    #[test]
    fn an_expired_or_revoked_key_is_refused() {
        let options = KeyOptions::default();
        let lives = |days| KeyOptions { lifetime: Some(days * DAY), ..options.clone() };
        let [good, other] = ["archive", "other"].map(new_key);
        let forever = new_key_with("forever", &lives(0));
        let expired = new_key_with("expired", &lives(30));
        let revoked = new_key_with("revoked", &KeyOptions { revoked: true, ..options.clone() });
        let subkey = good.subkey.as_ref().unwrap();

        let short = with_binding(&good, bind(&good.primary, subkey, &lives(30)));
        let later = KeyOptions { created: options.created + 10 * DAY, ..options.clone() };
        let renewal = bind(&good.primary, subkey, &later);
        let renewed = with(&short, |cert| cert.public_subkeys[0].signatures.insert(0, renewal));
        let revoke_subkey = |by: &Key| {
            let revocation =
                bind_as(SignatureType::SubkeyRevocation, &by.primary, subkey, &options, None);
            with(&good, |cert| cert.public_subkeys[0].signatures.push(revocation))
        };
        let dropped = revoke_subkey(&good);
        // As archive keys have it, for other purposes: it does not say "forever".
        let silent = over_key(SignatureType::Key, &expired, &expired);
        let silent = with(&expired, |cert| cert.details.direct_signatures.push(silent));
        let defamed = over_key(SignatureType::KeyRevocation, &other, &good);
        let defamed = with(&good, |cert| cert.details.revocation_signatures.push(defamed));

        let on = day(options.created + 30 * DAY);
        let subkey_expired = Error::KeyExpired { key: signer(&good), on };
        let primary_expired = Error::KeyExpired { key: expired.fingerprint(), on };
        let subkey_revoked = Error::KeyRevoked(signer(&good));
        #[rustfmt::skip]
        let table: &[(&str, &[&Key], Result<(), Error>)] = &[
            ("forever", &[&forever], Ok(())),
            ("expired", &[&expired], Err(primary_expired.clone())),
            ("expired, and silent on it later", &[&silent], Err(primary_expired)),
            ("revoked", &[&revoked], Err(Error::KeyRevoked(revoked.fingerprint()))),
            ("revoked by another", &[&defamed], Ok(())),
            ("expired subkey", &[&short], Err(subkey_expired)),
            ("renewed subkey", &[&renewed], Ok(())),
            ("revoked subkey", &[&dropped], Err(subkey_revoked.clone())),
            ("subkey revoked by another", &[&revoke_subkey(&other)], Ok(())),
            ("an older copy first", &[&short, &renewed], Ok(())),
            ("an older copy last", &[&renewed, &short], Ok(())),
            ("a copy that knows", &[&good, &dropped], Err(subkey_revoked.clone())),
            ("a copy that does not", &[&dropped, &good], Err(subkey_revoked)),
        ];
        for (name, keys, expected) in table {
            let verdict = verify(&sign_cleartext(TEXT, keys[0]), keys).map(|_| ());
            assert_eq!(verdict, *expected, "{name}");
        }
        let document = sign_cleartext(TEXT, &expired);
        let at = |time| verify_cleartext(document.as_bytes(), &ring(&[&expired]), time).is_ok();
        let end = options.created + 30 * DAY;
        assert_eq!([at(end - Duration::from_secs(1)), at(end)], [true, false], "to the second");
        assert!(!at(UNIX_EPOCH - DAY), "a clock before 1970");
    }

    #[test]
    fn a_subkey_that_is_not_bound_for_signing_is_refused() {
        let options = KeyOptions::default();
        let [good, thief] = ["archive", "thief"].map(new_key);
        let subkey = good.subkey.as_ref().unwrap();
        let back = good.certificate.public_subkeys[0].signatures[0].embedded_signature().unwrap();
        let embed = |back: &Signature| SubpacketData::EmbeddedSignature(Box::new(back.clone()));
        let binding = |by: &Key, back: Option<&Signature>| {
            let back = back.map(embed);
            bind_as(SignatureType::SubkeyBinding, &by.primary, subkey, &options, back)
        };
        let future = KeyOptions { created: now() + DAY, ..options.clone() };
        let future = bind(&good.primary, subkey, &future);
        let unsaid =
            config(SignatureType::SubkeyBinding, &good.primary, now(), HASH, [embed(back)])
                .sign_subkey_binding(
                    &good.primary,
                    good.primary.public_key(),
                    &Password::empty(),
                    subkey.public_key(),
                )
                .unwrap();
        // The subkey has signed back to its own primary key, not to the thief's.
        let mut stolen = thief.clone();
        stolen.subkey = good.subkey.clone();
        stolen.certificate.public_subkeys[0] =
            SignedPublicSubKey::new(subkey.public_key().clone(), vec![binding(&thief, Some(back))]);

        let table = [
            ("no signature back", with_binding(&good, binding(&good, None))),
            (
                "signed back in the future",
                with_binding(&good, binding(&good, future.embedded_signature())),
            ),
            ("bound in the future", with_binding(&good, future.clone())),
            ("bound by another", with_binding(&good, binding(&thief, Some(back)))),
            ("its use not said", with_binding(&good, unsaid)),
            ("another one's", stolen),
        ];
        for (name, key) in table {
            let verdict = verify(&sign_cleartext(TEXT, &key), &[&key]);
            assert_eq!(verdict, Err(Error::NotForSigning(signer(&key))), "{name}");
        }
    }

    #[test]
    fn a_primary_key_that_does_not_speak_for_itself_is_refused() {
        let [good, thief] = ["archive", "thief"].map(new_key);
        let (user, public) = (&good.certificate.details.users[0], good.primary.public_key());
        let revocation = config(SignatureType::CertRevocation, &good.primary, now(), HASH, None)
            .sign_certification(&good.primary, public, &Password::empty(), Tag::UserId, &user.id)
            .unwrap();
        let nobody = with(&good, |cert| cert.details.users.clear());
        let foreign = over_key(SignatureType::Key, &thief, &good);
        // Signs with a primary key that only certifies.
        let mut certifier = good.clone();
        certifier.subkey = None;
        let mut certifier_of_nobody = nobody.clone();
        certifier_of_nobody.subkey = None;

        let table = [
            ("says nothing", nobody.clone()),
            ("says nothing, and signs", certifier_of_nobody),
            ("another says it", with(&nobody, |cert| cert.details.direct_signatures.push(foreign))),
            (
                "another named it",
                with(&good, |cert| cert.details.users = thief.certificate.details.users.clone()),
            ),
            ("name revoked", with(&good, |cert| cert.details.users[0].signatures.push(revocation))),
            ("only certifies", certifier),
        ];
        for (name, key) in table {
            let verdict = verify(&sign_cleartext(TEXT, &key), &[&key]);
            assert_eq!(verdict, Err(Error::NotForSigning(signer(&key))), "{name}");
        }
    }
}
