//! What UKIs are called, and in which order systemd-boot would boot them.
//!
//! `p14.efi` is trusted; `p14+2-1.efi` is on trial: two tries left, one used. The number only grows,
//! so what was armed last comes first.

use std::cmp::Ordering;
use std::fmt;

use crate::version;

/// The highest number: `p9999+3-0.efi` has the 13 characters that a long name's one entry holds.
pub const HIGHEST: u16 = 9999;

/// A UKI's name, as we give them and firmware changes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Name {
    /// Which: 1 to [`HIGHEST`].
    pub number: u16,
    /// Tries left and tries used, of one on trial.
    pub tries: Option<(u8, u8)>,
}

impl Name {
    /// Reads a file's name.
    pub fn parse(text: &str) -> Option<Name> {
        let stem = text.strip_prefix('p')?.strip_suffix(".efi")?;
        let (number, tries) = match stem.split_once('+') {
            Some((number, tries)) => {
                let (left, done) = tries.split_once('-')?;
                (number, Some((digits(left)? as u8, digits(done)? as u8)))
            }
            None => (stem, None),
        };
        let name = Name { number: digits(number)?, tries };
        // Nothing else that would be read as the same.
        (name.number > 0 && name.to_string() == text).then_some(name)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "p{}", self.number)?;
        if let Some((left, done)) = self.tries {
            write!(f, "+{left}-{done}")?;
        }
        f.write_str(".efi")
    }
}

fn digits(text: &str) -> Option<u16> {
    let sound = (1..=4).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    sound.then(|| text.parse().ok())?
}

/// Does systemd-boot look at such a file at all?
pub fn boots(text: &str) -> bool {
    text.len() > 4 && text.is_char_boundary(text.len() - 4) && {
        text[text.len() - 4..].eq_ignore_ascii_case(".efi")
    }
}

/// Which of two names systemd-boot 257 boots first, UKIs having neither sort key nor version: bad
/// ones last, then by the name without its tries, the later version first. What it leaves open, a
/// name with tries beside the same one without, is decided for the latter.
pub fn order(a: &str, b: &str) -> Ordering {
    let key = |text: &str| {
        let text = text.to_ascii_lowercase();
        let tries = Name::parse(&text).and_then(|name| name.tries);
        let id = match tries {
            Some(_) => format!("{}.efi", text.split('+').next().unwrap_or_default()),
            None => text,
        };
        (id, tries.map(|(left, _)| left))
    };
    let ((id_a, left_a), (id_b, left_b)) = (key(a), key(b));
    (left_a == Some(0))
        .cmp(&(left_b == Some(0)))
        .then_with(|| version::order(&id_b, &id_a))
        .then_with(|| left_a.is_some().cmp(&left_b.is_some()))
        .then_with(|| left_b.cmp(&left_a))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_only_as_it_is_written() {
        let name = |number, tries| Some(Name { number, tries });
        for (text, expected) in [
            ("p1.efi", name(1, None)),
            ("p9999+3-0.efi", name(9999, Some((3, 0)))),
            ("p14+0-3.efi", name(14, Some((0, 3)))),
            ("p0.efi", None),
            ("p01.efi", None),
            ("p10000.efi", None),
            ("p1+3.efi", None),
            ("p1+3-.efi", None),
            ("p1+-3-0.efi", None),
            ("p1+300-0.efi", None),
            ("P1.efi", None),
            ("p1.EFI", None),
            ("p.efi", None),
            ("p1", None),
            ("", None),
        ] {
            assert_eq!(Name::parse(text), expected, "{text}");
        }
    }

    #[test]
    fn the_loader_takes_the_newest_that_is_not_bad() {
        for names in [
            ["p2.efi", "p1.efi"],
            ["p10.efi", "p9.efi"],
            ["p2+3-0.efi", "p1.efi"],
            ["p1.efi", "p2+0-3.efi"],
            ["p3+0-1.efi", "p2+0-3.efi"],
            ["p2.efi", "p2+2-1.efi"],
            ["p2+3-0.efi", "p2+2-1.efi"],
            ["p14_2-~1.EFI", "p9.efi"],
            ["slotb.efi", "p9999.efi"],
        ] {
            assert_eq!(order(names[0], names[1]), Ordering::Less, "{names:?}");
            assert_eq!(order(names[1], names[0]), Ordering::Greater, "{names:?}");
        }
        assert!(boots("P1.EFI") && !boots("SLOTB.OFF") && !boots(".efi") && !boots("aéefi"));
    }
}
