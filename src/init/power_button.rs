//! The machine's power button, which is an input device; a hypervisor's "shut down" presses it.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::mem;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt as _;

use crate::sys;

const INPUT_DEVICES: &str = "/dev/input";
const EV_KEY: u16 = 1;
const KEY_POWER: u16 = 116;
/// Bytes in a `struct input_event`: a time, then type, code and value.
const EVENT: usize = mem::size_of::<libc::input_event>();

/// An input device with a power key.
#[derive(Debug)]
pub struct PowerButton(File);

/// All of them that the machine has.
pub fn find() -> Vec<PowerButton> {
    let devices = fs::read_dir(INPUT_DEVICES).into_iter().flatten().flatten();
    let devices =
        devices.filter(|device| device.file_name().as_encoded_bytes().starts_with(b"event"));
    let open = |path| File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path);
    let files = devices.filter_map(|device| open(device.path()).ok());
    files.filter(|file| sys::has_key(file, KEY_POWER)).map(PowerButton).collect()
}

impl PowerButton {
    /// Was it pressed since the last time? `Err`: the device has gone.
    pub fn was_pressed(&mut self) -> io::Result<bool> {
        let mut events = [0; 64 * EVENT];
        let length = self.0.read(&mut events)?;
        Ok(events.get(..length).is_some_and(|events| events.chunks_exact(EVENT).any(is_press)))
    }
}

impl AsFd for PowerButton {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Is this `struct input_event` the power key going down?
fn is_press(event: &[u8]) -> bool {
    let Some((_, [t0, t1, c0, c1, value @ ..])) = event.split_last_chunk::<8>() else {
        return false;
    };
    u16::from_ne_bytes([*t0, *t1]) == EV_KEY
        && u16::from_ne_bytes([*c0, *c1]) == KEY_POWER
        && i32::from_ne_bytes(*value) == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_power_key_going_down_counts() {
        for (kind, code, value, expected) in
            [(1u16, 116u16, 1i32, true), (1, 116, 0, false), (1, 30, 1, false), (0, 0, 0, false)]
        {
            let mut event = vec![0; EVENT - 8];
            event.extend(kind.to_ne_bytes());
            event.extend(code.to_ne_bytes());
            event.extend(value.to_ne_bytes());
            assert_eq!(is_press(&event), expected, "{kind} {code} {value}");
        }
        assert!(!is_press(&[]));
    }
}
