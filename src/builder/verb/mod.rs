//! One file a verb of `stele`.

pub mod build;
pub mod bundle;
pub mod flash;
pub mod key;
pub mod lock;
pub mod programs;
pub mod rollback;
pub mod run;
pub mod seed;
pub mod show;
pub mod upgrade;
pub mod why;
