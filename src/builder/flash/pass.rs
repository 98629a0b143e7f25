//! Writes an image and reads it back.
//!
//! In what order, and what if the power goes in between:
//!
//! | step | what the disk is then |
//! |---|---|
//! | the first MiB is zeroed: no table, nothing to boot | blank, whatever is left of it |
//! | the rest of the image; where the first boot makes something, and the disk's end: zeros | blank |
//! | all of that is read back and compared | blank |
//! | the first MiB, with the table | the image's |
//! | that is read back | the image's |
//!
//! Each step is flushed before the next begins. So a disk that was cut, or that lies, never boots.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;

use anyhow::{Context, Result, bail};
use appliance::gpt::completion;
use appliance::gpt::{Guid, SECTOR, Table};

use crate::flash::target::{PAGE, Target};
use crate::progress::Progress;

const MIB: u64 = 1 << 20;
/// What is read at once.
const CHUNK: u64 = MIB;
/// Runs of zeros are found in pieces of that.
const BLOCK: usize = 64 << 10;
/// So many bytes are flushed at once: that keeps the bar honest.
const FLUSHED: u64 = 64 * MIB;

/// An image on its way to a disk.
#[derive(Debug)]
pub struct Pass<'a> {
    image: &'a File,
    target: &'a Target,
    /// Whole sectors of the image, in bytes.
    length: u64,
    /// What is blanked besides.
    blanks: Vec<Range<u64>>,
    progress: &'a Progress,
    /// Bytes that were written, and those that were zeroed.
    written: u64,
    zeroed: u64,
}

/// How much was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Done {
    /// Bytes that were written.
    pub written: u64,
    /// Bytes that weren't zero, and should be.
    pub zeroed: u64,
    /// Bytes that were read back.
    pub verified: u64,
}

impl<'a> Pass<'a> {
    /// `table` is that of the image.
    pub fn new(
        image: &'a File,
        table: &Table,
        target: &'a Target,
        progress: &'a Progress,
    ) -> Result<Pass<'a>> {
        let length = image.metadata()?.len() / SECTOR * SECTOR;
        let blanks = blanks(table, length, target.bytes)?;
        Ok(Pass { image, target, length, blanks, progress, written: 0, zeroed: 0 })
    }

    /// Does it all.
    pub fn run(mut self) -> Result<Done> {
        let (head, rest) = (0..MIB.min(self.length), MIB.min(self.length)..self.length);
        self.progress.start("writing", self.length);
        self.blank(head.clone()).context("cannot blank its beginning")?;
        self.target.flush()?;
        self.write(rest.clone()).context("cannot write")?;
        for blank in self.blanks.clone() {
            self.blank(blank).context("cannot blank what was there")?;
        }
        self.target.flush().context("cannot write")?;
        self.progress.finish();
        self.progress.start("reading back", self.length);
        self.verify(rest)?;
        self.write(head.clone()).context("cannot write its beginning")?;
        self.target.flush().context("cannot write its beginning")?;
        self.verify(head)?;
        self.progress.finish();
        let blanked: u64 = self.blanks.iter().map(|blank| blank.end - blank.start).sum();
        let verified = self.length + blanked;
        Ok(Done { written: self.written, zeroed: self.zeroed, verified })
    }

    fn write(&mut self, bytes: Range<u64>) -> io::Result<()> {
        let mut chunk = vec![0; CHUNK as usize];
        let mut unflushed = 0;
        for place in chunks(bytes) {
            let length = (place.end - place.start) as usize;
            self.image.read_exact_at(&mut chunk[..length], place.start)?;
            for (is_zero, run) in runs(&chunk[..length]) {
                let at = place.start + run.start as u64;
                if is_zero {
                    self.blank(at..place.start + run.end as u64)?;
                    continue;
                }
                self.target.write(&chunk[run.clone()], at)?;
                self.written += run.len() as u64;
                unflushed += run.len() as u64;
            }
            if unflushed >= FLUSHED {
                self.target.flush()?;
                unflushed = 0;
            }
            self.progress.advance(length as u64);
        }
        Ok(())
    }

    /// Zeros, and no write where there are some already.
    fn blank(&mut self, bytes: Range<u64>) -> io::Result<()> {
        let mut chunk = vec![0; CHUNK as usize];
        for place in chunks(bytes) {
            let length = (place.end - place.start) as usize;
            self.target.read(&mut chunk[..length], place.start)?;
            if !is_zero(&chunk[..length]) {
                self.target.zero(place.start, length as u64)?;
                self.zeroed += length as u64;
            }
        }
        Ok(())
    }

    /// Reads these bytes back, and what was blanked.
    fn verify(&self, bytes: Range<u64>) -> Result<()> {
        self.target.unbuffer(true).context("cannot read it back")?;
        let (mut wanted, mut room) = (vec![0; CHUNK as usize], vec![0; CHUNK as usize + PAGE]);
        let start = room.as_ptr().align_offset(PAGE);
        let found = room.get_mut(start..start + CHUNK as usize);
        let found = found.context("internal error: no aligned memory")?;
        let parts = [bytes].into_iter().chain(self.blanks.clone());
        for place in parts.flat_map(chunks) {
            let length = (place.end - place.start) as usize;
            let (wanted, found) = (&mut wanted[..length], &mut found[..length]);
            match place.start < self.length {
                true => self.image.read_exact_at(wanted, place.start)?,
                false => wanted.fill(0),
            }
            self.target.read(found, place.start).context("cannot read it back")?;
            if let Some(at) = wanted.iter().zip(&*found).position(|(wanted, is)| wanted != is) {
                bail!(
                    "it doesn't hold what was written, from byte {} on\nhint: it is broken, or \
                     smaller than it says; nothing boots from it",
                    place.start + at as u64
                );
            }
            if place.start < self.length {
                self.progress.advance(length as u64);
            }
        }
        self.target.unbuffer(false).context("cannot read it back")
    }
}

