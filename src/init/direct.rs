//! Reading and writing a few sectors of a block device past the kernel's cache: what is read is what
//! the device has, and nothing else of a page is written along.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

use nix::libc::{O_DIRECT, O_DSYNC};

/// What memory is a multiple of, whatever the device.
const PAGE: usize = 4096;

/// Memory that begins where a device can reach it.
struct Aligned {
    memory: Vec<u8>,
    length: usize,
}

impl Aligned {
    fn new(length: usize) -> Aligned {
        Aligned { memory: vec![0; length + PAGE], length }
    }

    fn bytes(&mut self) -> io::Result<&mut [u8]> {
        let start = self.memory.as_ptr().align_offset(PAGE);
        let place = self.memory.get_mut(start..start.saturating_add(self.length));
        place.ok_or(io::ErrorKind::InvalidInput.into())
    }
}

/// Reads whole sectors.
pub fn read(device: &Path, offset: u64, length: usize) -> io::Result<Vec<u8>> {
    let mut options = File::options();
    let file = options.read(true).custom_flags(O_DIRECT).open(device)?;
    let mut memory = Aligned::new(length);
    let bytes = memory.bytes()?;
    file.read_exact_at(bytes, offset)?;
    Ok(bytes.to_vec())
}

/// Writes whole sectors, and no others. Comes back when they are on the device for good.
pub fn write(device: &Path, offset: u64, bytes: &[u8]) -> io::Result<()> {
    let mut options = File::options();
    let file = options.write(true).custom_flags(O_DIRECT | O_DSYNC).open(device)?;
    let mut memory = Aligned::new(bytes.len());
    let place = memory.bytes()?;
    place.copy_from_slice(bytes);
    file.write_all_at(place, offset)
}
