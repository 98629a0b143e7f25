//! The list of what is in an image, as SPDX 2.3 JSON: packages, layers and the builder's own
//! programs, every file with the one of them that brought it, and under which licences.
//!
//! `spdx` is the format (`lines` its layout), `contents` finds the files and `packages` says what is known of whoever
//! brought them. The rest is about licences: `copyright` reads Debian's files, `expression` and
//! `names` translate what they say, `licences` puts it together.

mod contents;
mod copyright;
mod expression;
mod licences;
mod lines;
mod names;
mod packages;
mod spdx;
#[cfg(test)]
mod tests;

use anyhow::Result;
use appliance::hash::Digest;

use crate::assemble::Assembled;
use crate::kernel::Boot;
use crate::lock::Lock;
use crate::plan::Plan;
use crate::programs::Program;
use crate::recipe::Debian;
use crate::report::Report;
use crate::tree::Tree;
use contents::{Contents, Place};
use licences::Licences;
use spdx::{CreationInfo, Document, Id, Package, Relationship};

/// How the document uses SPDX where SPDX leaves it open.
const COMMENT: &str = "\
A Debian package stands for what the image takes of it: the files it contains and its verification \
code are those of the image, its checksum is that of the .deb they come from. A symbolic link is a \
file whose checksums are those of its target's name, as in git; its comment names the target. \
Declared licences are all that a package's copyright file names, whatever part of the source they \
concern.";

/// The document, deterministic: nothing in it depends on when or where it is made.
pub fn document(
    plan: &Plan,
    lock: &Lock,
    assembled: &Assembled,
    report: &Report,
) -> Result<String> {
    let subject = Subject {
        debian: &plan.recipe().debian,
        layers: plan.layers.iter().map(|layer| layer.name.as_str()).collect(),
        lock,
        tree: &assembled.tree,
        boot: &assembled.boot,
        report,
    };
    subject.document()?.to_text()
}

/// What the document is about.
struct Subject<'a> {
    debian: &'a Debian,
    layers: Vec<&'a str>,
    lock: &'a Lock,
    tree: &'a Tree,
    boot: &'a Boot,
    report: &'a Report,
}

impl Subject<'_> {
    fn document(&self) -> Result<Document> {
        let Report { name, version, .. } = self.report;
        let contents = Contents::of(self.tree, self.boot, &self.report.programs);
        let mut licences = Licences::default();
        let packages = self.packages(&contents, &mut licences);
        let mut document = Document {
            spdx_version: "SPDX-2.3",
            data_license: "CC0-1.0",
            id: Id::document(),
            name: format!("{name}-{version}"),
            document_namespace: String::new(),
            creation_info: CreationInfo {
                created: self.lock.clock.to_string(),
                creators: vec![format!("Tool: stele-{}", env!("CARGO_PKG_VERSION"))],
            },
            comment: COMMENT,
            relationships: relationships(&packages, &contents),
            packages,
            files: contents.files.into_iter().map(|held| held.file).collect(),
            extracted: licences.extracted(),
        };
        // SPDX wants a name that no other document has: this one's own content.
        let digest = Digest::of(document.to_text()?.as_bytes());
        document.document_namespace =
            format!("https://spdx.org/spdxdocs/{name}-{version}-{digest}");
        Ok(document)
    }

    /// The appliance, then all that it contains.
    fn packages(&self, contents: &Contents, licences: &mut Licences) -> Vec<Package> {
        let debian = self.lock.packages.iter().map(|package| {
            let licence = packages::licence(&package.name, self.tree, licences);
            let suite = self.debian.suite_of(&package.name);
            packages::debian(package, suite.as_str(), licence)
        });
        let mut all = vec![packages::appliance(self.report), packages::uki(self.report)];
        all.extend(debian);
        all.extend(self.layers.iter().map(|name| packages::layer(name)));
        let programs = self.report.programs.iter();
        all.extend(programs.map(|(name, digest)| packages::program(name, *digest)));
        all.push(packages::builder());
        let mut codes = contents.verification_codes();
        for package in &mut all {
            package.package_verification_code = codes.remove(&package.id);
            package.files_analyzed = package.package_verification_code.is_some();
        }
        all
    }
}

/// Who contains what, and what the UKI is made from.
fn relationships(packages: &[Package], contents: &Contents) -> Vec<Relationship> {
    let relation =
        |from: &Id, what, to: &Id| Relationship { from: from.clone(), what, to: to.clone() };
    let appliance = &packages::appliance_id();
    let uki = &packages::uki_id();
    let mut all = vec![relation(&Id::document(), "DESCRIBES", appliance)];
    let parts = packages.iter().filter(|package| package.id != *appliance);
    all.extend(parts.map(|package| relation(appliance, "CONTAINS", &package.id)));
    let files = contents.files.iter();
    all.extend(files.clone().map(|held| relation(&held.holder, "CONTAINS", &held.file.id)));
    let init = &contents::program(Program::Init.name());
    all.push(relation(uki, "GENERATED_FROM", init));
    let boot = files.filter(|held| held.place == Place::Uki);
    all.extend(boot.map(|held| relation(uki, "GENERATED_FROM", &held.file.id)));
    all
}