/// What an older life of a disk of `bytes` may have left where the image of `length` bytes has
/// nothing: the beginning of each partition that the first boot makes, which it takes only if it is
/// blank, and the disk's end, where another table would be found.
fn blanks(table: &Table, length: u64, bytes: u64) -> Result<Vec<Range<u64>>> {
    let wanted = completion::wanted(table, bytes / SECTOR, || Guid(0))?;
    let new = wanted.partitions.iter().filter(|new| table.named(&new.name).is_none());
    let mut places: Vec<Range<u64>> =
        new.map(|new| new.offset()..(new.offset() + MIB).min(new.place().end)).collect();
    // A disk may end with half a sector; nobody reads that.
    let end = bytes / SECTOR * SECTOR;
    places.push(end.saturating_sub(MIB)..end);
    let behind = |place: Range<u64>| place.start.max(length)..place.end;
    Ok(places.into_iter().map(behind).filter(|place| !place.is_empty()).collect())
}

fn chunks(bytes: Range<u64>) -> impl Iterator<Item = Range<u64>> {
    let end = bytes.end;
    bytes.step_by(CHUNK as usize).map(move |start| start..end.min(start + CHUNK))
}

/// The runs of a chunk that are zero, and those that aren't.
fn runs(chunk: &[u8]) -> Vec<(bool, Range<usize>)> {
    let mut runs: Vec<(bool, Range<usize>)> = vec![];
    for (number, block) in chunk.chunks(BLOCK).enumerate() {
        let (is_zero, start) = (is_zero(block), number * BLOCK);
        let end = start + block.len();
        match runs.last_mut().filter(|(kind, _)| *kind == is_zero) {
            Some((_, run)) => run.end = end,
            None => runs.push((is_zero, start..end)),
        }
    }
    runs
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|&byte| byte == 0)
}

#[cfg(test)]
mod tests;
