//! A lock: the exact packages that an appliance is built from, and why each is there.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result, bail};
use appliance::hash::Digest;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::archive::version::Version;
use crate::document;
use crate::plan::Plan;

/// The format's version.
const FORMAT: u32 = 1;
/// What a lock begins with.
const HEADING: &str = "# Written by `stele lock`. Review it, commit it, don't edit it.\n\n";

/// The document `recipes/NAME.lock`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lock {
    /// [`FORMAT`].
    pub version: u32,
    /// [`Plan::lock_inputs`] of the plan that was locked.
    pub inputs: Digest,
    /// Debian's name of the architecture.
    pub architecture: String,
    /// The one clock of all builds from this lock: the newest date of the sources.
    pub clock: Clock,
    /// The signed indexes that all of this follows from.
    #[serde(rename = "source")]
    pub sources: Vec<LockedSource>,
    /// What is taken from, by name.
    #[serde(rename = "package", default)]
    pub packages: Vec<LockedPackage>,
    /// What belongs to the closure, but nothing is taken from it.
    #[serde(default)]
    pub omitted: Vec<Omitted>,
}

/// A signed index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct LockedSource {
    /// Which archive: `debian`, `security`, or a repository of the recipe.
    pub archive: String,
    /// Its suite.
    pub suite: String,
    /// When the index was made.
    pub date: Clock,
    /// Digest of its InRelease.
    pub release: Digest,
    /// Fingerprints of the keys that signed it.
    pub signed_by: Vec<String>,
}

/// A package that something is taken from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedPackage {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Which archive has it.
    pub archive: String,
    /// Where, relative to the archive's mirror.
    pub path: String,
    /// Bytes of the .deb.
    pub size: u64,
    /// Digest of the .deb.
    pub sha256: Digest,
    /// The layers (`layer NAME`) and packages that asked for it.
    pub why: Vec<String>,
}

/// A package of the closure that nothing is taken from: neither fetched nor looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Omitted {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Who asked for it.
    pub why: Vec<String>,
}

/// A moment, in whole seconds of universal time, written as RFC 3339 says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Clock(pub OffsetDateTime);

impl Clock {
    /// Seconds since 1970.
    pub fn seconds(self) -> u64 {
        u64::try_from(self.0.unix_timestamp()).unwrap_or(0)
    }
}

impl TryFrom<String> for Clock {
    type Error = String;

    fn try_from(text: String) -> Result<Clock, String> {
        OffsetDateTime::parse(&text, &Rfc3339)
            .map(Clock)
            .map_err(|_| format!("`{text}` is not a moment such as `2026-11-20T00:00:00Z`"))
    }
}

impl From<Clock> for String {
    fn from(clock: Clock) -> String {
        clock.to_string()
    }
}

impl fmt::Display for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.format(&Rfc3339).map_err(|_| fmt::Error)?)
    }
}

impl Lock {
    /// The format that is written today.
    pub const FORMAT: u32 = FORMAT;

