//! The build report: what was made, how large it is, and what takes the room. It says nothing that
//! isn't a function of the build's inputs, so it is the same wherever the build is repeated.

use std::collections::BTreeMap;

use appliance::hash::Digest;
use appliance::verity::Geometry;
use serde::{Deserialize, Serialize};

use crate::assemble::Assembled;
use crate::lock::Lock;
use crate::plan::Plan;
use crate::programs::Programs;
use crate::quantity::Size;
use crate::release::Release;
use crate::tree::{Entry, Kind, Origin};

/// The document `NAME-VERSION.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The recipe's name.
    pub name: String,
    /// The recipe's version.
    pub version: String,
    /// Debian's name of the architecture.
    pub architecture: String,
    /// The lock's clock.
    pub clock: String,
    /// The disk image.
    pub image: FileReport,
    /// The UKI in it.
    pub uki: FileReport,
    /// The root in it.
    pub root: RootReport,
    /// Digests of the guest programs, by name.
    pub programs: BTreeMap<String, Digest>,
    /// What is odd, but no reason to stop.
    pub warnings: Vec<String>,
}

/// A run of bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileReport {
    /// Its length.
    pub bytes: u64,
    /// Its SHA-256.
    pub sha256: Digest,
}

/// The root file system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootReport {
    /// Its length, compressed, without its hash tree.
    pub bytes: u64,
    /// What names it, and where.
    #[serde(flatten)]
    pub geometry: Geometry,
    /// Files in it.
    pub files: usize,
    /// Their bytes before compression.
    pub content: u64,
    /// Bytes before compression, by package.
    pub packages: BTreeMap<String, u64>,
    /// Bytes before compression, by layer: its own files and what its packages brought.
    pub layers: BTreeMap<String, u64>,
}

impl Report {
    /// The report of a release.
    pub fn new(
        plan: &Plan,
        lock: &Lock,
        assembled: &Assembled,
        programs: &Programs,
        release: &Release,
        image: Digest,
    ) -> Report {
        let recipe = plan.recipe();
        Report {
            name: recipe.name.to_string(),
            version: recipe.version.to_string(),
            architecture: lock.architecture.clone(),
            clock: lock.clock.to_string(),
            image: FileReport { bytes: release.disk.size, sha256: image },
            uki: FileReport { bytes: release.uki.len() as u64, sha256: Digest::of(&release.uki) },
            root: root_report(plan, assembled, release),
            programs: programs.digests(),
            warnings: assembled.warnings.clone(),
        }
    }

    /// What a person reads at the end of a build.
    pub fn print(&self) {
        for warning in &self.warnings {
            println!("warning: {warning}");
        }
        let root = &self.root;
        println!(
            "root   {:>10}  {} files, {} before compression",
            Size(root.bytes).to_string(),
            root.files,
            Size(root.content)
        );
        print_largest("layer", &root.layers, usize::MAX);
        print_largest("package", &root.packages, 8);
        println!("uki    {:>10}", Size(self.uki.bytes).to_string());
        println!("image  {:>10}  sha256 {}", Size(self.image.bytes).to_string(), self.image.sha256);
        println!("root hash {}", root.geometry.root_hash);
    }
}

fn print_largest(what: &str, sizes: &BTreeMap<String, u64>, most: usize) {
    let mut sizes: Vec<(&String, &u64)> = sizes.iter().collect();
    sizes.sort_by_key(|(name, size)| (std::cmp::Reverse(**size), (*name).clone()));
    for (name, size) in sizes.into_iter().take(most) {
        println!("       {:>10}    {what} {name}", Size(*size).to_string());
    }
}

fn root_report(plan: &Plan, assembled: &Assembled, release: &Release) -> RootReport {
    let mut files = 0;
    let mut content = 0;
    let mut packages = BTreeMap::new();
    let mut layers = BTreeMap::new();
    for (_, Entry { kind, origin, .. }) in assembled.tree.iter() {
        let Kind::File(bytes) = kind else { continue };
        let size = bytes.len() as u64;
        files += 1;
        content += size;
        if let Origin::Package(package) = origin {
            *packages.entry(package.clone()).or_default() += size;
        }
        *layers.entry(layer_of(plan, origin)).or_default() += size;
    }
    let bytes = release.root.len() as u64;
    RootReport { bytes, geometry: release.geometry.clone(), files, content, packages, layers }
}

/// The layer that brought it: of a package, the first that takes from it.
fn layer_of(plan: &Plan, origin: &Origin) -> String {
    match origin {
        Origin::Layer(name) => name.clone(),
        Origin::Builder => "(the builder)".to_owned(),
        Origin::Package(package) => plan
            .wants
            .iter()
            .find(|want| want.package.matches(package))
            .map(|want| want.layer.to_string())
            .unwrap_or_default(),
    }
}
