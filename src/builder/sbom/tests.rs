//! The document about a small appliance.

use std::collections::{BTreeMap, BTreeSet};

use appliance::boot::INIT_PROGRAM;
use appliance::hash::{RootHash, Salt};
use appliance::verity::Geometry;
use serde_json::Value;

use super::*;
use crate::lock::{Clock, LockedPackage};
use crate::report::{FileReport, RootReport};
use crate::tree::{Entry, Kind, Origin};

const FORMAT: &str = "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/";

/// What firmware starts.
const FIRST: &str = "/EFI/BOOT/BOOTX64.EFI";

fn entry(origin: &str, kind: Kind) -> Entry {
    let origin = match origin.split_once(' ') {
        Some(("layer", name)) => Origin::Layer(name.into()),
        Some((_, name)) => Origin::Package(name.into()),
        None => Origin::Builder,
    };
    Entry { kind, mode: 0o644, uid: 0, gid: 0, origin }
}

fn tree() -> Tree {
    let copyright = format!("{FORMAT}\n\nFiles: *\nLicense: LGPL-2.1+ or Sun\n Sun's text.\n");
    let files = [
        ("/usr/lib/libc++.so.6", "package libc++6", "so"),
        ("/usr/lib/libc--.so.6", "package libc++6", "so"),
        ("/usr/share/doc/libc++6/copyright", "package libc++6", &copyright),
        ("/usr/share/doc/gcc-base/copyright", "package gcc-base", "Prose.\n"),
        ("/etc/motd", "layer base", ""),
        ("/etc/passwd", "builder", "root:*:0:0:\n"),
        (INIT_PROGRAM, "builder", "init"),
        ("/usr/bin/front", "layer base", "front"),
    ];
    let links = [
        ("/usr/share/doc/libgcc", "package libgcc", "gcc-base"),
        ("/etc/hosts", "layer base", "/run/hosts"),
    ];
    let mut tree = Tree::default();
    for (path, origin, text) in files {
        tree.add(path, entry(origin, Kind::File(text.as_bytes().into()))).unwrap();
    }
    for (path, origin, target) in links {
        tree.add(path, entry(origin, Kind::Link(target.into()))).unwrap();
    }
    tree
}

fn boot() -> Boot {
    let part =
        |path: &str| (path.to_owned(), entry("package linux", Kind::File(path.as_bytes().into())));
    Boot {
        kernel: [].into(),
        release: "6".into(),
        stub: [].into(),
        loader: [].into(),
        initrd: vec![],
        root: vec![],
        in_uki: vec![part("/boot/vmlinuz-6"), part("/usr/lib/modules/6/virtio_blk.ko.xz")],
        in_esp: vec![
            part("/usr/lib/systemd/boot/efi/systemd-bootx64.efi"),
            (FIRST.to_owned(), entry("builder", Kind::File(b"loader".as_slice().into()))),
        ],
    }
}

fn lock() -> Lock {
    let package = |name: &str| LockedPackage {
        name: name.into(),
        version: "1".into(),
        archive: "debian".into(),
        path: format!("pool/main/x/x/{name}_1_amd64.deb"),
        size: 1,
        sha256: Digest::of(name.as_bytes()),
        why: vec![],
    };
    Lock {
        version: Lock::FORMAT,
        inputs: Digest::of(b""),
        architecture: "amd64".into(),
        clock: Clock::try_from("2026-11-20T00:12:42Z".to_owned()).unwrap(),
        sources: vec![],
        packages: ["gcc-base", "libc++6", "libgcc", "linux"].map(package).to_vec(),
        omitted: vec![],
    }
}

fn report() -> Report {
    let file = || FileReport { bytes: 1, sha256: Digest::of(b"file") };
    let digest = Digest::of(b"root").0;
    Report {
        name: "chat".into(),
        version: "1.0".into(),
        architecture: "amd64".into(),
        clock: String::new(),
        image: file(),
        uki: file(),
        root: RootReport {
            bytes: 1,
            geometry: Geometry { root_hash: RootHash(digest), salt: Salt(digest), data_blocks: 1 },
            files: 1,
            content: 1,
            packages: BTreeMap::new(),
            layers: BTreeMap::new(),
        },
        programs: [("front", "front"), ("stele-init", "init"), ("stele-loader", "loader")]
            .map(|(name, bytes)| (name.to_owned(), Digest::of(bytes.as_bytes())))
            .into(),
        warnings: vec![],
    }
}

/// The document about `tree`, as a reader of JSON finds it.
fn document(tree: &Tree) -> Value {
    let (lock, boot, report) = (lock(), boot(), report());
    let layers = vec!["base", "idle"];
    let debian = "suite = \"trixie\"\narchitecture = \"amd64\"\n[from]\nsid = [\"linux\"]\n";
    let debian = &crate::document::parse("recipe.toml", debian).unwrap();
    let subject = Subject { debian, layers, lock: &lock, tree, boot: &boot, report: &report };
    serde_json::from_str(&subject.document().unwrap().to_text().unwrap()).unwrap()
}

