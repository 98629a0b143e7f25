//! How long something is kept.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// `infinite`, or an ISO 8601 period of one unit: `P1Y`, `P6M`, `P2W`, `P30D`.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Retention {
    /// For ever.
    #[default]
    Infinite,
    /// So many days.
    Days(u32),
    /// So many months, of 30 days each.
    Months(u32),
    /// So many years, of 365 days each.
    Years(u32),
}

/// The longest, in days: a century. Longer is meant to be `infinite`.
const LONGEST: u32 = 36_500;

/// Why some text isn't a [`Retention`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not `infinite` or a period of years, months, weeks or days such as P1Y, up to P100Y"
)]
pub struct BadRetention(String);

impl Retention {
    /// Its length in days, if it ends.
    pub fn days(self) -> Option<u32> {
        match self {
            Retention::Infinite => None,
            Retention::Days(count) => Some(count),
            Retention::Months(count) => Some(count * 30),
            Retention::Years(count) => Some(count * 365),
        }
    }
}

/// Periods are equal when they are equally long.
impl PartialEq for Retention {
    fn eq(&self, other: &Retention) -> bool {
        self.days() == other.days()
    }
}

impl Eq for Retention {}

impl FromStr for Retention {
    type Err = BadRetention;

    fn from_str(text: &str) -> Result<Retention, BadRetention> {
        let parsed = if text == "infinite" { Some(Retention::Infinite) } else { period(text) };
        parsed.ok_or_else(|| BadRetention(text.chars().take(40).collect()))
    }
}

fn period(text: &str) -> Option<Retention> {
    let rest = text.strip_prefix('P')?;
    let (digits, unit) = rest.split_at_checked(rest.len().checked_sub(1)?)?;
    if digits.is_empty() || !digits.bytes().all(|c| c.is_ascii_digit()) {
        return None;
    }
    let count: u32 = digits.parse().ok()?;
    let (days, retention) = match unit {
        "D" => (1, Retention::Days(count)),
        "W" => (7, Retention::Days(count.checked_mul(7)?)),
        "M" => (30, Retention::Months(count)),
        "Y" => (365, Retention::Years(count)),
        _ => return None,
    };
    (1..=LONGEST).contains(&count.checked_mul(days)?).then_some(retention)
}

impl fmt::Display for Retention {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Retention::Infinite => f.write_str("infinite"),
            Retention::Days(count) => write!(f, "P{count}D"),
            Retention::Months(count) => write!(f, "P{count}M"),
            Retention::Years(count) => write!(f, "P{count}Y"),
        }
    }
}

impl TryFrom<String> for Retention {
    type Error = BadRetention;

    fn try_from(text: String) -> Result<Retention, BadRetention> {
        text.parse()
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
    fn one_unit_and_no_other_grammar() {
        for (text, printed, days) in [
            ("infinite", "infinite", None),
            ("P1Y", "P1Y", Some(365)),
            ("P6M", "P6M", Some(180)),
            ("P2W", "P14D", Some(14)),
            ("P030D", "P30D", Some(30)),
            ("P100Y", "P100Y", Some(36_500)),
        ] {
            let retention: Retention = text.parse().unwrap();
            assert_eq!((retention.to_string().as_str(), retention.days()), (printed, days));
        }
        for text in [
            "",
            "P",
            "PD",
            "P0D",
            "1Y",
            "P1",
            "P1Y6M",
            "PT5M",
            "P1H",
            "p1y",
            "P+1D",
            "P-1D",
            "P1.5Y",
            "P101Y",
            "P4294967295W",
            "P99999999999D",
            "Infinite",
            "P1Ä",
            "never",
            "P1D\0",
        ] {
            assert!(text.parse::<Retention>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_year_is_as_long_as_its_days() {
        let parse = |text: &str| text.parse::<Retention>().unwrap();
        assert_eq!(parse("P1Y"), parse("P365D"));
        assert_eq!(parse("P1M"), parse("P30D"));
        assert_ne!(parse("P12M"), parse("P1Y"));
        assert_ne!(parse("infinite"), parse("P100Y"));
    }
}
