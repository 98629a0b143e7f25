//! A slice: a chosen subset of a package's paths.

use anyhow::{Result, anyhow, bail};

use crate::glob::Glob;

/// Patterns that together choose paths. A path is in the slice when a pattern takes it and none
/// leaves it out.
#[derive(Debug, Clone)]
pub struct Slice {
    /// What its layer calls it.
    pub name: String,
    takes: Vec<Glob>,
    leaves: Vec<Glob>,
}

impl Slice {
    /// Parses the patterns of slice `name`; `!` in front of one leaves its paths out.
    pub fn new(name: &str, patterns: &[String]) -> Result<Slice> {
        let mut slice = Slice { name: name.to_owned(), takes: vec![], leaves: vec![] };
        for pattern in patterns {
            let (list, text) = match pattern.strip_prefix('!') {
                Some(text) => (&mut slice.leaves, text),
                None => (&mut slice.takes, pattern.as_str()),
            };
            if !text.starts_with('/') {
                bail!("cannot read slice {name}: pattern `{pattern}` doesn't start with a slash");
            }
            let glob = Glob::try_from(text.to_owned())
                .map_err(|cause| anyhow!("cannot read slice {name}: {cause}"))?;
            list.push(glob);
        }
        Ok(slice)
    }

    /// Is `path` in the slice?
    pub fn takes(&self, path: &str) -> bool {
        self.takes.iter().any(|glob| glob.matches(path))
            && !self.leaves.iter().any(|glob| glob.matches(path))
    }

    /// The patterns that take or leave nothing of `paths`: a package has changed, or somebody
    /// mistyped.
    pub fn idle_patterns<'a>(&'a self, paths: &[&str]) -> Vec<&'a str> {
        let idle = |glob: &&Glob| !paths.iter().any(|path| glob.matches(path));
        self.takes.iter().chain(&self.leaves).filter(idle).map(Glob::as_str).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_takes_what_its_patterns_say() {
        let patterns = ["/usr/bin/x", "/usr/lib/**", "!/usr/lib/*/debug/**"].map(String::from);
        let slice = Slice::new("s", &patterns).unwrap();
        let table = [
            ("/usr/bin/x", true),
            ("/usr/bin/xy", false),
            ("/usr/lib/a", true),
            ("/usr/lib/a/b/c", true),
            ("/usr/lib/a/debug/c", false),
            ("/usr/share/lib/a", false),
        ];
        for (path, expected) in table {
            assert_eq!(slice.takes(path), expected, "{path}");
        }
        assert_eq!(slice.idle_patterns(&["/usr/lib/a/b"]), ["/usr/bin/x", "/usr/lib/*/debug/**"]);
        assert!(Slice::new("s", &["usr".to_owned()]).is_err());
    }
}
