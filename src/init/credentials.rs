//! Secrets that init gives to services: files in memory, in a folder that one service sees
//! (`CREDENTIALS_DIRECTORY`), readable by its user alone; never in arguments, environment or logs.
//!
//! A file is replaced as a whole, while the service runs or not: its jail shows the folder.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, chown};
use std::path::{Path, PathBuf};

use appliance::secret::Secret;
use appliance::service::Service;

use crate::failure::{Failure, OrCannot as _};
use crate::keep;
use crate::log::error;
use crate::random;

/// Where the folders are, for init alone. `/run` is memory.
const ALL: &str = "/run/stele/credentials";
/// Where a service finds its own.
pub const FOLDER: &str = "/run/credentials";
/// The operator's own bootstrap secret, in [`ENVIRONMENT`].
const VARIABLE: &str = "PROSE_BOOTSTRAP__PROSE_POD_API_XMPP_PASSWORD";
/// The operator's file of variables.
const ENVIRONMENT: &str = "/etc/prose/env";
/// The most that is read of it.
const LONGEST: u64 = 64 * 1024;
/// Random bytes of a secret: nobody guesses them.
const STRENGTH: usize = 32;

/// One service's folder.
#[derive(Debug)]
pub struct Credentials {
    folder: PathBuf,
    uid: u32,
    gid: u32,
}

/// The folder of the service of this name, seen from init.
pub fn folder_of(service: &str) -> PathBuf {
    Path::new(ALL).join(service)
}

impl Credentials {
    /// Makes the folder, which is empty.
    pub fn make(service: &Service) -> Result<Credentials, Failure> {
        let folder = folder_of(&service.name);
        let what = format_args!("make a place for the secrets of {}", service.name);
        DirBuilder::new().recursive(true).mode(0o700).create(ALL).or_cannot(what)?;
        DirBuilder::new().mode(0o500).create(&folder).or_cannot(what)?;
        let (uid, gid) = (service.user.uid, service.user.gid);
        chown(&folder, Some(uid), Some(gid)).or_cannot(what)?;
        Ok(Credentials { folder, uid, gid })
    }

    /// The group of the service's user.
    pub fn gid(&self) -> u32 {
        self.gid
    }

    /// Gives it this secret under this name; `None`: takes it away.
    pub fn give(&self, name: &str, secret: Option<&Secret>) -> Result<(), Failure> {
        let path = self.folder.join(name);
        let what = format_args!("give {}", path.display());
        match secret {
            Some(secret) => {
                keep::replace(&path, secret.reveal().as_bytes(), 0o400, (self.uid, self.gid))
            }
            None => match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            },
        }
        .or_cannot(what)
    }
}

/// What the Server and the Pod API start with: the operator's own, else a fresh one for this boot.
/// Nobody else needs to know it, so that one that can't be used is no reason to serve nothing.
pub fn bootstrap() -> Result<Secret, Failure> {
    match operators() {
        Ok(Some(secret)) => return Ok(secret),
        Ok(None) => {}
        Err(failure) => error!("{failure}; a random one is used"),
    }
    fresh()
}

fn operators() -> Result<Option<Secret>, Failure> {
    let what = format_args!("read {ENVIRONMENT}");
    let text = match fs::metadata(ENVIRONMENT) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Failure::new(what, error)),
        Ok(found) if found.len() > LONGEST => {
            return Err(Failure::new(what, format_args!("it is longer than {LONGEST} bytes")));
        }
        Ok(_) => fs::read_to_string(ENVIRONMENT).or_cannot(what)?,
    };
    let value = variable(&text, VARIABLE).map(|value| Secret::try_from(value.to_owned()));
    value.transpose().or_cannot(format_args!("use {VARIABLE} of {ENVIRONMENT}"))
}

/// A strong one.
fn fresh() -> Result<Secret, Failure> {
    let text: String = random::bytes(STRENGTH)?.iter().map(|byte| format!("{byte:02x}")).collect();
    Secret::try_from(text).or_cannot("make a secret")
}

/// The last value of a variable in lines `NAME=value`, as Docker's env files have them: without
/// quotes of a shell's, `#` begins a comment.
fn variable<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let lines = text.lines().map(str::trim).filter(|line| !line.starts_with('#'));
    let mut values = lines.rev().filter_map(|line| {
        let (found, value) = line.split_once('=')?;
        (found.trim_end() == name).then(|| unquoted(value.trim()))
    });
    values.next()
}

/// Quotes around the whole are no part of it.
fn unquoted(value: &str) -> &str {
    let inside = |quote: char| value.strip_prefix(quote)?.strip_suffix(quote);
    inside('"').or_else(|| inside('\'')).unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_operators_variable_is_found() {
        for (text, expected) in [
            ("", None),
            ("A=1\nB=2\n", Some("1")),
            ("A=1\nA=2\n", Some("2")),
            ("# A=1\n", None),
            ("AA=1\nA A=2", None),
            ("  A = x y \r\n", Some("x y")),
            ("A=\"x=y#z\"", Some("x=y#z")),
            ("A='x\"'", Some("x\"")),
            ("A=\"", Some("\"")),
            ("A=", Some("")),
        ] {
            assert_eq!(variable(text, "A"), expected, "{text}");
        }
    }

    #[test]
    fn a_fresh_secret_is_another_each_time() {
        let (one, other) = (fresh().unwrap(), fresh().unwrap());
        assert_ne!(one, other);
        assert_eq!(one.reveal().len(), 2 * STRENGTH);
    }
}
