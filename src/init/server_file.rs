//! The files that the Server's configuration is made of: what it reads, and what is kept from boot to
//! boot of what worked.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read as _};
use std::path::Path;

use appliance::settings::{BOOTSTRAP_FILE, MARKER, Settings};
use serde::{Deserialize, Serialize};

use crate::configuration::Rendered;
use crate::log::{notice, warning};
use crate::{data, keep};
use appliance::failure::{Failure, OrCannot as _};

/// What the Server reads.
const FILE: &str = "/etc/prosody/prosody.cfg.lua";
/// Where an operator's own is put once: a Server that the Pod drives has no use for it.
const OPERATORS: &str = "/etc/prosody/prosody.cfg.lua.operator";
/// What an operator may want the Server to start with in the place of the image's.
const OVERRIDE: &str = "/etc/prosody/prosody.bootstrap.cfg.lua";
/// Where operators' certificates are.
const CERTIFICATES: &str = "/etc/prosody/certs";
/// Its name on the data.
const KEPT: &str = "settings.json";
/// No configuration is longer.
const LONGEST: u64 = 1024 * 1024;

/// What worked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kept {
    /// The settings.
    pub settings: Settings,
    /// The text that the Server took.
    pub text: String,
    /// The image whose Server did.
    pub image: String,
    /// Did it have certificates of the operator's?
    pub has_certificate: bool,
}

/// Before the Server starts for the first time in this boot: it starts with the bootstrap file,
/// whatever lies there. And if the power goes here? An operator's own file has one of its names.
pub fn begin(server: u32) -> Result<(), Failure> {
    if is_operators(Path::new(FILE)) && !Path::new(OPERATORS).exists() {
        fs::rename(FILE, OPERATORS).or_cannot(format_args!("keep {FILE} as {OPERATORS}"))?;
        notice!("server: {FILE} is an operator's own; kept as {OPERATORS}");
    }
    install(None, server)
}

/// Whatever lies there without our mark, however long.
fn is_operators(path: &Path) -> bool {
    let mut start = vec![];
    let read = File::open(path).and_then(|file| file.take(64).read_to_end(&mut start));
    read.is_ok() && !start.starts_with(MARKER.as_bytes())
}

/// Puts a text where the Server, whose group this is, reads it; `None`: the bootstrap file.
pub fn install(text: Option<&str>, group: u32) -> Result<(), Failure> {
    let what = format_args!("install {FILE}");
    let text = match text {
        Some(text) => text.as_bytes().to_vec(),
        None => bootstrap().or_cannot(what)?,
    };
    keep::replace(Path::new(FILE), &text, 0o640, (0, group)).or_cannot(what)
}

/// Marked, so that it isn't taken for an operator's own at the next boot.
fn bootstrap() -> io::Result<Vec<u8>> {
    let text = match read(OVERRIDE) {
        Err(error) if error.kind() == ErrorKind::NotFound => return read(BOOTSTRAP_FILE),
        text => text?,
    };
    match text.starts_with(MARKER.as_bytes()) {
        true => Ok(text),
        false => {
            Ok([MARKER.as_bytes(), b" a copy of the operator's bootstrap file.\n", &text].concat())
        }
    }
}

fn read(path: &str) -> io::Result<Vec<u8>> {
    let mut text = vec![];
    File::open(path)?.take(LONGEST + 1).read_to_end(&mut text)?;
    match text.len() as u64 {
        0..=LONGEST => Ok(text),
        _ => Err(io::Error::other(format!("{path} is longer than {LONGEST} bytes"))),
    }
}

/// Did the operator give certificates?
pub fn has_certificate() -> bool {
    fs::read_dir(CERTIFICATES).is_ok_and(|mut entries| entries.next().is_some())
}

/// What worked in the last boot that got so far. What can't be understood is as good as nothing: the
/// Pod API submits its settings anew.
pub fn kept() -> Option<Kept> {
    let path = Path::new(data::AT).join(KEPT);
    let text = fs::read(&path).ok()?;
    let kept = serde_json::from_slice(&text);
    kept.inspect_err(|error| warning!("cannot understand {}: {error}", path.display())).ok()
}

/// Keeps what works, if this machine has data.
pub fn keep(rendered: &Rendered, image: &str) -> Result<(), Failure> {
    let kept = Kept {
        settings: rendered.settings.clone(),
        text: rendered.text.clone(),
        image: image.to_owned(),
        has_certificate: has_certificate(),
    };
    let path = Path::new(data::AT).join(KEPT);
    if !Path::new(data::AT).is_dir() || self::kept().as_ref() == Some(&kept) {
        return Ok(());
    }
    let what = format_args!("keep {}", path.display());
    let text = serde_json::to_vec(&kept).or_cannot(what)?;
    keep::replace(&path, &text, 0o600, keep::ROOT).or_cannot(what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operators_file_is_known_by_lacking_our_mark() {
        let path = std::env::temp_dir().join(format!("stele-marker-{}", std::process::id()));
        assert!(!is_operators(&path));
        for (text, expected) in [
            (format!("{MARKER} the Server's configuration\n"), false),
            ("daemonize = false\n".to_owned(), true),
            (format!("\n{MARKER}"), true),
            (String::new(), true),
        ] {
            fs::write(&path, &text).unwrap();
            assert_eq!(is_operators(&path), expected, "{text}");
        }
        fs::remove_file(&path).unwrap();
    }
}
