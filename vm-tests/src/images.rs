//! Images: the recipe's own, and variants of it with layers of `vm-tests/layers` in them. All are
//! built by the program `stele`, as users do.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::mutant::{self, Edit};
use crate::scratch::{self, bounded};

/// The recipe that is shipped: the whole Pod.
pub const POD: &str = "prose-pod";
/// The same with the older Server, Prosody 0.12.
pub const OLDER_POD: &str = "prose-pod-0.12";
/// The recipe of a Server alone: enough for what is PID 1's business.
pub const SERVER: &str = "prosody";
/// Compiling the builder or the guest programs may take that long, in seconds.
const COMPILE_WITHIN: u32 = 1800;
pub(crate) const BUILD_WITHIN: u32 = 300;

/// A disk image, and what its builder says about it.
#[derive(Debug, Clone)]
pub struct Image {
    /// The image file; nobody writes to it.
    pub disk: PathBuf,
    /// What `stele build --json` printed.
    pub outcome: Value,
}

impl Image {
    /// What is shipped.
    pub fn release() -> Image {
        static BUILT: OnceLock<Image> = OnceLock::new();
        let build = || build_recipe(POD).unwrap_or_else(|error| panic!("{error:#}"));
        BUILT.get_or_init(build).clone()
    }

    /// The Pod with the older Server, as its recipe has it.
    pub fn older_release() -> Image {
        static BUILT: OnceLock<Image> = OnceLock::new();
        let build = || build_recipe(OLDER_POD).unwrap_or_else(|error| panic!("{error:#}"));
        BUILT.get_or_init(build).clone()
    }

    /// A Server alone, as its recipe has it.
    pub fn server() -> Image {
        static BUILT: OnceLock<Image> = OnceLock::new();
        let build = || build_recipe(SERVER).unwrap_or_else(|error| panic!("{error:#}"));
        BUILT.get_or_init(build).clone()
    }

    /// A Server alone, and these layers of `vm-tests/layers`.
    pub fn with_layers(layers: &[&str]) -> Image {
        Image::changed(&layers.join("+"), layers, &[])
    }