    /// Reads the lock at `path`; `None` when there is none.
    pub fn load(path: &Path) -> Result<Option<Lock>> {
        match path.try_exists() {
            Ok(true) => document::load(path).map(Some),
            Ok(false) => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }

    /// The lock that `plan` must be built from: there, of a known format, and made from the same
    /// inputs.
    pub fn of(plan: &Plan) -> Result<Lock> {
        let path = plan.file.lock_path();
        let hint = format!("hint: stele lock {}", plan.file.path.display());
        let name = &plan.recipe().name;
        let Some(lock) = Lock::load(&path)? else {
            bail!("cannot build {name}: there is no {}\n{hint}", path.display());
        };
        if lock.version != FORMAT {
            bail!("cannot build {name}: {} has format {}\n{hint}", path.display(), lock.version);
        }
        if lock.inputs != plan.lock_inputs() {
            bail!(
                "cannot build {name}: {} was made from another recipe or other layers\n{hint}",
                path.display()
            );
        }
        Ok(lock)
    }

    /// The lock as a document.
    pub fn to_text(&self) -> Result<String> {
        Ok(format!("{HEADING}{}", toml::to_string(self).context("cannot write the lock")?))
    }

    /// Writes the document in one step: a reader sees the old lock or the new one.
    pub fn store(&self, path: &Path) -> Result<()> {
        let context = || format!("cannot write {}", path.display());
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let mut file = tempfile::Builder::new()
            .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
            .tempfile_in(folder.unwrap_or(Path::new(".")))
            .with_context(context)?;
        file.write_all(self.to_text()?.as_bytes()).with_context(context)?;
        file.as_file().sync_all().with_context(context)?;
        file.persist(path).map_err(|error| error.error).with_context(context)?;
        Ok(())
    }

    /// The date of the index of `suite` that this lock was made from.
    pub fn date_of(&self, archive: &str, suite: &str) -> Option<OffsetDateTime> {
        let mut sources = self.sources.iter();
        let source = sources.find(|s| s.archive == archive && s.suite == suite)?;
        Some(source.date.0)
    }

    /// What is different in `new`, a line each, as a reviewer wants to read it.
    pub fn changes(&self, new: &Lock) -> Vec<String> {
        let (before, after) = (self.versions(), new.versions());
        let names: std::collections::BTreeSet<&str> =
            before.keys().chain(after.keys()).copied().collect();
        let mut lines = Vec::new();
        for name in names {
            lines.extend(match (before.get(name), after.get(name)) {
                (None, Some((version, taken))) => {
                    Some(format!("+ {name} {version}{}", left_out(*taken)))
                }
                (Some((version, _)), None) => Some(format!("- {name} {version}")),
                (Some((old, _)), Some((new, taken))) if old != new => {
                    let later = Version((*new).into()) > Version((*old).into());
                    let sign = if later { '↑' } else { '↓' };
                    Some(format!("{sign} {name} {old} → {new}{}", left_out(*taken)))
                }
                (Some((_, was)), Some((version, is))) if was != is => Some(match is {
                    true => format!("~ {name} {version}: now taken"),
                    false => format!("~ {name} {version}: now omitted"),
                }),
                _ => None,
            });
        }
        lines
    }

    /// Name → version, and whether anything is taken from it.
    fn versions(&self) -> BTreeMap<&str, (&str, bool)> {
        let taken = self.packages.iter().map(|p| (p.name.as_str(), (p.version.as_str(), true)));
        let omitted = self.omitted.iter().map(|p| (p.name.as_str(), (p.version.as_str(), false)));
        taken.chain(omitted).collect()
    }
}

fn left_out(taken: bool) -> &'static str {
    if taken { "" } else { " (omitted)" }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lock(packages: &[(&str, &str)], omitted: &[(&str, &str)]) -> Lock {
        let clock = Clock::try_from("2026-11-20T00:12:42Z".to_owned()).unwrap();
        Lock {
            version: FORMAT,
            inputs: Digest::of(b""),
            architecture: "amd64".into(),
            clock,
            sources: vec![LockedSource {
                archive: "debian".into(),
                suite: "trixie".into(),
                date: clock,
                release: Digest::of(b"r"),
                signed_by: vec!["F".into()],
            }],
            packages: packages
                .iter()
                .map(|(name, version)| LockedPackage {
                    name: (*name).into(),
                    version: (*version).into(),
                    archive: "debian".into(),
                    path: format!("pool/{name}.deb"),
                    size: 1,
                    sha256: Digest::of(name.as_bytes()),
                    why: vec!["layer base".into()],
                })
                .collect(),
            omitted: omitted
                .iter()
                .map(|(name, version)| Omitted {
                    name: (*name).into(),
                    version: (*version).into(),
                    why: vec![],
                })
                .collect(),
        }
    }

    #[test]
    fn a_lock_survives_its_own_text() {
        let lock = lock(&[("a", "1")], &[("b", "2")]);
        let text = lock.to_text().unwrap();
        assert_eq!(document::parse::<Lock>("x", &text).unwrap(), lock, "{text}");
        assert!(text.contains("clock = \"2026-11-20T00:12:42Z\""), "{text}");
    }

    #[test]
    fn a_lock_says_what_changed() {
        let old = lock(&[("a", "1.9"), ("c", "1"), ("d", "2")], &[("o", "1")]);
        let new = lock(&[("a", "1.10"), ("b", "1"), ("d", "1"), ("o", "1")], &[("p", "3")]);
        assert_eq!(
            old.changes(&new),
            [
                "↑ a 1.9 → 1.10",
                "+ b 1",
                "- c 1",
                "↓ d 2 → 1",
                "~ o 1: now taken",
                "+ p 3 (omitted)"
            ]
        );
        assert_eq!(old.changes(&old), [""; 0]);
    }
}
