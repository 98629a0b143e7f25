//! `stele seed`: puts an operator's configuration onto the seed partition of an image or a kept
//! disk. What its appliance would leave alone is refused before anything is written.

use std::fs::{self, File, Permissions};
use std::io::Read as _;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use appliance::boot::{Appliance, Import};
use appliance::seed::{self, Choice, Found, Kind, LONGEST, MOST_FILES, choose, is_text};
use serde::Serialize;

use crate::held::Held;
use crate::image::{blocks, put};
use crate::inspect::Image;

/// What group and others may do with a file.
const NOT_OWNER: u32 = 0o077;
/// Anybody may read it.
const READ_BY_OTHERS: u32 = 0o004;
/// At most so many reasons are told.
const MOST_REASONS: usize = 8;

/// What was put where, for a person or a machine.
#[derive(Debug, Serialize)]
pub struct Outcome {
    /// The image or disk.
    pub image: PathBuf,
    /// What is on its seed partition now, besides what was there.
    pub files: Vec<FileOutcome>,
    /// Were permissions of group and others taken from the image? It holds what they may not read.
    pub made_private: bool,
}

/// A file on the seed partition.
#[derive(Debug, Serialize)]
pub struct FileOutcome {
    /// Its path there.
    pub file: String,
    /// Its place in the appliance, from the next boot on.
    pub to: String,
    /// Did it take the place of another of that name?
    pub replaced: bool,
}

/// A file that the user names.
#[derive(Debug, Clone)]
struct Given {
    /// Its path on the partition.
    path: String,
    /// The start of it: if it is longer than [`LONGEST`], that shows.
    bytes: Vec<u8>,
}

/// A file that the appliance wants.
#[derive(Debug)]
struct Wanted<'a> {
    given: &'a Given,
    import: &'a Import,
    to: String,
}

/// Puts `files`, which may be folders, onto the seed partition of the image at `path`.
pub fn seed(path: &Path, files: &[PathBuf]) -> Result<Outcome> {
    let held = Held::open(path)?;
    let held =
        held.with_context(|| format!("cannot open {}: there is no such file", path.display()))?;
    seed_held(path, held.file(), files).with_context(|| format!("cannot seed {}", path.display()))
}

fn seed_held(path: &Path, file: &File, files: &[PathBuf]) -> Result<Outcome> {
    let image = Image::of(path, file.try_clone()?)?;
    let partition = image.table.named(seed::PARTITION);
    let partition = partition.context("it has no seed partition")?;
    let appliance = image.appliance()?;
    must_take(&appliance)?;
    let given = gather(files, &appliance.seed)?;
    let wanted = accept(&given, &appliance.seed)?;

    let mut old = vec![0; usize::try_from(partition.bytes())?];
    file.read_exact_at(&mut old, partition.offset())?;
    let mut new = old.clone();
    let puts: Vec<put::File> = wanted
        .iter()
        .map(|wanted| put::File { path: &wanted.given.path, bytes: &wanted.given.bytes })
        .collect();
    let replaced =
        put::put(&mut new, &puts, MOST_FILES).context("cannot use its seed partition")?;

    let is_secret = wanted.iter().any(|wanted| wanted.import.mode & READ_BY_OTHERS == 0);
    let made_private = is_secret && make_private(file)?;
    blocks::write_changed(file, partition.offset(), &old, &new)?;
    file.sync_all()?;
    let files = wanted.into_iter().zip(replaced).map(|(wanted, replaced)| FileOutcome {
        file: wanted.given.path.clone(),
        to: wanted.to,
        replaced,
    });
    Ok(Outcome { image: path.to_owned(), files: files.collect(), made_private })
}

/// Does the appliance take anything over?
fn must_take(appliance: &Appliance) -> Result<()> {
    let name = &appliance.name;
    if appliance.seed.is_empty() {
        bail!("{name} takes nothing over from a seed partition: no layer of it has a [seed]");
    }
    if appliance.data.is_none() {
        bail!("{name} takes nothing over from a seed partition: it keeps no data");
    }
    Ok(())
}

