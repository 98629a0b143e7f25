//! What is asked of firmware. All `unsafe` code is here and in `main.rs`: whoever speaks to
//! firmware follows its pointers.

#![allow(unsafe_code)]

use core::ffi::c_void;
use core::mem::MaybeUninit;
use core::{ptr, slice};

use r_efi::efi::{
    BootServices, Char16, Guid, Handle, RESET_COLD, RuntimeServices, Status, SystemTable,
    VARIABLE_BOOTSERVICE_ACCESS, VARIABLE_RUNTIME_ACCESS,
};
use r_efi::protocols::{device_path, loaded_image};

use crate::device_path::{HEADER, LONGEST, Node, join};
use crate::entries;

/// systemd-boot, on the volume that this program was loaded from.
static NEXT: [u16; 20] = wide(b"\\EFI\\systemd\\sd.efi\0");
/// systemd's, of the variables by which systemd-boot tells and is told.
static VENDOR: Guid = Guid::from_fields(
    0x4a67_b082,
    0x0a4c,
    0x41cf,
    0xb6,
    0xc7,
    &[0x44, 0x0b, 0x29, 0xbb, 0x8c, 0x4f],
);
/// All that it lists.
static LISTED: [u16; 14] = wide(b"LoaderEntries\0");
/// What it has tried to start.
static SELECTED: [u16; 20] = wide(b"LoaderEntrySelected\0");
/// Where that is, if a try was taken off it.
static COUNTED: [u16; 20] = wide(b"LoaderBootCountPath\0");
/// What it starts next, in place of the newest.
static ONCE: [u16; 19] = wide(b"LoaderEntryOneShot\0");
/// What a person reads, behind systemd-boot's own words.
static OTHER: [u16; 59] = wide(b"stele-loader: this system can't be started; the other is\r\n\0");
static CAME_BACK: [u16; 56] = wide(b"stele-loader: nothing was started; the machine resets\r\n\0");

/// Starts systemd-boot, and restarts the machine when that comes back: at once if a try was taken
/// off what it could not start. If not, the next start would be the same, so the other system is
/// started, if there is one that was good. What tells systemd-boot so is gone with the reset.
///
/// # Safety
/// `image` is this program's handle, and `system` firmware's table; no operating system has taken
/// over.
pub unsafe fn run(image: Handle, system: *const SystemTable) -> ! {
    // SAFETY: firmware keeps its tables as long as boot services are there (UEFI 2.10, 4.3).
    let (system, boot, runtime) =
        unsafe { (&*system, &*(*system).boot_services, &*(*system).runtime_services) };
    // SAFETY: as above. Whatever has gone wrong, one thing is left to do.
    unsafe {
        let _ = start_next(boot, image);
        if choose_other(runtime).is_some() {
            say(system, &OTHER);
            let _ = start_next(boot, image);
        }
        say(system, &CAME_BACK);
    }
    loop {
        // SAFETY: it doesn't return, and takes no data for a cold reset (8.5.1).
        unsafe { (runtime.reset_system)(RESET_COLD, Status::SUCCESS, 0, ptr::null_mut()) };
    }
}

/// Returns when systemd-boot does, or can't be started. `None`: firmware says that it can't.
///
/// # Safety
/// As [`run`]'s.
unsafe fn start_next(boot: &BootServices, image: Handle) -> Option<()> {
    // SAFETY: each pointer comes from firmware, which keeps what it points to while this program
    // runs (7.3.7); `path` outlives the call that reads it (7.4.1).
    unsafe {
        let own: *const loaded_image::Protocol =
            protocol(boot, image, loaded_image::PROTOCOL_GUID)?;
        let volume = protocol(boot, (*own).device_handle, device_path::PROTOCOL_GUID)?;
        let mut room = [const { MaybeUninit::uninit() }; LONGEST];
        let path = join(nodes(volume)?, &NEXT, &mut room)?.cast();
        let mut next: Handle = ptr::null_mut();
        let loaded = (boot.load_image)(false.into(), image, path, ptr::null_mut(), 0, &mut next);
        done(loaded)?;
        done((boot.start_image)(next, ptr::null_mut(), ptr::null_mut()))
    }
}

