//! One file a verb of `stele`.

pub mod build;
pub mod lock;
pub mod programs;
pub mod show;
pub mod why;
