//! Random numbers: taken from the kernel, and handed on from boot to boot.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::path::Path;

use appliance::hash::Digest;

use crate::keep;
use crate::log::warning;
use crate::{data, sys};
use appliance::failure::{Failure, OrCannot as _};

/// Comes back only when the kernel has gathered enough to be unpredictable, which it does by
/// itself within seconds.
const RANDOM: &str = "/dev/random";
/// The seed's name on the data.
const FILE: &str = "random-seed";
const LENGTH: usize = 512;
/// What a seed counts for. More than the kernel needs, less than it has.
const BITS: u16 = 256;

/// So many.
pub fn bytes(length: usize) -> Result<Vec<u8>, Failure> {
    let mut bytes = vec![0; length];
    let read = File::open(RANDOM).and_then(|mut random| random.read_exact(&mut bytes));
    read.or_cannot("get random numbers")?;
    Ok(bytes)
}

/// Hands the last boot's seed to the kernel, exactly once: it counts only when another has taken
/// its place on the disk for good. Should the power go before that, it has not counted yet; after,
/// it is gone.
pub fn use_seed() -> Result<(), Failure> {
    let what = "use the random seed";
    let path = Path::new(data::AT).join(FILE);
    let old: Option<[u8; LENGTH]> = fs::read(&path).ok().and_then(|seed| seed.try_into().ok());
    if let Some(old) = &old {
        // Mixed in at once, so that the next seed depends on this one; it doesn't count yet.
        let mixed = File::options().write(true).open(RANDOM);
        mixed.and_then(|mut random| random.write_all(old)).or_cannot(what)?;
    }
    let next = next(&old.unwrap_or([0; LENGTH]), &bytes(LENGTH)?);
    keep::replace(&path, &next, 0o600, keep::ROOT).or_cannot(what)?;
    if let Some(old) = &old {
        let random = File::options().write(true).open(RANDOM).or_cannot(what)?;
        sys::credit_entropy(&random, old, BITS).or_cannot(what)?;
    }
    Ok(())
}

/// Leaves a seed for the next boot.
pub fn save_seed() -> Result<(), Failure> {
    let path = Path::new(data::AT).join(FILE);
    keep::replace(&path, &bytes(LENGTH)?, 0o600, keep::ROOT).or_cannot("save a random seed")
}

/// As unpredictable as the better of the two.
fn next(old: &[u8; LENGTH], fresh: &[u8]) -> Vec<u8> {
    let folded = Digest::of(&[old.as_slice(), fresh].concat());
    fresh.chunks(32).flat_map(|chunk| Digest::of(&[&folded.0, chunk].concat()).0).collect()
}

/// [`use_seed`], of an appliance that starts in any case.
pub fn try_seed() {
    if let Err(failure) = use_seed() {
        warning!("{failure}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_depends_on_all_of_both() {
        let seed = next(&[0; LENGTH], &[0; LENGTH]);
        assert_eq!(seed.len(), LENGTH);
        let mut old = [0; LENGTH];
        old[LENGTH - 1] = 1;
        let other = next(&old, &[0; LENGTH]);
        assert!(seed.chunks(32).zip(other.chunks(32)).all(|(a, b)| a != b));
    }
}
