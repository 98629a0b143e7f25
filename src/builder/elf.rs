//! The closure of shared libraries: every library that a program of the tree is linked to must be
//! in the tree, and every library in the tree should be there for something.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail};
use object::Endianness;
use object::elf::{DT_NEEDED, DT_RPATH, DT_RUNPATH, FileHeader64, PT_INTERP};
use object::read::elf::{Dyn, FileHeader, ProgramHeader};

use crate::glob::Glob;
use crate::tree::{Kind, Tree};

const MAGIC: &[u8] = b"\x7fELF";

/// What an ELF file asks of the tree.
#[derive(Debug, Default, PartialEq, Eq)]
struct Linked {
    /// The program that starts it.
    interpreter: Option<String>,
    /// Names of libraries.
    needed: Vec<String>,
    /// Where it wants them looked for first; `$ORIGIN` is its own directory.
    search: Vec<String>,
}

/// Checks the tree's closure. `loaded` names libraries that are loaded at run time, without being
/// linked to. Returns the paths of libraries that nothing needs.
pub fn check(tree: &Tree, loaded: &[Glob]) -> Result<Vec<String>> {
    let folders = library_folders(tree);
    let mut used = BTreeSet::new();
    let mut missing = BTreeMap::<String, Vec<&str>>::new();
    for (path, entry) in tree.iter() {
        let Kind::File(bytes) = &entry.kind else { continue };
        if !bytes.starts_with(MAGIC) {
            continue;
        }
        let linked = read(bytes).with_context(|| format!("cannot read ELF file {path}"))?;
        let origin = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        let own = linked.search.iter().map(|folder| folder.replace("$ORIGIN", origin));
        let search: Vec<String> = own.chain(folders.iter().cloned()).collect();
        let interpreter = linked.interpreter.into_iter().map(|path| vec![path]);
        let libraries = linked
            .needed
            .iter()
            .map(|name| search.iter().map(|folder| format!("{folder}/{name}")).collect::<Vec<_>>());
        for places in interpreter.chain(libraries) {
            match places.iter().find_map(|place| tree.resolve(place).ok()) {
                Some(found) => _ = used.insert(found),
                None => {
                    let name = places.first().and_then(|place| place.rsplit('/').next());
                    missing.entry(name.unwrap_or_default().to_owned()).or_default().push(path);
                }
            }
        }
    }
    if let Some((name, by)) = missing.first_key_value() {
        bail!(
            "cannot close the tree: {name} is missing, which {} needs{}\nhint: take it from its \
             package, in a slice of the layer that takes the program",
            by[0],
            if missing.len() > 1 {
                format!(" (and {} more)", missing.len() - 1)
            } else {
                String::new()
            }
        );
    }
    Ok(unneeded(tree, &folders, &used, loaded))
}

/// Where the loader looks without being told: the multiarch folder, then `/usr/lib`.
fn library_folders(tree: &Tree) -> Vec<String> {
    let multiarch = tree
        .children("/usr/lib")
        .filter(|(path, entry)| {
            entry.kind == Kind::Directory
                && path.ends_with("-linux-gnu")
                && path.matches('/').count() == 3
        })
        .map(|(path, _)| path.to_owned());
    multiarch.chain(["/usr/lib".into(), "/usr/lib64".into()]).collect()
}

/// Libraries where the loader looks that are neither linked to nor named as loaded.
fn unneeded(
    tree: &Tree,
    folders: &[String],
    used: &BTreeSet<&str>,
    loaded: &[Glob],
) -> Vec<String> {
    // A link such as `lua/5.4/ssl.so` stands for a use of the library that it leads to.
    let linked_elsewhere: BTreeSet<&str> = tree
        .iter()
        .filter(|(path, entry)| {
            matches!(entry.kind, Kind::Link(_)) && !folders.iter().any(|f| is_in(path, f))
        })
        .filter_map(|(path, _)| tree.resolve(path).ok())
        .collect();
    tree.iter()
        .filter(|(path, entry)| match &entry.kind {
            Kind::File(bytes) => bytes.starts_with(MAGIC) && folders.iter().any(|f| is_in(path, f)),
            _ => false,
        })
        .map(|(path, _)| path)
        .filter(|path| !used.contains(path) && !linked_elsewhere.contains(path))
        .filter(|path| !loaded.iter().any(|glob| glob.matches(path)))
        .map(str::to_owned)
        .collect()
}

fn is_in(path: &str, folder: &str) -> bool {
    path.rsplit_once('/').is_some_and(|(parent, _)| parent == folder)
}

fn read(bytes: &[u8]) -> Result<Linked> {
    let header = FileHeader64::<Endianness>::parse(bytes)?;
    let endian = header.endian()?;
    let mut linked = Linked::default();
    for segment in header.program_headers(endian, bytes)? {
        if segment.p_type(endian) == PT_INTERP {
            let text = segment.data(endian, bytes).ok().context("a broken interpreter")?;
            let text = text.split(|&byte| byte == 0).next().unwrap_or_default();
            linked.interpreter = Some(String::from_utf8(text.to_vec())?);
        }
    }
    let sections = header.sections(endian, bytes)?;
    let Some((entries, strings)) = sections.dynamic(endian, bytes)? else { return Ok(linked) };
    let strings = sections.strings(endian, bytes, strings)?;
    for entry in entries {
        let text = || -> Result<String> {
            Ok(String::from_utf8(entry.string(endian, strings)?.to_vec())?)
        };
        match entry.tag(endian) {
            DT_NEEDED => linked.needed.push(text()?),
            DT_RPATH | DT_RUNPATH => {
                linked.search.extend(text()?.split(':').map(str::to_owned));
            }
            _ => {}
        }
    }
    Ok(linked)
}
