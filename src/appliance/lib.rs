//! The nouns that Stele's programs share.
//!
//! The builder writes them, `stele-init` and the servers read them, tests check them. Everything
//! here is a value or a pure function: no process, no network, no file is touched.

pub mod backup;
pub mod boot;
pub mod boot_record;
pub mod bundle;
pub mod control;
pub mod esp;
pub mod failure;
pub mod gpt;
pub mod hash;
pub mod name;
pub mod probe;
pub mod secret;
pub mod seed;
pub mod service;
pub mod settings;
pub mod trial_word;
pub mod upgrade;
pub mod verity;
pub mod version;
