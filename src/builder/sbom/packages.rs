//! What is known of those who bring files into an appliance.

use appliance::hash::Digest;

use super::contents;
use super::licences::Licences;
use super::spdx::{Checksum, ExternalRef, Id, NOASSERTION, Package};
use crate::archive::source::{DEBIAN, SECURITY};
use crate::lock::LockedPackage;
use crate::programs::Program;
use crate::report::Report;
use crate::tree::{Kind, Tree};

/// The terms and the version of everything in this repository.
const OWN_LICENCE: &str = env!("CARGO_PKG_LICENSE");
const OWN_VERSION: &str = env!("CARGO_PKG_VERSION");

/// The id of the appliance.
pub fn appliance_id() -> Id {
    Id::new("Appliance", "image")
}

/// The id of the UKI.
pub fn uki_id() -> Id {
    Id::new("Appliance", "uki")
}

/// The whole: its checksum is that of the disk image.
pub fn appliance(report: &Report) -> Package {
    Package {
        version_info: Some(report.version.clone()),
        checksums: vec![Checksum::sha256(report.image.sha256)],
        primary_package_purpose: Some("OPERATING-SYSTEM"),
        comment: Some(format!(
            "the checksum is of the disk image; root hash {}",
            report.root.geometry.root_hash
        )),
        ..Package::new(appliance_id(), &report.name)
    }
}

/// The one file that firmware starts.
pub fn uki(report: &Report) -> Package {
    Package {
        version_info: Some(report.version.clone()),
        checksums: vec![Checksum::sha256(report.uki.sha256)],
        primary_package_purpose: Some("FILE"),
        comment: Some("kernel, initrd and command line, in the EFI system partition".to_owned()),
        ..Package::new(uki_id(), &format!("{}.efi", report.name))
    }
}

/// A Debian package of the lock.
pub fn debian(package: &LockedPackage, suite: &str, licence: String) -> Package {
    let official = [DEBIAN, SECURITY].contains(&package.archive.as_str());
    Package {
        version_info: Some(package.version.clone()),
        package_file_name: Some(package.path.clone()),
        supplier: if official { "Organization: Debian" } else { NOASSERTION },
        checksums: vec![Checksum::sha256(package.sha256)],
        license_declared: licence,
        external_refs: vec![ExternalRef {
            reference_category: "PACKAGE-MANAGER",
            reference_type: "purl",
            reference_locator: purl(package, suite),
        }],
        source_info: source(&package.path).map(|name| format!("Debian source package {name}")),
        ..Package::new(contents::package(&package.name), &package.name)
    }
}

/// A layer of the recipe.
pub fn layer(name: &str) -> Package {
    Package {
        comment: Some("a layer of the recipe".to_owned()),
        ..Package::new(contents::layer(name), name)
    }
}

/// A guest program.
pub fn program(name: &str, digest: Digest) -> Package {
    let what = match name {
        _ if name == Program::Init.name() => "PID 1, in the root and in the UKI",
        _ if name == Program::Loader.name() => {
            "what firmware starts, in the EFI system partition, in the form that firmware wants"
        }
        _ => "a guest program, where a layer puts it",
    };
    // The rest is in the repository's Cargo.lock.
    let linked = match name {
        _ if name == Program::PodApi.name() => "Rust's library, the C library and SQLite are",
        _ if name == Program::Backup.name() => "Rust's library, the C library and Zstandard are",
        _ if name == Program::Loader.name() => "parts of Rust's core library and r-efi are",
        _ => "Rust's library and the C library are",
    };
    Package {
        checksums: vec![Checksum::sha256(digest)],
        primary_package_purpose: Some("APPLICATION"),
        comment: Some(format!("{what}; {linked} linked into it")),
        ..own(contents::program(name), name)
    }
}

/// The builder, for what it wrote into the root itself.
pub fn builder() -> Package {
    let comment = "the builder: its files are those that it derives from recipe, layers and lock";
    Package { comment: Some(comment.to_owned()), ..own(contents::builder(), "stele") }
}

fn own(id: Id, name: &str) -> Package {
    Package {
        version_info: Some(OWN_VERSION.to_owned()),
        license_declared: OWN_LICENCE.to_owned(),
        ..Package::new(id, name)
    }
}

/// All licences that the copyright file of the package of this name declares.
pub fn licence(package: &str, tree: &Tree, licences: &mut Licences) -> String {
    let found = tree.resolve(&format!("/usr/share/doc/{package}/copyright"));
    let entry = found.ok().and_then(|path| Some((path, tree.get(path)?)));
    match entry.map(|(path, entry)| (path, &entry.kind)) {
        Some((path, Kind::File(bytes))) => {
            // A package may link to another's file: then they share its text as well.
            let owner = path.split('/').nth(4).unwrap_or(package);
            licences.declared(owner, &String::from_utf8_lossy(bytes))
        }
        _ => NOASSERTION.to_owned(),
    }
}

/// `pkg:deb/debian/libc6@2.41-12%2Bdeb13u4?arch=amd64&distro=trixie`
fn purl(package: &LockedPackage, suite: &str) -> String {
    let vendor = match package.archive.as_str() {
        DEBIAN | SECURITY => DEBIAN,
        other => other,
    };
    // A package may be of architecture `all`: its file name knows.
    let file = package.path.strip_suffix(".deb").unwrap_or_default();
    let architecture = file.rsplit_once('_').map_or("any", |(_, architecture)| architecture);
    format!(
        "pkg:deb/{}/{}@{}?arch={}&distro={}",
        escaped(vendor),
        escaped(&package.name),
        escaped(&package.version),
        escaped(architecture),
        escaped(suite)
    )
}

/// A part of a purl: a colon stays as it is there.
fn escaped(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_~:".contains(&byte);
    text.bytes()
        .map(|byte| match plain(byte) {
            true => char::from(byte).to_string(),
            false => format!("%{byte:02X}"),
        })
        .collect()
}

/// `pool/main/g/glibc/libc6_2.41-12_amd64.deb` → `glibc`
fn source(path: &str) -> Option<&str> {
    let folders: Vec<&str> = path.strip_prefix("pool/")?.split('/').rev().collect();
    match folders[..] {
        [_, source, _, _, ..] => Some(source),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn locked(name: &str, version: &str, archive: &str, path: &str) -> LockedPackage {
        LockedPackage {
            name: name.into(),
            version: version.into(),
            archive: archive.into(),
            path: path.into(),
            size: 1,
            sha256: Digest::of(b""),
            why: vec![],
        }
    }

    #[test]
    fn a_debian_package_has_the_name_that_others_know() {
        let pool = "pool/main/g/gcc-14";
        let table = [
            (
                locked(
                    "libstdc++6",
                    "14.2.0-19",
                    "debian",
                    &format!("{pool}/libstdc++6_14_amd64.deb"),
                ),
                "pkg:deb/debian/libstdc%2B%2B6@14.2.0-19?arch=amd64&distro=trixie",
                Some("gcc-14"),
            ),
            (
                locked(
                    "tzdata",
                    "1:2~a+b",
                    "security",
                    "pool/updates/main/t/tzdata/tzdata_2_all.deb",
                ),
                "pkg:deb/debian/tzdata@1:2~a%2Bb?arch=all&distro=trixie",
                Some("tzdata"),
            ),
            (
                locked("tool", "1", "vendor", "pool/tool.deb"),
                "pkg:deb/vendor/tool@1?arch=any&distro=trixie",
                None,
            ),
        ];
        for (package, expected, from) in table {
            assert_eq!(purl(&package, "trixie"), expected);
            assert_eq!(source(&package.path), from);
        }
    }
}
