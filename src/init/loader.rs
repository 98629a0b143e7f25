//! What the loader and the stub of the UKI leave in UEFI's variables: which file was started, and
//! what a counted one is called since its try was taken off.

use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::path::Path;

use crate::log::warning;
use crate::upgrade::Passed;

const FOLDER: &str = "/sys/firmware/efi/efivars";
/// systemd's vendor GUID, under which both write.
const VENDOR: &str = "4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";
/// Of the stub: `\EFI\Linux\p14+2-1.efi`, the file that was started.
const STARTED: &str = "StubImageIdentifier";
/// Of the loader: the same, if it counted a try, by the name that it gave it for that.
const COUNTED: &str = "LoaderBootCountPath";
/// Where systems lie.
const PLACE: &str = "\\EFI\\Linux\\";
/// Attributes, in front of the value.
const ATTRIBUTES: usize = 4;
/// The most bytes of one that is looked at.
const LONGEST: u64 = 1024;

/// Reads both. The variables must be mounted: where they aren't, no loader was there.
pub fn passed() -> Passed {
    Passed { started: read(STARTED), counted: read(COUNTED) }
}

fn read(name: &str) -> Option<String> {
    let path = Path::new(FOLDER).join(format!("{name}-{VENDOR}"));
    let mut bytes = vec![];
    let read = File::open(&path).and_then(|file| file.take(LONGEST).read_to_end(&mut bytes));
    match read {
        Ok(_) => system(&bytes),
        Err(error) => {
            if error.kind() != ErrorKind::NotFound {
                warning!("cannot read the firmware's variable {name}: {error}");
            }
            None
        }
    }
}

/// The name of a file in [`PLACE`], of a variable with a path. `None`: it is something else.
fn system(variable: &[u8]) -> Option<String> {
    let (units, _) = variable.get(ATTRIBUTES..)?.as_chunks::<2>();
    let units = units.iter().map(|unit| u16::from_le_bytes(*unit)).take_while(|unit| *unit != 0);
    let path = char::decode_utf16(units).collect::<Result<String, _>>().ok()?;
    let (place, name) = path.split_at_checked(PLACE.len())?;
    let is_there = place.eq_ignore_ascii_case(PLACE) && !name.is_empty() && !name.contains('\\');
    is_there.then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variable(path: &str) -> Vec<u8> {
        let units = path.encode_utf16().chain([0]);
        [6, 0, 0, 0].into_iter().chain(units.flat_map(u16::to_le_bytes)).collect()
    }

    #[test]
    fn a_system_is_named_by_its_file() {
        for (path, expected) in [
            ("\\EFI\\Linux\\p14+2-1.efi", Some("p14+2-1.efi")),
            ("\\efi\\LINUX\\SLOTB.EFI", Some("SLOTB.EFI")),
            ("\\EFI\\BOOT\\BOOTX64.EFI", None),
            ("\\EFI\\Linux\\old\\p1.efi", None),
            ("\\EFI\\Linux\\", None),
            ("p1.efi", None),
            ("", None),
        ] {
            assert_eq!(system(&variable(path)).as_deref(), expected, "{path}");
        }
    }

    #[test]
    fn nothing_upsets_the_parser() {
        let good = variable("\\EFI\\Linux\\p1.efi");
        for length in 0..good.len() {
            system(&good[..length]);
        }
        // Half of a character.
        assert_eq!(system(&[6, 0, 0, 0, 0x5c, 0, 0, 0xd8, 0, 0]), None);
        let mut random = fastrand::Rng::with_seed(1);
        for _ in 0..20_000 {
            let mut bytes = good.clone();
            for _ in 0..3 {
                let at = random.usize(..bytes.len());
                bytes[at] = random.u8(..);
            }
            system(&bytes);
        }
    }
}
