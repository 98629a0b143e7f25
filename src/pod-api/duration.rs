//! Lengths of time as ISO 8601 writes them: `PT3H`, `P1W`, and how long something is kept: `P1Y`,
//! `infinite`.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

const DAY: u64 = 24 * 60 * 60;
/// The most digits of a number in it: what has more is no length of time that anybody means.
const MOST_DIGITS: usize = 9;

/// An exact length: weeks, days, hours, minutes, seconds. Never zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Span(pub Duration);

/// How long something is kept: for ever, or one number of one unit of the calendar.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub enum Retention {
    /// For ever.
    Infinite,
    /// So many of `Y`, `M` or `D`; weeks are read as days.
    For(u32, char),
}

/// Why a text is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Bad {
    /// Not a [`Span`].
    #[error("it is not a duration like PT3H or P1W")]
    Span,
    /// Not a [`Retention`].
    #[error("it is not \"infinite\", nor a period like P1Y, P6M, P2W or P30D")]
    Retention,
}

impl Span {
    fn parse(text: &str) -> Option<Span> {
        let (date, time) = match text.strip_prefix('P')?.split_once('T') {
            Some((_, "")) => return None,
            Some(parts) => parts,
            None => (text.strip_prefix('P')?, ""),
        };
        let date = seconds(date, &[('W', 7 * DAY), ('D', DAY)])?;
        let time = seconds(time, &[('H', 3600), ('M', 60), ('S', 1)])?;
        let sum = date.checked_add(time)?;
        (sum > 0).then_some(Span(Duration::from_secs(sum)))
    }
}

/// The sum of numbers that are each followed by a unit, in this order and each at most once.
fn seconds(mut text: &str, units: &[(char, u64)]) -> Option<u64> {
    let mut sum = 0_u64;
    for (unit, seconds) in units {
        if let Some((number, rest)) = text.split_once(*unit) {
            sum = sum.checked_add(number_of(number)?.checked_mul(*seconds)?)?;
            text = rest;
        }
    }
    text.is_empty().then_some(sum)
}

fn number_of(digits: &str) -> Option<u64> {
    let is_number = (1..=MOST_DIGITS).contains(&digits.len());
    let is_number = is_number && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| digits.parse().ok()).flatten()
}

impl Retention {
    fn parse(text: &str) -> Option<Retention> {
        if text == "infinite" {
            return Some(Retention::Infinite);
        }
        let inner = text.strip_prefix('P')?;
        let unit = inner.chars().next_back().filter(|unit| "YMWD".contains(*unit))?;
        let number = u32::try_from(number_of(inner.strip_suffix(unit)?)?).ok()?;
        match (number, unit) {
            (0, _) => None,
            (weeks, 'W') => Some(Retention::For(weeks.checked_mul(7)?, 'D')),
            (number, unit) => Some(Retention::For(number, unit)),
        }
    }
}

impl TryFrom<String> for Span {
    type Error = Bad;
    fn try_from(text: String) -> Result<Span, Bad> {
        Span::parse(&text).ok_or(Bad::Span)
    }
}

impl TryFrom<String> for Retention {
    type Error = Bad;
    fn try_from(text: String) -> Result<Retention, Bad> {
        Retention::parse(&text).ok_or(Bad::Retention)
    }
}

impl fmt::Display for Retention {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Retention::Infinite => f.write_str("infinite"),
            Retention::For(number, unit) => write!(f, "P{number}{unit}"),
        }
    }
}

impl From<Retention> for String {
    fn from(retention: Retention) -> String {
        retention.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_exact() {
        for (text, expected) in [
            ("PT3H", Some(3 * 3600)),
            ("P1W", Some(7 * DAY)),
            ("P1DT1H1M1S", Some(DAY + 3661)),
            ("PT15M", Some(900)),
            ("", None),
            ("P", None),
            ("PT", None),
            ("P1DT", None),
            ("PT0S", None),
            ("P1M", None),
            ("PT1M1H", None),
            ("PT-1H", None),
            ("PT1.5H", None),
            ("PT9999999999S", None),
            ("P1Dx", None),
        ] {
            let read = Span::parse(text).map(|span| span.0.as_secs());
            assert_eq!(read, expected, "{text}");
        }
    }

    #[test]
    fn a_retention_has_one_unit_and_one_spelling() {
        for (text, expected) in [
            ("infinite", Some("infinite")),
            ("P1Y", Some("P1Y")),
            ("P6M", Some("P6M")),
            ("P2W", Some("P14D")),
            ("P30D", Some("P30D")),
            ("P0D", None),
            ("PT1H", None),
            ("P1Y6M", None),
            ("forever", None),
            ("P", None),
            ("Pé", None),
            ("P4294967295W", None),
        ] {
            let read = Retention::parse(text).map(String::from);
            assert_eq!(read.as_deref(), expected, "{text}");
        }
    }
}
