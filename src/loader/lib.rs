//! What firmware starts at UEFI's fallback path. It starts systemd-boot, which lies on the same
//! volume, and restarts the machine when that comes back, for whatever reason: a system that can't
//! be loaded has used one of its tries then, and the next start may choose another. One that was
//! good, and rots, has no tries to use: then the other system is started, if that was good, before
//! the machine restarts. Firmware itself would go on to the network, to a menu or to a shell, and
//! wait there.
//!
//! ```text
//! firmware ─► stele-loader ─ LoadImage, StartImage ─► \EFI\systemd\sd.efi ─► UKI ─┐
//!                  ├─ once more, for the other ◄── no try was taken off ────────────┤
//!                  └─ ResetSystem ◄───────────────────────────────── it comes back ──┘
//! ```
//!
//! The program is `main.rs`, compiled by `stele programs`, which makes a PE file of it. Such a file
//! has no relocations, so nothing here may hold an address: no table of functions, no string that
//! is pointed to, and no panic.

#![no_std]

mod device_path;
mod entries;
mod firmware;

pub use firmware::run;
