//! Blocks of disk files: compared, and written where they differ.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;

/// What is written at once: the page of every file system that matters, and so the least that a
/// hole is made of.
const BLOCK: usize = 4096;
/// What is read at once.
const CHUNK: usize = 1 << 20;

/// Makes these bytes of `to` the same as those of `from`. Blocks that are so already are left
/// alone: a hole stays a hole.
pub fn copy(from: &File, to: &File, bytes: Range<u64>) -> io::Result<()> {
    chunks(from, to, bytes, |offset, theirs, ours| {
        write_changed(to, offset, ours, theirs)?;
        Ok(true)
    })
    .map(drop)
}

/// Are these bytes the same in both?
pub fn are_same(one: &File, other: &File, bytes: Range<u64>) -> io::Result<bool> {
    chunks(one, other, bytes, |_, one, other| Ok(one == other))
}

/// Writes those blocks of `new` that aren't what stands at `offset`, which is `old`.
pub fn write_changed(file: &File, offset: u64, old: &[u8], new: &[u8]) -> io::Result<()> {
    let pairs = old.chunks(BLOCK).zip(new.chunks(BLOCK));
    for (number, (_, new)) in pairs.enumerate().filter(|(_, (old, new))| old != new) {
        file.write_all_at(new, offset + (number * BLOCK) as u64)?;
    }
    Ok(())
}

/// Reads both, chunk by chunk, for as long as `go_on`; did it to the end?
fn chunks(
    one: &File,
    other: &File,
    bytes: Range<u64>,
    mut go_on: impl FnMut(u64, &[u8], &[u8]) -> io::Result<bool>,
) -> io::Result<bool> {
    let (mut first, mut second) = (vec![0; CHUNK], vec![0; CHUNK]);
    for start in bytes.clone().step_by(CHUNK) {
        let length = CHUNK.min((bytes.end - start) as usize);
        one.read_exact_at(&mut first[..length], start)?;
        other.read_exact_at(&mut second[..length], start)?;
        if !go_on(start, &first[..length], &second[..length])? {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn a_copy_is_the_same_and_keeps_its_holes() {
        let file = |places: &[u64]| {
            let file = tempfile::tempfile().unwrap();
            file.set_len(5 * CHUNK as u64 + 700).unwrap();
            for place in places {
                file.write_all_at(b"x", *place).unwrap();
            }
            file
        };
        let end = 5 * CHUNK as u64 + 700;
        let from = file(&[0, 3 * CHUNK as u64 + 9, end - 1]);
        for there in [&[][..], &[7, 2 * CHUNK as u64]] {
            let to = file(there);
            assert!(!are_same(&from, &to, 0..end).unwrap());
            copy(&from, &to, CHUNK as u64..end).unwrap();
            assert!(!are_same(&from, &to, 0..end).unwrap());
            assert!(are_same(&from, &to, CHUNK as u64..end).unwrap());
            copy(&from, &to, 0..end).unwrap();
            assert!(are_same(&from, &to, 0..end).unwrap());
            let blocks = to.metadata().unwrap().blocks() * 512;
            assert!(blocks <= (there.len() + 4) as u64 * 4096, "{blocks}");
        }
        assert!(copy(&from, &from, 0..end + 1).is_err());
    }
}
