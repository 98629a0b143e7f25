//! Debian control files (deb822): stanzas of `Field: value`, as in Release and Packages.

/// One stanza, borrowed from its text.
#[derive(Debug, Clone, Copy)]
pub struct Stanza<'a>(&'a str);

impl<'a> Stanza<'a> {
    /// The value of `field` (as it is spelled in the file), continuation lines included.
    pub fn field(&self, field: &str) -> Option<&'a str> {
        let mut rest = self.0;
        loop {
            let (line, after) = rest.split_once('\n').unwrap_or((rest, ""));
            let value = line.strip_prefix(field).and_then(|value| value.strip_prefix(':'));
            if let Some(value) = value {
                let start = value.as_ptr() as usize - self.0.as_ptr() as usize;
                return Some(self.0[start..start + value_length(&self.0[start..])].trim());
            }
            if after.is_empty() {
                return None;
            }
            rest = after;
        }
    }
}

/// Up to the end of the last continuation line.
fn value_length(text: &str) -> usize {
    let ends = text.match_indices('\n').map(|(at, _)| at);
    let last = ends.into_iter().find(|at| !text[at + 1..].starts_with([' ', '\t']));
    last.unwrap_or(text.len())
}

/// All stanzas of a control file.
pub fn stanzas(text: &str) -> impl Iterator<Item = Stanza<'_>> {
    text.split("\n\n").map(|stanza| stanza.trim_matches('\n')).filter(|s| !s.is_empty()).map(Stanza)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_whole() {
        let text = "Package: a\nDescription: first\n second\n .\nEmpty:\nLast: z\n\n\nPackage: b\n";
        let all: Vec<Stanza<'_>> = stanzas(text).collect();
        assert_eq!(all.len(), 2);
        assert_eq!(all[0].field("Package"), Some("a"));
        assert_eq!(all[0].field("Description"), Some("first\n second\n ."));
        assert_eq!(all[0].field("Empty"), Some(""));
        assert_eq!(all[0].field("Last"), Some("z"));
        assert_eq!(all[0].field("Pack"), None);
        assert_eq!(all[1].field("Package"), Some("b"));
        assert_eq!(all[1].field("Last"), None);
    }
}
