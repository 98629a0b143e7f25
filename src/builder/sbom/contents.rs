//! What an appliance consists of, file by file, and who brought each.

use std::collections::BTreeMap;

use appliance::hash::Digest;
use rayon::prelude::*;
use sha1::{Digest as _, Sha1};

use super::spdx::{Checksum, File, Id, NOASSERTION, VerificationCode};
use crate::kernel::Boot;
use crate::tree::{Entry, Kind, Origin, Tree};

/// Files, each of which one package holds.
#[derive(Debug)]
pub struct Contents {
    /// All files, those of the root first, in the order of their paths.
    pub files: Vec<Held>,
}

/// A file and the package that holds it.
#[derive(Debug)]
pub struct Held {
    /// The package.
    pub holder: Id,
    /// Where the file is.
    pub place: Place,
    /// The file.
    pub file: File,
    sha1: [u8; 20],
}

/// Where a file of a package is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In the root, at its path.
    Root,
    /// In the UKI.
    Uki,
    /// Beside the UKI.
    Esp,
}

impl Contents {
    /// All files and links of a root, and what starts it.
    pub fn of(tree: &Tree, boot: &Boot, programs: &BTreeMap<String, Digest>) -> Contents {
        let programs = programs.iter().map(|(name, digest)| (*digest, name.as_str())).collect();
        let root = tree.iter().map(|(path, entry)| (Place::Root, path, entry));
        let uki = boot.in_uki.iter().map(|(path, entry)| (Place::Uki, path.as_str(), entry));
        let esp = boot.in_esp.iter().map(|(path, entry)| (Place::Esp, path.as_str(), entry));
        let all: Vec<(Place, &str, &Entry)> = root.chain(uki).chain(esp).collect();
        let files = all
            .into_par_iter()
            .filter_map(|(place, path, entry)| Held::new(place, path, entry, &programs));
        Contents { files: files.collect() }
    }

    /// The value that stands for all files of each package that holds some.
    pub fn verification_codes(&self) -> BTreeMap<&Id, VerificationCode> {
        let mut sums: BTreeMap<&Id, Vec<[u8; 20]>> = BTreeMap::new();
        for held in &self.files {
            sums.entry(&held.holder).or_default().push(held.sha1);
        }
        sums.into_iter().map(|(holder, sums)| (holder, verification_code(sums))).collect()
    }
}

impl Held {
    /// `None` for a directory, which SPDX doesn't list.
    fn new(
        place: Place,
        path: &str,
        entry: &Entry,
        programs: &BTreeMap<Digest, &str>,
    ) -> Option<Held> {
        let (bytes, link) = match &entry.kind {
            Kind::Directory => return None,
            Kind::File(bytes) => (&**bytes, None),
            Kind::Link(target) => (target.as_bytes(), Some(target)),
        };
        let sha1: [u8; 20] = Sha1::digest(bytes).into();
        let sha256 = Digest::of(bytes);
        let checksums =
            vec![Checksum { algorithm: "SHA1", value: hex(&sha1) }, Checksum::sha256(sha256)];
        let comments = [place.comment(), link.map(|target| format!("symbolic link to {target}"))];
        let comments: Vec<String> = comments.into_iter().flatten().collect();
        let file = File {
            id: Id::new(place.kind(), path.trim_start_matches('/')),
            file_name: format!(".{path}"),
            checksums,
            license_concluded: NOASSERTION,
            copyright_text: NOASSERTION,
            comment: (!comments.is_empty()).then(|| comments.join("; ")),
        };
        // A guest program is itself, whoever puts it there.
        let holder =
            programs.get(&sha256).map_or_else(|| holder(&entry.origin), |name| program(name));
        Some(Held { holder, place, file, sha1 })
    }
}

impl Place {
    /// The kind of its files' ids: a path may exist in several places.
    fn kind(self) -> &'static str {
        match self {
            Place::Root => "File",
            Place::Uki => "Uki",
            Place::Esp => "Esp",
        }
    }

    fn comment(self) -> Option<String> {
        match self {
            Place::Root => None,
            Place::Uki => Some("in the UKI, not in the root".to_owned()),
            Place::Esp => Some("in the EFI system partition, not in the root".to_owned()),
        }
    }
}

/// The id of a Debian package.
pub fn package(name: &str) -> Id {
    Id::new("Package", name)
}

/// The id of a layer.
pub fn layer(name: &str) -> Id {
    Id::new("Layer", name)
}

/// The id of a guest program.
pub fn program(name: &str) -> Id {
    Id::new("Program", name)
}

/// The id of the builder.
pub fn builder() -> Id {
    program("stele")
}

fn holder(origin: &Origin) -> Id {
    match origin {
        Origin::Package(name) => package(name),
        Origin::Layer(name) => layer(name),
        Origin::Builder => builder(),
    }
}

/// The SHA-1 of all files' SHA-1s in hexadecimal, in order and without anything between them.
fn verification_code(mut sums: Vec<[u8; 20]>) -> VerificationCode {
    sums.sort();
    let all: String = sums.iter().map(|sum| hex(sum)).collect();
    VerificationCode { value: hex(&Sha1::digest(all)) }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verification_code_is_that_of_the_specification() {
        // (printf a | sha1sum; printf b | sha1sum) | cut -c-40 | sort | tr -d '\n' | sha1sum
        let sums = ["b", "a"].map(|text| Sha1::digest(text).into());
        let code = verification_code(sums.to_vec());
        assert_eq!(code.value, "5463504435e4dbf2b93a3a8a00ca78e36ea40e24");
    }
}
