//! Which system is started when the one that was chosen can't be (the loader's list: UTF-16, each
//! name ended by a zero; a system that was blessed is `pN.efi`, one on trial has a `+`).

/// Units of the longest list and name that are looked at: two systems, and what firmware offers.
pub const LONGEST: usize = 512;

/// The first that was blessed and isn't `failed`, with its end. `None`: there is none.
pub fn other<'a>(listed: &'a [u16], failed: &[u16]) -> Option<&'a [u16]> {
    listed.split_inclusive(|unit| *unit == 0).find(|name| {
        let is_whole = name.last() == Some(&0);
        let is_system = name.first() == Some(&u16::from(b'p'));
        let is_blessed = is_system && !name.contains(&u16::from(b'+'));
        is_whole && is_blessed && !name.iter().eq(failed)
    })
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::string::String;
    use std::vec::Vec;

    use super::*;

    fn units(text: &str) -> Vec<u16> {
        text.encode_utf16().collect()
    }

    #[test]
    fn the_first_other_that_was_blessed_is_next() {
        for (listed, failed, expected) in [
            ("p2.efi\0p1.efi\0", "p2.efi\0", Some("p1.efi\0")),
            ("p1.efi\0p2.efi\0", "p2.efi\0", Some("p1.efi\0")),
            // Its try could not be counted.
            ("p3+3-0.efi\0p1.efi\0auto-reboot\0", "p3+3-0.efi\0", Some("p1.efi\0")),
            ("p2.efi\0p1+0-3.efi\0", "p2.efi\0", None),
            ("p2.efi\0p3+2-1.efi\0", "p2.efi\0", None),
            ("p2.efi\0auto-efi-shell\0auto-poweroff\0", "p2.efi\0", None),
            ("p2.efi\0", "p2.efi\0", None),
            ("p2.efi\0p1.efi", "p2.efi\0", None),
            ("", "", None),
        ] {
            let (all, failed) = (units(listed), units(failed));
            let found = other(&all, &failed).map(String::from_utf16_lossy);
            assert_eq!(found.as_deref(), expected, "{listed:?}");
        }
    }
}
