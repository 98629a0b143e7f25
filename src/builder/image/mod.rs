//! From a tree to bytes on a disk. Nothing here knows of recipes, and nothing here decides what an
//! appliance is made of.

pub mod blocks;
pub mod cpio;
pub mod disk;
pub mod efi;
pub mod fat;
pub mod put;
pub mod qcow2;
pub mod squashfs;
pub mod uki;
