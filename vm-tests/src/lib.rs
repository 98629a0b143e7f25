//! The harness: boots the very image that is shipped, or a variant with probes in it, in QEMU;
//! breaks something; and says what the machine did about it.
//!
//! ```text
//! images: recipe + probe layers ─► stele ─► image ─┐
//! machine: which boot, how much memory, what is broken ─► QEMU ─► vm
//!                     console (its serial line) ─┐                 │
//!                     qmp (events, commands) ────┼─► watch ◄───────┘ every wait
//!                     peer (its network's rest) ─┘
//! ```
//!
//! | variable | else |
//! |---|---|
//! | `STELE` | the program `stele` of this checkout |
//! | `STELE_PROGRAMS` | the guest programs of this checkout |
//! | `STELE_RECIPES` | `recipes` of this checkout: with the locks, and layers beside it |
//! | `STELE_LONG` | minutes; set to anything: hours, of more states of a disk, mutants and power cuts |
//! | `STELE_PYTHON` | Debian's Python, which needs `python3-slixmpp`; the contract needs `schemathesis` |
//!
//! What is between programs needs no machine: [`server`] is a Server on this host, [`host`] a whole Pod.
//!
//! There is one way to wait, [`watch::Watch::wait`]: it names what it waits for, and ends at once
//! when that cannot come any more. Stories are in `tests/stories/`; what fails leaves a folder below
//! `target/vm-evidence` with the console, the disk and a script that starts the same machine.

pub mod altered;
pub mod client;
pub mod console;
pub mod cpio;
pub mod cuts;
pub mod data;
pub mod disk;
pub mod esp;
pub mod host;
pub mod http;
pub mod images;
pub mod initrd;
pub mod machine;
pub mod mutant;
pub mod oracle;
pub mod peer;
pub mod pod;
pub mod process;
pub mod qmp;
pub mod reads;
pub mod releases;
pub mod scratch;
pub mod server;
pub mod session;
pub mod table;
pub mod tiny;
pub mod uki;
pub mod upgrade;
pub mod vm;
pub mod watch;
pub mod writes;
pub mod xmpp;

use std::time::Duration;

/// The longest that a boot may take to whatever is awaited first: many times what it needs, since
/// the machine may be busy.
pub const BOOT: Duration = Duration::from_secs(60);
/// The longest that something may take in a machine that is up.
pub const SOON: Duration = Duration::from_secs(20);

/// Is this the long lane, for a night?
pub fn is_long() -> bool {
    std::env::var_os("STELE_LONG").is_some()
}
