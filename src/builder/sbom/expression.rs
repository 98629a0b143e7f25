//! Licence expressions: read as Debian writes them, written as SPDX does.

use std::fmt;

/// One licence, or several and how they go together.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Expression {
    /// An SPDX name.
    One(String),
    /// All of them hold.
    All(Vec<Expression>),
    /// Any of them may be chosen.
    Any(Vec<Expression>),
}

type Join = fn(Vec<Expression>) -> Expression;

/// What joins names, from the loosest to the tightest: a comma loosens it (DEP-5, "short names").
const JOINS: [(&[&str], Join); 4] = [
    (&[",", "or"], Expression::any),
    (&[",", "and"], Expression::all),
    (&["or"], Expression::any),
    (&["and"], Expression::all),
];

impl Expression {
    /// Reads a synopsis such as `GPL-2+ or Artistic, and Expat`; `translate` turns each name into
    /// SPDX's.
    pub fn parse(synopsis: &str, translate: &mut dyn FnMut(&str) -> String) -> Expression {
        let spaced = synopsis.replace(',', " , ");
        let words: Vec<&str> = spaced.split_whitespace().collect();
        let read = Expression::join(&words, &JOINS, translate);
        read.unwrap_or_else(|| Expression::One(translate(synopsis)))
    }

    /// All of `parts`, each once, in order.
    pub fn all(parts: Vec<Expression>) -> Expression {
        let flat = parts.into_iter().flat_map(|part| match part {
            Expression::All(parts) => parts,
            part => vec![part],
        });
        alone(flat.collect(), Expression::All)
    }

    /// Any of `parts`, each once, in order.
    pub fn any(parts: Vec<Expression>) -> Expression {
        let flat = parts.into_iter().flat_map(|part| match part {
            Expression::Any(parts) => parts,
            part => vec![part],
        });
        alone(flat.collect(), Expression::Any)
    }

    /// `None` if there is no name between the joins.
    fn join(
        words: &[&str],
        joins: &[(&[&str], Join)],
        translate: &mut dyn FnMut(&str) -> String,
    ) -> Option<Expression> {
        let Some(((separator, join), tighter)) = joins.split_first() else {
            let name = words.join(" ").replace(" ,", ",");
            return (!words.is_empty()).then(|| Expression::One(translate(&name)));
        };
        let parts: Vec<Expression> = split(words, separator)
            .into_iter()
            .filter_map(|part| Expression::join(part, tighter, translate))
            .collect();
        (!parts.is_empty()).then(|| join(parts))
    }
}

/// Sorted, without doubles; a single one stands for itself.
fn alone(mut parts: Vec<Expression>, join: Join) -> Expression {
    parts.sort();
    parts.dedup();
    match parts.pop() {
        Some(only) if parts.is_empty() => only,
        last => join(parts.into_iter().chain(last).collect()),
    }
}

/// What stands between the separators, of which case doesn't matter.
fn split<'a>(words: &'a [&'a str], separator: &[&str]) -> Vec<&'a [&'a str]> {
    let mut parts = Vec::new();
    let (mut start, mut at) = (0, 0);
    while let Some(window) = words.get(at..at + separator.len()) {
        if window.iter().zip(separator).all(|(word, wanted)| word.eq_ignore_ascii_case(wanted)) {
            parts.push(&words[start..at]);
            at += separator.len();
            start = at;
        } else {
            at += 1;
        }
    }
    parts.push(&words[start..]);
    parts
}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (parts, word) = match self {
            Expression::One(name) => return f.write_str(name),
            Expression::All(parts) => (parts, " AND "),
            Expression::Any(parts) => (parts, " OR "),
        };
        for (number, part) in parts.iter().enumerate() {
            let word = if number == 0 { "" } else { word };
            match part {
                Expression::One(name) => write!(f, "{word}{name}")?,
                joined => write!(f, "{word}({joined})")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debian_expressions_become_spdx_expressions() {
        let table = [
            ("A", "A"),
            ("A or B", "A OR B"),
            ("b and a and b", "a AND b"),
            ("A or B and C", "A OR (B AND C)"),
            ("A or B, and C", "C AND (A OR B)"),
            ("A and B, or C", "C OR (A AND B)"),
            ("A, and B, and C", "A AND B AND C"),
            ("A OR B or a with X exception", "A OR B OR [a with X exception]"),
            ("A, B", "[A, B]"),
            ("A, and or", "A"),
            ("and", "[and]"),
            (", or and ,", "[,]"),
            ("", "[]"),
            ("A or", "A"),
        ];
        for (debian, expected) in table {
            let mut translate = |name: &str| match name.len() {
                1 if name != "," => name.to_owned(),
                _ => format!("[{name}]"),
            };
            assert_eq!(Expression::parse(debian, &mut translate).to_string(), expected, "{debian}");
        }
    }
}
