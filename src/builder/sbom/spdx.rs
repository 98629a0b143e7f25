//! SPDX 2.3 as JSON: the part of it that an SBOM of an image needs, in the specification's words.
//!
//! Whatever is left out means NOASSERTION there.

use std::fmt;

use anyhow::{Context, Result};
use appliance::hash::Digest;
use serde::Serialize;
use serde_json::ser::Serializer;

use super::lines::Lines;

/// Nothing is claimed.
pub const NOASSERTION: &str = "NOASSERTION";

/// The document.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Document {
    pub spdx_version: &'static str,
    pub data_license: &'static str,
    #[serde(rename = "SPDXID")]
    pub id: Id,
    pub name: String,
    pub document_namespace: String,
    pub creation_info: CreationInfo,
    pub comment: &'static str,
    pub packages: Vec<Package>,
    pub files: Vec<File>,
    #[serde(rename = "hasExtractedLicensingInfos")]
    pub extracted: Vec<ExtractedLicence>,
    pub relationships: Vec<Relationship>,
}

/// Who wrote the document, and when.
#[derive(Debug, Serialize)]
pub struct CreationInfo {
    pub created: String,
    pub creators: Vec<String>,
}

/// Something with a name and a version; the files that it contains are listed.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Package {
    #[serde(rename = "SPDXID")]
    pub id: Id,
    pub name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version_info: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub package_file_name: Option<String>,
    pub supplier: &'static str,
    pub download_location: &'static str,
    pub files_analyzed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub package_verification_code: Option<VerificationCode>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub checksums: Vec<Checksum>,
    pub license_concluded: &'static str,
    pub license_declared: String,
    pub copyright_text: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub external_refs: Vec<ExternalRef>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub primary_package_purpose: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_info: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
}

impl Package {
    /// A package about which nothing is claimed yet.
    pub fn new(id: Id, name: &str) -> Package {
        Package {
            id,
            name: name.to_owned(),
            version_info: None,
            package_file_name: None,
            supplier: NOASSERTION,
            download_location: NOASSERTION,
            files_analyzed: false,
            package_verification_code: None,
            checksums: vec![],
            license_concluded: NOASSERTION,
            license_declared: NOASSERTION.to_owned(),
            copyright_text: NOASSERTION,
            external_refs: vec![],
            primary_package_purpose: None,
            source_info: None,
            comment: None,
        }
    }
}

/// One value that stands for all files of a package (SPDX 2.3, 7.9).
#[derive(Debug, Serialize)]
pub struct VerificationCode {
    #[serde(rename = "packageVerificationCodeValue")]
    pub value: String,
}

/// A digest under the name of its algorithm.
#[derive(Debug, Serialize)]
pub struct Checksum {
    pub algorithm: &'static str,
    #[serde(rename = "checksumValue")]
    pub value: String,
}

impl Checksum {
    /// A SHA-256.
    pub fn sha256(digest: Digest) -> Checksum {
        Checksum { algorithm: "SHA256", value: digest.to_string() }
    }
}

/// What others call a package.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ExternalRef {
    pub reference_category: &'static str,
    pub reference_type: &'static str,
    pub reference_locator: String,
}

/// A file.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct File {
    #[serde(rename = "SPDXID")]
    pub id: Id,
    pub file_name: String,
    pub checksums: Vec<Checksum>,
    pub license_concluded: &'static str,
    pub copyright_text: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
}

/// A licence that SPDX has no name for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ExtractedLicence {
    pub license_id: String,
    pub name: String,
    pub extracted_text: String,
}

/// `from` does `what` to `to`.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Relationship {
    #[serde(rename = "spdxElementId")]
    pub from: Id,
    #[serde(rename = "relationshipType")]
    pub what: &'static str,
    #[serde(rename = "relatedSpdxElement")]
    pub to: Id,
}

/// What an element is called in its document.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Id(String);

impl Id {
    /// The id of the thing of this kind and name. A name that has to be bent into shape is
    /// followed by some of its digest, lest `a+` and `a_` share an id.
    pub fn new(kind: &str, name: &str) -> Id {
        let bent = bent(name);
        let name = if bent == name { bent } else { marked(&bent, name) };
        Id(format!("SPDXRef-{kind}-{name}"))
    }

    /// The document itself.
    pub fn document() -> Id {
        Id("SPDXRef-DOCUMENT".to_owned())
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// `name` with every character replaced that an SPDX id can't have.
pub fn bent(name: &str) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
    name.chars().map(|c| if allowed(c) { c } else { '-' }).collect()
}

/// `name`, then the first 32 bits of the digest of `content`.
pub fn marked(name: &str, content: &str) -> String {
    let [a, b, c, d, ..] = Digest::of(content.as_bytes()).0;
    format!("{name}-{:08x}", u32::from_be_bytes([a, b, c, d]))
}

impl Document {
    /// The document as text, a line for each element.
    pub fn to_text(&self) -> Result<String> {
        let mut bytes = Vec::new();
        self.serialize(&mut Serializer::with_formatter(&mut bytes, Lines::default()))?;
        bytes.push(b'\n');
        String::from_utf8(bytes).context("internal error: JSON that is no UTF-8")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_valid_and_no_two_names_share_one() {
        let table = [
            ("zlib1g", "SPDXRef-P-zlib1g"),
            ("lua5.4", "SPDXRef-P-lua5.4"),
            ("libstdc++6", "SPDXRef-P-libstdc--6-ee0af3d5"),
            ("libstdc--6", "SPDXRef-P-libstdc--6"),
            ("é/x", "SPDXRef-P---x-"),
        ];
        for (name, expected) in table {
            let id = Id::new("P", name).to_string();
            assert!(id.starts_with(expected), "{id}");
            assert_eq!(bent(&id), id);
        }
        assert_ne!(Id::new("P", "a/b"), Id::new("P", "a_b"));
    }
}
