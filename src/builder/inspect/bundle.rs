//! A bundle, looked into.

use std::fs::File;
use std::io::{self, ErrorKind, Read as _};
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use appliance::boot::Appliance;
use appliance::bundle::{self, CHUNK, Head, Kind, Manifest};
use appliance::hash::Digest;

use crate::inspect::fault;
use crate::inspect::part::Part;
use crate::inspect::root::Root;
use crate::inspect::uki::Uki;

/// A bundle whose manifest can be, and whose file is as long as that says.
#[derive(Debug)]
pub struct Bundle {
    /// What it begins with.
    pub head: Head,
    /// What it says.
    pub manifest: Manifest,
    /// The manifest's bytes, as they are signed.
    pub signed: Vec<u8>,
    /// Length of the whole file.
    pub bytes: u64,
    file: File,
}

/// UKI, hash tree and root.
#[derive(Debug, Default)]
struct Parts {
    uki: Vec<u8>,
    tree: Vec<u8>,
    root: Vec<u8>,
}

impl Bundle {
    /// Opens the bundle at `path`; only its beginning is read.
    pub fn open(path: &Path) -> Result<Bundle> {
        let context = || format!("cannot read bundle {}", path.display());
        let file = File::open(path).with_context(context)?;
        Bundle::of(file).with_context(context)
    }

    fn of(mut file: File) -> Result<Bundle> {
        let ends = |error: io::Error, what: anyhow::Error| match error.kind() {
            ErrorKind::UnexpectedEof => what,
            _ => error.into(),
        };
        let mut head = [0; Head::BYTES];
        let none = || bundle::Error::NotABundle.into();
        file.read_exact(&mut head).map_err(|error| ends(error, none()))?;
        let head = Head::parse(&head)?;
        let mut signed = vec![0; head.manifest_length];
        let short = || anyhow!("it ends before its manifest does");
        file.read_exact(&mut signed).map_err(|error| ends(error, short()))?;
        let manifest = Manifest::parse(&signed)?;
        let (bytes, expected) = (file.metadata()?.len(), manifest.total(signed.len()));
        if bytes != expected {
            bail!("it has {bytes} bytes, where its manifest says {expected}");
        }
        Ok(Bundle { head, manifest, signed, bytes, file })
    }

    /// What is wrong with what comes behind the manifest; nothing, when each chunk, the UKI, the
    /// root and its hash tree are what the manifest says, the UKI starts that root, and the root
    /// says that it is what the manifest says.
    pub fn fault(&self) -> Result<Option<String>> {
        let parts = match self.parts()? {
            Ok(parts) => parts,
            Err(fault) => return Ok(Some(fault)),
        };
        let manifest = &self.manifest;
        if Digest::of(&parts.uki) != manifest.uki.sha256 {
            return Ok(Some("its UKI is not what the manifest says".to_owned()));
        }
        if let Some(fault) = fault(&manifest.root, &parts.root, &parts.tree) {
            return Ok(Some(format!("its root: {fault}")));
        }
        let pin = Uki::new("the bundle", parts.uki).pin()?.root;
        if pin != manifest.root {
            return Ok(Some(format!("its UKI starts another root, {}", pin.root_hash)));
        }
        let Appliance { name, version, data_format, .. } = self.appliance()?;
        let says = (manifest.product.as_str(), manifest.version.to_string(), manifest.data);
        let is_so = says == (name.as_str(), version.clone(), data_format);
        let other = format!("its root is {name} {version} of data format {data_format}");
        Ok((!is_so).then_some(other))
    }

    /// What the root says of itself.
    pub fn appliance(&self) -> Result<Appliance> {
        let length = self.manifest.root.tree_offset();
        let file = self.file.try_clone().context("cannot open the bundle once more")?;
        Root::open(Part::new(file, self.bytes - length, length))?.appliance()
    }

    /// Its parts, or which chunk isn't what the manifest says.
    fn parts(&self) -> Result<Result<Parts, String>> {
        let file = self.file.try_clone().context("cannot open the bundle once more")?;
        let mut payload =
            Part::new(file, self.bytes - self.manifest.payload(), self.manifest.payload());
        let mut parts = Parts::default();
        for (number, (digest, pieces)) in self.manifest.chunks().enumerate() {
            let mut chunk = Vec::with_capacity(CHUNK);
            payload.by_ref().take(CHUNK as u64).read_to_end(&mut chunk)?;
            if Digest::of(&chunk) != digest {
                let count = self.manifest.chunks.len();
                let fault =
                    format!("chunk {} of {count} is not what the manifest says", number + 1);
                return Ok(Err(fault));
            }
            for piece in pieces {
                let part = match piece.kind {
                    Kind::Uki => &mut parts.uki,
                    Kind::Tree => &mut parts.tree,
                    Kind::Root => &mut parts.root,
                };
                part.extend_from_slice(&chunk[piece.bytes]);
            }
        }
        Ok(Ok(parts))
    }
}
