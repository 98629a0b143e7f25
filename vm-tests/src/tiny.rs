//! Programs of a few instructions (x86-64), for the place of `stele-init`.

/// `exit(0)`.
pub const ENDS: &[u8] = b"\xb8\x3c\0\0\0\x31\xff\x0f\x05";
/// A write to address 0.
pub const FAULTS: &[u8] = b"\x31\xc0\x89\x00";

/// Where it lies in memory.
const ADDRESS: u64 = 0x40_0000;
const HEADERS: usize = 64 + 56;

/// An ELF file with this code, and nothing else.
pub fn program(code: &[u8]) -> Vec<u8> {
    let length = (HEADERS + code.len()) as u64;
    let mut file = b"\x7fELF\x02\x01\x01".to_vec();
    file.resize(16, 0);
    let halves = |file: &mut Vec<u8>, values: &[u16]| {
        values.iter().for_each(|value| file.extend(value.to_le_bytes()));
    };
    let words = |file: &mut Vec<u8>, values: &[u64]| {
        values.iter().for_each(|value| file.extend(value.to_le_bytes()));
    };
    // Executable, x86-64, version 1; entry, program headers, no sections, no flags.
    halves(&mut file, &[2, 62, 1, 0]);
    words(&mut file, &[ADDRESS + HEADERS as u64, 64, 0]);
    halves(&mut file, &[0, 0, 64, 56, 1, 0, 0, 0]);
    // One segment, of all of it: loaded, readable and executable.
    halves(&mut file, &[1, 0, 5, 0]);
    words(&mut file, &[0, ADDRESS, ADDRESS, length, length, 0x1000]);
    file.extend(code);
    file
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt as _;
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::Command;

    #[test]
    fn they_do_what_they_are_for() {
        let folder = tempfile::tempdir().unwrap();
        for (code, exit, signal) in [(ENDS, Some(0), None), (FAULTS, None, Some(11))] {
            let path = folder.path().join(format!("{signal:?}"));
            fs::write(&path, program(code)).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
            let status = Command::new(&path).status().unwrap();
            assert_eq!((status.code(), status.signal()), (exit, signal));
        }
    }
}
