//! Debian's machine-readable copyright files (DEP-5): which licences a package names, and their
//! texts.
//!
//! Total: any text is either read or not one of these files. Time and room are proportional to
//! the text.

use std::collections::BTreeMap;

use crate::archive::control::{self, Stanza};

/// A copyright file.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Copyright {
    /// What is granted for the whole or for some of its files, in the order of the file.
    pub grants: Vec<Grant>,
    /// Texts of licences for those who only name them, by their names in lower case.
    texts: BTreeMap<String, String>,
}

/// A field `License`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Grant {
    /// Its first line: short names, perhaps several.
    pub synopsis: String,
    /// The rest, perhaps nothing.
    text: String,
}

impl Copyright {
    /// Reads `text`; `None` when it isn't machine-readable or names no licence.
    pub fn parse(text: &str) -> Option<Copyright> {
        // Lines that look empty are empty, and a carriage return is nothing.
        let text: String = text.lines().flat_map(|line| [line.trim_end(), "\n"]).collect();
        let mut stanzas = control::stanzas(&text);
        let header = stanzas.next()?;
        header.field("Format").or_else(|| header.field("Format-Specification"))?;
        let mut copyright = Copyright::default();
        copyright.grants.extend(Grant::of(header));
        let mut definitions = Vec::new();
        for stanza in stanzas {
            let Some(grant) = Grant::of(stanza) else { continue };
            match stanza.field("Files") {
                Some(_) => copyright.grants.push(grant),
                None => definitions.push(grant),
            }
        }
        for Grant { synopsis, text } in definitions.iter().chain(&copyright.grants) {
            if !text.is_empty() {
                copyright.texts.entry(synopsis.to_lowercase()).or_insert_with(|| text.clone());
            }
        }
        // A definition by itself grants nothing, unless nothing else does.
        if copyright.grants.is_empty() {
            copyright.grants = definitions;
        }
        (!copyright.grants.is_empty()).then_some(copyright)
    }

    /// The text of the licence `name` in `grant`: its own, or the one that is said elsewhere.
    pub fn text_of<'a>(&'a self, name: &str, grant: &'a Grant) -> Option<&'a str> {
        let own = Some(grant.text.as_str());
        let elsewhere = |name: &str| self.texts.get(&name.to_lowercase()).map(String::as_str);
        let found = match name == grant.synopsis {
            true => [own, elsewhere(name)],
            false => [elsewhere(name), own],
        };
        let whole = elsewhere(&grant.synopsis);
        found.into_iter().chain([whole]).flatten().find(|text| !text.is_empty())
    }
}

impl Grant {
    fn of(stanza: Stanza<'_>) -> Option<Grant> {
        let field = stanza.field("License")?;
        let (synopsis, text) = field.split_once('\n').unwrap_or((field, ""));
        let synopsis = synopsis.split_whitespace().collect::<Vec<_>>().join(" ");
        (!synopsis.is_empty()).then(|| Grant { synopsis, text: unfolded(text) })
    }
}

/// A field's further lines, without the space before each and the dot of empty ones.
fn unfolded(text: &str) -> String {
    let line = |line| match str::trim(line) {
        "." => "",
        _ => line.strip_prefix([' ', '\t']).unwrap_or(line),
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORMAT: &str =
        "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n";

    fn synopses(text: &str) -> Option<Vec<String>> {
        let copyright = Copyright::parse(text)?;
        Some(copyright.grants.into_iter().map(|grant| grant.synopsis).collect())
    }

    #[test]
    fn grants_are_found_and_definitions_are_none() {
        let stanzas = [
            "Files: *\nCopyright: 1991-2025 FSF\nLicense: LGPL-2.1+\n",
            "Files:\n soft-fp/*.c\n soft-fp/*.h\nCopyright: FSF\nLicense: Artistic or  GPL-1+\n",
            "License: Artistic\n Text.\n",
            "License: GPL-1+\n Text.\n",
        ];
        let text = format!("{FORMAT}\n{}", stanzas.join("\n"));
        let expected = Some(vec!["LGPL-2.1+".to_owned(), "Artistic or GPL-1+".to_owned()]);
        assert_eq!(synopses(&text), expected);
        assert_eq!(synopses(&text.replace('\n', "\r\n")), expected);
        assert_eq!(synopses(&text.replace("\n\n", "\n \t\n")), expected);
    }

    #[test]
    fn what_grants_a_licence_depends_on_what_there_is() {
        let table = [
            ("License: GPL-2\n", vec!["GPL-2"]),
            ("License: GPL-2\n\nFiles: *\nLicense: ISC\n", vec!["GPL-2", "ISC"]),
            ("\nLicense: GPL-2\n text\n", vec!["GPL-2"]),
            ("\nFiles: a\nLicense:\n GPL-2\n", vec!["GPL-2"]),
            ("\nFiles: *\nLicense: Expat\n Text.\n\n a paragraph too many\n", vec!["Expat"]),
        ];
        for (text, expected) in table {
            assert_eq!(synopses(&format!("{FORMAT}{text}")).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn anything_else_is_not_read() {
        let long = "License: and\n".repeat(1000);
        let texts = [
            "",
            "\n",
            " ",
            ":",
            "Format",
            "Format:",
            FORMAT,
            "\n.\n",
            "\u{feff}",
            &long,
            "This is the Debian GNU/Linux prepackaged version of GCC.\n\nLicense: GPL-3\n",
            "Format: 1.0\n\nFiles: *\nLicense:\n\nLicense:\n",
        ];
        for text in texts {
            assert_eq!(Copyright::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_text_is_found_where_it_stands() {
        let text = format!(
            "{FORMAT}\n\
             Files: a\nLicense: public-domain\n It is\n  in the public domain.\n .\n Really.\n\n\
             Files: b\nLicense: BSD-3-Carnegie and DEC\n\n\
             Files: c\nLicense: IBM and ISC\n Both, in one.\n\n\
             Files: d\nLicense: Public-Domain\n\n\
             License: dec\n Digital.\n\n\
             License: BSD-3-Carnegie\n Mellon.\n"
        );
        let copyright = Copyright::parse(&text).unwrap();
        let table = [
            (0, "public-domain", Some("It is\n in the public domain.\n\nReally.")),
            (1, "BSD-3-Carnegie", Some("Mellon.")),
            (1, "DEC", Some("Digital.")),
            (1, "BSD", None),
            (2, "IBM", Some("Both, in one.")),
            (3, "Public-Domain", Some("It is\n in the public domain.\n\nReally.")),
        ];
        for (grant, name, expected) in table {
            assert_eq!(copyright.text_of(name, &copyright.grants[grant]), expected, "{name}");
        }
    }
}
