//! Patterns over paths and names: `*` stops at a slash, `**` doesn't.

use std::fmt;

use globset::{GlobBuilder, GlobMatcher};
use serde::Deserialize;

/// A pattern, and its text.
#[derive(Clone, Deserialize)]
#[serde(try_from = "String")]
pub struct Glob {
    text: String,
    matcher: GlobMatcher,
}

impl Glob {
    /// Does it match the whole of `path`?
    pub fn matches(&self, path: &str) -> bool {
        self.matcher.is_match(path)
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Is this text a name rather than a pattern?
    pub fn is_plain(text: &str) -> bool {
        !text.contains(['*', '?', '[', '{'])
    }
}

impl TryFrom<String> for Glob {
    type Error = String;

    fn try_from(text: String) -> Result<Glob, String> {
        let glob = GlobBuilder::new(&text)
            .literal_separator(true)
            .backslash_escape(true)
            .build()
            .map_err(|error| format!("`{text}` is not a pattern: {}", error.kind()))?;
        Ok(Glob { matcher: glob.compile_matcher(), text })
    }
}

impl PartialEq for Glob {
    fn eq(&self, other: &Glob) -> bool {
        self.text == other.text
    }
}

impl Eq for Glob {}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Glob({:?})", self.text)
    }
}
