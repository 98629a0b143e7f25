//! How the boots of late ended: one sector, twice, in the gap before a disk's first partition, where
//! it can be read and written before anything else could fail.
//!
//! It is the second net. The first is the loader's, which counts the tries of a system that has to
//! prove itself; this one is for a system that was good, and isn't any more: its slot rots, or the
//! data doesn't suit it. Then the other one gets a try; should that fail, too, the newest of the good
//! ones is tried for as long as it takes.
//!
//! ```text
//!  0          8         12         16           24         28         32         36     508
//!  STELBOOT │ version │ length   │ sequence   │ unproven │ failures │ other    │ zero │ CRC-32
//! ```
//!
//! Numbers are little-endian. The copy that was written longer ago is the one that is written next:
//! if the power goes in the middle, the other one counts.

use crate::gpt::crc32;

/// Bytes of a copy.
pub const BYTES: usize = 512;
/// The sectors of both copies, behind the table's second bank and its mark.
pub const SECTORS: [u64; 2] = [72, 80];

const MAGIC: &[u8; 8] = b"STELBOOT";
const VERSION: u32 = 1;
/// What the checksum covers.
const SUMMED: usize = 508;
/// So many failures in a row that PID 1 knows of, and the other system gets a try.
const MOST_FAILURES: u32 = 4;
/// So many boots in a row that weren't seen to be good, whatever ended them: people pull plugs.
const MOST_UNPROVEN: u32 = 12;

/// What a copy says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Record {
    /// The higher one is the newer.
    pub sequence: u64,
    /// Boots in a row that began, and weren't seen to be good.
    pub unproven: u32,
    /// Those of them that PID 1 itself gave up, or that never got as far as the root: then it was
    /// dm-verity that restarted the machine, most likely.
    pub failures: u32,
    /// The other system had its try, and since then no boot was good.
    pub other_was_tried: bool,
}

impl Record {
    /// The newer of two copies, each of [`BYTES`]; a new one, if both are torn or were never written.
    pub fn newest(copies: [&[u8]; 2]) -> Record {
        let copies = copies.into_iter().filter_map(Record::parse);
        copies.max_by_key(|record| record.sequence).unwrap_or_default()
    }

    /// Reads a copy. `None`: it isn't one, or not a whole one.
    pub fn parse(bytes: &[u8]) -> Option<Record> {
        let bytes: &[u8; BYTES] = bytes.try_into().ok()?;
        let word = |at: usize| {
            let word = bytes.get(at..at + 4).and_then(|word| word.try_into().ok());
            u32::from_le_bytes(word.unwrap_or_default())
        };
        let is_ours = bytes.starts_with(MAGIC) && word(8) == VERSION && word(12) == BYTES as u32;
        let is_whole = word(SUMMED) == crc32(&bytes[..SUMMED]);
        (is_ours && is_whole).then(|| Record {
            sequence: u64::from(word(16)) | u64::from(word(20)) << 32,
            unproven: word(24),
            failures: word(28),
            other_was_tried: word(32) != 0,
        })
    }

