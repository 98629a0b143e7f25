//! Documents that are believed, and signatures that are not. The modules have tests of their own;
//! what those share is here too.

use std::time::{Duration, SystemTime};

use pgp::armor::BlockType;
use pgp::composed::{ArmorOptions, CleartextSignedMessage};
use pgp::packet::{Notation, Signature, SignatureConfig, SignatureType, Subpacket, SubpacketData};
use pgp::ser::Serialize;
use pgp::types::{KeyDetails as _, Password};

use crate::testing::*;
use crate::{Error, Fingerprint, Keyring, Verified, cleartext, verify_cleartext};

pub(crate) const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// Says what matters of dashes, blanks and empty lines.
pub(crate) const TEXT: &str = "Suite: trixie\n\n- a\n-----BEGIN PGP SIGNATURE-----\n b\u{e9}\n";

pub(crate) fn ring(keys: &[&Key]) -> Keyring {
    let armored: Vec<String> = keys.iter().map(|key| armored_certificate(key)).collect();
    Keyring::parse(armored.join("a comment\n").as_bytes()).unwrap()
}

/// A hundred days after keys are made.
pub(crate) fn now() -> SystemTime {
    KeyOptions::default().created + 100 * DAY
}

pub(crate) fn verify(document: &str, keys: &[&Key]) -> Result<Verified, Error> {
    verify_cleartext(document.as_bytes(), &ring(keys), now())
}

/// The signing key's fingerprint, as errors name it.
pub(crate) fn signer(key: &Key) -> Fingerprint {
    match &key.subkey {
        None => key.fingerprint(),
        Some(subkey) => Fingerprint::of(subkey),
    }
}

/// The text `a` with a signature that may be anything.
pub(crate) fn with_signature(signature: Signature) -> String {
    let signed = CleartextSignedMessage::new_many("a", |_| Ok(vec![signature])).unwrap();
    signed.to_armored_string(ArmorOptions::default()).unwrap()
}

/// The packets of a document's signatures.
pub(crate) fn packets(document: &str) -> Vec<u8> {
    let armored = cleartext::split(document.as_bytes()).unwrap().armored;
    cleartext::dearmor(armored, BlockType::Signature).unwrap()
}

/// A document with other packets, whatever they are, for its signatures.
pub(crate) fn with_packets(document: &str, packets: &[u8]) -> Vec<u8> {
    struct Raw<'a>(&'a [u8]);
    impl Serialize for Raw<'_> {
        fn to_writer<W: std::io::Write>(&self, writer: &mut W) -> pgp::errors::Result<()> {
            Ok(writer.write_all(self.0)?)
        }
        fn write_len(&self) -> usize {
            self.0.len()
        }
    }
    let signature = cleartext::split(document.as_bytes()).unwrap().armored;
    let mut bytes = document.as_bytes()[..document.len() - signature.len()].to_vec();
    pgp::armor::write(&Raw(packets), BlockType::Signature, &mut bytes, None, true).unwrap();
    bytes
}

pub(crate) fn day(time: SystemTime) -> time::Date {
    time::OffsetDateTime::from(time).date()
}

#[test]
fn the_text_of_a_good_document_is_returned() {
    let [key, other] = ["archive", "other"].map(new_key);
    let primary = KeyOptions { signer: Signer::Primary, ..KeyOptions::default() };
    let primary = new_key_with("primary", &primary);
    let signed = sign_cleartext(TEXT, &key);
    let (one, two) = (&[key.fingerprint()][..], &[key.fingerprint(), other.fingerprint()][..]);
    let all_by = |keys| sign_cleartext_with(TEXT, keys, &SignOptions::default());

    #[rustfmt::skip]
    let table: &[(&str, String, &[&Key], &[Fingerprint])] = &[
        ("as it is", signed.clone(), &[&key], one),
        ("by the primary key", sign_cleartext(TEXT, &primary), &[&primary], &[primary.fingerprint()]),
        ("a ring of two", signed.clone(), &[&other, &key], one),
        ("unknown and known", all_by(&[&other, &key]), &[&key], one),
        ("known and unknown", all_by(&[&key, &other]), &[&key], one),
        ("two known", all_by(&[&key, &other]), &[&other, &key], two),
        ("signed twice", all_by(&[&key, &key]), &[&key], one),
        ("CR LF", signed.replace('\n', "\r\n"), &[&key], one),
        ("blanks at the ends", signed.replace("trixie\n", "trixie \t\n"), &[&key], one),
        ("empty lines after it", format!("{signed}\n \n"), &[&key], one),
        ("no Hash header", signed.replace("Hash: SHA512\n", ""), &[&key], one),
        ("no last line ending", signed.trim_end().to_owned(), &[&key], one),
    ];
    for (name, document, keys, signers) in table {
        let verified = verify(document, keys).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(verified.text, TEXT, "{name}");
        assert_eq!(verified.signers, *signers, "{name}");
    }
    let forged = packets(&sign_cleartext("another text", &other));
    let beside = with_packets(&signed, &[forged, packets(&signed)].concat());
    let verified = verify_cleartext(&beside, &ring(&[&key, &other]), now()).unwrap();
    assert_eq!(verified.signers, one, "a forged signature beside a good one");
    // As some tools make it; the same bytes are signed.
    let binary = sign("a", &key, SignatureType::Binary, &SignOptions::default());
    assert_eq!(verify(&with_signature(binary), &[&key]).unwrap().text, "a\n");
}

