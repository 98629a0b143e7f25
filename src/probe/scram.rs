//! SCRAM (RFC 5802, RFC 7677): proves to the Server that one knows the password, and has it prove
//! that it does.
//!
//! ```text
//! n,,n=USER,r=NONCE ──►                     ◄── r=NONCE+,s=SALT,i=ROUNDS
//! c=biws,r=NONCE+,p=PROOF ──►               ◄── v=SIGNATURE
//! ```

use std::num::NonZeroU32;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use ring::{digest, hmac, pbkdf2};

/// The most rounds that are worked: each takes a microsecond.
const MOST_ROUNDS: u32 = 200_000;
/// What comes before the rest of the first message, and that in base64: no channel binding, no other
/// name to act as.
const HEADER: &str = "n,,";
const HEADER_BASE64: &str = "biws";

/// Which hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hash {
    /// For SCRAM-SHA-1.
    Sha1,
    /// For SCRAM-SHA-256.
    Sha256,
}

/// Why the other side isn't believed, or doesn't make sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// No such message.
    #[error("its challenge isn't one of SCRAM")]
    Challenge,
    /// Another's nonce.
    #[error("its challenge is another's")]
    Nonce,
    /// Too much work.
    #[error("it asks for more than {MOST_ROUNDS} rounds")]
    Rounds,
    /// It doesn't know the password.
    #[error("it doesn't prove that it knows the password")]
    Signature,
}

/// One login.
#[derive(Debug)]
pub struct Scram<'a> {
    hash: Hash,
    user: &'a str,
    password: &'a str,
    nonce: &'a str,
}

/// What must come last.
#[derive(Debug)]
pub struct Signature(hmac::Tag);

impl<'a> Scram<'a> {
    /// By a name and a password in plain ASCII without `,` and `=`, and a nonce likewise.
    pub fn new(hash: Hash, user: &'a str, password: &'a str, nonce: &'a str) -> Scram<'a> {
        Scram { hash, user, password, nonce }
    }

    /// What is said first.
    pub fn first(&self) -> String {
        format!("{HEADER}{}", self.first_bare())
    }

    fn first_bare(&self) -> String {
        format!("n={},r={}", self.user, self.nonce)
    }

    /// What is said to the challenge, and what must come then.
    pub fn answer(&self, challenge: &str) -> Result<(String, Signature), Trouble> {
        let (nonce, salt, rounds) = parts(challenge).ok_or(Trouble::Challenge)?;
        if !nonce.starts_with(self.nonce) || nonce.len() == self.nonce.len() {
            return Err(Trouble::Nonce);
        }
        if rounds.get() > MOST_ROUNDS {
            return Err(Trouble::Rounds);
        }
        let without_proof = format!("c={HEADER_BASE64},r={nonce}");
        let said = format!("{},{challenge},{without_proof}", self.first_bare());
        let salted = self.salted(&salt, rounds);
        let client_key = self.hmac(salted.as_ref(), b"Client Key");
        let stored_key = digest::digest(self.digest(), client_key.as_ref());
        let signature = self.hmac(stored_key.as_ref(), said.as_bytes());
        let pairs = client_key.as_ref().iter().zip(signature.as_ref());
        let proof: Vec<u8> = pairs.map(|(key, signature)| key ^ signature).collect();
        let server_key = self.hmac(salted.as_ref(), b"Server Key");
        let expected = Signature(self.hmac(server_key.as_ref(), said.as_bytes()));
        Ok((format!("{without_proof},p={}", BASE64_STANDARD.encode(proof)), expected))
    }

    fn salted(&self, salt: &[u8], rounds: NonZeroU32) -> Vec<u8> {
        let algorithm = match self.hash {
            Hash::Sha1 => pbkdf2::PBKDF2_HMAC_SHA1,
            Hash::Sha256 => pbkdf2::PBKDF2_HMAC_SHA256,
        };
        let mut salted = vec![0; self.digest().output_len()];
        pbkdf2::derive(algorithm, rounds, salt, self.password.as_bytes(), &mut salted);
        salted
    }

    fn hmac(&self, key: &[u8], text: &[u8]) -> hmac::Tag {
        let algorithm = match self.hash {
            Hash::Sha1 => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
            Hash::Sha256 => hmac::HMAC_SHA256,
        };
        hmac::sign(&hmac::Key::new(algorithm, key), text)
    }

    fn digest(&self) -> &'static digest::Algorithm {
        match self.hash {
            Hash::Sha1 => &digest::SHA1_FOR_LEGACY_USE_ONLY,
            Hash::Sha256 => &digest::SHA256,
        }
    }
}

impl Signature {
    /// Is what was said last by somebody who knows the password?
    pub fn verify(&self, last: &str) -> Result<(), Trouble> {
        let said = last.strip_prefix("v=").and_then(|base64| BASE64_STANDARD.decode(base64).ok());
        let is_right = said.is_some_and(|said| said == self.0.as_ref());
        is_right.then_some(()).ok_or(Trouble::Signature)
    }
}

/// Of `r=NONCE,s=SALT,i=ROUNDS`; what may follow is for others.
fn parts(challenge: &str) -> Option<(&str, Vec<u8>, NonZeroU32)> {
    let mut parts = challenge.split(',');
    let mut part = |name| parts.next()?.strip_prefix(name);
    let (nonce, salt, rounds) = (part("r=")?, part("s=")?, part("i=")?);
    Some((nonce, BASE64_STANDARD.decode(salt).ok()?, rounds.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Both RFCs' own examples.
    const CASES: [(Hash, &str, &str, &str, &str); 2] = [
        (
            Hash::Sha1,
            "fyko+d2lbbFgONRv9qkxdawL",
            "r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096",
            "c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=",
            "v=rmF9pqV8S7suAoZWja4dJRkFsKQ=",
        ),
        (
            Hash::Sha256,
            "rOprNGfwEbeRWgbNEkqO",
            "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
            "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
            "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
        ),
    ];

    #[test]
    fn a_login_is_as_the_standards_show_it() {
        for (hash, nonce, challenge, answer, last) in CASES {
            let scram = Scram::new(hash, "user", "pencil", nonce);
            assert_eq!(scram.first(), format!("n,,n=user,r={nonce}"));
            let (said, expected) = scram.answer(challenge).unwrap();
            assert_eq!(said, answer);
            expected.verify(last).unwrap();
            for wrong in ["", "v=", "v=AAAA", "e=invalid-proof", &last[2..]] {
                assert_eq!(expected.verify(wrong), Err(Trouble::Signature), "{wrong}");
            }
        }
    }

    #[test]
    fn a_challenge_that_is_none_is_refused() {
        for (challenge, trouble) in [
            ("", Trouble::Challenge),
            ("r=nonce2,s=AAAA", Trouble::Challenge),
            ("r=nonce2,s=AAAA,i=0", Trouble::Challenge),
            ("r=nonce2,s=AAAA,i=-1", Trouble::Challenge),
            ("r=nonce2,s=!,i=4096", Trouble::Challenge),
            ("m=x,r=nonce2,s=AAAA,i=4096", Trouble::Challenge),
            ("r=nonce,s=AAAA,i=4096", Trouble::Nonce),
            ("r=other2,s=AAAA,i=4096", Trouble::Nonce),
            ("r=nonce2,s=AAAA,i=4000000000", Trouble::Rounds),
        ] {
            let said = Scram::new(Hash::Sha1, "user", "pencil", "nonce").answer(challenge);
            assert_eq!(said.unwrap_err(), trouble, "{challenge}");
        }
    }
}
