//! The real thing: the repository's own recipe, built once a test program.

#![allow(dead_code)] // each test program uses its part

use std::env;
use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use appliance::gpt::Table;
use serde_json::Value;

/// The repository.
pub fn checkout() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().to_owned()
}

/// Where recipes and locks are: a scratch copy when the repository's own lock is out of date.
pub fn recipes() -> PathBuf {
    env::var_os("STELE_RECIPES").map_or_else(|| checkout().join("recipes"), PathBuf::from)
}

/// The store that everybody shares.
pub fn store() -> PathBuf {
    let home = || PathBuf::from(env::var_os("HOME").unwrap()).join(".cache/stele");
    env::var_os("STELE_STORE").map_or_else(home, PathBuf::from)
}

/// A built image, and what its report says.
pub struct Built {
    pub image: PathBuf,
    pub outcome: Value,
}

/// The image of `prose-pod.toml`.
pub fn image() -> &'static Built {
    static BUILT: OnceLock<Built> = OnceLock::new();
    BUILT.get_or_init(|| {
        let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join("image");
        let output = Command::new(super::STELE)
            .args(["build", "--json", "--out"])
            .arg(out)
            .arg(recipes().join("prose-pod.toml"))
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", super::said(&output));
        let outcome: Value = serde_json::from_slice(&output.stdout).unwrap();
        Built { image: outcome["image"].as_str().unwrap().into(), outcome }
    })
}

impl Built {
    /// The image's partition table.
    pub fn table(&self) -> Table {
        Table::parse(&read_at(&self.image, 0, 34 * 512)).unwrap()
    }

    /// A partition's bytes, in a file of its own in `folder`.
    pub fn partition(&self, name: &str, folder: &Path) -> PathBuf {
        let table = self.table();
        let partition = table.named(name).unwrap();
        let bytes = read_at(&self.image, partition.offset(), partition.bytes() as usize);
        let path = folder.join(name);
        fs::write(&path, bytes).unwrap();
        path
    }
}

/// `length` bytes of a file.
pub fn read_at(path: &Path, offset: u64, length: usize) -> Vec<u8> {
    let mut file = fs::File::open(path).unwrap();
    file.seek(SeekFrom::Start(offset)).unwrap();
    let mut bytes = vec![0; length];
    file.read_exact(&mut bytes).unwrap();
    bytes
}

/// Runs a foreign tool; it must be installed.
pub fn tool(name: &str, arguments: &[&str]) -> Output {
    Command::new(name)
        .args(arguments)
        .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
        .output()
        .unwrap_or_else(|error| panic!("cannot run {name}: {error} (vm-tests/setup installs it)"))
}

/// Both streams of a tool's output, when it succeeded.
pub fn succeeded(output: Output) -> String {
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(output.status.success(), "{}: {text}", output.status);
    text
}
