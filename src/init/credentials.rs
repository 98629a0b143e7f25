//! Secrets that init gives to services: files in memory, in a folder that one service sees
//! (`CREDENTIALS_DIRECTORY`), readable by its user alone; never in arguments, environment or logs.
//!
//! A file is replaced as a whole, while the service runs or not: its jail shows the folder.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read as _};
use std::os::unix::fs::{DirBuilderExt as _, chown};
use std::path::{Path, PathBuf};

use appliance::secret::Secret;
use appliance::service::Service;

use crate::keep;
use crate::log::error;
use crate::random;
use appliance::failure::{Failure, OrCannot as _};

/// Where the folders are, for init alone. `/run` is memory.
const ALL: &str = "/run/stele/credentials";
/// Where a service finds its own.
pub const FOLDER: &str = "/run/credentials";
/// The operator's own bootstrap secret, in [`ENVIRONMENT`].
const BOOTSTRAP: &str = "PROSE_BOOTSTRAP__PROSE_POD_API_XMPP_PASSWORD";
/// By which the operator allows settings to hold Lua, with `true`.
const LUA: &str = "PROSE_PROSODY_EXT__ALLOW_RAW_OVERRIDES";
/// How names begin that are for the bootstrap, and those that are for the Pod API.
const BOOTSTRAPS: &str = "PROSE_BOOTSTRAP__";
const API: &str = "PROSE_";
/// The operator's file of variables.
const ENVIRONMENT: &str = "/etc/prose/env";
/// Their file of settings, at its newer place: next to that of variables, so that the Pod API doesn't
/// see it there.
const SETTINGS: &str = "/etc/prose/prose.toml";
/// The most that is read of either.
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
            Some(secret) => return self.give_file(name, secret.reveal().as_bytes()),
            None => match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            },
        }
        .or_cannot(what)
    }

    /// Gives it a file with these bytes.
    pub fn give_file(&self, name: &str, bytes: &[u8]) -> Result<(), Failure> {
        let path = self.folder.join(name);
        keep::replace(&path, bytes, 0o400, (self.uid, self.gid))
            .or_cannot(format_args!("give {}", path.display()))
    }
}

/// What the operator's file says.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Environment(BTreeMap<String, String>);

impl Environment {
    /// Reads it. One that can't be read is as good as none, and told.
    pub fn read() -> Environment {
        let what = format_args!("read {ENVIRONMENT}");
        let text = match fs::metadata(ENVIRONMENT) {
            Ok(found) if found.len() > LONGEST => {
                Err(Failure::new(what, format_args!("it is longer than {LONGEST} bytes")))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
            _ => fs::read_to_string(ENVIRONMENT).or_cannot(what),
        };
        match text {
            Ok(text) => Environment::parse(&text),
            Err(failure) => {
                error!("{failure}");
                Environment::default()
            }
        }
    }

    /// Lines `NAME=value`, as Docker's env files have them: without quotes of a shell's but around
    /// the whole, `#` begins a comment. The last value of a name counts.
    fn parse(text: &str) -> Environment {
        let lines = text.lines().map(str::trim).filter(|line| !line.starts_with('#'));
        let variables = lines.filter_map(|line| {
            let (name, value) = line.split_once('=')?;
            Some((name.trim_end().to_owned(), unquoted(value.trim()).to_owned()))
        });
        Environment(variables.collect())
    }

    /// What the Server and the Pod API start with: the operator's own, else a fresh one for this
    /// boot. Nobody else needs to know it, so that one that can't be used is no reason to serve
    /// nothing.
    pub fn bootstrap(&self) -> Result<Secret, Failure> {
        match self.0.get(BOOTSTRAP).map(|value| Secret::try_from(value.clone())) {
            Some(Ok(secret)) => return Ok(secret),
            Some(Err(error)) => error!("cannot use {BOOTSTRAP}: {error}; a random one is used"),
            None => {}
        }
        fresh()
    }

    /// May whoever administrates the Pod write Lua into the Server's configuration? It runs next to
    /// the messages: so it is the operator who says, and PID 1 itself who reads it.
    pub fn allows_lua(&self) -> bool {
        self.0.get(LUA).is_some_and(|value| value == "true")
    }

    /// What is meant for the Pod API, as a JSON object: not what begins the bootstrap.
    pub fn of_the_api(&self) -> Result<Vec<u8>, Failure> {
        let is_its = |name: &str| name.starts_with(API) && !name.starts_with(BOOTSTRAPS);
        let its: BTreeMap<_, _> = self.0.iter().filter(|(name, _)| is_its(name)).collect();
        serde_json::to_vec(&its).or_cannot("hand over the operator's variables")
    }
}

/// The operator's file of settings, if there is one: what it says is the Pod API's affair. One that
/// can't be read is as good as none, and told.
pub fn operators_settings() -> Option<Vec<u8>> {
    read_bounded(Path::new(SETTINGS)).unwrap_or_else(|failure| {
        error!("{failure}");
        None
    })
}

fn read_bounded(path: &Path) -> Result<Option<Vec<u8>>, Failure> {
    let what = format_args!("read {}", path.display());
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file.or_cannot(what)?,
    };
    let mut bytes = vec![];
    file.take(LONGEST + 1).read_to_end(&mut bytes).or_cannot(what)?;
    match bytes.len() as u64 {
        0..=LONGEST => Ok(Some(bytes)),
        _ => Err(Failure::new(what, format_args!("it is longer than {LONGEST} bytes"))),
    }
}

