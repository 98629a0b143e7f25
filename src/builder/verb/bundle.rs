//! `stele bundle`: what is in an image that was built, as one signed file. What upgrades others is
//! what a first install is, byte for byte.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use appliance::bundle::{self, FORMAT, Manifest, Part};
use appliance::hash::Digest;
use appliance::name::Name;
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use signing::SecretKey;

use crate::inspect::Image;
use crate::plan::Plan;
use crate::quantity::Size;
use crate::report::FileReport;
use crate::verb::build::Format;

/// A bundle that was made.
#[derive(Debug, Serialize)]
pub struct Outcome {
    /// The file.
    pub path: PathBuf,
    /// Its length and digest.
    #[serde(flatten)]
    pub file: FileReport,
    /// The key that signed it.
    pub key: String,
    /// What is odd, but no reason to stop.
    pub warnings: Vec<String>,
}

/// The secret key at `path`.
pub fn key(path: &Path) -> Result<SecretKey> {
    signing::read_secret(path).with_context(|| format!("cannot use key {}", path.display()))
}

/// Refuses a plan whose appliances would take its bundle, and no other ever again; and a build that
/// leaves nothing to take one from.
pub fn check(plan: &Plan, formats: &[Format]) -> Result<()> {
    if !formats.contains(&Format::Raw) {
        bail!(
            "cannot make a bundle of {}: it is taken from the image as a disk has it\nhint: \
             --format raw, or raw and others",
            plan.recipe().name
        );
    }
    if plan.trust.is_none() {
        bail!(
            "cannot make a bundle of {}: its recipe names no keys, and who takes it would take no \
             other after it\nhint: keys = [\"NAME.pub\"] under [upgrade] in the recipe",
            plan.recipe().name
        );
    }
    Ok(())
}

/// Makes the bundle of `image`, which was built of `plan` with this UKI, beside it.
pub fn make(plan: &Plan, image: &Path, uki: &FileReport, key: &SecretKey) -> Result<Outcome> {
    let context = || format!("cannot make a bundle of {}", image.display());
    let opened = Image::open(image)?;
    let first = opened.first_uki()?;
    // In the ESP, zeros follow up to the end of its place.
    let bytes =
        first.bytes().get(..uki.bytes as usize).filter(|bytes| Digest::of(bytes) == uki.sha256);
    let bytes = bytes.context("its UKI isn't the one that was built").with_context(context)?;
    let pin = first.pin()?.root;
    let (root, tree) = opened.sound_root(&pin)?;
    let parts = [bytes, &tree, &root];
    let recipe = plan.recipe();
    let architecture = recipe.debian.architecture.debian().to_owned();
    let manifest = Manifest {
        format: FORMAT,
        product: recipe.name.clone(),
        version: recipe.version.clone(),
        architecture: Name::try_from(architecture).with_context(context)?,
        follows: recipe.upgrade.follows.clone(),
        floor: recipe.upgrade.floor.clone(),
        data: recipe.data_format,
        uki: Part { size: uki.bytes, sha256: uki.sha256 },
        root: pin,
        chunks: bundle::digests(parts),
    };
    let manifest = manifest.to_bytes().with_context(context)?;
    let head = key.sign(&manifest).to_bytes();
    let path = image.with_extension("bundle");
    let file = write(&path, [&[&head[..], &manifest], &parts[..]].concat())?;
    let warnings = warnings(plan, key);
    Ok(Outcome { path, file, key: key.public().id().to_string(), warnings })
}

impl Outcome {
    /// What a person reads.
    pub fn print(&self) {
        for warning in &self.warnings {
            println!("warning: {warning}");
        }
        let size = Size(self.file.bytes).to_string();
        println!("bundle {size:>10}  sha256 {}, signed by key {}", self.file.sha256, self.key);
        println!("made {}", self.path.display());
    }
}

/// Keys are changed by a bundle that the old one signed and that believes the new one, so this may
/// be meant.
fn warnings(plan: &Plan, key: &SecretKey) -> Vec<String> {
    let public = key.public();
    let is_believed = plan.trust.iter().any(|trust| trust.keys.contains(&public.to_string()));
    let warning = || {
        format!(
            "key {} is not one that the recipe names: who takes this bundle takes no other \
                    that it signs",
            public.id()
        )
    };
    (!is_believed).then(warning).into_iter().collect()
}

/// Writes the file beside its place, and moves it there whole.
fn write(path: &Path, parts: Vec<&[u8]>) -> Result<FileReport> {
    let context = || format!("cannot write {}", path.display());
    let mut file = tempfile::Builder::new()
        .permissions(PermissionsExt::from_mode(0o644))
        .tempfile_in(path.parent().unwrap_or(Path::new(".")))
        .with_context(context)?;
    let (mut hash, mut bytes) = (Sha256::new(), 0);
    for part in parts {
        file.write_all(part).with_context(context)?;
        hash.update(part);
        bytes += part.len() as u64;
    }
    file.persist(path).map_err(|error| error.error).with_context(context)?;
    Ok(FileReport { bytes, sha256: Digest(hash.finalize().into()) })
}
