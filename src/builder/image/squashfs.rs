//! The root file system: squashfs, compressed with zstd, written by `backhand`.
//!
//! This is the seam for another file system: a tree goes in, whole dm-verity blocks come out.

use std::io::Cursor;

use anyhow::{Context, Result};
use appliance::verity::BLOCK;
use backhand::compression::{CompressionOptions, Compressor, Zstd};
use backhand::{FilesystemCompressor, FilesystemWriter, NodeHeader};

use crate::tree::{Entry, Kind, Tree};

/// zstd's level: beyond it, seconds of work save little. A block is unpacked at the same speed.
const LEVEL: u32 = 15;
/// Uncompressed bytes that are compressed together: larger saves room, smaller saves reading.
const BLOCK_SIZE: u32 = 128 << 10;

/// The tree as a file system, with `clock` (seconds since 1970) as the time of everything.
pub fn write(tree: &Tree, clock: u64) -> Result<Vec<u8>> {
    let clock = u32::try_from(clock).context("cannot write squashfs: the clock is beyond 2106")?;
    let mut writer = FilesystemWriter::default();
    let options = CompressionOptions::Zstd(Zstd { compression_level: LEVEL });
    writer.set_compressor(FilesystemCompressor::new(Compressor::Zstd, Some(options))?);
    writer.set_block_size(BLOCK_SIZE);
    writer.set_time(clock);
    writer.set_root_mode(0o755);
    writer.set_no_padding();
    for (path, entry) in tree.iter() {
        push(&mut writer, path, entry, clock).with_context(|| format!("cannot write {path}"))?;
    }
    let mut bytes = Cursor::new(Vec::new());
    writer.write(&mut bytes).context("cannot write squashfs")?;
    let mut bytes = bytes.into_inner();
    bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
    Ok(bytes)
}

fn push<'c>(
    writer: &mut FilesystemWriter<'_, '_, 'c>,
    path: &str,
    entry: &Entry,
    clock: u32,
) -> Result<()> {
    let header = NodeHeader::new(entry.mode, entry.uid, entry.gid, clock);
    match &entry.kind {
        Kind::Directory => writer.push_dir(path, header)?,
        Kind::Link(target) => writer.push_symlink(target, path, header)?,
        Kind::File(bytes) => writer.push_file(Cursor::new(bytes.clone()), path, header)?,
    }
    Ok(())
}
