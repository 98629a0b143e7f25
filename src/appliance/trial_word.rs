//! What a trial says of itself where no file system is needed: sectors in the gap before a disk's
//! first partition, behind the record of boots ([`crate::boot_record`]). The system that is back
//! afterwards tells by them how far the trial came, and why no further, if the data doesn't.
//!
//! ```text
//!  0          8         12       16                          end-4
//!  STELWORD │ version │ length │ a LastFailure as JSON, zeros │ CRC-32
//! ```
//!
//! Numbers are little-endian. That a trial has begun is one sector, so that it is there or isn't; why
//! it ended is several, at another place: if they are torn, it still has begun. Only a trial writes
//! them, and before another is armed both are blanked.

use crate::control::LastFailure;
use crate::gpt::{SECTOR, crc32};

/// Where words are: the first sector, and how many bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Counted from the disk's beginning.
    pub sector: u64,
    /// Whole sectors.
    pub bytes: usize,
}

/// That a trial has begun.
pub const BEGUN: Place = Place { sector: 88, bytes: SECTOR as usize };
/// Why it ended.
pub const ENDED: Place = Place { sector: 96, bytes: 4096 };

const MAGIC: &[u8; 8] = b"STELWORD";
const VERSION: u32 = 1;
/// Where the JSON begins.
const HEAD: usize = 16;
const CHECKSUM: usize = 4;
/// The most bytes of a reason, and of a line of the console, and the most lines of that.
const LONGEST_LINE: usize = 400;
const MOST_LINES: usize = 30;

/// The most that is looked at of what a disk says.
fn bounded(mut said: LastFailure) -> LastFailure {
    let cut = |text: &mut String| text.truncate(text.floor_char_boundary(LONGEST_LINE));
    cut(&mut said.reason);
    said.version.iter_mut().chain(&mut said.check).for_each(cut);
    said.console_tail.drain(..said.console_tail.len().saturating_sub(MOST_LINES));
    said.console_tail.iter_mut().for_each(cut);
    said
}

/// What is said at `place`; of the console only as many of the last lines as there is room for.
pub fn to_bytes(said: &LastFailure, place: Place) -> Vec<u8> {
    let room = place.bytes - HEAD - CHECKSUM;
    let mut said = bounded(said.clone());
    let json = loop {
        let json = serde_json::to_vec(&said).unwrap_or_default();
        match json.len() <= room {
            true => break json,
            // A reason of control characters, each of which JSON makes six of.
            false if said.console_tail.is_empty() => {
                said.reason.truncate(said.reason.floor_char_boundary(said.reason.len() / 2));
                (said.version, said.check) = (None, None);
            }
            false => drop(said.console_tail.remove(0)),
        }
    };
    sealed(&json, place)
}

/// This, as it is on the disk.
fn sealed(json: &[u8], place: Place) -> Vec<u8> {
    let length = (json.len() as u32).to_le_bytes();
    let mut bytes = [&MAGIC[..], &VERSION.to_le_bytes(), &length, json].concat();
    bytes.resize(place.bytes - CHECKSUM, 0);
    let checksum = crc32(&bytes).to_le_bytes();
    bytes.extend(checksum);
    bytes
}

