//! A partition of an image file, as a reader that sees nothing else of it.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt as _;

use appliance::verity::BLOCK;

/// A run of bytes of a file. Parts of one file don't disturb one another.
#[derive(Debug)]
pub struct Part {
    file: File,
    start: u64,
    length: u64,
    position: u64,
}

impl Part {
    /// `length` bytes of `file` from `start`.
    pub fn new(file: File, start: u64, length: u64) -> Part {
        Part { file, start, length, position: 0 }
    }

    /// The dm-verity block at `offset`.
    pub fn block(&self, offset: u64) -> io::Result<Vec<u8>> {
        let mut block = vec![0; BLOCK];
        if offset.checked_add(BLOCK as u64).is_none_or(|end| end > self.length) {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        self.file.read_exact_at(&mut block, self.start + offset)?;
        Ok(block)
    }
}

impl Read for Part {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.length.saturating_sub(self.position);
        let most = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
        let read = self.file.read_at(&mut buffer[..most], self.start + self.position)?;
        self.position += read as u64;
        Ok(read)
    }
}

impl Seek for Part {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::End(offset) => self.length.checked_add_signed(offset),
            SeekFrom::Current(offset) => self.position.checked_add_signed(offset),
        };
        self.position = position.ok_or(ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}

/// `fatfs` wants a writer even of who only reads.
impl Write for Part {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(ErrorKind::ReadOnlyFilesystem.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_ends_where_it_ends() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&(0..100).collect::<Vec<u8>>()).unwrap();
        let mut part = Part::new(file, 10, 20);
        let mut all = Vec::new();
        part.read_to_end(&mut all).unwrap();
        assert_eq!(all, (10..30).collect::<Vec<u8>>());
        for (to, expected) in [
            (SeekFrom::Start(5), Some(15)),
            (SeekFrom::Current(2), Some(18)),
            (SeekFrom::End(-1), Some(29)),
            (SeekFrom::End(0), None),
            (SeekFrom::Start(1000), None),
        ] {
            part.seek(to).unwrap();
            let mut byte = [0];
            let read = part.read(&mut byte).unwrap();
            assert_eq!((read == 1).then_some(byte[0]), expected, "{to:?}");
        }
        assert!(part.seek(SeekFrom::Current(-2000)).is_err());
        assert!(part.write(b"x").is_err() && part.block(0).is_err());
    }
}
