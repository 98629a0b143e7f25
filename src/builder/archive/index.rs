//! Packages files: what an archive offers.

use std::collections::BTreeMap;

use appliance::hash::Digest;

use crate::archive::control::{self, Stanza};
use crate::archive::relation::{self, Relation};
use crate::archive::version::Version;

/// One package of one version, as its index describes it.
#[derive(Debug, Clone)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: Version,
    /// What must be there before and besides it: the text of the fields, read on demand, since a
    /// handful of some 70,000 packages is ever looked at.
    depends: Vec<String>,
    /// Names it provides, and the version it claims for them.
    pub provides: Vec<(String, Option<Version>)>,
    /// How much a system wants it, most first: apt prefers it so among what provides a name.
    rank: usize,
    /// What may not be there together with it.
    conflicts: Vec<String>,
    /// Which source it comes from: a position in the list of sources.
    pub source: usize,
    /// Where its .deb is, relative to the mirror.
    pub path: String,
    /// Length of the .deb.
    pub size: u64,
    /// Digest of the .deb.
    pub digest: Digest,
}

/// A stanza without a field that it must have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("package {package}: {cause}")]
pub struct Error {
    package: String,
    cause: String,
}

impl Package {
    /// `Pre-Depends` and `Depends`, group by group.
    pub fn depends(&self) -> Result<Vec<Vec<Relation>>, Error> {
        self.relations(&self.depends)
    }

    /// `Conflicts` and `Breaks`.
    pub fn conflicts(&self) -> Result<Vec<Vec<Relation>>, Error> {
        self.relations(&self.conflicts)
    }

    fn relations(&self, fields: &[String]) -> Result<Vec<Vec<Relation>>, Error> {
        let parsed: Result<Vec<_>, _> = fields.iter().map(|field| relation::parse(field)).collect();
        parsed
            .map(|groups| groups.concat())
            .map_err(|cause| Error { package: self.name.clone(), cause })
    }
}

/// All that some sources offer: of each name the newest version, of equals the earlier source's.
#[derive(Debug, Default)]
pub struct Index {
    packages: BTreeMap<String, Package>,
    /// Name → who provides it. Filled by [`Index::finish`].
    providers: BTreeMap<String, Vec<String>>,
}

