//! Debian archives: signed indexes, packages, the mirrors that serve them and the store that keeps
//! every byte once fetched.

pub mod control;
pub mod fetch;
pub mod index;
pub mod mirror;
pub mod relation;
pub mod release;
pub mod source;
pub mod store;
pub mod version;
