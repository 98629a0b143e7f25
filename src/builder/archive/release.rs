//! A Release file: what an archive signs. It names its indexes by digest.

use std::collections::HashMap;

use appliance::hash::Digest;
use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;

use crate::archive::control::{self, Stanza};

/// What a Release file says, as far as it concerns us.
#[derive(Debug, Clone)]
pub struct Release {
    /// When it was made.
    pub date: OffsetDateTime,
    /// When it stops being the newest; not all have one.
    pub valid_until: Option<OffsetDateTime>,
    /// Its suite and its code name: one of them must be what was asked for.
    pub names: Vec<String>,
    /// Does the archive serve its indexes under their digests too?
    pub by_hash: bool,
    indexes: HashMap<String, IndexFile>,
}

/// An index that a Release file names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexFile {
    /// Of the file as it is served.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
}

/// What is wrong with a Release file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A field that must be there isn't.
    #[error("the Release file has no field `{0}`")]
    Missing(&'static str),
    /// A field that can't be read.
    #[error("the Release file's field `{0}` can't be read: `{1}`")]
    Bad(&'static str, String),
}

impl Release {
    /// Reads the text that was signed.
    pub fn parse(text: &str) -> Result<Release, Error> {
        let stanza = control::stanzas(text).next().ok_or(Error::Missing("Date"))?;
        let date = required(&stanza, "Date")?;
        let valid_until = stanza.field("Valid-Until");
        Ok(Release {
            date: parse_date(date).ok_or_else(|| Error::Bad("Date", date.to_owned()))?,
            valid_until: valid_until
                .map(|d| parse_date(d).ok_or_else(|| Error::Bad("Valid-Until", d.to_owned())))
                .transpose()?,
            names: names(stanza.field("Suite"), stanza.field("Codename")),
            by_hash: stanza.field("Acquire-By-Hash") == Some("yes"),
            indexes: required(&stanza, "SHA256")?
                .lines()
                .filter(|line| !line.trim().is_empty())
                .map(|line| parse_index(line).ok_or_else(|| Error::Bad("SHA256", line.to_owned())))
                .collect::<Result<_, _>>()?,
        })
    }

    /// The index of this path, relative to the suite.
    pub fn index(&self, path: &str) -> Option<IndexFile> {
        self.indexes.get(path).copied()
    }
}

/// `stable-updates` has the code name `trixie`, as `stable` has: then it is `trixie-updates`, lest
/// one be taken for the other.
fn names(suite: Option<&str>, codename: Option<&str>) -> Vec<String> {
    let suffix = suite.and_then(|suite| suite.find('-').map(|at| &suite[at..])).unwrap_or_default();
    let codename = codename.map(|name| match name.ends_with(suffix) {
        true => name.to_owned(),
        false => format!("{name}{suffix}"),
    });
    suite.map(str::to_owned).into_iter().chain(codename).collect()
}

fn required<'a>(stanza: &Stanza<'a>, field: &'static str) -> Result<&'a str, Error> {
    stanza.field(field).ok_or(Error::Missing(field))
}

fn parse_index(line: &str) -> Option<(String, IndexFile)> {
    let mut words = line.split_whitespace();
    let (digest, size, path) = (words.next()?, words.next()?, words.next()?);
    let file = IndexFile { digest: digest.parse().ok()?, size: size.parse().ok()? };
    words.next().is_none().then(|| (path.to_owned(), file))
}

/// `Sat, 12 Sep 2026 07:55:41 UTC`: always English, always universal time.
fn parse_date(text: &str) -> Option<OffsetDateTime> {
    const FORMAT: &[BorrowedFormatItem<'_>] = format_description!(
        "[weekday repr:short], [day padding:none] [month repr:short] [year] [hour]:[minute]:[second]"
    );
    let text = ["UTC", "GMT", "+0000"].iter().find_map(|zone| text.trim().strip_suffix(zone))?;
    // A day may be written with or without a leading zero.
    let text = text.trim().replacen(", 0", ", ", 1);
    time::PrimitiveDateTime::parse(&text, FORMAT).ok().map(|date| date.assume_utc())
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    const TEXT: &str = "Origin: Debian\nSuite: stable\nCodename: trixie\n\
        Date: Sat, 12 Sep 2026 07:55:41 UTC\nValid-Until: Sat, 05 Dec 2026 07:55:41 UTC\n\
        Acquire-By-Hash: yes\nSHA256:\n \
        e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855        0 main/x\n";

    #[test]
    fn a_release_is_read() {
        let release = Release::parse(TEXT).unwrap();
        assert_eq!(release.date, datetime!(2026-09-12 07:55:41 UTC));
        assert_eq!(release.valid_until, Some(datetime!(2026-12-05 07:55:41 UTC)));
        assert_eq!(release.names, ["stable", "trixie"]);
        assert_eq!(release.index("main/x"), Some(IndexFile { digest: Digest::of(b""), size: 0 }));
        assert_eq!(release.index("main/y"), None);
    }

    #[test]
    fn updates_are_not_taken_for_the_suite_itself() {
        assert_eq!(
            names(Some("stable-updates"), Some("trixie")),
            ["stable-updates", "trixie-updates"]
        );
        assert_eq!(names(Some("stable-security"), Some("trixie-security"))[1], "trixie-security");
        assert_eq!(names(None, Some("sid")), ["sid"]);
    }

    #[test]
    fn what_is_missing_or_unreadable_is_named() {
        let cases = [
            (TEXT.replace("Date: Sat", "X: Sat"), Error::Missing("Date")),
            (TEXT.replace("SHA256:", "SHA1:"), Error::Missing("SHA256")),
            (
                TEXT.replace("12 Sep", "32 Sep"),
                Error::Bad("Date", "Sat, 32 Sep 2026 07:55:41 UTC".into()),
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(Release::parse(&text).unwrap_err(), expected);
        }
        assert!(matches!(Release::parse(&TEXT[..TEXT.len() - 8]), Err(Error::Bad("SHA256", _))));
    }
}