    /// What [`Self::parse`] reads.
    pub fn to_bytes(&self) -> [u8; BYTES] {
        let mut bytes = [0; BYTES];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[12..16].copy_from_slice(&(BYTES as u32).to_le_bytes());
        bytes[16..24].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.unproven.to_le_bytes());
        bytes[28..32].copy_from_slice(&self.failures.to_le_bytes());
        bytes[32..36].copy_from_slice(&u32::from(self.other_was_tried).to_le_bytes());
        let checksum = crc32(&bytes[..SUMMED]);
        bytes[SUMMED..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// Where it is written: over the copy that isn't the one before it.
    pub fn sector(&self) -> u64 {
        SECTORS[usize::from(self.sequence % 2 == 1)]
    }

    /// A boot of a system that was blessed begins. Until [`Self::arrived`], it has failed.
    pub fn begun(self) -> Record {
        Record { unproven: self.unproven.saturating_add(1), ..self.failed() }
    }

    /// It has opened its root, and read PID 1 from there.
    pub fn arrived(self) -> Record {
        Record { failures: self.failures.saturating_sub(1), ..self.next() }
    }

    /// PID 1 gives it up, after [`Self::arrived`].
    pub fn failed(self) -> Record {
        Record { failures: self.failures.saturating_add(1), ..self.next() }
    }

    /// It ended because somebody wanted that.
    pub fn ended(self) -> Record {
        Record { unproven: self.unproven.saturating_sub(1), ..self.next() }
    }

    /// It is good: all is forgotten.
    pub fn proved(self) -> Record {
        Record { sequence: self.next().sequence, ..Record::default() }
    }

    /// The other system gets its try.
    pub fn tries_other(self) -> Record {
        Record { other_was_tried: true, ..self.proved() }
    }

    /// Is that what it should get?
    pub fn is_enough(&self) -> bool {
        let is_much = self.failures >= MOST_FAILURES || self.unproven >= MOST_UNPROVEN;
        is_much && !self.other_was_tried
    }

    /// Does it say that all is well?
    pub fn is_clean(&self) -> bool {
        (self.unproven, self.failures, self.other_was_tried) == (0, 0, false)
    }

    fn next(self) -> Record {
        Record { sequence: self.sequence.saturating_add(1), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(sequence: u64) -> Record {
        Record { sequence, unproven: 3, failures: 1, other_was_tried: true }
    }

    #[test]
    fn a_record_is_read_as_it_was_written() {
        for record in [Record::default(), record(7), record(u64::MAX)] {
            assert_eq!(Record::parse(&record.to_bytes()), Some(record));
        }
        let bytes = record(1).to_bytes();
        assert_eq!((&bytes[..8], bytes[24], bytes[28]), (&b"STELBOOT"[..], 3, 1));
        assert!(SECTORS[0] > crate::gpt::completion::MARK);
        assert!(SECTORS[1] < crate::gpt::FIRST_USABLE);
        assert_ne!(record(1).sector(), record(2).sector());
    }

    #[test]
    fn what_is_torn_does_not_count() {
        let (old, new) = (record(8).to_bytes(), record(9).begun().to_bytes());
        for cut in 0..BYTES {
            let torn = [&new[..cut], &old[cut..]].concat();
            let read = Record::parse(&torn);
            assert!(read.is_none_or(|read| [8, 10].contains(&read.sequence)), "cut at {cut}");
            // The copy beside it was written before.
            let beside = record(9).to_bytes();
            assert!(Record::newest([&torn, &beside]).sequence >= 9, "cut at {cut}");
        }
        for bytes in [&[0; BYTES][..], &[0xff; BYTES], &[], &old[1..]] {
            assert_eq!(Record::newest([bytes, bytes]), Record::default());
        }
        for at in 0..BYTES * 8 {
            let mut bytes = new;
            bytes[at / 8] ^= 1 << (at % 8);
            assert_eq!(Record::parse(&bytes), None, "bit {at}");
        }
    }

    #[test]
    fn the_older_copy_is_written_next() {
        let mut disk = [[0; BYTES]; 2];
        let mut record = Record::default();
        for step in 0..20 {
            record = if step % 3 == 2 { record.ended() } else { record.begun().arrived() };
            let before = Record::newest([&disk[0], &disk[1]]);
            let place = usize::from(record.sector() == SECTORS[1]);
            assert_ne!(Record::parse(&disk[place]).filter(|it| *it == before), Some(record));
            disk[place] = record.to_bytes();
            assert_eq!(Record::newest([&disk[0], &disk[1]]), record);
        }
    }

    #[test]
    fn the_other_system_gets_one_try_until_a_boot_is_good() {
        enum How {
            /// The initrd gave it up, or the kernel in the middle of that.
            Lost,
            Failed,
            Cut,
        }
        let boots = |count: u32, how: How| {
            let one = |record: Record| match how {
                How::Lost => record.begun(),
                How::Failed => record.begun().arrived().failed(),
                How::Cut => record.begun().arrived(),
            };
            (0..count).fold(Record::default(), |record, _| one(record))
        };
        for (count, how, enough) in [
            (3, How::Lost, false),
            (4, How::Lost, true),
            (3, How::Failed, false),
            (4, How::Failed, true),
            (11, How::Cut, false),
            (12, How::Cut, true),
        ] {
            assert_eq!(boots(count, how).is_enough(), enough, "{count}");
        }
        let tried = boots(4, How::Failed).tries_other();
        let again = (0..99).fold(tried, |record, _| record.begun().arrived().failed());
        assert!(!again.is_enough() && again.other_was_tried);
        assert!(again.proved().is_clean() && !again.is_clean());
        // Whoever switches off and on all day isn't meant.
        let boot = |record: Record| record.begun().arrived().ended();
        let orderly = (0..99).fold(Record::default(), |record, _| boot(record));
        assert!(orderly.is_clean());
    }
}
