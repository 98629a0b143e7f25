//! What a guest reads from its disk, from QEMU's own trace.

/// What a guest read from its disk: bytes from the disk's start, and how many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Read {
    /// Where.
    pub offset: u64,
    /// How much.
    pub bytes: u64,
}

impl Read {
    /// From a line such as `blk_co_preadv blk 0x55 bs 0x55 offset 512 bytes 4096 flags 0x0`.
    pub fn parse(line: &str) -> Option<Read> {
        let after = |word: &str| {
            let mut words = line.split_whitespace().skip_while(|other| *other != word);
            words.nth(1)?.parse().ok()
        };
        Some(Read { offset: after("offset")?, bytes: after("bytes")? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_traced_read_is_understood() {
        let line = "blk_co_preadv blk 0x55aa bs 0x55bb offset 59768832 bytes 4096 flags 0x0";
        assert_eq!(Read::parse(line), Some(Read { offset: 59_768_832, bytes: 4096 }));
        assert_eq!(Read::parse("anything else"), None);
    }
}