/// Reads the files, and those of the folders among them, in the order of their names on the
/// partition.
fn gather(files: &[PathBuf], imports: &[Import]) -> Result<Vec<Given>> {
    let mut all = vec![];
    for path in files {
        let shown = path.display();
        let name = path.file_name().and_then(|name| name.to_str());
        let name =
            name.with_context(|| format!("{shown} has no name that a seed file may have"))?;
        if !fs::metadata(path).with_context(|| format!("cannot read {shown}"))?.is_dir() {
            all.push(Given { path: name.to_owned(), bytes: read(path)? });
            continue;
        }
        if !seed::is_folder(name, imports) {
            bail!("{name}/: this appliance has no use for it{}", hint(imports));
        }
        let before = all.len();
        let entries = fs::read_dir(path).with_context(|| format!("cannot read {shown}"))?;
        for entry in entries {
            let path = entry.with_context(|| format!("cannot read {shown}"))?.path();
            let inner = path.file_name().unwrap_or_default().to_string_lossy();
            all.push(Given { path: format!("{name}/{inner}"), bytes: read(&path)? });
        }
        if all.len() == before {
            bail!("{shown} holds no file");
        }
    }
    all.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(all)
}

/// The start of a file, enough to see whether it is too long.
fn read(path: &Path) -> Result<Vec<u8>> {
    let context = || format!("cannot read {}", path.display());
    if !fs::metadata(path).with_context(context)?.is_file() {
        bail!("{}: it is no file", context());
    }
    let mut bytes = vec![];
    let file = File::open(path).with_context(context)?;
    file.take(LONGEST + 1).read_to_end(&mut bytes).with_context(context)?;
    Ok(bytes)
}

/// All or nothing: each file is one that `stele-init` takes over.
fn accept<'a>(given: &'a [Given], imports: &'a [Import]) -> Result<Vec<Wanted<'a>>> {
    let (mut wanted, mut reasons) = (Vec::<Wanted>::new(), vec![]);
    for given in given {
        let path = given.path.clone();
        let is_same = |other: &Wanted| other.given.path.eq_ignore_ascii_case(&path);
        let kind = Kind::File(given.bytes.len() as u64);
        let found = Found { path: path.clone(), kind };
        let reason = match choose(&found, imports) {
            Choice::Take(..) if !is_text(&given.bytes) => "it is no text",
            Choice::Take(..) if wanted.iter().any(is_same) => "it is named twice",
            Choice::Take(import, to) => {
                wanted.push(Wanted { given, import, to });
                continue;
            }
            Choice::Leave(reason) => reason,
            Choice::Pass => "files of such a name are left alone",
        };
        reasons.push(format!("{path}: {reason}"));
    }
    if reasons.is_empty() {
        return Ok(wanted);
    }
    let more = reasons.len().saturating_sub(MOST_REASONS);
    reasons.truncate(MOST_REASONS);
    if more > 0 {
        reasons.push(format!("and {more} more"));
    }
    bail!("{}{}", reasons.join("; "), hint(imports))
}

/// What the appliance wants.
fn hint(imports: &[Import]) -> String {
    let names: Vec<&str> = imports.iter().map(|import| import.from.as_str()).collect();
    format!("\nhint: this appliance takes {}", names.join(", "))
}

/// Leaves the file to its owner alone; was it others' before?
fn make_private(file: &File) -> Result<bool> {
    let mode = file.metadata()?.permissions().mode();
    if mode & NOT_OWNER == 0 {
        return Ok(false);
    }
    let permissions = Permissions::from_mode(mode & !NOT_OWNER);
    file.set_permissions(permissions).context("cannot keep others from reading it")?;
    Ok(true)
}

