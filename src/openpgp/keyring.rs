//! The keys to believe.

use std::iter;

use pgp::armor::BlockType;
use pgp::composed::{SignedPublicKey, SignedPublicKeyParser};
use pgp::packet::{PacketParser, Signature};
use pgp::types::{KeyDetails as _, KeyVersion};

use crate::certificate::Candidate;
use crate::cleartext::{dearmor, take_line};
use crate::policy::Now;
use crate::{Error, Fingerprint, MAX_BYTES};

const BEGIN: &str = "-----BEGIN PGP PUBLIC KEY BLOCK-----";
const END: &str = "-----END PGP PUBLIC KEY BLOCK-----";

/// Certificates (public keys with what their owners say of them). Every one of them is trusted.
#[derive(Debug, Clone, Default)]
pub struct Keyring {
    certificates: Vec<SignedPublicKey>,
}

impl Keyring {
    /// Reads a file of certificates: binary, or any number of armored blocks with any text (such
    /// as comments) between them. A file with anything unreadable in it is refused as a whole: half
    /// a ring would fail later, and far from here.
    pub fn parse(bytes: &[u8]) -> Result<Keyring, Error> {
        if bytes.len() > MAX_BYTES {
            return Err(Error::TooLong(bytes.len()));
        }
        // The first bit of a packet is set, and no letter's is.
        let certificates = if bytes.first().is_some_and(|byte| byte & 0x80 != 0) {
            parse_packets(bytes)?
        } else {
            parse_armored(str::from_utf8(bytes).map_err(|_| Error::Malformed("it is not UTF-8"))?)?
        };
        if certificates.is_empty() {
            return Err(Error::NoCertificates);
        }
        Ok(Keyring { certificates })
    }

    /// Adds the certificates of `other`.
    pub fn append(&mut self, mut other: Keyring) {
        self.certificates.append(&mut other.certificates);
    }

    /// Whether no signature can be good. Only [`Keyring::default`] is; a file never is.
    pub fn is_empty(&self) -> bool {
        self.certificates.is_empty()
    }

    /// Whose good signature over `text` this is, by the primary key.
    pub(crate) fn signer(
        &self,
        signature: &Signature,
        text: &[u8],
        now: Now,
    ) -> Result<Fingerprint, Error> {
        let mut verdict = Err(Error::UnknownKeys(vec![issuer(signature)]));
        for certificate in &self.certificates {
            for key in Candidate::all(certificate).filter(|key| key.is_named_by(signature)) {
                match key.check(signature, text, now) {
                    Ok(()) => verdict = Ok(Fingerprint::of(certificate)),
                    // An older copy of the certificate may be in the ring, and not know it.
                    Err(revoked @ Error::KeyRevoked(_)) => return Err(revoked),
                    Err(error) => verdict = verdict.or(Err(error)),
                }
            }
        }
        verdict
    }
}

fn parse_packets(bytes: &[u8]) -> Result<Vec<SignedPublicKey>, Error> {
    let broken = Error::Malformed("a certificate cannot be read");
    // All packets first: the parser of certificates would pass over those that are cut short.
    let packets = PacketParser::new(bytes).collect::<Result<Vec<_>, _>>();
    let packets = packets.map_err(|_| broken.clone())?.into_iter().map(Ok).peekable();
    let mut certificates = Vec::new();
    for certificate in SignedPublicKeyParser::from_packets(packets) {
        let certificate = certificate.map_err(|_| broken.clone())?;
        if !matches!(certificate.version(), KeyVersion::V4 | KeyVersion::V6) {
            return Err(Error::Malformed("a certificate is of an unsupported version"));
        }
        certificates.push(certificate);
    }
    Ok(certificates)
}

fn parse_armored(mut text: &str) -> Result<Vec<SignedPublicKey>, Error> {
    let mut certificates = Vec::new();
    while let Some(block) = take_block(&mut text)? {
        certificates.extend(parse_packets(&dearmor(block, BlockType::PublicKey)?)?);
    }
    Ok(certificates)
}

/// The first armored block of `rest`, markers included.
fn take_block<'a>(rest: &mut &'a str) -> Result<Option<&'a str>, Error> {
    let mut from_here = iter::from_fn(|| {
        let here = *rest;
        take_line(rest).map(|line| (here, line))
    });
    let Some((block, _)) = from_here.find(|(_, line)| *line == BEGIN) else {
        return Ok(None);
    };
    if !from_here.any(|(_, line)| line == END) {
        return Err(Error::Malformed("it ends inside a certificate"));
    }
    Ok(Some(&block[..block.len() - rest.len()]))
}

/// What a signature says of its maker.
fn issuer(signature: &Signature) -> String {
    let fingerprint = signature.issuer_fingerprint().first().map(|print| format!("{print:X}"));
    let key_id = || signature.issuer_key_id().first().map(|id| id.to_string().to_uppercase());
    fingerprint.or_else(key_id).unwrap_or_else(|| "one that is not named".to_owned())
}

#[cfg(test)]
mod tests {
    use pgp::composed::KeyType;
    use pgp::packet::{PacketTrait as _, PubKeyInner, PublicKey};
    use pgp::ser::Serialize as _;

    use super::*;
    use crate::testing::*;
    use crate::tests::{TEXT, now, ring};
    use crate::verify_cleartext;

    #[test]
    fn a_keyring_is_read_whole_or_not_at_all() {
        let [key, other] = ["archive", "other"].map(new_key);
        let armored = armored_certificate(&key);
        let binary = [&key, &other].map(|key| key.certificate.to_bytes().unwrap()).concat();
        let both = Keyring::parse(&binary).unwrap();
        for key in [&key, &other] {
            let document = sign_cleartext(TEXT, key);
            assert!(verify_cleartext(document.as_bytes(), &both, now()).is_ok());
        }
        let mut appended = Keyring::default();
        assert!(appended.is_empty());
        appended.append(ring(&[&key]));
        assert!(!appended.is_empty());

        let parse = |bytes: &[u8]| Keyring::parse(bytes).map(|ring| ring.is_empty());
        let secret = armored.replace("PUBLIC", "PRIVATE");
        assert_eq!(parse(b""), Err(Error::NoCertificates));
        assert_eq!(parse(b"a comment\n"), Err(Error::NoCertificates));
        assert_eq!(parse(secret.as_bytes()), Err(Error::NoCertificates));
        assert_eq!(parse(&vec![0; MAX_BYTES + 1]), Err(Error::TooLong(MAX_BYTES + 1)));
        let cut = Error::Malformed("it ends inside a certificate");
        assert_eq!(parse(&armored.as_bytes()[..armored.len() - 40]), Err(cut));
        let cut = parse(&binary[..binary.len() - 9]);
        assert_eq!(cut, Err(Error::Malformed("a certificate cannot be read")));

        let rsa = new_key_of(KeyType::Rsa(2048), "old", &KeyOptions::default()).primary;
        let params = rsa.public_params().clone();
        let old =
            PubKeyInner::new(KeyVersion::V3, rsa.algorithm(), rsa.created_at(), Some(0), params);
        let mut old_key = Vec::new();
        PublicKey::from_inner(old.unwrap()).unwrap().to_writer_with_header(&mut old_key).unwrap();
        let unsupported = Error::Malformed("a certificate is of an unsupported version");
        assert_eq!(parse(&old_key), Err(unsupported));
    }
}
