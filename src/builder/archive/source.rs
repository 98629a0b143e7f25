//! Sources: suites of archives whose signed indexes say what there is.

use std::fs;
use std::path::Path;
use std::time::SystemTime;

use anyhow::{Context, Result, anyhow, bail};
use appliance::hash::Digest;
use openpgp::Keyring;
use time::OffsetDateTime;

use crate::archive::fetch::{Error as FetchError, Fetcher, Wanted};
use crate::archive::index::Index;
use crate::archive::mirror::Mirrors;
use crate::archive::release::Release;
use crate::archive::store::Store;
use crate::lock::Clock;
use crate::plan::Plan;
use crate::quantity::Name;
use crate::recipe::Debian;

/// Debian's own archive keys.
const DEBIAN_KEYS: [&str; 6] = [
    include_str!("../keys/debian-archive-bookworm-automatic.asc"),
    include_str!("../keys/debian-archive-bookworm-security-automatic.asc"),
    include_str!("../keys/debian-archive-bookworm-stable.asc"),
    include_str!("../keys/debian-archive-trixie-automatic.asc"),
    include_str!("../keys/debian-archive-trixie-security-automatic.asc"),
    include_str!("../keys/debian-archive-trixie-stable.asc"),
];
/// Suites without updates and security of their own.
const ROLLING: [&str; 4] = ["sid", "unstable", "testing", "experimental"];
/// What a lock calls Debian's two archives.
pub const DEBIAN: &str = "debian";
/// See [`DEBIAN`].
pub const SECURITY: &str = "security";

/// One suite of one archive.
#[derive(Debug, Clone)]
pub struct Source {
    /// What the lock calls the archive.
    pub archive: String,
    /// Base address.
    pub url: String,
    /// For example `trixie-updates`.
    pub suite: String,
    /// For example `main`.
    pub components: Vec<String>,
    /// Whose signature counts.
    pub keyring: Keyring,
    /// For Debian's own, the suite that it belongs to: `trixie` for `trixie-updates`.
    pub part_of: Option<Name>,
}

/// A source's signed index, verified.
#[derive(Debug, Clone)]
pub struct Signed {
    /// Digest of the InRelease file.
    pub digest: Digest,
    /// Fingerprints of the keys whose signatures were good.
    pub signers: Vec<String>,
    /// What it says.
    pub release: Release,
}

/// The sources of `plan`: a stable suite brings its updates and its security.
pub fn sources(plan: &Plan, mirrors: &Mirrors) -> Result<Vec<Source>> {
    let debian = &plan.recipe().debian;
    let keyring = match &debian.key {
        Some(key) => own_keyring(plan, key)?,
        None => keyring(&DEBIAN_KEYS).context("cannot read Debian's keys")?,
    };
    let source = |archive: &str, part_of: &Name, pocket: &str, url: &Option<String>| {
        let url = url.clone().with_context(|| {
            format!(
                "cannot find a mirror of Debian's {archive} archive: this host's apt sources name \
                 none\nhint: say --mirror URL, or `security-mirror` under [debian] in the recipe"
            )
        })?;
        let components = vec!["main".to_owned()];
        Ok::<_, anyhow::Error>(Source {
            archive: archive.to_owned(),
            url,
            suite: format!("{part_of}{pocket}"),
            components,
            keyring: keyring.clone(),
            part_of: Some(part_of.clone()),
        })
    };
    let mut sources = Vec::new();
    for suite in debian.suites() {
        sources.push(source(DEBIAN, suite, "", &mirrors.debian)?);
        if !ROLLING.contains(&suite.as_str()) {
            sources.push(source(DEBIAN, suite, "-updates", &mirrors.debian)?);
            sources.push(source(SECURITY, suite, "-security", &mirrors.security)?);
        }
    }
    for repository in &plan.recipe().repositories {
        sources.push(Source {
            archive: repository.name.to_string(),
            url: repository.url.trim_end_matches('/').to_owned(),
            suite: repository.suite.clone(),
            components: repository.components.clone(),
            keyring: own_keyring(plan, &repository.key)?,
            part_of: None,
        });
    }
    Ok(sources)
}

fn own_keyring(plan: &Plan, key: &Path) -> Result<Keyring> {
    let path = plan.file.beside(key);
    let context = || format!("cannot read key {}", path.display());
    let key = fs::read(&path).with_context(context)?;
    Keyring::parse(&key).with_context(context)
}

