//! Which entry systemd-boot 257 starts, written apart from the code that is judged: of UKIs whose
//! .osrel has no ID, and so no sort key.
//!
//! Bad ones (no tries left) come last; then the names without their counters, newest version first
//! (UAPI.10); then more tries left before fewer, and fewer done before more.

use std::cmp::Ordering;

/// A name in `\EFI\Linux` that is listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The name without counters, in lower case.
    pub id: String,
    /// Tries left and done, if they are counted.
    pub tries: Option<(u64, u64)>,
}

impl Listed {
    /// `None`: the loader passes over a file of such a name.
    pub fn parse(name: &str) -> Option<Listed> {
        let lower = name.to_ascii_lowercase();
        let stem = lower.strip_suffix(".efi")?;
        if stem.is_empty() || stem.starts_with('.') || stem.starts_with("auto-") {
            return None;
        }
        let counted = stem.match_indices('+').find_map(|(at, _)| {
            let tries = tries(&stem[at + 1..])?;
            Some(Listed { id: format!("{}.efi", &stem[..at]), tries: Some(tries) })
        });
        Some(counted.unwrap_or_else(|| Listed { id: lower.clone(), tries: None }))
    }

    /// It has used its tries up.
    pub fn is_bad(&self) -> bool {
        matches!(self.tries, Some((0, _)))
    }

    /// The one that is started first is the least.
    pub fn order(&self, other: &Listed) -> Ordering {
        let by_tries = || match (self.tries, other.tries) {
            (Some((left, done)), Some((others_left, others_done))) => {
                others_left.cmp(&left).then(done.cmp(&others_done))
            }
            _ => Ordering::Equal,
        };
        let bad_last = self.is_bad().cmp(&other.is_bad());
        bad_last.then_with(|| compare(&other.id, &self.id)).then_with(by_tries)
    }
}

/// `3-0`, or `3`.
fn tries(text: &str) -> Option<(u64, u64)> {
    let number = |text: &str| {
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then(|| text.parse().ok()).flatten()
    };
    match text.split_once('-') {
        Some((left, done)) => Some((number(left)?, number(done)?)),
        None => Some((number(text)?, 0)),
    }
}

/// Versions as UAPI.10 orders them.
pub fn compare(one: &str, other: &str) -> Ordering {
    let is_version = |byte: &u8| byte.is_ascii_alphanumeric() || b"~-^.".contains(byte);
    let (mut a, mut b) = (one.as_bytes(), other.as_bytes());
    loop {
        let skip = |text: &[u8]| text.iter().take_while(|byte| !is_version(byte)).count();
        (a, b) = (&a[skip(a)..], &b[skip(b)..]);
        let starts = |byte: u8| (a.first() == Some(&byte), b.first() == Some(&byte));
        if let (true, _) | (_, true) = starts(b'~') {
            match starts(b'~') {
                (true, true) => (a, b) = (&a[1..], &b[1..]),
                (with, without) => return without.cmp(&with),
            }
            continue;
        }
        if a.is_empty() || b.is_empty() {
            return b.is_empty().cmp(&a.is_empty());
        }
        let separator = b"-^.".iter().find(|byte| starts(**byte) != (false, false));
        if let Some(separator) = separator {
            match starts(*separator) {
                (true, true) => (a, b) = (&a[1..], &b[1..]),
                (with, without) => return without.cmp(&with),
            }
            continue;
        }
        let is_number = a[0].is_ascii_digit() || b[0].is_ascii_digit();
        let run = |text: &[u8]| {
            let is_in = |byte: &&u8| match is_number {
                true => byte.is_ascii_digit(),
                false => byte.is_ascii_alphabetic(),
            };
            text.iter().take_while(is_in).count()
        };
        let (one, other) = (&a[..run(a)], &b[..run(b)]);
        (a, b) = (&a[one.len()..], &b[other.len()..]);
        let order = if is_number { by_number(one, other) } else { one.cmp(other) };
        if order != Ordering::Equal {
            return order;
        }
    }
}

/// Digits are more than none.
fn by_number(one: &[u8], other: &[u8]) -> Ordering {
    let zeros = |digits: &[u8]| digits.iter().take_while(|digit| **digit == b'0').count();
    let (a, b) = (&one[zeros(one)..], &other[zeros(other)..]);
    let some = other.is_empty().cmp(&one.is_empty());
    some.then(a.len().cmp(&b.len())).then(a.cmp(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_listed_or_passed_over() {
        for (name, expected) in [
            ("p1.efi", Some(("p1.efi", None))),
            ("P14+2-1.EFI", Some(("p14.efi", Some((2, 1))))),
            ("p2+3.efi", Some(("p2.efi", Some((3, 0))))),
            ("p2+0-3.efi", Some(("p2.efi", Some((0, 3))))),
            ("p2+x.efi", Some(("p2+x.efi", None))),
            ("a+b+3-1.efi", Some(("a+b.efi", Some((3, 1))))),
            ("SLOTB.OFF", None),
            ("auto-x.efi", None),
            (".efi", None),
        ] {
            let expected = expected.map(|(id, tries)| Listed { id: id.to_owned(), tries });
            assert_eq!(Listed::parse(name), expected, "{name}");
        }
    }

    #[test]
    fn the_newest_that_is_not_bad_comes_first() {
        for (names, expected) in [
            (["p1.efi", "p2+3-0.efi"], "p2+3-0.efi"),
            (["p1.efi", "p2+1-2.efi"], "p2+1-2.efi"),
            (["p1.efi", "p2+0-3.efi"], "p1.efi"),
            (["p10.efi", "p9.efi"], "p10.efi"),
            (["p9.efi", "p10+3-0.efi"], "p10+3-0.efi"),
            (["p2+1-2.efi", "p2+3-0.efi"], "p2+3-0.efi"),
            (["p1+0-3.efi", "p2+0-3.efi"], "p2+0-3.efi"),
        ] {
            for names in [names, [names[1], names[0]]] {
                let mut listed: Vec<_> =
                    names.iter().map(|name| (Listed::parse(name).unwrap(), *name)).collect();
                listed.sort_by(|one, other| one.0.order(&other.0));
                assert_eq!(listed[0].1, expected, "{names:?}");
            }
        }
    }

    #[test]
    fn versions_are_in_the_order_of_uapi_10() {
        let rising = ["~rc1", "", "-", "^", "a", "b", "0", "1", "9", "10", "11"];
        for pair in rising.windows(2).filter(|pair| pair[0] != "-" && pair[1] != "-") {
            assert_eq!(compare(pair[0], pair[1]), Ordering::Less, "{pair:?}");
        }
        for (one, other, expected) in [
            ("1.0~rc1", "1.0", Ordering::Less),
            ("1.0^1", "1.0", Ordering::Greater),
            ("1.0-2", "1.0.1", Ordering::Less),
            ("007", "7", Ordering::Equal),
            ("1_000", "1.000", Ordering::Greater),
            ("p9.efi", "p10.efi", Ordering::Less),
        ] {
            assert_eq!(compare(one, other), expected, "{one} {other}");
            assert_eq!(compare(other, one), expected.reverse(), "{other} {one}");
        }
    }
}