    /// The Pod, and these layers of `vm-tests/layers`, with files of the shipped layers changed. It
    /// is called `name`.
    pub fn pod(name: &str, layers: &[&str], changes: &[Change]) -> Image {
        let built = build_variant(POD, name, layers, changes, None);
        built.unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// The Pod with the older Server, and these layers of `vm-tests/layers`. It is called `name`.
    pub fn older_pod(name: &str, layers: &[&str]) -> Image {
        let built = build_variant(OLDER_POD, name, layers, &[], None);
        built.unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// The Pod, with guest programs of changed sources.
    pub fn pod_mutant(name: &str, layers: &[&str], edits: &[Edit]) -> Image {
        let built = mutant::programs(name, edits)
            .and_then(|programs| build_variant(POD, name, layers, &[], Some(programs)));
        built.unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// A Server alone, with files of the shipped layers changed. It is called `name`.
    pub fn changed(name: &str, layers: &[&str], changes: &[Change]) -> Image {
        let built = build_variant(SERVER, name, layers, changes, None);
        built.unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// The same, with guest programs of changed sources.
    pub fn mutant(name: &str, layers: &[&str], changes: &[Change], edits: &[Edit]) -> Image {
        let built = mutant::programs(name, edits)
            .and_then(|programs| build_variant(SERVER, name, layers, changes, Some(programs)));
        built.unwrap_or_else(|error| panic!("{error:#}"))
    }
}

/// How a file of a layer differs in a variant.
#[derive(Debug, Clone, Copy)]
pub struct Change<'a> {
    /// The layer.
    pub layer: &'a str,
    /// The file in its folder.
    pub file: &'a str,
    /// What is in it, once.
    pub from: &'a str,
    /// What the variant has in its place.
    pub to: &'a str,
}

fn build_recipe(name: &str) -> Result<Image> {
    let _held = scratch::lock("build")?;
    let out = scratch::folder(&format!("vm-images/{name}"))?;
    let tools = Tools::find()?;
    build(&tools.stele, &tools.programs, &recipe_of(name), &out)
}

fn build_variant(
    recipe: &str,
    name: &str,
    layers: &[&str],
    changes: &[Change],
    programs: Option<PathBuf>,
) -> Result<Image> {
    let _held = scratch::lock("build")?;
    let out = scratch::folder(&format!("vm-images/{name}"))?;
    let recipe = write_changed_variant(recipe, layers, changes, &out)?;
    let tools = Tools::find()?;
    build(&tools.stele, programs.as_ref().unwrap_or(&tools.programs), &recipe, &out)
}

/// Writes a recipe with more layers, and shipped ones changed, into `folder`; returns where.
pub(crate) fn write_changed_variant(
    recipe: &str,
    layers: &[&str],
    changes: &[Change],
    folder: &Path,
) -> Result<PathBuf> {
    write_changed(changes, &folder.join(CHANGED))?;
    write_variant(recipe, layers, folder)
}

/// The folder of a variant's changed layers.
const CHANGED: &str = "changed-layers";

/// Copies the layers that change, changed, into `folder`.
fn write_changed(changes: &[Change], folder: &Path) -> Result<()> {
    let context = || format!("cannot change layers in {}", folder.display());
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(context)?;
    }
    fs::create_dir_all(folder).with_context(context)?;
    for Change { layer, file, from, to } in changes {
        let copy = folder.join(layer);
        if !copy.exists() {
            copy_files(&recipes().join("../layers").join(layer), &copy).with_context(context)?;
        }
        let text = fs::read_to_string(copy.join(file)).with_context(context)?;
        ensure!(text.matches(from).count() == 1, "`{from}` isn't once in {layer}/{file}");
        fs::write(copy.join(file), text.replace(from, to)).with_context(context)?;
    }
    Ok(())
}

fn copy_files(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (path, copy) = (entry.path(), to.join(entry.file_name()));
        match path.is_dir() {
            true => copy_files(&path, &copy)?,
            false => drop(fs::copy(&path, &copy)?),
        }
    }
    Ok(())
}

/// The folder with the recipes and their locks.
pub fn recipes() -> PathBuf {
    env::var_os("STELE_RECIPES").map_or_else(|| scratch::workspace().join("recipes"), PathBuf::from)
}

/// A recipe's document. (Its name may have a dot in it.)
fn recipe_of(name: &str) -> PathBuf {
    recipes().join(format!("{name}.toml"))
}

/// Writes the recipe with more layers into `folder`, and the lock beside it: it stays valid, since
/// these layers name no packages.
fn write_variant(recipe: &str, layers: &[&str], folder: &Path) -> Result<PathBuf> {
    let recipe = recipe_of(recipe);
    let text =
        fs::read_to_string(&recipe).with_context(|| format!("cannot read {}", recipe.display()))?;
    let text = variant(&text, layers, &recipes(), &[folder.join(CHANGED), own_layers()])
        .with_context(|| format!("cannot make a variant of {}", recipe.display()))?;
    let (own, lock) = (folder.join("variant.toml"), recipe.with_extension("lock"));
    fs::write(&own, text).with_context(|| format!("cannot write {}", own.display()))?;
    fs::copy(&lock, own.with_extension("lock"))
        .with_context(|| format!("cannot copy {}", lock.display()))?;
    Ok(own)
}

/// Layers for tests.
fn own_layers() -> PathBuf {
    scratch::workspace().join("vm-tests/layers")
}

/// The text of a recipe with more layers, looked for in these folders first; those that it names
/// relative to itself, in `beside`, become absolute.
pub fn variant(
    recipe: &str,
    layers: &[&str],
    beside: &Path,
    folders: &[PathBuf],
) -> Result<String> {
    let mut recipe: toml::Table = recipe.parse()?;
    let absolute =
        |folder: &str| -> toml::Value { beside.join(folder).display().to_string().into() };
    let first = folders.iter().map(|folder| absolute(&folder.to_string_lossy()));
    let mut folders: Vec<toml::Value> = first.collect();
    match recipe.get("layers-from").and_then(toml::Value::as_array) {
        Some(own) => folders.extend(own.iter().filter_map(toml::Value::as_str).map(absolute)),
        None => folders.push(absolute("../layers")),
    }
    recipe.insert("layers-from".into(), folders.into());
    let own = recipe.get_mut("layers").and_then(toml::Value::as_array_mut);
    let own = own.context("it names no layers")?;
    own.extend(layers.iter().map(|layer| toml::Value::from(*layer)));
    Ok(toml::to_string(&recipe)?)
}

/// The programs that build images.
#[derive(Debug)]
pub struct Tools {
    /// `stele`: of `STELE`, else of this checkout.
    pub stele: PathBuf,
    /// The folder of the guest programs: `STELE_PROGRAMS`, else compiled from this checkout.
    pub programs: PathBuf,
}

impl Tools {
    /// Finds them, compiling what has changed; once a process.
    pub fn find() -> Result<&'static Tools> {
        static FOUND: OnceLock<Tools> = OnceLock::new();
        if let Some(found) = FOUND.get() {
            return Ok(found);
        }
        let stele = match env::var_os("STELE") {
            Some(path) => path.into(),
            None => stele()?,
        };
        let programs = match env::var_os("STELE_PROGRAMS") {
            Some(path) => path.into(),
            None => programs(&stele)?,
        };
        Ok(FOUND.get_or_init(|| Tools { stele, programs }))
    }
}

