//! How large the image is, and what is in it.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;

use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::Value;
use vm_tests::images::Image;

/// zstd's level for a download: made once, fetched often.
const LEVEL: i32 = 19;

/// Sizes in bytes.
#[derive(Debug, Serialize)]
pub struct Sizes {
    /// Of the image file.
    pub apparent: u64,
    /// What it takes on a file system with holes.
    pub allocated: u64,
    /// Compressed by zstd.
    pub compressed: u64,
    /// With this level.
    pub compression_level: i32,
    /// The root file system, without its hash tree.
    pub root: u64,
    /// The kernel, initrd and stub in one file.
    pub uki: u64,
    /// Files in the root.
    pub files: u64,
    /// Packages that something in the root is from.
    pub packages: usize,
}

/// Looks at an image and at what its builder said.
pub fn measure(image: &Image) -> Result<Sizes> {
    eprintln!("image: compressing it");
    let path = &image.disk;
    let context = || format!("cannot measure {}", path.display());
    let metadata = fs::metadata(path).with_context(context)?;
    let mut compressor = zstd::Encoder::new(Count(0), LEVEL).with_context(context)?;
    io::copy(&mut File::open(path).with_context(context)?, &mut compressor)
        .with_context(context)?;
    let report = &image.outcome["report"];
    let number = |value: &Value| value.as_u64().context("stele's report lacks a number");
    Ok(Sizes {
        apparent: metadata.len(),
        allocated: metadata.blocks() * 512,
        compressed: compressor.finish().with_context(context)?.0,
        compression_level: LEVEL,
        root: number(&report["root"]["bytes"])?,
        uki: number(&report["uki"]["bytes"])?,
        files: number(&report["root"]["files"])?,
        packages: report["root"]["packages"].as_object().map_or(0, serde_json::Map::len),
    })
}

/// Forgets what is written, but not how much.
struct Count(u64);

impl Write for Count {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