#[test]
fn a_signature_that_proves_nothing_is_refused_with_its_reason() {
    let [key, other] = ["archive", "other"].map(new_key);
    let me = signer(&key);
    let made = SignOptions::default().created;
    let by = |options: &SignOptions| sign_cleartext_with(TEXT, &[&key], options);
    let old = SignOptions { lifetime: Some(DAY), ..SignOptions::default() };
    let future = SignOptions { created: now() + DAY, ..SignOptions::default() };
    let too_early = SignOptions { created: made - 2 * DAY, ..SignOptions::default() };
    // A signature that the key did make, over something else than a text.
    let (public, password) = (key.primary.public_key(), Password::empty());
    let over_key = config(SignatureType::Key, &key.primary, made, HashAlgorithm::Sha512, None);
    let over_key = with_signature(over_key.sign_key(&key.primary, &password, public).unwrap());
    let notation =
        Notation { readable: true, name: "a@b".into(), value: "only if it rains".into() };
    let subkey = key.subkey.as_ref().unwrap();
    let mut critical = config(SignatureType::Text, subkey, made, HashAlgorithm::Sha512, None);
    critical
        .hashed_subpackets
        .push(Subpacket::critical(SubpacketData::Notation(notation)).unwrap());
    let critical = critical.sign(subkey, &password, &b"a"[..]).unwrap();
    let issuer = subkey.legacy_key_id();
    let (algorithm, hash) = (subkey.algorithm(), HashAlgorithm::Sha512);
    let day_one = made.try_into().unwrap();
    let version_3 = SignatureConfig::v3(SignatureType::Text, algorithm, hash, day_one, issuer);
    let bytes = critical.signature().unwrap().clone();
    let version_3 = with_signature(Signature::from_config(version_3, [0; 2], bytes).unwrap());
    let both = [packets(&by(&old)), packets(&by(&future))].concat();
    let both = String::from_utf8(with_packets(&by(&old), &both)).unwrap();
    let critical = with_signature(critical);

    #[rustfmt::skip]
    let table: &[(&str, String, Error)] = &[
        ("one letter changed", sign_cleartext(TEXT, &key).replacen("trixie", "trixif", 1), Error::BadSignature(me.clone())),
        ("an indent changed", sign_cleartext(TEXT, &key).replacen("\n b", "\nb", 1), Error::BadSignature(me.clone())),
        ("a line dropped", sign_cleartext(TEXT, &key).replacen("trixie\n\n", "trixie\n", 1), Error::BadSignature(me.clone())),
        ("another key", sign_cleartext(TEXT, &other), Error::UnknownKeys(vec![signer(&other).to_string()])),
        ("expired", by(&old), Error::SignatureExpired { key: me.clone(), on: day(made + DAY) }),
        ("from the future", by(&future), Error::SignatureFromFuture { key: me.clone(), on: day(now() + DAY) }),
        ("before its key", by(&too_early), Error::SignatureBeforeKey(me.clone())),
        ("of another type", over_key, Error::Unsupported(key.fingerprint())),
        ("with a condition", critical, Error::Unsupported(me.clone())),
        ("of version 3", version_3, Error::Unsupported(me.clone())),
        ("two, the first expired", both, Error::SignatureExpired { key: me.clone(), on: day(made + DAY) }),
    ];
    for (name, document, error) in table {
        assert_eq!(verify(document, &[&key]).as_ref(), Err(error), "{name}");
    }
    let slack = SignOptions { created: now() + Duration::from_secs(60), ..SignOptions::default() };
    assert!(verify(&by(&slack), &[&key]).is_ok(), "a clock that is a minute ahead");
}

#[test]
fn a_signature_of_a_future_kind_does_not_spoil_a_good_one() {
    let key = new_key("archive");
    let document = sign_cleartext(TEXT, &key);
    let good = packets(&document);
    let mut future_signature = good.clone();
    future_signature[2] = 9; // after the packet's type and length
    let mut future_key = good.clone();
    let issuer = good.windows(3).position(|bytes| bytes == [22, 33, 4]).unwrap();
    future_key[issuer + 2] = 9;
    let nobody = Error::UnknownKeys(vec!["one that is not named".to_owned()]);
    let nothing = Error::Malformed("there is no signature that can be read");

    #[rustfmt::skip]
    let table: &[(&str, Vec<u8>, Result<(), Error>)] = &[
        ("version 9 and good", [&future_signature[..], &good].concat(), Ok(())),
        ("good and version 9", [&good[..], &future_signature].concat(), Ok(())),
        ("by a key of version 9, and good", [&future_key[..], &good].concat(), Ok(())),
        ("version 9", future_signature, Err(nobody)),
        ("by a key of version 9", future_key, Err(nothing.clone())),
        ("nothing", vec![], Err(nothing.clone())),
        ("a user id, and good", [b"\xcd\x01a", &good[..]].concat(), Ok(())),
        ("no signature but a user id", b"\xcd\x01a".to_vec(), Err(nothing.clone())),
        ("4 GiB, it says", b"\xc2\xff\xff\xff\xff\xff\x04".to_vec(), Err(nothing)),
    ];
    for (name, packets, expected) in table {
        let document = with_packets(&document, packets);
        let verdict = verify_cleartext(&document, &ring(&[&key]), now()).map(|_| ());
        assert_eq!(verdict, *expected, "{name}");
    }
}