/// Cargo sees to it that it is what the sources say, in the profile that was used before.
fn stele() -> Result<PathBuf> {
    let target = scratch::target()?;
    let there = |profile: &&str| target.join(profile).join("stele").is_file();
    let profile = ["release", "debug"].into_iter().find(there).unwrap_or("release");
    let mut cargo = bounded(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()), COMPILE_WITHIN);
    cargo.args(["build", "--locked", "--package", "builder", "--target-dir"]).arg(&target);
    if profile == "release" {
        cargo.arg("--release");
    }
    eprintln!("compiling stele, if it has changed");
    run(cargo.current_dir(scratch::workspace()), "compile stele")?;
    Ok(target.join(profile).join("stele"))
}

fn programs(stele: &Path) -> Result<PathBuf> {
    let out = scratch::folder("vm-images/programs")?;
    let mut command = bounded(stele, COMPILE_WITHIN);
    command.args(["programs", "--out"]).arg(&out).current_dir(scratch::workspace());
    run(&mut command, "compile the guest programs")?;
    Ok(out)
}

fn build(stele: &Path, programs: &Path, recipe: &Path, out: &Path) -> Result<Image> {
    let mut command = bounded(stele, BUILD_WITHIN);
    command.arg("build").arg(recipe).arg("--json").arg("--out").arg(out);
    command.arg("--programs").arg(programs);
    let printed = run(&mut command, &format!("build {}", recipe.display()))?;
    let outcome: Value =
        serde_json::from_str(&printed).context("cannot understand stele's JSON")?;
    let image = outcome.get("image").and_then(Value::as_str);
    let disk = image.context("stele's JSON names no image")?.into();
    Ok(Image { disk, outcome })
}

/// Runs `command` to its end, and returns what it printed.
pub fn run(command: &mut Command, what: &str) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot {what}: {command:?}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("cannot {what}: {} ({command:?}): {}", output.status, said.trim_end());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variant_has_more_layers_and_finds_all_of_them() {
        let beside = Path::new("/somewhere/recipes");
        let recipe = "name = \"x\"\nlayers = [\"base\"]\n[image]\nesp = \"48 MiB\"\n";
        let made = variant(recipe, &["test-a"], beside, &["/tests".into()]).unwrap();
        let made: toml::Table = made.parse().unwrap();
        let names = |key: &str| -> Vec<String> {
            let names = made[key].as_array().unwrap().iter();
            names.map(|name| name.as_str().unwrap().to_owned()).collect()
        };
        assert_eq!(names("layers"), ["base", "test-a"]);
        assert_eq!(names("layers-from"), ["/tests", "/somewhere/recipes/../layers"]);
        assert_eq!(made["image"]["esp"].as_str(), Some("48 MiB"));
    }

    #[test]
    fn a_command_that_fails_is_told_with_its_words() {
        let mut command = bounded("sh", 20);
        command.args(["-c", "echo because >&2; exit 3"]);
        let error = run(&mut command, "do it").unwrap_err().to_string();
        assert!(error.starts_with("cannot do it: exit status: 3"), "{error}");
        assert!(error.ends_with(": because"), "{error}");
    }
}
