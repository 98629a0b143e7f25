//! Moments, seconds since 1970, as JSON writes them.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// The last one that can be written: the end of the year 9999.
const LAST: u64 = 253_402_300_799;

/// `2026-01-13T10:00:00Z`
pub fn rfc3339(seconds: u64) -> String {
    of(seconds).format(&Rfc3339).unwrap_or_default()
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
    fn a_moment_is_written() {
        for (seconds, json) in [
            (0, "1970-01-01T00:00:00Z"),
            (1_768_298_400, "2026-01-13T10:00:00Z"),
            (u64::MAX, "9999-12-31T23:59:59Z"),
        ] {
            assert_eq!(rfc3339(seconds), json);
        }
    }
}
