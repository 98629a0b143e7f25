//! What the child tells PID 1: one line of JSON each.

use serde::{Deserialize, Serialize};

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Report {
    /// The server answered.
    Measured(Measured),
    /// It did not, several times.
    Silent,
    /// It will not: it wants no queries of ours.
    Denied,
}

/// How far this machine's clock is off, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measured {
    /// What must be added to the clock.
    pub offset: i64,
    /// How long query and answer were under way: the offset is good to half of that.
    pub delay: u64,
    /// How many servers away the clock is by which it was measured.
    pub stratum: u8,
}

/// A report that PID 1 won't act on.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    #[error("it isn't a report: {0}")]
    Malformed(#[from] serde_json::Error),
    #[error("stratum {0}")]
    Stratum(u8),
    #[error("a delay of {0} µs")]
    Delay(u64),
}

/// An answer that took longer says nothing of use, in microseconds.
pub const LONGEST_DELAY: u64 = 2_000_000;

impl Report {
    /// The line that says it.
    pub fn to_line(self) -> String {
        // Plain data: serialising it cannot fail.
        serde_json::to_string(&self).unwrap_or_default()
    }

    /// Takes a line from the child, which may have been taken over by the network.
    pub fn from_line(line: &str) -> Result<Report, Refused> {
        match serde_json::from_str(line)? {
            Report::Measured(Measured { stratum, .. }) if !(1..=15).contains(&stratum) => {
                Err(Refused::Stratum(stratum))
            }
            Report::Measured(Measured { delay, .. }) if delay > LONGEST_DELAY => {
                Err(Refused::Delay(delay))
            }
            report => Ok(report),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_crosses_as_one_line() {
        let measured = Measured { offset: -7, delay: 900, stratum: 2 };
        for (report, line) in [
            (Report::Silent, r#""silent""#),
            (Report::Denied, r#""denied""#),
            (Report::Measured(measured), r#"{"measured":{"offset":-7,"delay":900,"stratum":2}}"#),
        ] {
            assert_eq!(report.to_line(), line);
            assert_eq!(Report::from_line(line).unwrap(), report);
        }
        for (measured, cause) in [
            (Measured { stratum: 0, ..measured }, "stratum 0"),
            (Measured { stratum: 16, ..measured }, "stratum 16"),
            (Measured { delay: 2_000_001, ..measured }, "a delay of 2000001 µs"),
        ] {
            let line = Report::Measured(measured).to_line();
            assert_eq!(Report::from_line(&line).unwrap_err().to_string(), cause);
        }
        for line in ["", "{}", "silent", r#"{"measured":{}}"#, r#"{"silent":1}"#] {
            assert!(Report::from_line(line).is_err(), "{line}");
        }
    }
}