/// Reads what is there. `None`: nothing, or not the whole of it.
pub fn parse(bytes: &[u8]) -> Option<LastFailure> {
    let (said, checksum) = bytes.split_last_chunk::<CHECKSUM>()?;
    let rest = said.strip_prefix(MAGIC)?;
    let (version, rest) = rest.split_first_chunk()?;
    let (length, rest) = rest.split_first_chunk()?;
    let json = rest.get(..usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
    let is_whole = u32::from_le_bytes(*checksum) == crc32(said);
    let is_ours = is_whole && u32::from_le_bytes(*version) == VERSION;
    is_ours.then(|| serde_json::from_slice(json).ok())?.map(bounded)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boot_record;
    use crate::control::Phase;
    use crate::hash::RootHash;

    fn said(reason: &str, lines: usize) -> LastFailure {
        LastFailure {
            phase: Some(Phase::Initrd),
            root_hash: Some(RootHash([7; 32])),
            reason: reason.into(),
            console_tail: (0..lines).map(|line| format!("line {line}")).collect(),
            ..LastFailure::default()
        }
    }

    #[test]
    fn both_have_places_of_their_own_before_the_first_partition() {
        let end = |place: Place| place.sector + place.bytes as u64 / SECTOR;
        assert!(boot_record::SECTORS.iter().all(|sector| *sector < BEGUN.sector));
        assert!(end(BEGUN) <= ENDED.sector && end(ENDED) <= crate::gpt::FIRST_USABLE);
    }

    #[test]
    fn what_is_said_is_read_again() {
        for (said, place) in [(said("", 0), BEGUN), (said("cannot mount x", 9), ENDED)] {
            let bytes = to_bytes(&said, place);
            assert_eq!(bytes.len(), place.bytes);
            assert_eq!(parse(&bytes), Some(said));
        }
    }

    #[test]
    fn it_always_fits_and_the_last_lines_stay() {
        for text in ["x", "\u{1}", "é"] {
            for place in [BEGUN, ENDED] {
                let mut long = said(&text.repeat(9999), 0);
                long.console_tail = vec![text.repeat(9999); 99];
                long.console_tail.push("last".into());
                let bytes = to_bytes(&long, place);
                assert_eq!(bytes.len(), place.bytes);
                let read = parse(&bytes).unwrap();
                assert!(!read.reason.is_empty() && long.reason.starts_with(&read.reason));
                if place == ENDED {
                    assert_eq!(read.console_tail.last().unwrap(), "last", "{text:?}");
                }
            }
        }
    }

    #[test]
    fn what_is_torn_or_blank_says_nothing() {
        let (old, new) = (said("a", 30), said("b", 30));
        let (old, new) = (to_bytes(&old, ENDED), to_bytes(&new, ENDED));
        for cut in 1..ENDED.bytes / SECTOR as usize {
            let cut = cut * SECTOR as usize;
            let blank = vec![0; ENDED.bytes - cut];
            assert_eq!(parse(&[&new[..cut], &blank].concat()), None, "{cut}");
            assert_eq!(parse(&[&blank[..], &new[blank.len()..]].concat()), None, "{cut}");
            let torn = parse(&[&new[..cut], &old[cut..]].concat());
            assert!(torn.is_none_or(|read| read.reason == "b"), "{cut}");
        }
        for bytes in [&[][..], &[0; 512], &[0xff; 4096], &new[1..], &new[..512]] {
            assert_eq!(parse(bytes), None);
        }
    }

    /// Whoever can write there can do so with a right checksum.
    #[test]
    fn nothing_upsets_the_parser() {
        let good = to_bytes(&said("why", 9), BEGUN);
        let mut random = fastrand::Rng::with_seed(1);
        for _ in 0..50_000 {
            let mut bytes = good.clone();
            for _ in 0..random.usize(1..4) {
                let at = random.usize(8..bytes.len());
                bytes[at] = random.u8(..);
            }
            if random.bool() {
                let end = bytes.len() - CHECKSUM;
                let checksum = crc32(&bytes[..end]).to_le_bytes();
                bytes[end..].copy_from_slice(&checksum);
            }
            parse(&bytes);
        }
        for lines in ["\"x\",".repeat(600), "\"\",".repeat(900)] {
            let json = format!(r#"{{"reason":"{}","console_tail":[{lines}"x"]}}"#, "r".repeat(900));
            let read = parse(&sealed(json.as_bytes(), ENDED)).unwrap();
            assert!(read.reason.len() <= LONGEST_LINE && read.console_tail.len() <= MOST_LINES);
        }
    }
}
