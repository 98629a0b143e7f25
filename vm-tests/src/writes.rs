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

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use anyhow::{Context, Result, ensure};

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
    let file = File::open(path).with_context(context)?;
    parse(BufReader::new(file)).with_context(context)
}

/// As many entries as the log's first sector counts; QEMU, killed, may have begun another.
fn parse(mut log: impl Read) -> Result<Vec<Entry>> {
    let head = take(&mut log, SECTOR as u64).context("its first sector")?;
    ensure!(u64_at(&head, 0) == MAGIC, "it doesn't begin as one: was anything ever flushed?");
    ensure!(u64_at(&head, 8) == VERSION, "it has version {}", u64_at(&head, 8));
    let size = u32::from_le_bytes(std::array::from_fn(|i| head[24 + i]));
    ensure!(size as usize == SECTOR, "its sectors have {size} bytes");
    let count = u64_at(&head, 16);
    let mut entries = vec![];
    for number in 1..=count {
        entry(&mut log, &mut entries).with_context(|| format!("entry {number} of {count}"))?;
    }
    Ok(entries)
}

/// Takes the next entry of `log`: it may be two things at once.
fn entry(log: &mut impl Read, entries: &mut Vec<Entry>) -> Result<()> {
    let head = take(log, SECTOR as u64)?;
    let [sector, sectors, flags, mark] = std::array::from_fn(|i| u64_at(&head, 8 * i));
    ensure!(flags & !(FLUSH | FUA | DISCARD | MARK) == 0, "its flags are {flags:#x}");
    ensure!(sector.checked_add(sectors).is_some(), "it begins at sector {sector}");
    if flags & FLUSH != 0 {
        entries.push(Entry::Flush);
    }
    let bytes = match flags {
        discard if discard & DISCARD != 0 => {
            entries.push(Entry::Discard { sector, sectors });
            Some(0)
        }
        marked if marked & MARK != 0 => {
            entries.push(Entry::Mark);
            mark.checked_next_multiple_of(SECTOR as u64)
        }
        _ => sectors.checked_mul(SECTOR as u64),
    };
    let bytes = take(log, bytes.context("it has no end")?)?;
    if flags & (DISCARD | MARK) == 0 && !bytes.is_empty() {
        entries.push(Entry::Write { sector, bytes, lasts: flags & FUA != 0 });
    }
    Ok(())
}

/// Exactly so many bytes; never more memory than there are.
fn take(log: &mut impl Read, length: u64) -> Result<Vec<u8>> {
    let mut bytes = vec![];
    log.take(length).read_to_end(&mut bytes)?;
    ensure!(bytes.len() as u64 == length, "the log ends in it");
    Ok(bytes)
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
        assert_eq!(parse(&*log()).unwrap(), expected);
        let more = [log(), vec![0xff; 700]].concat();
        assert_eq!(parse(&*more).unwrap(), expected, "what isn't counted yet isn't there");
    }

    #[test]
    fn what_is_no_log_is_named() {
        let with = |at: usize, byte| {
            let mut log = log();
            log[at] = byte;
            log
        };
        for (log, expected) in [
            (vec![], "its first sector: the log ends in it"),
            (with(0, 0), "it doesn't begin as one: was anything ever flushed?"),
            (with(8, 2), "it has version 2"),
            (with(25, 4), "its sectors have 1024 bytes"),
            (with(16, 7), "entry 7 of 7: the log ends in it"),
            (with(23, 0x80), "entry 7 of 9223372036854775814: the log ends in it"),
            (with(SECTOR + 16, 16), "entry 1 of 6: its flags are 0x10"),
            (with(SECTOR + 15, 0x80), "entry 1 of 6: it has no end"),
            (with(SECTOR + 10, 9), "entry 1 of 6: the log ends in it"),
        ] {
            assert_eq!(format!("{:#}", parse(&*log).unwrap_err()), expected);
        }
    }

    #[test]
    fn a_log_cut_anywhere_is_an_error_and_no_panic() {
        let log = log();
        for length in (0..log.len()).step_by(64) {
            assert!(parse(&log[..length]).is_err(), "{length}");
        }
        assert_eq!(parse(&*head(0)).unwrap(), []);
    }
}