/// Quotes around the whole are no part of it.
fn unquoted(value: &str) -> &str {
    let inside = |quote: char| value.strip_prefix(quote)?.strip_suffix(quote);
    inside('"').or_else(|| inside('\'')).unwrap_or(value)
}

/// A strong one.
pub fn fresh() -> Result<Secret, Failure> {
    let text: String = random::bytes(STRENGTH)?.iter().map(|byte| format!("{byte:02x}")).collect();
    Secret::try_from(text).or_cannot("make a secret")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_operators_variables_are_found() {
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
            let Environment(found) = Environment::parse(text);
            assert_eq!(found.get("A").map(String::as_str), expected, "{text}");
        }
    }

    #[test]
    fn the_api_is_told_what_is_meant_for_it() {
        let text = format!("{BOOTSTRAP}=first\nPROSE_SERVER__DOMAIN=\"a.example\"\nPROSODY_X=1\n");
        let environment = Environment::parse(&text);
        let told = environment.of_the_api().unwrap();
        assert_eq!(told, br#"{"PROSE_SERVER__DOMAIN":"a.example"}"#);
        assert_eq!(environment.bootstrap().unwrap().reveal(), "first");
        // One that is none gives way to a random one.
        let bad = Environment::parse(&format!("{BOOTSTRAP}=\n"));
        assert_eq!(bad.bootstrap().unwrap().reveal().len(), 2 * STRENGTH);
    }

    #[test]
    fn lua_is_allowed_by_one_word_only() {
        for (text, expected) in [
            ("", false),
            ("=true\n", true),
            ("=\"true\"\n", true),
            ("=false\n", false),
            ("=1\n", false),
            ("_X=true\n", false),
        ] {
            assert_eq!(
                Environment::parse(&format!("{LUA}{text}")).allows_lua(),
                expected,
                "{text}"
            );
        }
    }

    #[test]
    fn a_file_that_is_too_long_is_none() {
        let path = std::env::temp_dir().join(format!("stele-settings-{}", std::process::id()));
        assert_eq!(read_bounded(&path).unwrap(), None);
        for (length, is_read) in [(0, true), (LONGEST, true), (LONGEST + 1, false)] {
            fs::write(&path, vec![b'#'; length as usize]).unwrap();
            assert_eq!(read_bounded(&path).is_ok(), is_read, "{length}");
        }
        fs::remove_file(&path).unwrap();
    }

    #[test]
    fn a_fresh_secret_is_another_each_time() {
        let (one, other) = (fresh().unwrap(), fresh().unwrap());
        assert_ne!(one, other);
        assert_eq!(one.reveal().len(), 2 * STRENGTH);
    }
}
