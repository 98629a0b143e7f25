//! What is in the data's place, and what may be done about it: pure, and only ever cautious.

use std::fmt;

/// How much of a partition is looked at.
pub const LOOKED_AT: usize = 1 << 20;
/// What the data's file system is called.
pub const LABEL: &str = "STELE-DATA";
/// Where ext4's superblock starts.
const SUPERBLOCK: usize = 1024;

/// What a partition's first mebibyte shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// Nothing but zeros.
    Blank,
    /// An ext4 with our label.
    Ours(FileSystem),
    /// Whatever else.
    Foreign(String),
}

/// What an ext4's superblock says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileSystem {
    /// Bytes in a block.
    pub block: u64,
    /// How many blocks.
    pub blocks: u64,
    /// Its superblock is the one that was written: a cut while it was made may leave half of it.
    pub is_whole: bool,
    /// It was unmounted in order, and the kernel never found anything wrong with it.
    pub is_clean: bool,
}

/// What may be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Make a file system.
    Make,
    /// There is ours: use it.
    Use,
    /// Touch nothing.
    Refuse,
}

/// At the first boot (no table names the data yet) a file system is made where there is nothing, or
/// one of ours half-made (`is_marked`). Later, what isn't ours is damage, and never written over.
pub fn decide(content: &Content, is_first: bool, is_marked: bool) -> Action {
    match content {
        Content::Ours(found) if found.is_whole || !is_first => Action::Use,
        Content::Blank if is_first => Action::Make,
        Content::Ours(_) | Content::Foreign(_) if is_first && is_marked => Action::Make,
        Content::Blank | Content::Ours(_) | Content::Foreign(_) => Action::Refuse,
    }
}

/// How e2fsck is to be run, until it is content.
///
/// A mount, an unmount and growth write the superblock, and a cut may leave half of it: `-p` alone
/// gives up then, so it goes by the first copy. That may end in an error when the journal has
/// brought the superblock itself back; then it is whole again, and goes by itself.
pub fn checks(found: &FileSystem) -> &'static [&'static [&'static str]] {
    /// Where the first copy is, in blocks of 4 KiB: up to 128 MiB there is none.
    const COPY: u64 = 32768;
    match (found.is_whole, found.block == 4096 && found.blocks > COPY) {
        (true, _) => &[&["-p"]],
        (false, true) => &[&["-f", "-p", "-b", "32768", "-B", "4096"], &["-f", "-p"]],
        (false, false) => &[&["-f", "-p"]],
    }
}

/// Looks at the beginning of a partition of `room` bytes.
pub fn look(start: &[u8], room: u64) -> Content {
    if start.iter().all(|&byte| byte == 0) {
        return Content::Blank;
    }
    if start.get(SUPERBLOCK + 56..SUPERBLOCK + 58) != Some(&[0x53, 0xef]) {
        return Content::Foreign(kind_of(start).to_owned());
    }
    let label = start.get(SUPERBLOCK + 120..SUPERBLOCK + 136).unwrap_or_default();
    let label: Vec<u8> = label.iter().copied().take_while(|&byte| byte != 0).collect();
    let label = String::from_utf8_lossy(&label).into_owned();
    let found = file_system(start);
    match found {
        _ if label != LABEL => Content::Foreign(format!("an ext file system labelled `{label}`")),
        Some(ours) if ours.bytes() <= room => Content::Ours(ours),
        _ => Content::Foreign("an ext4 of ours that doesn't fit here".to_owned()),
    }
}

fn file_system(start: &[u8]) -> Option<FileSystem> {
    /// Of the state: `EXT2_VALID_FS`, `EXT2_ERROR_FS`, and one for orphans being dealt with.
    const STATE: u32 = 0xffff;
    const VALID: u32 = 1;
    /// Of the incompatible features: the journal has something to replay.
    const RECOVER: u32 = 4;
    /// Of the features that allow reading: metadata, and so the superblock, has checksums.
    const SUMMED: u32 = 0x400;
    /// Where the superblock's own is: at its end.
    const CHECKSUM: usize = 1020;
    let word = |at: usize| {
        let bytes = start.get(SUPERBLOCK + at..SUPERBLOCK + at + 4)?;
        bytes.try_into().ok().map(u32::from_le_bytes)
    };
    let block = 1024u64.checked_shl(word(24)?).filter(|block| (1024..=65536).contains(block))?;
    let blocks = u64::from(word(0x150)?) << 32 | u64::from(word(4)?);
    let is_summed = word(0x64)? & SUMMED != 0;
    let sum = checksum(start.get(SUPERBLOCK..SUPERBLOCK + CHECKSUM)?);
    let is_whole = !is_summed || sum == word(CHECKSUM)?;
    let is_clean = is_whole && word(58)? & STATE == VALID && word(0x60)? & RECOVER == 0;
    Some(FileSystem { block, blocks, is_whole, is_clean })
}

/// CRC-32C as ext4 keeps it: without the final inversion.
fn checksum(bytes: &[u8]) -> u32 {
    bytes.iter().fold(!0, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ (0x82f6_3b78 * (crc & 1)))
    })
}

impl FileSystem {
    /// How much it takes of its partition.
    pub fn bytes(&self) -> u64 {
        self.blocks.saturating_mul(self.block)
    }
}

