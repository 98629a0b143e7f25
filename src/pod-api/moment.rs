//! Moments, seconds since 1970, as JSON and e-mails write them.

use time::OffsetDateTime;
use time::format_description::well_known::{Rfc2822, Rfc3339};

/// The last one that can be written: the end of the year 9999.
const LAST: u64 = 253_402_300_799;

/// `2026-01-13T10:00:00Z`
pub fn rfc3339(seconds: u64) -> String {
    of(seconds).format(&Rfc3339).unwrap_or_default()
}

/// `Tue, 13 Jan 2026 10:00:00 +0000`
pub fn rfc2822(seconds: u64) -> String {
    of(seconds).format(&Rfc2822).unwrap_or_default()
}

/// Reads what RFC 3339 writes, in any zone; a fraction of a second is cut off. None before 1970.
pub fn parse(text: &str) -> Option<u64> {
    OffsetDateTime::parse(text, &Rfc3339).ok()?.unix_timestamp().try_into().ok()
}

fn of(seconds: u64) -> OffsetDateTime {
    // Never out of range.
    let seconds = i64::try_from(seconds.min(LAST)).unwrap_or(0);
    OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_written_and_read() {
        for (seconds, json, mail) in [
            (0, "1970-01-01T00:00:00Z", "Thu, 01 Jan 1970 00:00:00 +0000"),
            (1_768_298_400, "2026-01-13T10:00:00Z", "Tue, 13 Jan 2026 10:00:00 +0000"),
            (LAST, "9999-12-31T23:59:59Z", "Fri, 31 Dec 9999 23:59:59 +0000"),
        ] {
            assert_eq!((rfc3339(seconds).as_str(), rfc2822(seconds).as_str()), (json, mail));
            assert_eq!(parse(json), Some(seconds));
        }
        assert_eq!(rfc3339(u64::MAX), "9999-12-31T23:59:59Z");
    }

    #[test]
    fn what_clients_write_is_read() {
        for (text, expected) in [
            ("2026-01-13T10:00:00.999Z", Some(1_768_298_400)),
            ("2026-01-13T12:00:00+02:00", Some(1_768_298_400)),
            ("1969-12-31T23:59:59Z", None),
            ("2026-01-13", None),
            ("2026-13-13T10:00:00Z", None),
            ("yesterday", None),
            ("", None),
        ] {
            assert_eq!(parse(text), expected, "{text}");
        }
    }
}
