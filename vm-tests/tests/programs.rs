//! The same sources give the same guest programs, wherever and with whatever settings they are
//! compiled. It is done where mutants are made: what they have in common is compiled once.

use std::env;
use std::fs;
use std::path::PathBuf;

use vm_tests::images::Tools;
use vm_tests::{mutant, scratch};

const PROGRAMS: [&str; 7] = [
    "front",
    "pod-api",
    "stele-backup",
    "stele-init",
    "stele-install",
    "stele-loader",
    "stele-probe",
];

#[test]
fn another_checkout_compiles_the_same_programs() {
    let ours = &Tools::find().unwrap().programs;
    let theirs = mutant::programs("none", &[]).unwrap();
    let home = PathBuf::from(env::var_os("HOME").unwrap());
    let folder = |name| scratch::folder(name).unwrap();
    let places = [folder(mutant::SOURCES), folder(mutant::TARGET), home.join(".cargo")];
    for name in PROGRAMS {
        let (a, b) = (fs::read(ours.join(name)).unwrap(), fs::read(theirs.join(name)).unwrap());
        assert!(a == b, "{name} depends on where it is compiled");
        for path in &places {
            let path = path.to_str().unwrap().as_bytes();
            assert!(!b.windows(path.len()).any(|window| window == path), "{name} knows {path:?}");
        }
    }
}
