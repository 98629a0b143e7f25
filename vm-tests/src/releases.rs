//! Releases of one Pod: each an image and the bundle that upgrades others to it, all signed with the
//! same key.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::images::{self, BUILD_WITHIN, Change, Image, POD, Tools, run};
use crate::mutant::{self, Edit};
use crate::scratch::{self, bounded};

/// Making a key takes no time.
const KEY_WITHIN: u32 = 20;

/// None of them takes a version before this one.
pub const FLOOR: &str = "1.0.0";

/// What is installed, and what others are upgraded by.
#[derive(Debug, Clone)]
pub struct Release {
    version: String,
    /// For a disk.
    pub image: Image,
    /// For a running Pod.
    pub bundle: PathBuf,
}

impl Release {
    /// The Pod of this version, with layers of `vm-tests/layers`.
    pub fn of(version: &str, layers: &[&str]) -> Release {
        Release::changed(version, layers, &[], &[])
    }

    /// The same, with files of the shipped layers and sources of the guest programs changed.
    pub fn changed(version: &str, layers: &[&str], changes: &[Change], edits: &[Edit]) -> Release {
        build(version, layers, changes, edits).unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// What it says it is.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The root hash, as the builder tells it.
    pub fn root_hash(&self) -> &str {
        self.image.outcome["report"]["root"]["root_hash"].as_str().unwrap_or_default()
    }
}

/// The key that signs all of them, without its ending.
pub fn key() -> Result<PathBuf> {
    let _held = scratch::lock("key")?;
    let name = scratch::folder("vm-images")?.join("release");
    if !name.with_extension("key").exists() {
        let mut command = bounded(&Tools::find()?.stele, KEY_WITHIN);
        run(command.args(["key", "new"]).arg(&name), "make a key")?;
    }
    Ok(name)
}

fn build(version: &str, layers: &[&str], changes: &[Change], edits: &[Edit]) -> Result<Release> {
    let key = key()?;
    let programs = match edits {
        [] => None,
        edits => Some(mutant::programs(version, edits)?),
    };
    let _held = scratch::lock("build")?;
    let name = [&[version], layers].concat().join("+");
    let out = scratch::folder(&format!("vm-images/release-{name}"))?;
    let recipe = images::write_changed_variant(POD, layers, changes, &out)?;
    let text = fs::read_to_string(&recipe)?;
    let mut document: toml::Table = text.parse()?;
    document.insert("version".into(), version.into());
    let trusted = key.with_extension("pub").display().to_string();
    let upgrade = toml::Table::from_iter([
        ("keys".to_owned(), vec![trusted].into()),
        ("floor".to_owned(), FLOOR.into()),
    ]);
    document.insert("upgrade".into(), upgrade.into());
    fs::write(&recipe, toml::to_string(&document)?)?;
    let tools = Tools::find()?;
    let mut command = bounded(&tools.stele, BUILD_WITHIN);
    command.arg("bundle").arg(&recipe).arg("--json").arg("--out").arg(&out);
    command.arg("--key").arg(key.with_extension("key"));
    command.arg("--programs").arg(programs.as_ref().unwrap_or(&tools.programs));
    let printed = run(&mut command, &format!("build release {version}"))?;
    let outcome: Value =
        serde_json::from_str(&printed).context("cannot understand stele's JSON")?;
    let path = |value: &Value| value.as_str().map(PathBuf::from);
    let image = path(&outcome["image"]).context("stele's JSON names no image")?;
    let bundle = path(&outcome["bundle"]["path"]).context("stele's JSON names no bundle")?;
    ensure!(bundle.is_file(), "there is no {}", bundle.display());
    let image = Image { disk: image, outcome };
    Ok(Release { version: version.to_owned(), image, bundle })
}
