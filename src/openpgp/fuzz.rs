//! Thousands of small changes to a good document: nothing may panic, and no changed text may pass.

use std::time::{Duration, Instant};

use pgp::ser::Serialize as _;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use crate::testing::*;
use crate::tests::{packets, with_packets};
use crate::{Keyring, verify_cleartext};

const TEXT: &str = "Suite: trixie\n\n- a\nSHA256:\n 00ff Packages\n";
const ROUNDS: u64 = 4000;
/// On a busy machine fewer rounds are better than a test that never ends.
const BUDGET: Duration = Duration::from_secs(20);

/// Changes a few bytes.
fn mutate(bytes: &mut Vec<u8>, rng: &mut StdRng) {
    for _ in 0..rng.gen_range(1..4) {
        if bytes.is_empty() {
            return;
        }
        let (at, to) = (rng.gen_range(0..bytes.len()), rng.gen_range(0..bytes.len()));
        let end = rng.gen_range(at..bytes.len().min(at + 40));
        match rng.gen_range(0..8) {
            0 => bytes[at] ^= 1 << rng.gen_range(0..8),
            1 => bytes[at] = rng.r#gen(),
            2 => bytes.insert(at, b"\r\n\t -=\xff\0"[rng.gen_range(0..8)]),
            3 => drop(bytes.drain(at..end)),
            4 => bytes.truncate(at),
            5 => bytes.swap(at, to),
            6 => bytes[at..end].fill(0xff), // the largest lengths
            _ => drop(bytes.splice(to..to, bytes[at..end].to_vec())),
        }
    }
}

/// Runs `round` with ever new randomness.
fn rounds(mut round: impl FnMut(&mut StdRng)) {
    let start = Instant::now();
    for seed in (0..ROUNDS).take_while(|_| start.elapsed() < BUDGET) {
        round(&mut StdRng::seed_from_u64(seed));
    }
}

fn example() -> (Key, Keyring, String) {
    let key = new_key("archive");
    let ring = Keyring::parse(armored_certificate(&key).as_bytes()).unwrap();
    let document = sign_cleartext(TEXT, &key);
    (key, ring, document)
}

#[test]
fn a_changed_document_is_refused_or_says_the_same() {
    let (_, ring, document) = example();
    let now = SignOptions::default().created;
    let (mut passed, mut refused) = (0, 0);
    rounds(|rng| {
        let mut bytes = document.clone().into_bytes();
        mutate(&mut bytes, rng);
        match verify_cleartext(&bytes, &ring, now) {
            Ok(verified) => {
                passed += 1;
                assert_eq!(verified.text, TEXT, "{}", String::from_utf8_lossy(&bytes));
            }
            Err(_) => refused += 1,
        }
    });
    // Blanks at line ends, the armor's checksum and the like are free to change; little else is.
    assert!(passed < refused / 4, "{passed} passed, {refused} refused");
}

#[test]
fn a_changed_signature_packet_is_refused_or_says_the_same() {
    let (key, ring, document) = example();
    let packets = packets(&document);
    rounds(|rng| {
        let mut changed = packets.clone();
        mutate(&mut changed, rng);
        let changed = with_packets(&document, &changed);
        if let Ok(verified) = verify_cleartext(&changed, &ring, SignOptions::default().created) {
            assert_eq!((&*verified.text, &*verified.signers), (TEXT, &[key.fingerprint()][..]));
        }
    });
}

#[test]
fn a_changed_certificate_never_panics() {
    let (key, _, document) = example();
    let binary = key.certificate.to_bytes().unwrap();
    let armored = armored_certificate(&key).into_bytes();
    rounds(|rng| {
        let mut bytes = if rng.r#gen() { binary.clone() } else { armored.clone() };
        mutate(&mut bytes, rng);
        if let Ok(ring) = Keyring::parse(&bytes) {
            let _ = verify_cleartext(document.as_bytes(), &ring, SignOptions::default().created);
        }
    });
}
