//! Relations between packages: `a (>= 1) | b, c:any` (Debian Policy chapter 7).

use crate::archive::version::Version;

/// One package that would do, perhaps only from some version on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relation {
    /// A package or what some packages provide.
    pub name: String,
    /// Which versions will do; none means any.
    pub bound: Option<(Operator, Version)>,
}

/// How a version is compared with a bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    /// `<<`
    Earlier,
    /// `<=`
    EarlierOrEqual,
    /// `=`
    Equal,
    /// `>=`
    LaterOrEqual,
    /// `>>`
    Later,
}

impl Relation {
    /// Does a package of this version satisfy it?
    pub fn allows(&self, version: &Version) -> bool {
        self.bound.as_ref().is_none_or(|(operator, bound)| match operator {
            Operator::Earlier => version < bound,
            Operator::EarlierOrEqual => version <= bound,
            Operator::Equal => version == bound,
            Operator::LaterOrEqual => version >= bound,
            Operator::Later => version > bound,
        })
    }

    /// Does what provides `version` of the name (or no version) satisfy it? A bound is only met by
    /// a versioned provision.
    pub fn allows_provided(&self, version: Option<&Version>) -> bool {
        match (version, &self.bound) {
            (_, None) => true,
            (None, Some(_)) => false,
            (Some(version), Some(_)) => self.allows(version),
        }
    }
}

/// Groups that must all be met, each by one of its alternatives. What can't be read is left out:
/// `Err` holds its text.
pub fn parse(text: &str) -> Result<Vec<Vec<Relation>>, String> {
    text.split(',')
        .map(str::trim)
        .filter(|group| !group.is_empty())
        .map(|group| group.split('|').map(|one| parse_one(one.trim())).collect())
        .collect()
}

fn parse_one(text: &str) -> Result<Relation, String> {
    let bad = || format!("`{text}` is not a relation between packages");
    let (name, bound) = match text.split_once('(') {
        Some((name, bound)) => (name, Some(bound.strip_suffix(')').ok_or_else(bad)?)),
        None => (text, None),
    };
    // `:any` and `:native` make no difference where one architecture is installed.
    let name = name.trim().split(':').next().unwrap_or_default();
    if name.is_empty() || name.contains(char::is_whitespace) {
        return Err(bad());
    }
    let bound = bound.map(|bound| parse_bound(bound).ok_or_else(bad)).transpose()?;
    Ok(Relation { name: name.to_owned(), bound })
}

fn parse_bound(text: &str) -> Option<(Operator, Version)> {
    let operators = [
        ("<<", Operator::Earlier),
        ("<=", Operator::EarlierOrEqual),
        (">=", Operator::LaterOrEqual),
        (">>", Operator::Later),
        ("=", Operator::Equal),
    ];
    let (rest, operator) =
        operators.iter().find_map(|(sign, op)| Some((text.trim().strip_prefix(sign)?, *op)))?;
    let version = rest.trim();
    (!version.is_empty()).then(|| (operator, Version(version.to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relations_are_read_and_applied() {
        let groups = parse("libc6 (>= 2.38), a | b (<< 2) ,perl:any").unwrap();
        assert_eq!(groups.len(), 3);
        assert!(groups[0][0].allows(&Version("2.41-12".into())));
        assert!(!groups[0][0].allows(&Version("2.36-9".into())));
        assert!(!groups[0][0].allows_provided(None));
        assert_eq!(groups[1][1].name, "b");
        assert_eq!(groups[2][0].name, "perl");
        assert_eq!(parse("").unwrap(), Vec::<Vec<Relation>>::new());
        for bad in ["a (2)", "a (>= 2", "a b", "a | ", "(>= 1)"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
