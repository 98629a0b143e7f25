//! Maintainer scripts: none ever runs, so each one that would have run is accounted for.
//!
//! Only what runs when a package is first installed can matter to an image: `preinst`, `config`,
//! `postinst`, and the triggers it pulls. An image never removes or upgrades a package, so `prerm`
//! and `postrm` are irrelevant by construction.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use appliance::hash::Digest;

use crate::archive::version::Version;
use crate::layer::{LayerFolder, ScriptNote};

/// The control files that act on a first installation.
const ACTING: [&str; 4] = ["preinst", "config", "postinst", "triggers"];

/// A script that nobody has looked at, with its text and what to note about it.
#[derive(Debug)]
pub struct Unknown(String);

/// Says that some scripts are in the way.
pub fn refuse(unknown: &[Unknown]) -> Result<()> {
    if unknown.is_empty() {
        return Ok(());
    }
    let texts: Vec<&str> = unknown.iter().map(|script| script.0.as_str()).collect();
    bail!(
        "cannot leave out maintainer scripts: {} of them nobody has looked at\n\n{}\n\n\
         hint: read each, do in a layer what matters in an image, and note it there",
        unknown.len(),
        texts.join("\n\n")
    );
}

/// The scripts of a package that no layer accounts for.
pub fn unknown(
    package: &str,
    version: &Version,
    control: &BTreeMap<String, String>,
    layers: &[LayerFolder],
) -> Vec<Unknown> {
    let mut unknown = Vec::new();
    let abi = kernel_abi(package, control);
    for script in ACTING {
        let Some(text) = control.get(script) else { continue };
        if script == "triggers" && is_routine(text) {
            continue;
        }
        let digest = Digest::of(normalised(text, version, abi).as_bytes());
        let notes = layers.iter().flat_map(|layer| &layer.layer.scripts);
        let known: Vec<&ScriptNote> =
            notes.filter(|note| note.script == script && note.package.matches(package)).collect();
        if known.iter().any(|note| note.sha256.contains(&digest)) {
            continue;
        }
        let story = match known.is_empty() {
            true => "no layer says what it does",
            false => "it has changed since somebody last looked at it",
        };
        unknown.push(Unknown(format!(
            "{script} of {package} {version}: {story}\n{}\n\
             [[script]]\npackage = \"{package}\"\nscript = \"{script}\"\nsha256 = [\"{digest}\"]\n\
             because = \"…\"",
            quoted(text)
        )));
    }
    unknown
}

/// A script's text without what differs between routine updates: the package's version, the
/// kernel's ABI, and the version of the tool that wrote a part.
pub fn normalised(text: &str, version: &Version, abi: Option<&str>) -> String {
    let text = match abi {
        Some(abi) => text.replace(abi, "@ABI@").replace(&escaped(abi), "@ABI@"),
        None => text.to_owned(),
    };
    let text = text.replace(version.0.as_str(), "@VERSION@");
    let lines = text.lines().map(|line| match line.strip_prefix("# Automatically added by dh_") {
        Some(tool) => {
            let tool = tool.split('/').next().unwrap_or_default();
            format!("# Automatically added by dh_{tool}\n")
        }
        None => format!("{line}\n"),
    });
    lines.collect()
}

/// The ABI of the kernel that a package brings or depends on: `6.12.117+deb13-cloud-amd64` of
/// `linux-image-6.12.117+deb13-cloud-amd64`.
fn kernel_abi<'a>(package: &'a str, control: &'a BTreeMap<String, String>) -> Option<&'a str> {
    let text = control.get("control").map(String::as_str).unwrap_or_default();
    let words = std::iter::once(package).chain(text.split([' ', ',', '\n']));
    words
        .filter_map(|word| word.strip_prefix("linux-image-"))
        .find(|abi| abi.starts_with(|c: char| c.is_ascii_digit()))
}

/// As debhelper writes it for a shell.
fn escaped(abi: &str) -> String {
    abi.replace('+', "\\+").replace('~', "\\~")
}

/// Triggers that need nothing here: the loader's cache isn't used, since all libraries lie where
/// it looks anyway; and an interest of one's own is served by `postinst`, which is looked at.
fn is_routine(triggers: &str) -> bool {
    triggers.lines().map(|line| line.split('#').next().unwrap_or_default().trim()).all(|line| {
        let mut words = line.split_whitespace();
        match words.next() {
            None => true,
            Some("interest" | "interest-await" | "interest-noawait") => true,
            Some("activate" | "activate-await" | "activate-noawait") => {
                words.next() == Some("ldconfig")
            }
            Some(_) => false,
        }
    })
}

fn quoted(text: &str) -> String {
    text.lines().map(|line| format!("    | {line}")).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn control(script: &str, text: &str) -> BTreeMap<String, String> {
        BTreeMap::from([(script.to_owned(), text.to_owned())])
    }

    fn layer(digest: Digest) -> LayerFolder {
        let text = format!(
            "[[script]]\npackage = \"linux-image-*\"\nscript = \"postinst\"\n\
             sha256 = [\"{digest}\"]\nbecause = \"the builder writes the UKI\"\n"
        );
        LayerFolder {
            name: "l".to_owned().try_into().unwrap(),
            folder: ".".into(),
            layer: crate::document::parse("l", &text).unwrap(),
        }
    }

    #[test]
    fn a_routine_update_passes_and_another_script_does_not() {
        let text = |abi: &str, version: &str| {
            format!("#!/bin/sh\nversion={abi}\n# {version}\ndepmod {}\n", escaped(abi))
        };
        let version = |v: &str| Version(v.to_owned());
        let abi = |upstream: &str| format!("{upstream}+deb13-cloud-amd64");
        let check = |abi: &str, v: &str, text: &str, layers: &[LayerFolder]| {
            unknown(&format!("linux-image-{abi}"), &version(v), &control("postinst", text), layers)
        };
        let (old_abi, new_abi) = (abi("6.12.107"), abi("6.12.117"));
        let old = text(&old_abi, "6.12.107-1");
        let known = normalised(&old, &version("6.12.107-1"), Some(&old_abi));
        let layers = [layer(Digest::of(known.as_bytes()))];
        assert!(check(&old_abi, "6.12.107-1", &old, &layers).is_empty());
        assert!(check(&new_abi, "6.12.117-1", &text(&new_abi, "6.12.117-1"), &layers).is_empty());
        let changed = check(&old_abi, "6.12.107-1", &format!("{old}rm -rf /\n"), &layers);
        let error = refuse(&changed).unwrap_err().to_string();
        assert!(error.contains("it has changed") && error.contains("| rm -rf /"), "{error}");
        assert_eq!(unknown("x", &version("1"), &control("preinst", "a"), &layers).len(), 1);
        assert!(unknown("x", &version("1"), &control("prerm", "a"), &layers).is_empty());
    }

    #[test]
    fn only_the_loaders_cache_is_a_routine_trigger() {
        assert!(is_routine("# x\nactivate-noawait ldconfig\ninterest foo\n"));
        assert!(!is_routine("activate-noawait update-initramfs\n"));
        assert!(!is_routine("surprise\n"));
    }
}
