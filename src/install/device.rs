//! A block device: written through the kernel's cache, flushed, and read back past that.

use std::fs::File;
use std::io::{self, Seek as _, SeekFrom};
use std::os::unix::fs::FileExt as _;

use appliance::esp::{SECTOR, Sector};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, PosixFadviseAdvice, fcntl, posix_fadvise};

/// What is read at once past the cache.
const PIECE: usize = 64 << 10;
/// Where memory must lie for that.
const ALIGNMENT: usize = 4096;

/// Something that keeps bytes.
pub trait Device {
    /// Its length in bytes.
    fn size(&self) -> u64;
    /// Writes all of `bytes`. They are kept for certain after [`Self::flush`] only.
    fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Writes one sector, and no byte beside it, in one piece; then flushes.
    fn commit(&mut self, offset: u64, sector: &Sector) -> io::Result<()>;
    /// Returns when all that was written will outlive the power.
    fn flush(&mut self) -> io::Result<()>;
    /// Fills `bytes` with what the device holds, not with what the kernel remembers of it.
    fn read(&mut self, offset: u64, bytes: &mut [u8]) -> io::Result<()>;
}

/// A block device, or a file in its place.
#[derive(Debug)]
pub struct Disk {
    file: File,
    size: u64,
    piece: Vec<u8>,
}

impl Disk {
    /// What is behind an open file.
    pub fn new(mut file: File) -> io::Result<Disk> {
        let size = file.seek(SeekFrom::End(0))?;
        Ok(Disk { file, size, piece: vec![0; PIECE + ALIGNMENT] })
    }

    /// Sets whether the kernel's cache is passed by; some files can't be read so.
    fn set_direct(&self, direct: bool) -> io::Result<()> {
        let mut flags = OFlag::from_bits_retain(fcntl(&self.file, FcntlArg::F_GETFL)?);
        flags.set(OFlag::O_DIRECT, direct);
        match fcntl(&self.file, FcntlArg::F_SETFL(flags)) {
            Ok(_) | Err(Errno::EINVAL) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Where in `piece` memory is aligned.
    fn aligned(&self) -> usize {
        self.piece.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT)
    }

    fn read_pieces(&mut self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        let aligned = self.aligned();
        let mut offset = offset;
        for part in bytes.chunks_mut(PIECE) {
            let piece = &mut self.piece[aligned..aligned + part.len()];
            self.file.read_exact_at(piece, offset)?;
            part.copy_from_slice(piece);
            offset += part.len() as u64;
        }
        Ok(())
    }
}

impl Device for Disk {
    fn size(&self) -> u64 {
        self.size
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    /// Past the cache, which would write a whole page.
    fn commit(&mut self, offset: u64, sector: &Sector) -> io::Result<()> {
        let aligned = self.aligned();
        let piece = &mut self.piece[aligned..aligned + SECTOR];
        piece.copy_from_slice(sector);
        self.set_direct(true)?;
        let written = self.file.write_all_at(&self.piece[aligned..aligned + SECTOR], offset);
        self.set_direct(false)?;
        written?;
        self.flush()
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.sync_all()?;
        // What was written isn't needed any more: the cache never holds more than a few chunks.
        Ok(posix_fadvise(&self.file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED)?)
    }

    fn read(&mut self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        self.set_direct(true)?;
        let read = self.read_pieces(offset, bytes);
        self.set_direct(false)?;
        read
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let mut disk = Disk::new(tempfile::tempfile().unwrap()).unwrap();
        assert_eq!(disk.size(), 0);
        let written: Vec<u8> = (0..200_704u32).map(|at| (at / 7) as u8).collect();
        disk.write(4096, &written).unwrap();
        disk.flush().unwrap();
        let mut read = vec![0; written.len()];
        disk.read(4096, &mut read).unwrap();
        assert!(read == written);
        disk.read(4608, &mut read[..512]).unwrap();
        assert_eq!(read[..512], written[512..1024]);
        disk.commit(8192, &[3; SECTOR]).unwrap();
        disk.read(7680, &mut read[..1536]).unwrap();
        assert_eq!(read[..512], written[3584..4096]);
        assert_eq!(read[512..1024], [3; SECTOR]);
        assert_eq!(read[1024..1536], written[4608..5120]);
        let error = disk.read(4096, &mut vec![0; 204_800]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}
