//! Initrds with another pin: what an attacker who has the disk, but not the key, could make.

use anyhow::{Context, Result, ensure};

/// Weak and fast: only this boot reads it.
const LEVEL: i32 = 3;
/// What stands before the hash in the pin, however it is laid out.
const KEY: &[u8] = b"\"root_hash\"";

/// The same initrd, packed anew: the control of [`with_another_root_hash`].
pub fn repacked(initrd: &[u8]) -> Result<Vec<u8>> {
    pack(&unpack(initrd)?)
}

/// The same initrd, but the last digit of the root hash that it pins is another.
pub fn with_another_root_hash(initrd: &[u8]) -> Result<Vec<u8>> {
    let mut archive = unpack(initrd)?;
    change_root_hash(&mut archive)?;
    pack(&archive)
}

/// The archive is an uncompressed cpio inside, and a digit for a digit moves nothing in it.
fn change_root_hash(archive: &mut [u8]) -> Result<()> {
    let key = find(archive, KEY).context("the initrd pins no root hash")?;
    let start = key + KEY.len();
    let quoted = find(&archive[start..], b"\"").context("the pinned hash is no text")?;
    let start = start + quoted + 1;
    let hash = archive.get(start..start + 64).context("the pinned hash is cut short")?;
    ensure!(hash.iter().all(u8::is_ascii_hexdigit), "the pinned hash isn't 64 digits");
    let last = &mut archive[start + 63];
    *last = if *last == b'0' { b'1' } else { b'0' };
    Ok(())
}

fn unpack(initrd: &[u8]) -> Result<Vec<u8>> {
    zstd::decode_all(initrd).context("cannot unpack the initrd")
}

fn pack(archive: &[u8]) -> Result<Vec<u8>> {
    zstd::encode_all(archive, LEVEL).context("cannot pack the initrd")
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_digit_changes_and_nothing_moves() {
        for (last, other) in [("0", "1"), ("7", "0")] {
            let text = |last: &str| {
                format!("07070100 initrd.json {{\"root\": {{\"root_hash\": \"{}{last}\"}}}} x", {
                    "ab1".repeat(21)
                })
            };
            let initrd = pack(text(last).as_bytes()).unwrap();
            let changed = with_another_root_hash(&initrd).unwrap();
            assert_eq!(unpack(&changed).unwrap(), text(other).as_bytes());
            let same = repacked(&initrd).unwrap();
            assert_eq!(unpack(&same).unwrap(), text(last).as_bytes());
        }
    }

    #[test]
    fn an_initrd_without_a_pin_is_refused() {
        for text in ["", "\"root_hash\"", "\"root_hash\": \"ab\"", "\"root_hash\": \"ab\"{64}"] {
            assert!(with_another_root_hash(&pack(text.as_bytes()).unwrap()).is_err(), "{text}");
        }
    }
}
