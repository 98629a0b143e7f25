//! The program itself: its entry point, and what Rust asks of one that has no standard library.

#![no_std]
#![no_main]
#![allow(unsafe_code)] // firmware finds it by a symbol, and hands it pointers

use core::hint;
use core::panic::PanicInfo;

use r_efi::efi::{Handle, SystemTable};

/// What firmware calls (UEFI 2.10, 4.1).
#[unsafe(no_mangle)]
extern "efiapi" fn start(image: Handle, system: *const SystemTable) -> ! {
    // SAFETY: firmware hands over its own handle of this image and its table.
    unsafe { loader::run(image, system) }
}

/// Nothing here can panic: the builder refuses a program that has a message for it.
#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    loop {
        hint::spin_loop();
    }
}
