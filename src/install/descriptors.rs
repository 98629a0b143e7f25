//! Open files that a parent left at agreed numbers.

#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::{BorrowedFd, FromRawFd as _, RawFd};

use nix::fcntl::{FcntlArg, fcntl};

/// The file at this number, above the standard ones. To be called once for each, at the start.
pub fn take(number: RawFd) -> io::Result<File> {
    // SAFETY: only asked whether it is open, which is an answer for any number.
    fcntl(unsafe { BorrowedFd::borrow_raw(number) }, FcntlArg::F_GETFD)?;
    // SAFETY: it is open, and nothing else in this program has it: it was there at the start.
    Ok(unsafe { File::from_raw_fd(number) })
}
