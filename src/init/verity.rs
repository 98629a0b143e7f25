//! Opens a slot through dm-verity: from then on the kernel checks every block that is read.
//!
//! Device-mapper is driven by ioctls on one control device. Each carries a message: a header of 312
//! bytes (`struct dm_ioctl`) and, to load a table, one target (`struct dm_target_spec`, then its
//! parameters). Layout: `include/uapi/linux/dm-ioctl.h` in the kernel.

use std::fs::File;
use std::path::PathBuf;

use appliance::verity::{BLOCK, Geometry};

use crate::slot::Slot;
use crate::sys;
use appliance::failure::{Failure, OrCannot as _};

const CONTROL: &str = "/dev/mapper/control";
/// The device's name; what the kernel's messages call it.
const NAME: &[u8] = b"root";
const SECTOR: u64 = 512;

/// Commands, by the number that the ioctl carries.
const CREATE: u8 = 3;
const SUSPEND: u8 = 6;
const STATUS: u8 = 7;
const LOAD: u8 = 9;

/// `DM_READONLY_FLAG` and `DM_ACTIVE_PRESENT_FLAG`.
const READ_ONLY: u32 = 1;
const ACTIVE: u32 = 1 << 5;

/// Opens `slot` as the root that `geometry` pins; returns the device to mount.
pub fn open(slot: &Slot, geometry: &Geometry) -> Result<PathBuf, Failure> {
    let control = File::options().read(true).write(true).open(CONTROL);
    let control = control.or_cannot(format_args!("open {CONTROL}"))?;
    let target = Target {
        sectors: geometry.data_blocks * (BLOCK as u64 / SECTOR),
        parameters: geometry.table(&slot.number),
    };
    let send = |step: &str, command: u8, mut message: Message| {
        let sent = sys::device_mapper(&control, command, &mut message.0).map(|()| message);
        sent.or_cannot(format_args!("open {} with dm-verity ({step})", slot.name))
    };
    send("create the device", CREATE, Message::new(READ_ONLY))?;
    send("load the table", LOAD, Message::with_target(READ_ONLY, &target))?;
    // Suspend without its flag is resume: the table becomes the active one.
    send("activate the table", SUSPEND, Message::new(0))?;
    let status = send("read the status", STATUS, Message::new(0))?;
    if status.flags() & (READ_ONLY | ACTIVE) != READ_ONLY | ACTIVE {
        let cause = format!("the device isn't active and read-only: flags {:#x}", status.flags());
        return Err(Failure::new(format_args!("open {} with dm-verity", slot.name), cause));
    }
    Ok(PathBuf::from(format!("/dev/dm-{}", status.minor())))
}

/// What maps the device's sectors.
struct Target {
    sectors: u64,
    parameters: String,
}

/// A `struct dm_ioctl` and what follows it.
struct Message(Vec<u8>);

impl Message {
    /// Length of `struct dm_ioctl`, and where what follows it starts.
    const HEADER: usize = 312;
    /// Room for the fields before `name`, and for `name`.
    const BEFORE_NAME: usize = 48;

    /// For the device [`NAME`], without a target.
    fn new(flags: u32) -> Message {
        Message::build(flags, 0, &[])
    }

    /// With the one target of its table.
    fn with_target(flags: u32, target: &Target) -> Message {
        let mut spec = vec![];
        spec.extend(0u64.to_ne_bytes()); // first sector
        spec.extend(target.sectors.to_ne_bytes());
        spec.extend([0; 8]); // status; offset of the next target: there is none
        spec.extend(b"verity\0\0\0\0\0\0\0\0\0\0");
        spec.extend(target.parameters.as_bytes());
        spec.push(0);
        spec.resize(spec.len().next_multiple_of(8), 0);
        Message::build(flags, 1, &spec)
    }

    fn build(flags: u32, targets: u32, spec: &[u8]) -> Message {
        let length = (Message::HEADER + spec.len()) as u32;
        let header = Message::HEADER as u32;
        let mut bytes = vec![];
        // Version; data_size; data_start; target_count; open_count; flags; event_nr; padding.
        for word in [4, 0, 0, length, header, targets, 0, flags, 0, 0] {
            bytes.extend(word.to_ne_bytes());
        }
        bytes.resize(Message::BEFORE_NAME, 0); // dev, which the kernel fills in
        bytes.extend(NAME);
        bytes.resize(Message::HEADER, 0);
        bytes.extend(spec);
        Message(bytes)
    }

    fn flags(&self) -> u32 {
        u32::from_ne_bytes(self.field(28))
    }

    /// Of the device number, in the kernel's encoding: the minor's low byte, the major, the rest.
    fn minor(&self) -> u64 {
        let device = u64::from_ne_bytes(self.field(40));
        device & 0xff | device >> 12 & 0xfff00
    }

    fn field<const N: usize>(&self, at: usize) -> [u8; N] {
        let bytes = self.0.get(at..at + N).and_then(|bytes| bytes.try_into().ok());
        bytes.unwrap_or([0; N])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_laid_out_as_the_kernel_reads_it() {
        let target = Target { sectors: 2400, parameters: "1 254:2".into() };
        let message = Message::with_target(READ_ONLY, &target);
        let word = |at| u32::from_ne_bytes(message.field(at));
        assert_eq!([word(0), word(12), word(16), word(20)], [4, 312 + 48, 312, 1]);
        assert_eq!(message.flags(), READ_ONLY);
        assert_eq!(&message.0[48..53], b"root\0");
        assert_eq!(u64::from_ne_bytes(message.field(312 + 8)), 2400);
        assert_eq!(&message.0[312 + 24..312 + 40], b"verity\0\0\0\0\0\0\0\0\0\0");
        assert_eq!(&message.0[312 + 40..], b"1 254:2\0");
        assert_eq!(message.0.len(), 312 + 48);
    }

    #[test]
    fn a_device_number_is_decoded() {
        for (device, minor) in [(0xfd00u64, 0), (0xfd03, 3), (0x0010_fd00, 0x100)] {
            let mut message = Message::new(0);
            message.0[40..48].copy_from_slice(&device.to_ne_bytes());
            assert_eq!(message.minor(), minor, "{device:#x}");
        }
    }
}
