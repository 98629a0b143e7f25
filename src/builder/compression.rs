//! Decompression, by the name that a file carries, with a bound on what comes out.

use std::io::{self, Read};

use anyhow::{Context, Result, bail};

/// The most that anything is unpacked to: far more than any package here, far less than a bomb.
const LIMIT: u64 = 1 << 30;

/// The content of `bytes`, compressed as `kind` (`xz`, `gz`, `zst`, or nothing) says.
pub fn decompress(kind: &str, bytes: &[u8]) -> Result<Vec<u8>> {
    let mut content = Vec::new();
    reader(kind, bytes)?
        .take(LIMIT + 1)
        .read_to_end(&mut content)
        .context("cannot decompress it")?;
    if content.len() as u64 > LIMIT {
        bail!("cannot decompress it: it grows beyond {LIMIT} bytes");
    }
    Ok(content)
}

fn reader<'a>(kind: &str, bytes: &'a [u8]) -> Result<Box<dyn Read + 'a>> {
    Ok(match kind {
        "" => Box::new(bytes),
        "xz" => Box::new(liblzma::read::XzDecoder::new_multi_decoder(bytes)),
        "gz" => Box::new(flate2::read::MultiGzDecoder::new(bytes)),
        "zst" => Box::new(zstd::Decoder::new(bytes).map_err(io::Error::other)?),
        other => bail!("cannot decompress it: `{other}` is not a compression known here"),
    })
}
