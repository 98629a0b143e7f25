//! A bundle's way onto the disk. What runs is never written: not its slot, not its run of the ESP,
//! and of the directory never its entry.
//!
//! | step | what is written | and if the power goes here? |
//! |---|---|---|
//! | 1 | nothing: all that can be refused is, and the first chunk is right | as it was |
//! | 2 | the directory: the other side is off | the old system boots; the other one is lost |
//! | 3 | zeros in place of the slot's top hash block | the slot is nobody's root |
//! | 4 | UKI, hash tree, root: each chunk once its digest is right | as after 3 |
//! | 5 | the top hash block, after all was read back | the slot is whole, nothing starts it |
//! | 6 | the directory: the other side is on trial. The commit | the old system, or the new one |
//!
//! Each step is on the device before the next one begins.

use std::cmp::Ordering;
use std::fmt::Display;

use appliance::bundle::{CHUNK, Head, Kind, Manifest, Piece};
use appliance::esp::{Cannot, Directory, Entry, Esp, SECTOR, Sector};
use appliance::hash::Digest;
use appliance::upgrade::{Code, Line, Order, Refused, Side};
use appliance::verity::BLOCK;
use sha2::{Digest as _, Sha256};

use crate::device::Device;
use crate::judge::{self, Room, refused};
use crate::stream::{Cut, Source};
use crate::tree::{Growing, Grown};

/// How often the loader starts a new system before it takes the old one again.
const TRIES: u8 = 3;
/// So many chunks may be in the kernel's cache only.
const CHUNKS_UNFLUSHED: usize = 4;

/// What is written: the ESP, and the slot that doesn't run.
pub struct Disks<'a> {
    /// The whole ESP.
    pub esp: &'a mut dyn Device,
    /// The whole slot.
    pub slot: &'a mut dyn Device,
}

/// Takes a bundle, and arms it. What runs is as it was if that fails.
pub fn install<'a>(
    order: &'a Order,
    disks: Disks<'a>,
    source: &mut dyn Source,
    tell: &mut dyn FnMut(&Line),
) -> Result<(), Refused> {
    let (manifest, begun) = begin(order, source)?;
    let (version, root_hash) = (manifest.version.to_string(), manifest.root.root_hash);
    let total = begun + manifest.payload();
    let mut work = Work::prepare(order, manifest, disks)?;
    is_announced(order, total)?;
    let first = work.fetch(0, source)?;
    tell(&Line::Begun { version: version.clone(), root_hash, total });
    work.clear()?;
    work.behead()?;
    work.take(first, source, begun, tell)?;
    work.check_uki()?;
    let top = work.check_root()?;
    work.crown(&top)?;
    work.arm()?;
    tell(&Line::Armed { version, root_hash });
    Ok(())
}

/// The manifest, and the bytes of the bundle until its end.
fn begin(order: &Order, source: &mut dyn Source) -> Result<(Manifest, u64), Refused> {
    let mut head = [0; Head::BYTES];
    source.fill(&mut head).map_err(truncated)?;
    let head = judge::head(&head)?;
    let mut manifest = vec![0; head.manifest_length];
    source.fill(&mut manifest).map_err(truncated)?;
    let begun = (Head::BYTES + manifest.len()) as u64;
    Ok((judge::believe(order, &head, &manifest)?, begun))
}

/// Is it as long as whoever sends it says?
fn is_announced(order: &Order, total: u64) -> Result<(), Refused> {
    let code = match order.announced.map(|announced| announced.cmp(&total)) {
        None | Some(Ordering::Equal) => return Ok(()),
        Some(Ordering::Less) => Code::Truncated,
        Some(Ordering::Greater) => Code::Oversized,
    };
    let announced = order.announced.unwrap_or_default();
    let why = "cannot take the bundle: it has";
    Err(refused(code, format_args!("{why} {total} bytes, and {announced} are announced")))
}

/// An installation.
struct Work<'a> {
    order: &'a Order,
    manifest: Manifest,
    disks: Disks<'a>,
    esp: Esp,
    /// Holds a chunk that comes, or is read back.
    chunk: Vec<u8>,
}

impl<'a> Work<'a> {
    /// Looks at everything that could be in the way. Nothing is written.
    fn prepare(order: &'a Order, manifest: Manifest, disks: Disks<'a>) -> Result<Self, Refused> {
        let esp = Esp::locate(|offset, length| {
            let mut bytes = vec![0; length];
            disks.esp.read(offset, &mut bytes).map(|()| bytes)
        });
        let esp = esp.map_err(|error| refused(Code::Disk, error))?;
        let run = esp.run(order.side);
        if run.end > disks.esp.size() {
            return Err(refused(Code::Disk, "the ESP is shorter than its file system"));
        }
        let room = Room { run: run.end - run.start, slot: disks.slot.size() };
        judge::judge(order, &manifest, room)?;
        let mut work = Work { order, manifest, disks, esp, chunk: vec![0; CHUNK] };
        work.look_at_directory()?;
        work.look_at_slot()?;
        Ok(work)
    }

