//! Mutants: guest programs of changed sources. What is built to catch a fault must catch one.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::images::{Tools, run};
use crate::scratch::{self, bounded};

/// Compiling may take that long, in seconds.
const COMPILE_WITHIN: u32 = 900;
/// Where mutants' sources are, and what cargo makes of them.
pub const SOURCES: &str = "vm-mutants/a copy of the sources";
/// See [`SOURCES`].
pub const TARGET: &str = "vm-mutants/another target";
/// What a copy of the checkout needs for cargo to compile the guest programs.
const COPIED: [&str; 5] = ["Cargo.toml", "Cargo.lock", "rust-toolchain.toml", "src", "vm-tests"];

/// What is another in a mutant.
#[derive(Debug, Clone, Copy)]
pub struct Edit<'a> {
    /// A source file, from the checkout on.
    pub file: &'a str,
    /// What is in it, once.
    pub from: &'a str,
    /// What the mutant has in its place.
    pub to: &'a str,
}

/// Compiles the guest programs of the sources with `edits`; returns their folder.
pub fn programs(name: &str, edits: &[Edit]) -> Result<PathBuf> {
    let context = || format!("cannot make the mutant {name}");
    // One after another, in one place: then what a mutant is made of is compiled once for all.
    let _held = scratch::lock("mutants")?;
    let sources = scratch::folder(SOURCES)?;
    let out = scratch::folder(&format!("vm-mutants/{name}"))?;
    for item in COPIED {
        refresh(&scratch::workspace().join(item), &sources.join(item), edits, Path::new(item))
            .with_context(context)?;
    }
    let mut command = bounded(&Tools::find()?.stele, COMPILE_WITHIN);
    command.args(["programs", "--out"]).arg(&out).current_dir(&sources);
    command.env("CARGO_TARGET_DIR", scratch::folder(TARGET)?);
    // What others want of C compilers and of SQLite is nothing to the guest's programs.
    command.env("CFLAGS", "-O0").env("SQLITE_MAX_COLUMN", "100");
    run(&mut command, &format!("compile the mutant {name}"))?;
    Ok(out)
}

/// Brings the copy `to` up to date, changed; a file that is as it should be keeps its date, so that
/// cargo compiles nothing anew.
fn refresh(from: &Path, to: &Path, edits: &[Edit], name: &Path) -> Result<()> {
    if from.is_dir() {
        fs::create_dir_all(to)?;
        for entry in fs::read_dir(to)? {
            let entry = entry?;
            if !from.join(entry.file_name()).exists() {
                // Of an older checkout.
                match entry.file_type()?.is_dir() {
                    true => fs::remove_dir_all(entry.path())?,
                    false => fs::remove_file(entry.path())?,
                }
            }
        }
        let skipped = |file: &Path| file.ends_with("target") || file.ends_with("layers");
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            let inside = name.join(entry.file_name());
            if !skipped(&inside) {
                refresh(&entry.path(), &to.join(entry.file_name()), edits, &inside)?;
            }
        }
        return Ok(());
    }
    let mut bytes = fs::read(from)?;
    for Edit { file, from, to } in edits.iter().filter(|edit| Path::new(edit.file) == name) {
        let text = String::from_utf8(bytes)?;
        ensure!(text.matches(from).count() == 1, "`{from}` isn't once in {file}");
        bytes = text.replace(from, to).into_bytes();
    }
    match fs::read(to).is_ok_and(|there| there == bytes) {
        true => Ok(()),
        false => Ok(fs::write(to, bytes)?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_changed_where_it_should_be_and_nowhere_else() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("src"), folder.path().join("copy"));
        fs::create_dir(&from).unwrap();
        fs::write(from.join("a.rs"), "one two").unwrap();
        fs::write(from.join("b.rs"), "one two").unwrap();
        let edit = |text| Edit { file: "src/a.rs", from: text, to: "three" };
        refresh(&from, &to, &[edit("two")], Path::new("src")).unwrap();
        let dated = |file: &str| fs::metadata(to.join(file)).unwrap().modified().unwrap();
        let before = dated("a.rs");
        refresh(&from, &to, &[edit("two")], Path::new("src")).unwrap();
        assert_eq!(dated("a.rs"), before);
        assert_eq!(fs::read_to_string(to.join("a.rs")).unwrap(), "one three");
        assert_eq!(fs::read_to_string(to.join("b.rs")).unwrap(), "one two");
        assert!(refresh(&from, &to, &[edit("four")], Path::new("src")).is_err());
        // What has gone goes.
        fs::remove_file(from.join("b.rs")).unwrap();
        refresh(&from, &to, &[edit("two")], Path::new("src")).unwrap();
        assert!(to.join("a.rs").exists() && !to.join("b.rs").exists());
    }
}