/// The first of what is well known that stands there.
fn kind_of(start: &[u8]) -> &'static str {
    const KINDS: [(usize, &[u8], &str); 9] = [
        (0, b"XFSB", "an XFS"),
        (0x10040, b"_BHRfS_M", "a btrfs"),
        (0, b"LUKS\xba\xbe", "an encrypted volume (LUKS)"),
        (4086, b"SWAPSPACE2", "swap space"),
        (512, b"LABELONE", "a part of an LVM"),
        (0, b"hsqs", "a squashfs"),
        (3, b"NTFS    ", "an NTFS"),
        (512, b"EFI PART", "a partition table"),
        (510, b"\x55\xaa", "a FAT or a boot sector"),
    ];
    let stands = |at: usize, magic: &[u8]| start.get(at..at + magic.len()) == Some(magic);
    KINDS
        .iter()
        .find(|(at, magic, _)| stands(*at, magic))
        .map_or("something that isn't known here", |(.., kind)| kind)
}

impl fmt::Display for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Content::Blank => f.write_str("nothing"),
            Content::Ours(_) => f.write_str("a file system of ours"),
            Content::Foreign(kind) => f.write_str(kind),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ext(label: &str, blocks: u32) -> Vec<u8> {
        let mut start = vec![0; LOOKED_AT];
        start[SUPERBLOCK + 4..][..4].copy_from_slice(&blocks.to_le_bytes());
        start[SUPERBLOCK + 24] = 2;
        start[SUPERBLOCK + 56..][..4].copy_from_slice(&[0x53, 0xef, 1, 0]);
        start[SUPERBLOCK + 120..][..label.len()].copy_from_slice(label.as_bytes());
        start
    }

    #[test]
    fn what_is_there_is_named() {
        let with = |at: usize, magic: &[u8]| {
            let mut start = vec![0; LOOKED_AT];
            start[at..][..magic.len()].copy_from_slice(magic);
            start
        };
        let room = 100 * 4096;
        let ours =
            Content::Ours(FileSystem { block: 4096, blocks: 100, is_whole: true, is_clean: true });
        assert_eq!(look(&vec![0; LOOKED_AT], room), Content::Blank);
        assert_eq!(look(&ext(LABEL, 100), room), ours);
        for (start, name) in [
            (ext(LABEL, 101), "an ext4 of ours that doesn't fit here"),
            (ext("home", 10), "an ext file system labelled `home`"),
            (ext("", 10), "an ext file system labelled ``"),
            (with(0, b"XFSB"), "an XFS"),
            (with(0x10040, b"_BHRfS_M"), "a btrfs"),
            (with(LOOKED_AT - 1, b"x"), "something that isn't known here"),
        ] {
            assert_eq!(look(&start, room).to_string(), name);
        }
        assert_eq!(look(&[1], room).to_string(), "something that isn't known here");
    }

    #[test]
    fn a_superblock_is_checked() {
        assert_eq!(checksum(b"123456789"), !0xe306_9283);
        let mut start = ext(LABEL, 100);
        start[SUPERBLOCK + 0x65] = 4;
        let sum = checksum(&start[SUPERBLOCK..][..1020]).to_le_bytes();
        for (sum, is_whole) in [(sum, true), ([0; 4], false)] {
            start[SUPERBLOCK + 1020..][..4].copy_from_slice(&sum);
            let Content::Ours(found) = look(&start, 1 << 20) else { panic!() };
            assert_eq!((found.is_whole, found.is_clean), (is_whole, is_whole));
        }
    }

    #[test]
    fn half_a_superblock_is_replaced_by_its_copy() {
        for (block, blocks, is_whole, expected) in [
            (4096, 40_000, true, "-p"),
            (4096, 40_000, false, "-f -p -b 32768 -B 4096, -f -p"),
            (4096, 32_768, false, "-f -p"),
            (1024, 40_000, false, "-f -p"),
        ] {
            let found = FileSystem { block, blocks, is_whole, is_clean: false };
            let checks: Vec<String> = checks(&found).iter().map(|how| how.join(" ")).collect();
            assert_eq!(checks.join(", "), expected, "{found:?}");
        }
    }

    #[test]
    fn what_was_not_unmounted_in_order_is_not_clean() {
        for (at, value, is_clean) in
            [(58, 1, true), (58, 0, false), (58, 3, false), (0x60, 4, false)]
        {
            let mut start = ext(LABEL, 100);
            start[SUPERBLOCK + at] = value;
            let Content::Ours(found) = look(&start, 1 << 20) else { panic!("{at}") };
            assert_eq!(found.is_clean, is_clean, "{at} {value}");
        }
    }

    #[test]
    fn only_what_is_blank_or_half_made_is_written_over() {
        let ours =
            Content::Ours(FileSystem { block: 4096, blocks: 100, is_whole: true, is_clean: true });
        let torn = FileSystem { block: 4096, blocks: 100, is_whole: false, is_clean: false };
        let torn = Content::Ours(torn);
        let foreign = Content::Foreign("an XFS".into());
        for (content, is_first, is_marked, action) in [
            (&Content::Blank, true, false, Action::Make),
            (&Content::Blank, true, true, Action::Make),
            (&Content::Blank, false, true, Action::Refuse),
            (&ours, true, false, Action::Use),
            (&ours, true, true, Action::Use),
            (&ours, false, false, Action::Use),
            (&torn, true, false, Action::Refuse),
            (&torn, true, true, Action::Make),
            (&torn, false, false, Action::Use), // by its copy
            (&foreign, true, false, Action::Refuse),
            (&foreign, true, true, Action::Make),
            (&foreign, false, true, Action::Refuse),
        ] {
            assert_eq!(
                decide(content, is_first, is_marked),
                action,
                "{content} {is_first} {is_marked}"
            );
        }
    }
}
