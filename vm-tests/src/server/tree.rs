//! Prosody and all that it needs, as the built image of its recipe has them, unpacked into a folder:
//! it runs with its own Lua and C library, whatever this host has.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use appliance::settings::Prosody;

use crate::disk;
use crate::images::{Image, run};
use crate::scratch::{self, bounded};

const UNPACK_WITHIN: u32 = 120;

/// A folder in which the root of an image is unpacked.
#[derive(Debug, Clone)]
pub struct Tree {
    version: Prosody,
    root: PathBuf,
}

impl Tree {
    /// Finds one of this version, building its image and unpacking that if it hasn't been done.
    pub fn find(version: Prosody) -> Result<Tree> {
        let (name, variable, image): (_, _, fn() -> Image) = match version {
            Prosody::V0_12 => ("0.12", "STELE_PROSODY_0_12", Image::older_release),
            Prosody::V13_0 => ("13.0", "STELE_PROSODY_13_0", Image::release),
        };
        let root = match env::var_os(variable) {
            Some(root) => root.into(),
            None => unpacked(name, &image())
                .with_context(|| format!("cannot find the tree of Prosody {name}"))?,
        };
        Ok(Tree { version, root })
    }

    /// Which version it is.
    pub fn version(&self) -> Prosody {
        self.version
    }

    /// Lua, with the modules of the tree.
    pub fn lua(&self) -> Command {
        let libraries = self.libraries();
        let loader = libraries.as_deref().and_then(loader);
        let mut command = Command::new(loader.unwrap_or_else(|| self.root.join("ld.so")));
        let libraries = libraries.unwrap_or_default().display().to_string();
        command.args(["--library-path", &libraries]).arg(self.root.join("usr/bin/lua5.4"));
        let share = self.root.join("usr/share/lua/5.4").display().to_string();
        command.env("LUA_PATH", format!("{share}/?.lua;{share}/?/init.lua"));
        command.env("LUA_CPATH", format!("{libraries}/lua/5.4/?.so"));
        command
    }

    /// `prosody` or `prosodyctl`, which look for their own parts here.
    pub fn command(&self, program: &str) -> Command {
        let mut command = self.lua();
        command.arg(self.root.join("here").join(program));
        command
    }

    /// The folder of shared libraries, by the name of the architecture.
    fn libraries(&self) -> Option<PathBuf> {
        find_in(&self.root.join("usr/lib"), |name| name.ends_with("-linux-gnu"))
    }
}

fn loader(libraries: &Path) -> Option<PathBuf> {
    find_in(libraries, |name| name.starts_with("ld-linux-"))
}

fn find_in(folder: &Path, is_wanted: impl Fn(&str) -> bool) -> Option<PathBuf> {
    let mut entries = fs::read_dir(folder).ok()?.filter_map(|entry| Some(entry.ok()?.path()));
    entries.find(|path| path.file_name().is_some_and(|name| is_wanted(&name.to_string_lossy())))
}

/// The root of an image in the folder `prosody/NAME-ROOTHASH`; others of this name are deleted.
fn unpacked(name: &str, image: &Image) -> Result<PathBuf> {
    let hash = image.outcome["report"]["root"]["root_hash"].as_str();
    let own = format!("{name}-{}", hash.context("the image has no root hash")?);
    let _held = scratch::lock("prosody")?;
    let folder = scratch::folder("prosody")?;
    let root = folder.join(&own);
    if root.is_dir() {
        return Ok(root);
    }
    while let Some(old) = find_in(&folder, |other| other.starts_with(&format!("{name}-"))) {
        fs::remove_dir_all(&old).with_context(|| format!("cannot delete {}", old.display()))?;
    }
    unpack(image, &root)?;
    Ok(root)
}

/// All of `/usr`, where everything is that programs are made of.
fn unpack(image: &Image, root: &Path) -> Result<()> {
    let part = root.with_file_name("part");
    let _ = fs::remove_dir_all(&part);
    let slot = disk::partition(&image.disk, "slot-a")?;
    let mut command = bounded("unsquashfs", UNPACK_WITHIN);
    command.args(["-no-progress", "-no-xattrs", "-offset", &slot.offset().to_string(), "-dest"]);
    run(command.arg(&part).arg(&image.disk).arg("usr"), "unpack a root")?;
    fs::create_dir(part.join("here")).context("cannot make a folder")?;
    for program in ["prosody", "prosodyctl"] {
        let text = fs::read_to_string(part.join("usr/bin").join(program))
            .with_context(|| format!("cannot read {program}"))?;
        let own = format!("='{}", root.join("usr/lib/prosody").display());
        fs::write(part.join("here").join(program), text.replace("='/usr/lib/prosody", &own))
            .with_context(|| format!("cannot write {program}"))?;
    }
    fs::rename(&part, root).with_context(|| format!("cannot make {}", root.display()))
}