impl Outcome {
    /// What a person reads.
    pub fn print(&self) {
        for FileOutcome { file, to, replaced } in &self.files {
            let replaced = if *replaced { " (in place of the one that was there)" } else { "" };
            println!("{file} -> {to}{replaced}");
        }
        let image = self.image.display();
        if self.made_private {
            println!("{image} is for its owner alone now: not all may read what it holds");
        }
        println!("seeded {image}: taken over at its next boot");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn imports() -> Vec<Import> {
        let import = |from: &str, to: &str| Import {
            from: from.into(),
            to: to.into(),
            mode: 0o600,
            uid: 0,
            gid: 0,
        };
        vec![import("certs/", "/etc/prosody/certs/"), import("env", "/etc/prose/env")]
    }

    #[test]
    fn what_would_be_left_alone_is_refused() {
        let given = |path: &str, bytes: &[u8]| Given { path: path.into(), bytes: bytes.to_vec() };
        let long = vec![b'x'; LONGEST as usize + 1];
        let plain = "its name has more than letters, digits, `.`, `_` and `-`";
        for (files, expected) in [
            (vec![given("env", b"A=1\n"), given("certs/a.pem", &long[1..])], ""),
            (vec![given("ENV", b"A=1\n"), given("Certs/env", b"x")], ""),
            (vec![given("env", b"x"), given("Env", b"y")], "Env: it is named twice"),
            (vec![given("envy", b"x")], "envy: this appliance has no use for it"),
            (vec![given("a.pem", b"x")], "a.pem: this appliance has no use for it"),
            (vec![given("env", b"")], "env: it is empty"),
            (vec![given("env", b"A\0")], "env: it is no text"),
            (vec![given("env", &long)], "env: it is longer than 1 MiB"),
            (vec![given("certs/a b", b"x")], &format!("certs/a b: {plain}")),
            (vec![given("certs/.a", b"x")], "certs/.a: files of such a name are left alone"),
            (vec![given("README.txt", b"x")], "README.txt: files of such a name are left alone"),
            (
                vec![given("a", b"x"), given("env", b"x"), given("b", b"x")],
                "a: this appliance has no use for it; b: this appliance has no use for it",
            ),
        ] {
            let imports = imports();
            let said = match accept(&files, &imports) {
                Ok(wanted) => {
                    assert_eq!(wanted.len(), files.len());
                    String::new()
                }
                Err(error) => {
                    let error = error.to_string();
                    let hint = "\nhint: this appliance takes certs/, env";
                    error.strip_suffix(hint).unwrap_or_else(|| panic!("{error}")).to_owned()
                }
            };
            assert_eq!(said, expected);
        }
    }

    #[test]
    fn files_are_found_in_the_order_of_their_names() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for name in ["certs", "sub/certs/inner", "empty/certs", "other"] {
            fs::create_dir_all(path(name)).unwrap();
        }
        for name in ["env", "certs/b.pem", "certs/a.pem"] {
            fs::write(path(name), name).unwrap();
        }
        std::os::unix::fs::symlink(path("env"), path("certs/c.pem")).unwrap();
        let gathered = |names: &[&str]| {
            let paths: Vec<PathBuf> = names.iter().map(|name| path(name)).collect();
            gather(&paths, &imports())
        };
        let found = gathered(&["env", "certs/"]).unwrap();
        let names: Vec<&str> = found.iter().map(|given| given.path.as_str()).collect();
        assert_eq!(names, ["certs/a.pem", "certs/b.pem", "certs/c.pem", "env"]);
        assert_eq!(found[2].bytes, b"env");
        for (name, expected) in [
            (
                "other",
                "other/: this appliance has no use for it\nhint: this appliance takes certs/",
            ),
            ("sub/certs", "inner: it is no file"),
            ("empty/certs", "holds no file"),
            ("missing", "cannot read "),
            ("..", "has no name that a seed file may have"),
        ] {
            let error = format!("{:#}", gathered(&[name]).unwrap_err());
            assert!(error.contains(expected), "{error}");
        }
    }
}