fn texts<'a>(document: &'a Value, list: &str, field: &str) -> Vec<&'a str> {
    let elements = document[list].as_array().unwrap();
    elements.iter().map(|element| element[field].as_str().unwrap()).collect()
}

/// Who contains what: pairs of ids.
fn contained(document: &Value) -> Vec<(&str, &str)> {
    let froms = texts(document, "relationships", "spdxElementId").into_iter();
    let types = texts(document, "relationships", "relationshipType").into_iter();
    let tos = texts(document, "relationships", "relatedSpdxElement").into_iter();
    froms.zip(tos).zip(types).filter(|(_, what)| *what == "CONTAINS").map(|(x, _)| x).collect()
}

#[test]
fn every_file_belongs_to_exactly_one_package() {
    let tree = tree();
    let document = document(&tree);
    let names = texts(&document, "files", "fileName");
    let in_root = tree.iter().filter(|(_, entry)| entry.kind != Kind::Directory);
    let expected: Vec<String> = in_root.map(|(path, _)| format!(".{path}")).collect();
    assert_eq!(names[..expected.len()], expected);
    assert_eq!(names.len(), expected.len() + 4);
    let files = texts(&document, "files", "SPDXID");
    let packages = texts(&document, "packages", "SPDXID");
    let unique: BTreeSet<&str> = files.iter().chain(&packages).copied().collect();
    assert_eq!(unique.len(), files.len() + packages.len());
    let contained = contained(&document);
    for file in &files {
        let holders: Vec<&str> =
            contained.iter().filter(|(_, to)| to == file).map(|(from, _)| *from).collect();
        assert_eq!(holders.len(), 1, "{file}: {holders:?}");
        assert!(packages.contains(&holders[0]), "{file}: {holders:?}");
    }
    for package in document["packages"].as_array().unwrap() {
        let holds =
            contained.iter().any(|(from, to)| package["SPDXID"] == *from && files.contains(to));
        assert_eq!(package["filesAnalyzed"], holds, "{package}");
        assert_eq!(package["packageVerificationCode"].is_object(), holds, "{package}");
    }
}

#[test]
fn a_guest_program_is_its_own_whoever_places_it() {
    let document = document(&tree());
    let contained = contained(&document);
    for (name, place, path) in [
        ("front", "File", "/usr/bin/front"),
        ("stele-init", "File", INIT_PROGRAM),
        ("stele-loader", "Esp", FIRST),
    ] {
        let package = Id::new("Program", name).to_string();
        let file = Id::new(place, path.trim_start_matches('/')).to_string();
        assert!(contained.contains(&(&package, &file)), "{package} {file}: {contained:?}");
    }
}

#[test]
fn licences_are_found_through_links_and_quoted_once() {
    let document = document(&tree());
    let licences: BTreeMap<&str, &str> = texts(&document, "packages", "name")
        .into_iter()
        .zip(texts(&document, "packages", "licenseDeclared"))
        .collect();
    let quoted = texts(&document, "hasExtractedLicensingInfos", "licenseId");
    let [sun, prose] = quoted[..] else { panic!("{quoted:?}") };
    assert!(sun.starts_with("LicenseRef-Sun-"), "{sun}");
    assert_eq!(licences["libc++6"], format!("LGPL-2.1-or-later OR {sun}"));
    assert_eq!((licences["gcc-base"], licences["libgcc"]), (prose, prose));
    assert_eq!(licences["linux"], "NOASSERTION");
    assert_eq!(licences["stele-init"], "Apache-2.0 OR MIT");
}

#[test]
fn a_document_is_named_by_its_content() {
    let namespace = |tree: &Tree| document(tree)["documentNamespace"].clone();
    let mut changed = tree();
    changed.replace("/etc/motd", entry("layer base", Kind::File([1].into()))).unwrap();
    assert_eq!(document(&tree()), document(&tree()));
    assert_ne!(namespace(&tree()), namespace(&changed));
    let known = "https://spdx.org/spdxdocs/chat-1.0-";
    assert!(namespace(&tree()).as_str().unwrap().starts_with(known));
}

#[test]
fn a_package_is_of_the_suite_that_it_is_taken_from() {
    let document = document(&tree());
    let locator = |name: &str| {
        let mut packages = document["packages"].as_array().unwrap().iter();
        let package = packages.find(|package| package["name"] == name).unwrap();
        package["externalRefs"][0]["referenceLocator"].as_str().unwrap().to_owned()
    };
    for (name, suite) in [("linux", "sid"), ("libgcc", "trixie")] {
        assert!(locator(name).ends_with(&format!("&distro={suite}")), "{}", locator(name));
    }
}