/// Has systemd-boot start the other system. `None`: there is none, or a try was taken off this one.
///
/// # Safety
/// `runtime` is firmware's.
unsafe fn choose_other(runtime: &RuntimeServices) -> Option<()> {
    let (mut one, mut two) = ([MaybeUninit::uninit(); _], [MaybeUninit::uninit(); _]);
    // SAFETY: as this function's; firmware copies what it is given (8.2.3).
    unsafe {
        if variable(runtime, &COUNTED, &mut one).is_some() {
            return None;
        }
        let failed = variable(runtime, &SELECTED, &mut one)?;
        let other = entries::other(variable(runtime, &LISTED, &mut two)?, failed)?;
        let (name, mut vendor) = (ONCE.as_ptr().cast_mut(), VENDOR);
        let (bytes, value) = (size_of_val(other), other.as_ptr().cast_mut().cast());
        let kind = VARIABLE_BOOTSERVICE_ACCESS | VARIABLE_RUNTIME_ACCESS;
        done((runtime.set_variable)(name, &mut vendor, kind, bytes, value))
    }
}

/// What systemd-boot has told. `None`: nothing, or more than there is room for.
///
/// # Safety
/// `runtime` is firmware's; `name` ends with a zero.
unsafe fn variable<'a>(
    runtime: &RuntimeServices,
    name: &[Char16],
    room: &'a mut [MaybeUninit<u16>; entries::LONGEST],
) -> Option<&'a [u16]> {
    let (name, mut vendor) = (name.as_ptr().cast_mut(), VENDOR);
    let (mut bytes, value) = (size_of_val(room), room.as_mut_ptr());
    let none = ptr::null_mut();
    // SAFETY: firmware writes as many bytes as there is room for, and says how many (8.2.1).
    unsafe {
        done((runtime.get_variable)(name, &mut vendor, none, &mut bytes, value.cast()))?;
        Some(slice::from_raw_parts(value.cast(), bytes / size_of::<u16>()))
    }
}

/// Shows a text that ends with a zero.
///
/// # Safety
/// `system` is firmware's.
unsafe fn say(system: &SystemTable, text: &[Char16]) {
    let console = system.con_out;
    if !console.is_null() {
        // SAFETY: firmware only reads the text (12.4.3).
        unsafe { ((*console).output_string)(console, text.as_ptr().cast_mut()) };
    }
}

/// A protocol of a handle (7.3.7).
///
/// # Safety
/// `boot` is firmware's.
unsafe fn protocol<T>(boot: &BootServices, handle: Handle, mut id: Guid) -> Option<*const T> {
    let mut found: *mut c_void = ptr::null_mut();
    // SAFETY: firmware checks the handle, and writes to what it is given.
    done(unsafe { (boot.handle_protocol)(handle, &mut id, &mut found) })?;
    (!found.is_null()).then(|| found.cast_const().cast())
}

/// The nodes of a device path, without its end. `None`: it makes no sense, or has no end.
///
/// # Safety
/// `path` points to one.
unsafe fn nodes<'a>(path: *const u8) -> Option<&'a [u8]> {
    let mut length: usize = 0;
    while length <= LONGEST {
        // SAFETY: the node before has told where this one is; they lie at any address.
        match Node::read(unsafe { path.add(length).cast::<[u8; HEADER]>().read_unaligned() })? {
            // SAFETY: all of it has been walked over.
            Node::End => return Some(unsafe { slice::from_raw_parts(path, length) }),
            Node::Inner(further) => length = length.checked_add(further)?,
        }
    }
    None
}

fn done(status: Status) -> Option<()> {
    (!status.is_error()).then_some(())
}

/// ASCII as UTF-16, which is what UEFI reads.
const fn wide<const N: usize>(text: &[u8; N]) -> [u16; N] {
    let mut units = [0; N];
    let mut at = 0;
    while at < N {
        units[at] = text[at] as u16;
        at += 1;
    }
    units
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_walked_to_its_end_and_no_further() {
        let walked = |path: &[u8]| {
            // SAFETY: each row ends, or makes no sense, before it is over.
            unsafe { nodes(path.as_ptr()) }.map(<[u8]>::len)
        };
        assert_eq!(walked(&[0x7f, 0xff, 4, 0]), Some(0));
        assert_eq!(
            walked(&[2, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 5, 0, 9, 0x7f, 0xff, 4, 0]),
            Some(17)
        );
        assert_eq!(walked(&[1, 1, 3, 0]), None);
        assert_eq!(walked(&[1, 1, 0xff, 0xff]), None);
    }

    #[test]
    fn texts_are_what_firmware_reads() {
        for text in [&NEXT[..], &LISTED, &SELECTED, &COUNTED, &ONCE, &OTHER, &CAME_BACK] {
            assert_eq!(text.iter().position(|unit| *unit == 0), Some(text.len() - 1));
        }
        assert!(NEXT[..5].iter().zip(b"\\EFI\\").all(|(unit, byte)| *unit == u16::from(*byte)));
    }
}