    /// The system that runs must be trusted: it is what is left if the new one fails. And there
    /// must be a name for the new one.
    fn look_at_directory(&mut self) -> Result<(), Refused> {
        let side = self.order.side;
        let directory = self.directory()?;
        if !matches!(directory.entry(side.other()), Entry::Blessed { .. }) {
            return Err(refused(Code::Unblessed, "what runs has not proved itself yet"));
        }
        let cleared = directory.clear(side).map_err(disk)?.pop().unwrap_or(*directory.sector());
        let cleared = self.esp.read_directory(&cleared).map_err(disk)?;
        cleared.arm(side, TRIES).map_err(disk)?;
        Ok(())
    }

    /// Whoever mixes the slots up must not write over what runs.
    fn look_at_slot(&mut self) -> Result<(), Refused> {
        let running = &self.order.running;
        let end = running.tree_offset().checked_add(BLOCK as u64);
        if end.is_none_or(|end| end > self.disks.slot.size()) {
            return Ok(());
        }
        let mut top = [0; BLOCK];
        self.disks.slot.read(running.tree_offset(), &mut top).map_err(disk)?;
        match running.is_topped_by(&top) {
            true => Err(refused(Code::Disk, "the slot to be written holds the root that runs")),
            false => Ok(()),
        }
    }

    /// Takes the other side off the loader's list. From here on its slot and its run are free.
    fn clear(&mut self) -> Result<(), Refused> {
        self.change_directory(Directory::clear)
    }

    /// A slot whose top block is zero is no root, whatever else it holds: a boot that looks for
    /// one never finds half of it.
    fn behead(&mut self) -> Result<(), Refused> {
        let offset = self.manifest.root.tree_offset();
        self.disks.slot.write(offset, &[0; BLOCK]).map_err(disk)?;
        self.disks.slot.flush().map_err(disk)
    }

    /// Takes the chunk of this number, which must be what the manifest says; returns its pieces,
    /// or none behind the last one.
    fn fetch(&mut self, number: usize, source: &mut dyn Source) -> Result<Vec<Piece>, Refused> {
        let Some((digest, pieces)) = self.manifest.chunk(number) else { return Ok(vec![]) };
        let length = length_of(&pieces);
        source.fill(&mut self.chunk[..length]).map_err(truncated)?;
        if Digest::of(&self.chunk[..length]) != digest {
            let why = format_args!("cannot take the bundle: chunk {number} is damaged");
            return Err(refused(Code::Chunk, why));
        }
        Ok(pieces)
    }

    /// Writes the first chunk, and takes and writes the others.
    fn take(
        &mut self,
        first: Vec<Piece>,
        source: &mut dyn Source,
        begun: u64,
        tell: &mut dyn FnMut(&Line),
    ) -> Result<(), Refused> {
        let (mut done, mut pieces) = (begun, first);
        for next in 1usize.. {
            if pieces.is_empty() {
                break;
            }
            pieces.iter().try_for_each(|piece| self.put(piece))?;
            if next.is_multiple_of(CHUNKS_UNFLUSHED) {
                self.flush()?;
            }
            done += length_of(&pieces) as u64;
            tell(&Line::Progress { done });
            pieces = self.fetch(next, source)?;
        }
        if !source.has_ended().map_err(truncated)? {
            let why = format_args!("cannot take the bundle: it goes on after {done} bytes");
            return Err(refused(Code::Oversized, why));
        }
        self.pad_uki()?;
        self.flush()
    }

    fn put(&mut self, piece: &Piece) -> Result<(), Refused> {
        let root = &self.manifest.root;
        let bytes = &self.chunk[piece.bytes.clone()];
        let written = match piece.kind {
            Kind::Uki => {
                let start = self.esp.run(self.order.side).start;
                self.disks.esp.write(start + piece.offset, bytes)
            }
            Kind::Root => self.disks.slot.write(piece.offset, bytes),
            Kind::Tree => {
                // The top block stays zero until all else was read back.
                let skipped = (BLOCK as u64).saturating_sub(piece.offset).min(bytes.len() as u64);
                let offset = root.tree_offset() + piece.offset + skipped;
                self.disks.slot.write(offset, &bytes[skipped as usize..])
            }
        };
        written.map_err(disk)
    }