impl Index {
    /// Adds what the Packages file `text` of source number `source` lists and `wanted`, told the
    /// name, lets in.
    pub fn add(
        &mut self,
        text: &str,
        source: usize,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<(), Error> {
        for stanza in control::stanzas(text) {
            let package = parse(&stanza, source)?;
            if !wanted(&package.name) {
                continue;
            }
            match self.packages.get(&package.name) {
                Some(known) if known.version >= package.version => {}
                _ => _ = self.packages.insert(package.name.clone(), package),
            }
        }
        Ok(())
    }

    /// Once all is added: who provides what.
    pub fn finish(mut self) -> Index {
        for package in self.packages.values() {
            for (name, _) in &package.provides {
                self.providers.entry(name.clone()).or_default().push(package.name.clone());
            }
        }
        self
    }

    /// The package of this name.
    pub fn get(&self, name: &str) -> Option<&Package> {
        self.packages.get(name)
    }

    /// Who satisfies `relation`: the package of that name first, then who provides it, by
    /// priority and name.
    pub fn candidates(&self, relation: &Relation) -> Vec<&Package> {
        let real = self.get(&relation.name).filter(|package| relation.allows(&package.version));
        let providers = self.providers.get(&relation.name).into_iter().flatten();
        let provided = providers.filter_map(|name| self.get(name)).filter(|package| {
            package.provides.iter().any(|(name, version)| {
                *name == relation.name && relation.allows_provided(version.as_ref())
            })
        });
        let mut provided: Vec<&Package> = provided.collect();
        provided.sort_by_key(|package| package.rank);
        let mut all: Vec<&Package> = real.into_iter().collect();
        for package in provided {
            if !all.iter().any(|known| known.name == package.name) {
                all.push(package);
            }
        }
        all
    }
}

fn parse(stanza: &Stanza<'_>, source: usize) -> Result<Package, Error> {
    let name = stanza.field("Package").unwrap_or_default();
    let error = |cause: &str| Error { package: name.to_owned(), cause: cause.to_owned() };
    let required =
        |field: &str| stanza.field(field).ok_or_else(|| error(&format!("no field `{field}`")));
    let fields = |names: [&str; 2]| {
        names.iter().filter_map(|field| stanza.field(field)).map(str::to_owned).collect()
    };
    let provides = relation::parse(stanza.field("Provides").unwrap_or_default())
        .map_err(|cause| error(&cause))?
        .into_iter()
        .flatten()
        .map(|relation| (relation.name, relation.bound.map(|(_, version)| version)))
        .collect();
    Ok(Package {
        name: required("Package")?.to_owned(),
        version: Version(required("Version")?.to_owned()),
        depends: fields(["Pre-Depends", "Depends"]),
        provides,
        conflicts: fields(["Conflicts", "Breaks"]),
        rank: rank(stanza),
        source,
        path: clean_path(required("Filename")?)
            .ok_or_else(|| error("`Filename` leaves the mirror"))?,
        size: required("Size")?.parse().map_err(|_| error("`Size` is not a number"))?,
        digest: required("SHA256")?.parse().map_err(|_| error("`SHA256` is not a digest"))?,
    })
}

/// The lower, the sooner: essential packages, then those of a higher priority.
fn rank(stanza: &Stanza<'_>) -> usize {
    const PRIORITIES: [&str; 5] = ["required", "important", "standard", "optional", "extra"];
    if stanza.field("Essential") == Some("yes") {
        return 0;
    }
    let priority = stanza.field("Priority").unwrap_or("optional");
    1 + PRIORITIES.iter().position(|known| *known == priority).unwrap_or(PRIORITIES.len())
}

/// A path relative to a mirror, in which nothing climbs.
fn clean_path(path: &str) -> Option<String> {
    let path = path.strip_prefix("./").unwrap_or(path);
    let clean =
        !path.starts_with('/') && path.split('/').all(|part| !part.is_empty() && part != "..");
    clean.then(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stanza(name: &str, version: &str, more: &str) -> String {
        format!(
            "Package: {name}\nVersion: {version}\nFilename: pool/{name}.deb\nSize: 1\nSHA256: {}\n\
             {more}\n",
            Digest::of(name.as_bytes())
        )
    }

    fn any(_: &str) -> bool {
        true
    }

    #[test]
    fn the_newest_version_wins_and_the_earlier_source_among_equals() {
        let mut index = Index::default();
        index.add(&stanza("a", "1.0-1", ""), 0, any).unwrap();
        index.add(&stanza("a", "1.0-2", ""), 1, any).unwrap();
        index.add(&stanza("a", "1.0-2", ""), 2, any).unwrap();
        index.add(&stanza("a", "1.0-3", ""), 3, |name| name != "a").unwrap();
        assert_eq!(index.get("a").unwrap().source, 1);
    }

    #[test]
    fn who_provides_a_name_is_a_candidate() {
        let mut index = Index::default();
        let text = [
            stanza("real", "1", ""),
            stanza("x", "1", "Provides: real (= 3), virtual\n"),
            stanza("b", "1", "Provides: virtual\n"),
            stanza("z", "1", "Provides: virtual\nPriority: required\n"),
        ];
        index.add(&text.join("\n"), 0, any).unwrap();
        let index = index.finish();
        let names = |relation: &str| -> Vec<String> {
            let groups = relation::parse(relation).unwrap();
            index.candidates(&groups[0][0]).iter().map(|p| p.name.clone()).collect()
        };
        assert_eq!(names("real"), ["real", "x"]);
        assert_eq!(names("real (>= 2)"), ["x"]);
        assert_eq!(names("virtual"), ["z", "b", "x"]);
        assert_eq!(names("virtual (>= 1)"), [""; 0]);
    }

    #[test]
    fn a_path_that_leaves_the_mirror_is_refused() {
        let bad = stanza("a", "1", "").replace("pool/", "../");
        assert!(Index::default().add(&bad, 0, any).unwrap_err().to_string().contains("leaves"));
    }
}
