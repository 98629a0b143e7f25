//! The contract of the Pod API, proved by real programs: Prosody of either version, pod-api and front
//! on this host, and real clients.
//!
//! Appendix C of the contract has 32 points. Each is a test whose name begins with its number:
//!
//! | points | where |
//! |---|---|
//! | 2 to 5, 24 | `start.rs` |
//! | 1, 6, 8, 20 | `sign_in.rs` |
//! | 7, 10 to 15 | `members.rs` |
//! | 9, 25 to 27 | `invitations.rs` |
//! | 16 | `workspace.rs` |
//! | 17, 18 | `config.rs` |
//! | 21 to 23 | `network.rs`; with a world that answers, `src/pod-api/contract/network.rs` |
//! | 28 | `backups.rs`; with power cuts, in a machine, `tests/stories/` |
//! | 19, 29 to 32 | `robust.rs`; 29 in a machine, `tests/stories/` |

mod backups;
mod config;
mod document;
mod invitations;
mod load;
mod members;
mod network;
mod robust;
mod setup;
mod sign_in;
mod start;
mod workspace;

use appliance::settings::Prosody;

/// The older of both.
const OLDER: Prosody = Prosody::V0_12;
/// What a demoted admin's token of before is good for.
const AFTER_DEMOTION: (u16, &str) = (403, "forbidden");
