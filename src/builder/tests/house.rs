//! The rules of the house that no compiler checks: which crate may use which, which module may
//! know of which, how long files may get, and what PID 1 is made of.

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use support::real::checkout;

/// Programs never import one another: only nouns are shared.
const CRATES: [(&str, &[&str]); 11] = [
    ("appliance", &[]),
    ("backup", &["appliance"]),
    ("builder", &["appliance", "openpgp", "signing"]),
    ("front", &["appliance"]),
    ("init", &["appliance"]),
    ("install", &["appliance", "signing"]),
    ("probe", &["appliance"]),
    ("loader", &[]),
    ("pod-api", &["appliance"]),
    ("signing", &["appliance"]),
    ("vm-tests", &["appliance", "signing"]),
];

/// A module of the builder, and what it must not know of.
const MODULES: [(&str, &[&str]); 5] = [
    ("image/", &["recipe", "plan", "layer", "lock", "archive", "assemble", "verb"]),
    ("archive/version.rs", &["plan", "lock", "verb"]),
    ("tree.rs", &["recipe", "plan", "layer", "lock", "archive", "verb"]),
    ("resolve.rs", &["plan", "layer", "lock", "verb"]),
    ("plan.rs", &["archive", "tree", "image", "verb"]),
];

#[test]
fn programs_do_not_import_one_another() {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--no-deps", "--offline"])
        .current_dir(checkout())
        .output()
        .unwrap();
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let members: Vec<&str> = packages.iter().map(|p| p["name"].as_str().unwrap()).collect();
    for package in packages {
        let name = package["name"].as_str().unwrap();
        let Some((_, allowed)) = CRATES.iter().find(|(known, _)| *known == name) else { continue };
        for dependency in package["dependencies"].as_array().unwrap() {
            let dependency = dependency["name"].as_str().unwrap();
            let ours = members.contains(&dependency);
            assert!(!ours || allowed.contains(&dependency), "{name} imports {dependency}");
        }
    }
}

#[test]
fn modules_know_only_what_they_should() {
    let builder = checkout().join("src/builder");
    for (module, forbidden) in MODULES {
        for path in sources(&builder.join(module)) {
            let text = fs::read_to_string(&path).unwrap();
            for name in forbidden {
                let used = text.contains(&format!("crate::{name}::"))
                    || text.contains(&format!("use crate::{name};"));
                assert!(!used, "{} knows of {name}", path.display());
            }
        }
    }
}

#[test]
fn files_stay_short() {
    for path in
        sources(&checkout().join("src")).into_iter().chain(sources(&checkout().join("vm-tests")))
    {
        let lines = fs::read_to_string(&path).unwrap().lines().count();
        assert!(lines < 1000, "{} has {lines} lines", path.display());
    }
}

/// Growth of PID 1 shows here, and is talked about.
#[test]
fn pid_1_is_made_of_these_crates() {
    let tree = Command::new(env!("CARGO"))
        .args(["tree", "-p", "init", "-e", "normal,no-proc-macro", "--prefix", "none", "--offline"])
        .args(["--format", "{p}"])
        .current_dir(checkout())
        .output()
        .unwrap();
    // Not what it says on standard error, such as that it waits for another cargo.
    assert!(tree.status.success(), "{}", support::said(&tree));
    let tree = String::from_utf8(tree.stdout).unwrap();
    let mut crates: Vec<&str> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
    crates.sort_unstable();
    crates.dedup();
    assert_eq!(crates, PID_1);
}

const PID_1: [&str; 22] = [
    "appliance",
    "base64",
    "bitflags",
    "block-buffer",
    "cfg-if",
    "cpufeatures",
    "crypto-common",
    "digest",
    "generic-array",
    "init",
    "itoa",
    "libc",
    "memchr",
    "memoffset",
    "nix",
    "serde",
    "serde_core",
    "serde_json",
    "sha2",
    "thiserror",
    "typenum",
    "zmij",
];

/// The Rust files at or below a path.
fn sources(path: &Path) -> Vec<PathBuf> {
    if path.is_file() {
        return vec![path.to_owned()];
    }
    let entries = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
    let (folders, files): (Vec<PathBuf>, Vec<PathBuf>) = entries.partition(|path| path.is_dir());
    let rust = files.into_iter().filter(|path| path.extension().is_some_and(|e| e == "rs"));
    rust.chain(folders.iter().flat_map(|folder| sources(folder))).collect()
}
