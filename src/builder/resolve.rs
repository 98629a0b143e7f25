//! The closure of some packages: what apt would install into an empty root, without recommended
//! packages.
//!
//! In one set of sources each name has one candidate, so there is little to choose: an alternative
//! with a single candidate is taken at once; of several, one that is chosen already, else the
//! first.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use anyhow::{Context, Result, bail};

use crate::archive::index::{Index, Package};
use crate::archive::relation::Relation;

/// A package of the closure, and who asked for it: packages by name.
#[derive(Debug, Clone)]
pub struct Chosen<'a> {
    /// The package.
    pub package: &'a Package,
    /// The packages that depend on it and for whose sake it was chosen or kept.
    pub asked_by: BTreeSet<String>,
}

/// The closure of `roots` in `index`, by name.
pub fn closure<'a, 'r>(
    index: &'a Index,
    roots: impl IntoIterator<Item = &'r str>,
) -> Result<BTreeMap<String, Chosen<'a>>> {
    let mut closure = Closure { index, chosen: BTreeMap::new(), open: VecDeque::new() };
    for root in roots {
        let package = index.get(root).with_context(|| {
            format!("cannot find package {root}: no source has one of that name")
        })?;
        closure.choose(package, None)?;
    }
    closure.settle_alternatives()?;
    closure.refuse_conflicts()?;
    Ok(closure.chosen)
}

struct Closure<'a> {
    index: &'a Index,
    chosen: BTreeMap<String, Chosen<'a>>,
    /// Groups with more than one candidate, and who has them.
    open: VecDeque<(String, Vec<Relation>)>,
}

impl<'a> Closure<'a> {
    fn choose(&mut self, package: &'a Package, asked_by: Option<&str>) -> Result<()> {
        if let Some(known) = self.chosen.get_mut(&package.name) {
            known.asked_by.extend(asked_by.map(str::to_owned));
            return Ok(());
        }
        let asked_by = asked_by.map(str::to_owned).into_iter().collect();
        self.chosen.insert(package.name.clone(), Chosen { package, asked_by });
        for group in package.depends()? {
            match self.candidates(&group).as_slice() {
                [] => bail!(
                    "cannot satisfy {}: it depends on {}, which no source has",
                    package.name,
                    shown(&group)
                ),
                [only] => self.choose(only, Some(&package.name))?,
                _ => self.open.push_back((package.name.clone(), group)),
            }
        }
        Ok(())
    }

    fn settle_alternatives(&mut self) -> Result<()> {
        while let Some((asker, group)) = self.open.pop_front() {
            let candidates = self.candidates(&group);
            let already = candidates.iter().find(|package| self.chosen.contains_key(&package.name));
            if let Some(&package) = already.or(candidates.first()) {
                self.choose(package, Some(&asker))?;
            }
        }
        Ok(())
    }

    fn candidates(&self, group: &[Relation]) -> Vec<&'a Package> {
        let mut candidates: Vec<&Package> = Vec::new();
        for package in group.iter().flat_map(|relation| self.index.candidates(relation)) {
            if !candidates.iter().any(|known| known.name == package.name) {
                candidates.push(package);
            }
        }
        candidates
    }

    fn refuse_conflicts(&self) -> Result<()> {
        for Chosen { package, .. } in self.chosen.values() {
            for relation in package.conflicts()?.iter().flatten() {
                let hit = self.index.candidates(relation).into_iter().find(|other| {
                    other.name != package.name && self.chosen.contains_key(&other.name)
                });
                if let Some(other) = hit {
                    bail!("cannot install {} together with {}", package.name, other.name);
                }
            }
        }
        Ok(())
    }
}

fn shown(group: &[Relation]) -> String {
    let names: Vec<&str> = group.iter().map(|relation| relation.name.as_str()).collect();
    names.join(" or ")
}

#[cfg(test)]
mod tests {
    use appliance::hash::Digest;

    use super::*;

    fn index(packages: &[(&str, &str)]) -> Index {
        let stanza = |(name, more): &(&str, &str)| {
            format!(
                "Package: {name}\nVersion: 1\nFilename: {name}.deb\nSize: 1\nSHA256: {}\n{more}\n",
                Digest::of(name.as_bytes())
            )
        };
        let mut index = Index::default();
        let text: Vec<String> = packages.iter().map(stanza).collect();
        index.add(&text.join("\n"), 0, |_| true).unwrap();
        index.finish()
    }

    fn names(packages: &[(&str, &str)], roots: &[&str]) -> String {
        match closure(&index(packages), roots.iter().copied()) {
            Ok(chosen) => chosen.into_keys().collect::<Vec<_>>().join(" "),
            Err(error) => format!("{error:#}"),
        }
    }

    /// What is shown, the packages that there are, those asked for, and the closure.
    type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a [&'a str], &'a str);

    #[test]
    fn closures_are_what_apt_would_choose() {
        let table: [Case<'_>; 6] = [
            (
                "a chain",
                &[("a", "Depends: b"), ("b", "Pre-Depends: c"), ("c", "")],
                &["a"],
                "a b c",
            ),
            ("a circle", &[("a", "Depends: b"), ("b", "Depends: a")], &["a"], "a b"),
            (
                "the first alternative",
                &[("a", "Depends: b | c"), ("b", ""), ("c", "")],
                &["a"],
                "a b",
            ),
            (
                "one that is there already",
                &[("a", "Depends: b | c, d"), ("b", ""), ("c", ""), ("d", "Depends: c")],
                &["a"],
                "a c d",
            ),
            (
                "nobody has it",
                &[("a", "Depends: b (>= 2)"), ("b", "")],
                &["a"],
                "cannot satisfy a: it depends on b, which no source has",
            ),
            (
                "a conflict",
                &[("a", "Depends: b, c"), ("b", "Conflicts: v"), ("c", "Provides: v")],
                &["a"],
                "cannot install b together with c",
            ),
        ];
        for (summary, packages, roots, expected) in table {
            assert_eq!(names(packages, roots), expected, "{summary}");
        }
    }
}
