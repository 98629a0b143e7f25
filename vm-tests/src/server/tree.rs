//! Prosody and all that it needs, as Debian packs it, unpacked into a folder: it runs with its own
//! Lua and C library, whatever this host has.

use std::collections::hash_map::DefaultHasher;
use std::env;
use std::fs;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use appliance::settings::Prosody;

use crate::images::{self, Image, POD, run};
use crate::scratch::{self, bounded};

const FETCH_WITHIN: u32 = 300;
const UNPACK_WITHIN: u32 = 120;
/// What bookworm's Prosody needs, of bookworm.
const BOOKWORM: [&str; 20] = [
    "libc6",
    "libevent-2.1-7",
    "libexpat1",
    "libgcc-s1",
    "libicu72",
    "liblua5.4-0",
    "libreadline8",
    "libssl3",
    "libstdc++6",
    "libtinfo6",
    "libunbound8",
    "lua-bitop",
    "lua-expat",
    "lua-filesystem",
    "lua-sec",
    "lua-socket",
    "lua-unbound",
    "lua5.4",
    "prosody",
    "zlib1g",
];

/// A folder in which Prosody is unpacked.
#[derive(Debug, Clone)]
pub struct Tree {
    version: Prosody,
    root: PathBuf,
}

impl Tree {
    /// Finds one of this version, fetching and unpacking it if that hasn't been done.
    pub fn find(version: Prosody) -> Result<Tree> {
        let variable = match version {
            Prosody::V0_12 => "STELE_PROSODY_0_12",
            Prosody::V13_0 => "STELE_PROSODY_13_0",
        };
        let root = match (env::var_os(variable), version) {
            (Some(root), _) => root.into(),
            (None, Prosody::V0_12) => bookworm().with_context(|| {
                format!("cannot find Prosody 0.12\nhint: {variable}=FOLDER on another Debian")
            })?,
            (None, Prosody::V13_0) => locked().context("cannot find Prosody 13.0")?,
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
        let loader = libraries.iter().find_map(|folder| loader(folder));
        let mut command = Command::new(loader.unwrap_or_else(|| self.root.join("ld.so")));
        let path = |folder: &PathBuf| folder.display().to_string();
        let paths: Vec<String> = libraries.iter().map(path).collect();
        command.arg("--library-path").arg(paths.join(":")).arg(self.root.join("usr/bin/lua5.4"));
        let share = self.root.join("usr/share/lua/5.4").display().to_string();
        command.env("LUA_PATH", format!("{share}/?.lua;{share}/?/init.lua"));
        let modules = paths.iter().map(|folder| format!("{folder}/lua/5.4/?.so"));
        command.env("LUA_CPATH", modules.collect::<Vec<_>>().join(";"));
        command
    }

    /// `prosody` or `prosodyctl`, which look for their own parts here.
    pub fn command(&self, program: &str) -> Command {
        let mut command = self.lua();
        command.arg(self.root.join("here").join(program));
        command
    }

    /// The folders of shared libraries: before and after Debian's merge of `/lib` and `/usr/lib`.
    fn libraries(&self) -> Vec<PathBuf> {
        let parents = ["usr/lib", "lib"].map(|folder| self.root.join(folder));
        let entries = parents.iter().filter_map(|folder| fs::read_dir(folder).ok()).flatten();
        let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
        paths.filter(|path| path.to_string_lossy().ends_with("-linux-gnu")).collect()
    }
}

fn loader(libraries: &Path) -> Option<PathBuf> {
    let mut entries = fs::read_dir(libraries).ok()?.filter_map(|entry| Some(entry.ok()?.path()));
    entries.find(|path| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("ld-linux-"))
    })
}

/// Of this host's apt, which must be bookworm's.
fn bookworm() -> Result<PathBuf> {
    let _held = scratch::lock("prosody")?;
    let root = scratch::folder("prosody")?.join("0.12");
    if root.is_dir() {
        return Ok(root);
    }
    let fetched = scratch::folder("prosody/0.12-packages")?;
    let mut apt = bounded("apt-get", FETCH_WITHIN);
    // Root's apt would rather fetch as another user, who may not write here.
    apt.args(["download", "-q", "-o", "APT::Sandbox::User="]).args(BOOKWORM);
    run(apt.current_dir(&fetched), "fetch bookworm's packages")?;
    let packages = fs::read_dir(&fetched)?.map(|entry| Ok(entry?.path()));
    let packages: Vec<PathBuf> = packages.collect::<Result<_>>()?;
    let is_old = |path: &PathBuf| path.to_string_lossy().contains("/prosody_0.12.");
    ensure!(packages.iter().any(is_old), "this host's apt has another version of it");
    unpack(&packages, &root)?;
    Ok(root)
}

/// What the recipe's lock pins; `stele` fetches what its store lacks when it builds an image.
fn locked() -> Result<PathBuf> {
    let lock = images::recipes().join(POD).with_extension("lock");
    let text =
        fs::read_to_string(&lock).with_context(|| format!("cannot read {}", lock.display()))?;
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    let packages = pinned(&text).with_context(|| format!("cannot read {}", lock.display()))?;
    let _held = scratch::lock("prosody")?;
    let root = scratch::folder("prosody")?.join(format!("13.0-{:016x}", hasher.finish()));
    if root.is_dir() {
        return Ok(root);
    }
    if !packages.iter().all(|path| path.is_file()) {
        Image::release();
    }
    unpack(&packages, &root)?;
    Ok(root)
}

/// Where the store has the packages of a lock, without those that only a machine needs.
fn pinned(lock: &str) -> Result<Vec<PathBuf>> {
    let lock: toml::Table = lock.parse()?;
    let packages = lock.get("package").and_then(toml::Value::as_array).context("no packages")?;
    let store = match env::var_os("STELE_STORE") {
        Some(store) => PathBuf::from(store),
        None => PathBuf::from(env::var_os("HOME").context("no HOME")?).join(".cache/stele"),
    };
    let text = |package: &toml::Value, key: &str| package.get(key)?.as_str().map(str::to_owned);
    let mut paths = Vec::new();
    for package in packages {
        let name = text(package, "name").context("a package has no name")?;
        let Some(digest) = text(package, "sha256") else { continue };
        let first = digest.get(..2).context("a digest is short")?;
        if !["linux-", "systemd", "e2fsprogs"].iter().any(|not| name.starts_with(not)) {
            paths.push(store.join("sha256").join(first).join(&digest));
        }
    }
    Ok(paths)
}

fn unpack(packages: &[PathBuf], root: &Path) -> Result<()> {
    let part = root.with_extension("part");
    let _ = fs::remove_dir_all(&part);
    fs::create_dir_all(&part).with_context(|| format!("cannot make {}", part.display()))?;
    for package in packages {
        let mut command = bounded("dpkg-deb", UNPACK_WITHIN);
        run(command.arg("-x").arg(package).arg(&part), "unpack a package")?;
    }
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