    /// Nothing of an earlier UKI is left behind this one.
    fn pad_uki(&mut self) -> Result<(), Refused> {
        let run = self.esp.run(self.order.side);
        let mut offset = run.start + self.manifest.uki.size;
        self.chunk.fill(0);
        while offset < run.end {
            let length = (run.end - offset).min(CHUNK as u64) as usize;
            self.disks.esp.write(offset, &self.chunk[..length]).map_err(disk)?;
            offset += length as u64;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Refused> {
        self.disks.esp.flush().map_err(disk)?;
        self.disks.slot.flush().map_err(disk)
    }

    /// Reads the run back: a UKI that is cut or flipped would hang firmware.
    fn check_uki(&mut self) -> Result<(), Refused> {
        let run = self.esp.run(self.order.side);
        let mut hash = Sha256::new();
        let mut left = self.manifest.uki.size as usize;
        let mut offset = run.start;
        while offset < run.end {
            let length = (run.end - offset).min(CHUNK as u64) as usize;
            let bytes = &mut self.chunk[..length];
            self.disks.esp.read(offset, bytes).map_err(disk)?;
            let (uki, padding) = bytes.split_at(left.min(length));
            hash.update(uki);
            if padding.iter().any(|&byte| byte != 0) {
                return Err(read_back("the zeros behind the UKI"));
            }
            left -= uki.len();
            offset += length as u64;
        }
        match hash.finalize()[..] == self.manifest.uki.sha256.0 {
            true => Ok(()),
            false => Err(read_back("the UKI")),
        }
    }

    /// Reads root and hash tree back: the tree over what is read must be the one that is read, and
    /// its top the root hash. Returns the top block, which isn't there yet.
    fn check_root(&mut self) -> Result<Vec<u8>, Refused> {
        let root = self.manifest.root.clone();
        let mut growing = Growing::new(root.data_blocks, root.salt);
        let mut grown = vec![];
        let mut top = None;
        let mut offset = 0;
        while offset < root.tree_offset() {
            let length = (root.tree_offset() - offset).min(CHUNK as u64) as usize;
            self.disks.slot.read(offset, &mut self.chunk[..length]).map_err(disk)?;
            for block in self.chunk[..length].chunks(BLOCK) {
                growing.push(block, &mut |block| grown.push(block));
            }
            offset += length as u64;
            top = self.check_tree(&mut grown)?.or(top);
        }
        let root_hash = growing.finish(&mut |block| grown.push(block));
        top = self.check_tree(&mut grown)?.or(top);
        top.filter(|_| root_hash == Some(root.root_hash)).ok_or_else(|| read_back("the root"))
    }

    /// Are these blocks of the tree what the slot holds? The top one, which it doesn't hold, comes
    /// back.
    fn check_tree(&mut self, grown: &mut Vec<Grown>) -> Result<Option<Vec<u8>>, Refused> {
        let mut top = None;
        let mut found = [0; BLOCK];
        for Grown { number, bytes } in grown.drain(..) {
            if number == 0 {
                top = Some(bytes);
                continue;
            }
            let offset = self.manifest.root.tree_offset() + number * BLOCK as u64;
            self.disks.slot.read(offset, &mut found).map_err(disk)?;
            if found[..] != bytes[..] {
                return Err(read_back("the hash tree"));
            }
        }
        Ok(top)
    }

    /// Writes the top block: the slot holds the root from here on.
    fn crown(&mut self, top: &[u8]) -> Result<(), Refused> {
        let offset = self.manifest.root.tree_offset();
        self.disks.slot.write(offset, top).map_err(disk)?;
        self.disks.slot.flush().map_err(disk)?;
        let mut found = [0; BLOCK];
        self.disks.slot.read(offset, &mut found).map_err(disk)?;
        match found[..] == *top {
            true => Ok(()),
            false => Err(read_back("the top of the hash tree")),
        }
    }

    /// The commit: one sector, of which one entry changes. If it can't be read back, the one that
    /// was there before is written again, since what can't be told must not be tried.
    fn arm(&mut self) -> Result<(), Refused> {
        let before = *self.directory()?.sector();
        let armed = self.change_directory(|directory, side| directory.arm(side, TRIES));
        armed.inspect_err(|_| {
            let _ = self.put_directory(&before);
        })
    }

    fn change_directory(
        &mut self,
        edit: impl Fn(&Directory, Side) -> Result<Vec<Sector>, Cannot>,
    ) -> Result<(), Refused> {
        let sectors = edit(&self.directory()?, self.order.side).map_err(disk)?;
        sectors.iter().try_for_each(|sector| self.put_directory(sector))
    }

    fn directory(&mut self) -> Result<Directory, Refused> {
        let mut sector = [0; SECTOR];
        self.disks.esp.read(self.esp.directory, &mut sector).map_err(disk)?;
        self.esp.read_directory(&sector).map_err(disk)
    }

    fn put_directory(&mut self, sector: &Sector) -> Result<(), Refused> {
        self.disks.esp.commit(self.esp.directory, sector).map_err(disk)?;
        match self.directory()?.sector() == sector {
            true => Ok(()),
            false => Err(read_back("the folder of UKIs")),
        }
    }
}

/// Of a chunk with these pieces.
fn length_of(pieces: &[Piece]) -> usize {
    pieces.last().map_or(0, |piece| piece.bytes.end)
}

fn truncated(cut: Cut) -> Refused {
    refused(Code::Truncated, format_args!("cannot take the bundle: {cut}"))
}

fn read_back(what: &str) -> Refused {
    let why = format_args!("cannot trust the disk: {what} is read back otherwise than written");
    refused(Code::ReadBack, why)
}

fn disk(error: impl Display) -> Refused {
    refused(Code::Disk, format_args!("cannot use the disk: {error}"))
}