fn keyring(armored: &[&str]) -> Result<Keyring> {
    Ok(Keyring::parse(armored.concat().as_bytes())?)
}

impl Source {
    /// Fetches and verifies the signed index. `now` decides what is expired.
    pub fn signed(&self, fetcher: &Fetcher<'_>, now: SystemTime) -> Result<Signed> {
        let url = format!("{}/dists/{}/InRelease", self.url, self.suite);
        let document = fetcher
            .fetch_unknown(&url)
            .with_context(|| format!("cannot fetch InRelease of {}", self.suite))?;
        let context = || format!("cannot trust InRelease of {}", self.suite);
        let verified =
            openpgp::verify_cleartext(&document, &self.keyring, now).with_context(context)?;
        let release = Release::parse(&verified.text).with_context(context)?;
        self.check(&release, OffsetDateTime::from(now)).with_context(context)?;
        let signers = verified.signers.iter().map(ToString::to_string).collect();
        Ok(Signed { digest: Digest::of(&document), signers, release })
    }

    fn check(&self, release: &Release, now: OffsetDateTime) -> Result<()> {
        // A mirror may answer with another suite's index, whose signature is as good.
        let name = self.suite.as_str();
        if !release.names.iter().any(|known| known == name) {
            bail!("it is the index of {}, not of {name}", release.names.join(" or "));
        }
        match release.valid_until {
            Some(until) if until < now => bail!("it expired at {}", Clock(until)),
            _ => Ok(()),
        }
    }

    /// Fetches the Packages files that `release` names and adds what `debian` takes of them to
    /// `index`, as source number `number`.
    pub fn read_packages(
        &self,
        release: &Release,
        debian: &Debian,
        fetcher: &Fetcher<'_>,
        store: &Store,
        index: &mut Index,
        number: usize,
    ) -> Result<()> {
        let architecture = debian.architecture.debian();
        let wanted = |package: &str| match &self.part_of {
            Some(suite) => debian.suite_of(package) == suite,
            None => true,
        };
        for component in &self.components {
            let name = format!("{component}/binary-{architecture}/Packages of {}", self.suite);
            let packages = self
                .packages(release, component, architecture, &name, fetcher, store)
                .with_context(|| format!("cannot use {name}"))?;
            index.add(&packages, number, wanted).with_context(|| format!("cannot use {name}"))?;
        }
        Ok(())
    }

    fn packages(
        &self,
        release: &Release,
        component: &str,
        architecture: &str,
        name: &str,
        fetcher: &Fetcher<'_>,
        store: &Store,
    ) -> Result<String> {
        let folder = format!("{component}/binary-{architecture}");
        let found = ["xz", "gz"].iter().find_map(|kind| {
            let path = format!("{folder}/Packages.{kind}");
            release.index(&path).map(|file| (kind, path, file))
        });
        let (kind, path, file) = found
            .ok_or_else(|| anyhow!("the Release file names no {folder}/Packages.xz or .gz"))?;
        let base = format!("{}/dists/{}", self.url, self.suite);
        let mut urls = vec![format!("{base}/{path}")];
        if release.by_hash {
            urls.insert(0, format!("{base}/{folder}/by-hash/SHA256/{}", file.digest));
        }
        let wanted = Wanted { name: name.to_owned(), urls, size: file.size, digest: file.digest };
        fetcher.fetch_all(&[wanted])?;
        let bytes = crate::compression::decompress(kind, &store.read(&file.digest)?)?;
        String::from_utf8(bytes).context("it is not text")
    }
}

impl Signed {
    /// Refuses an index that is older than one seen before: somebody may be holding updates back.
    pub fn must_not_precede(&self, suite: &str, known: OffsetDateTime) -> Result<()> {
        if self.release.date < known {
            bail!(
                "cannot trust InRelease of {suite}: it is of {}, older than the lock's of {}\n\
                 hint: the mirror is behind, or somebody holds updates back; try another mirror",
                Clock(self.release.date),
                Clock(known)
            );
        }
        Ok(())
    }
}

/// Is it the archive's own answer that a file is gone?
pub fn is_gone(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| matches!(cause.downcast_ref(), Some(FetchError::NotFound)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debians_keys_are_there() {
        assert!(!keyring(&DEBIAN_KEYS).unwrap().is_empty());
    }
}
