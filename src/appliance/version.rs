//! Versions of appliances, ordered as boot loaders order them (UAPI.10, the Version Format
//! Specification), so that a file name, a floor and a loader never disagree.

use std::cmp::Ordering;
use std::fmt;

use serde::{Deserialize, Serialize};

/// The most bytes of one.
const LONGEST: usize = 32;

/// A version: `[A-Za-z0-9.~^-]`, starting with a digit, at most 32. Two are equal when neither is
/// newer: `1.0` and `1.00`.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Version(String);

/// What can't be one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a version such as `1.0.0`")]
pub struct NoVersion(String);

impl TryFrom<String> for Version {
    type Error = NoVersion;

    fn try_from(text: String) -> Result<Version, NoVersion> {
        let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '~' | '^' | '-');
        let starts = text.starts_with(|c: char| c.is_ascii_digit());
        match starts && text.len() <= LONGEST && text.chars().all(good) {
            true => Ok(Version(text)),
            false => Err(NoVersion(text)),
        }
    }
}

impl From<Version> for String {
    fn from(version: Version) -> String {
        version.0
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Version) -> Ordering {
        order(&self.0, &other.0)
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Version) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Eq for Version {}

impl PartialEq for Version {
    fn eq(&self, other: &Version) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

/// The order of two texts. Characters that no [`Version`] has only keep apart what they stand between.
pub(crate) fn order(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a.as_bytes(), b.as_bytes());
    let is_separator = |byte: &u8| !byte.is_ascii_alphanumeric() && !b".~^-".contains(byte);
    loop {
        take(&mut a, is_separator);
        take(&mut b, is_separator);
        let pre_release = compare_mark(b'~', &mut a, &mut b);
        if pre_release != Ordering::Equal {
            return pre_release;
        }
        if a.is_empty() || b.is_empty() {
            return a.len().cmp(&b.len());
        }
        for mark in [b'-', b'^', b'.'] {
            let order = compare_mark(mark, &mut a, &mut b);
            if order != Ordering::Equal {
                return order;
            }
        }
        let is_number = [a, b].iter().any(|text| text.first().is_some_and(u8::is_ascii_digit));
        let order = match is_number {
            true => {
                compare_numbers(take(&mut a, u8::is_ascii_digit), take(&mut b, u8::is_ascii_digit))
            }
            // As texts are compared: `a` before `ab`, capitals before the others.
            false => {
                take(&mut a, u8::is_ascii_alphabetic).cmp(take(&mut b, u8::is_ascii_alphabetic))
            }
        };
        if order != Ordering::Equal {
            return order;
        }
    }
}

/// Whoever has the mark in front is older; if both have it, it is taken off.
fn compare_mark(mark: u8, a: &mut &[u8], b: &mut &[u8]) -> Ordering {
    match (a.split_first(), b.split_first()) {
        (Some((x, rest_a)), Some((y, rest_b))) if *x == mark && *y == mark => {
            (*a, *b) = (rest_a, rest_b);
            Ordering::Equal
        }
        (Some((x, _)), _) if *x == mark => Ordering::Less,
        (_, Some((y, _))) if *y == mark => Ordering::Greater,
        _ => Ordering::Equal,
    }
}

/// By value, however long they are; none at all is older than any.
fn compare_numbers(a: &[u8], b: &[u8]) -> Ordering {
    let value = |digits: &'_ [u8]| {
        let zeros = digits.iter().take_while(|&&digit| digit == b'0').count();
        (digits.len() - zeros, zeros)
    };
    let ((length_a, zeros_a), (length_b, zeros_b)) = (value(a), value(b));
    (!a.is_empty(), length_a, &a[zeros_a..]).cmp(&(!b.is_empty(), length_b, &b[zeros_b..]))
}

/// The front of `text` for as long as `belongs`, taken off.
fn take<'a>(text: &mut &'a [u8], belongs: impl Fn(&u8) -> bool) -> &'a [u8] {
    let end = text.iter().position(|byte| !belongs(byte)).unwrap_or(text.len());
    let (front, rest) = text.split_at(end);
    *text = rest;
    front
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> Option<Version> {
        Version::try_from(text.to_owned()).ok()
    }

    #[test]
    fn versions_are_read_or_refused() {
        for good in ["1", "1.0.0~rc1", "2026.11.22-1^x", &"1".repeat(LONGEST)] {
            assert_eq!(version(good).unwrap().to_string(), good);
        }
        for bad in ["", "v1", "~1", "1 ", "1_0", "1+1", "1:0", &"1".repeat(LONGEST + 1)] {
            assert!(version(bad).is_none(), "{bad:?}");
        }
    }

    /// The list that systemd tests its own `strverscmp_improved` with.
    #[test]
    fn versions_are_ordered_as_loaders_order_them() {
        let ascending = [
            "~1",
            "",
            "ab",
            "abb",
            "abc",
            "0001",
            "002",
            "12",
            "122",
            "122.9",
            "123~rc1",
            "123",
            "123-a",
            "123-a.1",
            "123-a1",
            "123-a1.1",
            "123-3",
            "123-3.1",
            "123^patch1",
            "123^1",
            "123.a-1",
            "123.1-1",
            "123a-1",
            "124",
        ];
        for (place, low) in ascending.iter().enumerate() {
            assert_eq!(order(low, low), Ordering::Equal, "{low}");
            for high in &ascending[place + 1..] {
                assert_eq!(order(low, high), Ordering::Less, "{low} and {high}");
                assert_eq!(order(high, low), Ordering::Greater, "{high} and {low}");
            }
        }
        assert_eq!(order("1_2_3", "1.3.3"), Ordering::Greater);
        assert_eq!(order("1_", "1"), Ordering::Equal);
        for (one, other) in [("1.0", "1.00"), ("01.2", "1.2"), ("1.0.0", "1.00.000")] {
            assert_eq!(version(one), version(other), "{one} and {other}");
        }
        let long = format!("1.{}", "9".repeat(30));
        assert!(version("1.2") < version("1.10") && version("1.10") < version(&long));
    }

    #[test]
    fn any_versions_have_one_order() {
        let mut random = fastrand::Rng::with_seed(6);
        let mut any = || -> String {
            let length = random.usize(..7);
            (0..length)
                .map(|_| char::from(random.choice(b"0019abB.~^-".iter()).map_or(0, |b| *b)))
                .collect()
        };
        for _ in 0..200_000 {
            let (a, b, c) = (any(), any(), any());
            assert_eq!(order(&a, &b), order(&b, &a).reverse(), "{a} and {b}");
            let sorted = order(&a, &b).is_le() && order(&b, &c).is_le();
            assert!(!sorted || order(&a, &c).is_le(), "{a}, {b} and {c}");
        }
    }
}
