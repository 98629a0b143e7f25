//! What a machine wrote to its disk, from the log of QEMU's driver `blklogwrites`.
//!
//! Format: that of Linux's dm-log-writes. All numbers are little-endian, a sector of the log has 512
//! bytes, as the driver is told.
//!
//! ```text
//! sector 0  magic u64, version u64, entries u64, bytes in a sector u32
//! sector 1  sector u64, sectors u64, flags u64, length of a mark u64 | then the data | next entry …
//! ```
//!
//! QEMU notes a request when it is done. So a write that the guest gave while a flush was under way
//! may stand before it, as if it had been flushed: the one thing in which the log is too kind.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

/// Bytes in a sector, of the disk and of the log.
pub const SECTOR: usize = 512;
const MAGIC: u64 = 0x006a_7366_7773_6872;
const VERSION: u64 = 1;
/// Flags of an entry.
const FLUSH: u64 = 1;
const FUA: u64 = 2;
const DISCARD: u64 = 4;
const MARK: u64 = 8;

/// One thing that happened to a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// Whole sectors were written.
    Write {
        /// The first one.
        sector: u64,
        /// Their bytes.
        bytes: Vec<u8>,
        /// It was on the disk for good when it was done (FUA).
        lasts: bool,
    },
    /// All before is on the disk for good.
    Flush,
    /// Nobody needs these sectors any more; what they hold is open.
    Discard {
        /// The first one.
        sector: u64,
        /// How many.
        sectors: u64,
    },
    /// Somebody's note.
    Mark,
}

/// Reads the log at `path`.
pub fn read(path: &Path) -> Result<Vec<Entry>> {
    let context = || format!("cannot read the log of writes {}", path.display());
    parse(&fs::read(path).with_context(context)?).with_context(context)
}

/// As many entries as the log's first sector counts; QEMU, killed, may have begun another.
fn parse(log: &[u8]) -> Result<Vec<Entry>> {
    let head = log.get(..SECTOR).context("it has no first sector: nothing was ever flushed")?;
    ensure!(u64_at(head, 0) == MAGIC, "it doesn't begin as one");
    ensure!(u64_at(head, 8) == VERSION, "it has version {}", u64_at(head, 8));
    let size = u32::from_le_bytes(std::array::from_fn(|i| head[24 + i]));
    ensure!(size as usize == SECTOR, "its sectors have {size} bytes");
    let count = u64_at(head, 16);
    let mut rest = &log[SECTOR..];
    let mut entries = vec![];
    for number in 1..=count {
        let context = || format!("entry {number} of {count}");
        rest = entry(rest, &mut entries).with_context(context)?;
    }
    Ok(entries)
}

/// Takes the first entry of `log`; returns what follows it.
fn entry<'a>(log: &'a [u8], entries: &mut Vec<Entry>) -> Result<&'a [u8]> {
    let (head, rest) = log.split_at_checked(SECTOR).context("the log ends before it")?;
    let [sector, sectors, flags, mark] = std::array::from_fn(|i| u64_at(head, 8 * i));
    if flags & !(FLUSH | FUA | DISCARD | MARK) != 0 {
        bail!("its flags are {flags:#x}");
    }
    ensure!(sector.checked_add(sectors).is_some(), "it begins at sector {sector}");
    if flags & FLUSH != 0 {
        entries.push(Entry::Flush);
    }
    if flags & DISCARD != 0 {
        entries.push(Entry::Discard { sector, sectors });
        return Ok(rest);
    }
    let bytes = match flags & MARK {
        0 => sectors.checked_mul(SECTOR as u64),
        _ => mark.checked_next_multiple_of(SECTOR as u64),
    };
    let bytes = bytes.and_then(|bytes| usize::try_from(bytes).ok());
    let split = bytes.and_then(|bytes| rest.split_at_checked(bytes));
    let (bytes, rest) = split.context("the log ends in its data")?;
    if flags & MARK != 0 {
        entries.push(Entry::Mark);
    } else if !bytes.is_empty() {
        entries.push(Entry::Write { sector, bytes: bytes.into(), lasts: flags & FUA != 0 });
    }
    Ok(rest)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(entries: u64) -> Vec<u8> {
        let mut bytes: Vec<u8> = [MAGIC, VERSION, entries].map(u64::to_le_bytes).concat();
        bytes.extend(512u32.to_le_bytes());
        bytes.resize(SECTOR, 0);
        bytes
    }

    fn logged(numbers: [u64; 4], data: &[u8]) -> Vec<u8> {
        let mut bytes = numbers.map(u64::to_le_bytes).concat();
        bytes.resize(SECTOR, 0);
        [&bytes, data].concat()
    }

    /// Of all kinds.
    fn log() -> Vec<u8> {
        [
            head(6),
            logged([7, 2, 0, 0], &[1; 2 * SECTOR]),
            logged([0, 0, FLUSH, 0], &[]),
            logged([9, 1, FUA, 0], &[2; SECTOR]),
            logged([3, 1 << 40, DISCARD, 0], &[]),
            logged([0, 0, MARK, 5], &[3; SECTOR]),
            logged([1, 1, FLUSH | FUA, 0], &[4; SECTOR]),
        ]
        .concat()
    }

    #[test]
    fn a_log_tells_what_happened_in_its_order() {
        let write =
            |sector, bytes: &[u8], lasts| Entry::Write { sector, bytes: bytes.into(), lasts };
        let expected = [
            write(7, &[1; 2 * SECTOR], false),
            Entry::Flush,
            write(9, &[2; SECTOR], true),
            Entry::Discard { sector: 3, sectors: 1 << 40 },
            Entry::Mark,
            Entry::Flush,
            write(1, &[4; SECTOR], true),
        ];
        assert_eq!(parse(&log()).unwrap(), expected);
        let more = [log(), vec![0xff; 700]].concat();
        assert_eq!(parse(&more).unwrap(), expected, "what isn't counted yet isn't there");
    }

    #[test]
    fn what_is_no_log_is_named() {
        let with = |at: usize, byte| {
            let mut log = log();
            log[at] = byte;
            log
        };
        for (log, expected) in [
            (vec![], "it has no first sector: nothing was ever flushed"),
            (with(0, 0), "it doesn't begin as one"),
            (with(8, 2), "it has version 2"),
            (with(25, 4), "its sectors have 1024 bytes"),
            (with(16, 7), "entry 7 of 7: the log ends before it"),
            (with(23, 0x80), "entry 7 of 9223372036854775814: the log ends before it"),
            (with(SECTOR + 16, 16), "entry 1 of 6: its flags are 0x10"),
            (with(SECTOR + 15, 0x80), "entry 1 of 6: the log ends in its data"),
            (with(SECTOR + 10, 9), "entry 1 of 6: the log ends in its data"),
        ] {
            assert_eq!(format!("{:#}", parse(&log).unwrap_err()), expected);
        }
    }

    #[test]
    fn a_log_cut_anywhere_is_an_error_and_no_panic() {
        let log = log();
        for length in (0..log.len()).step_by(64) {
            assert!(parse(&log[..length]).is_err(), "{length}");
        }
        assert_eq!(parse(&head(0)).unwrap(), []);
    }
}
