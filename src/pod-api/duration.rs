//! Lengths of time as ISO 8601 writes them: `PT3H`, `P1W`.

use std::time::Duration;

use serde::Deserialize;

const DAY: u64 = 24 * 60 * 60;
/// The most digits of a number in it: what has more is no length of time that anybody means.
const MOST_DIGITS: usize = 9;

/// An exact length: weeks, days, hours, minutes, seconds. Never zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Span(pub Duration);

/// Why a text is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is not a duration like PT3H or P1W")]
pub struct BadSpan;

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

impl TryFrom<String> for Span {
    type Error = BadSpan;
    fn try_from(text: String) -> Result<Span, BadSpan> {
        Span::parse(&text).ok_or(BadSpan)
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
}
