//! An image onto a disk: what may be written over, and how it gets there.
//!
//! | file | its job |
//! |---|---|
//! | `host` | finds out what this machine does with a block device |
//! | `refuse` | says what must not be written over, and why: pure |
//! | `target` | the opened device or file |
//! | `pass` | writes, reads back, in an order that a cut does no harm to |

pub mod host;
pub mod pass;
pub mod refuse;
pub mod target;
