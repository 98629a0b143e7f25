//! Debian version numbers, ordered as `dpkg` orders them (Debian Policy 5.6.12).

use std::cmp::Ordering;
use std::fmt;

/// A version number; any text is one, as for `dpkg --compare-versions`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version(pub String);

impl Version {
    fn parts(&self) -> (u64, &str, &str) {
        let (epoch, rest) = match self.0.split_once(':') {
            Some((epoch, rest)) => (epoch.parse().unwrap_or(0), rest),
            None => (0, self.0.as_str()),
        };
        let (upstream, revision) = rest.rsplit_once('-').unwrap_or((rest, ""));
        (epoch, upstream, revision)
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Version) -> Ordering {
        let ((epoch, upstream, revision), (epoch2, upstream2, revision2)) =
            (self.parts(), other.parts());
        epoch
            .cmp(&epoch2)
            .then_with(|| compare(upstream.as_bytes(), upstream2.as_bytes()))
            .then_with(|| compare(revision.as_bytes(), revision2.as_bytes()))
            // `1.0` and `1.00` are equal to dpkg; here they keep a fixed order.
            .then_with(|| self.0.cmp(&other.0))
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Version) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Turn by turn: what isn't a digit, by weight; then a number, by value.
fn compare(mut a: &[u8], mut b: &[u8]) -> Ordering {
    while !a.is_empty() || !b.is_empty() {
        while starts_with_other(a) || starts_with_other(b) {
            match weight(a.first()).cmp(&weight(b.first())) {
                Ordering::Equal => (a, b) = (&a[1..], &b[1..]),
                unequal => return unequal,
            }
        }
        let (number_a, rest_a) = number(a);
        let (number_b, rest_b) = number(b);
        let order = number_a.len().cmp(&number_b.len()).then_with(|| number_a.cmp(number_b));
        if order != Ordering::Equal {
            return order;
        }
        (a, b) = (rest_a, rest_b);
    }
    Ordering::Equal
}

fn starts_with_other(text: &[u8]) -> bool {
    text.first().is_some_and(|byte| !byte.is_ascii_digit())
}

/// `~` before the end, the end (or a digit) before letters, letters before the rest.
fn weight(byte: Option<&u8>) -> i32 {
    match byte {
        Some(b'~') => -1,
        None => 0,
        Some(byte) if byte.is_ascii_digit() => 0,
        Some(byte) if byte.is_ascii_alphabetic() => i32::from(*byte),
        Some(byte) => i32::from(*byte) + 256,
    }
}

/// The digits in front, without leading zeros, and what follows them.
fn number(text: &[u8]) -> (&[u8], &[u8]) {
    let end = text.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    let zeros = digits.iter().position(|&byte| byte != b'0').unwrap_or(digits.len());
    (&digits[zeros..], rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_as_policy_says() {
        let ascending = [
            "0~~",
            "0~",
            "0",
            "0+",
            "1.0~rc1-1",
            "1.0-1",
            "1.0-1+b1",
            "1.0-1.1",
            "1.0-2",
            "1.0a-1",
            "1.0.1-1",
            "1.9",
            "1.10",
            "2.41-12+deb13u4",
            "1:0.1",
            "2:0",
        ];
        for pair in ascending.windows(2) {
            let (low, high) = (Version(pair[0].into()), Version(pair[1].into()));
            assert_eq!(low.cmp(&high), Ordering::Less, "{low} and {high}");
            assert_eq!(high.cmp(&low), Ordering::Greater, "{high} and {low}");
        }
    }
}
