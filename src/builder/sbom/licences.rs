//! The licences of packages as SPDX expressions, and the texts of those that SPDX has no name for.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use super::copyright::{Copyright, Grant};
use super::expression::Expression;
use super::names;
use super::spdx::{ExtractedLicence, bent, marked};

/// Bytes of a text that are quoted at most. GCC's whole copyright file, prose of 69 kB, fits.
const QUOTED: usize = 128 << 10;
/// Names in one file that are translated; one with more is quoted as prose. So no file makes a
/// document longer than this many texts.
const NAMES: usize = 1024;
/// Letters of a name that an id repeats.
const NAMED: usize = 64;
/// What stands for a text that is named, but told nowhere.
const NO_TEXT: &str = "The copyright file names this licence and doesn't quote it.";

/// Licences without a name in SPDX, by the id that refers to them.
#[derive(Debug, Default)]
pub struct Licences {
    extracted: BTreeMap<String, ExtractedLicence>,
}

impl Licences {
    /// All licences that a copyright file names: of the package called `name`, should it be prose
    /// that has to be quoted as a whole.
    pub fn declared(&mut self, name: &str, copyright: &str) -> String {
        let Some(read) = Copyright::parse(copyright) else { return self.quote(name, copyright) };
        let grants: BTreeSet<&Grant> = read.grants.iter().collect();
        if grants.iter().map(|grant| grant.synopsis.split(' ').count()).sum::<usize>() > NAMES {
            return self.quote(name, copyright);
        }
        let expressions = grants.into_iter().map(|grant| {
            Expression::parse(&grant.synopsis, &mut |licence| {
                names::spdx(licence).unwrap_or_else(|| {
                    self.quote(licence, read.text_of(licence, grant).unwrap_or(NO_TEXT))
                })
            })
        });
        Expression::all(expressions.collect()).to_string()
    }

    /// The texts that were quoted, in the order of their ids.
    pub fn extracted(self) -> Vec<ExtractedLicence> {
        self.extracted.into_values().collect()
    }

    /// The id that refers to `text`. The same name may stand for several texts, even in one file.
    fn quote(&mut self, name: &str, text: &str) -> String {
        let text = match text.trim_matches('\n') {
            "" => Cow::Borrowed(NO_TEXT),
            text => cut(text),
        };
        let short: String = bent(name).chars().take(NAMED).collect();
        let license_id = format!("LicenseRef-{}", marked(&short, &text));
        let quoted = ExtractedLicence {
            license_id: license_id.clone(),
            name: name.to_owned(),
            extracted_text: text.into_owned(),
        };
        self.extracted.entry(license_id.clone()).or_insert(quoted);
        license_id
    }
}

fn cut(text: &str) -> Cow<'_, str> {
    let end = text.floor_char_boundary(QUOTED);
    match end < text.len() {
        true => format!("{}\n[cut: {} bytes in all]", &text[..end], text.len()).into(),
        false => text.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cuttings of libevent's and Unbound's.
    const STRUCTURED: &str = "\
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: example

Files: *
Copyright: 2002-2007, Niels Provos <provos@citi.umich.edu>
License: BSD-3-clause

Files: m4/ax_python_devel.m4
Copyright: 2009 Sebastian Huber <sebastian-huber@web.de>,
           2009 Alan W. Irwin
License: GPL-3+ with autoconf exception

Files: compat/arc4random.c
License: ISC or Expat

Files: strlcpy.c
License: public-domain
 Nobody's.

Files: strlcat.c
License: public-domain
 Not anybody's.

Files: WIN32-Code/*
License: BSD-3-Viagénie

License: ISC
 Permission to use, copy, modify, and distribute this software …

License: GPL-3+ with autoconf exception
 As a special exception, …
";

    #[test]
    fn licences_are_named_and_the_nameless_quoted() {
        let mut licences = Licences::default();
        let declared = licences.declared("libexample", STRUCTURED);
        let quoted = licences.extracted();
        let ids: Vec<&str> = quoted.iter().map(|quoted| quoted.license_id.as_str()).collect();
        let [viagenie, gpl, nobody, not_any] = ids[..] else { panic!("{ids:?}") };
        assert_eq!(
            declared,
            format!(
                "BSD-3-Clause AND {viagenie} AND {gpl} AND {nobody} AND {not_any} AND (ISC OR MIT)"
            )
        );
        assert!(viagenie.starts_with("LicenseRef-BSD-3-Viag-nie-"), "{viagenie}");
        assert!(gpl.starts_with("LicenseRef-GPL-3--with-autoconf-exception-"), "{gpl}");
        assert_eq!(quoted[0].extracted_text, NO_TEXT);
        assert_eq!(quoted[1].extracted_text, "As a special exception, …");
        let mut texts = [&*quoted[2].extracted_text, &*quoted[3].extracted_text];
        texts.sort();
        assert_eq!(texts, ["Nobody's.", "Not anybody's."]);
    }

    #[test]
    fn prose_is_quoted_whole_and_once() {
        let mut licences = Licences::default();
        let prose = "This is the Debian prepackaged version of GCC.\n\nGPL, with exceptions.\n";
        let id = licences.declared("gcc-14-base", prose);
        assert_eq!(licences.declared("gcc-14-base", prose), id);
        assert_ne!(licences.declared("gcc-14-base", ""), id);
        assert!(id.starts_with("LicenseRef-gcc-14-base-"), "{id}");
        let long = "é".repeat(QUOTED);
        licences.declared("long", &long);
        let quoted = licences.extracted();
        assert_eq!(quoted.len(), 3);
        assert!(quoted.iter().any(|quoted| quoted.extracted_text == prose.trim_end()));
        assert!(quoted.iter().all(|quoted| quoted.extracted_text.len() < QUOTED + 40));
    }

    #[test]
    fn whatever_a_file_says_is_an_expression() {
        let mut licences = Licences::default();
        for (at, _) in STRUCTURED.char_indices() {
            assert_ne!(licences.declared("cut", &STRUCTURED[..at]), "", "cut at {at}");
            assert_ne!(licences.declared("cut", &STRUCTURED[at..]), "", "cut at {at}");
        }
        let format = &STRUCTURED[..STRUCTURED.find('\n').unwrap()];
        for synopsis in ["and", ", or", "with", "GPL-2+ with", "or or", "+", "\u{301}", "A and or"]
        {
            let text = format!("{format}\n\nFiles: *\nLicense: {synopsis}\n");
            let declared = licences.declared("odd", &text);
            assert!(declared.starts_with("LicenseRef-") && !declared.contains(' '), "{declared}");
        }
        let many = format!("{format}\n\nFiles: *\nLicense: {}\n", "A and ".repeat(NAMES));
        assert!(licences.declared("many", &many).starts_with("LicenseRef-many-"));
    }
}
