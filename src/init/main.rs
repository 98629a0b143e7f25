//! PID 1 of a Stele appliance.
//!
//! One static program in three roles: `/init` in the initrd ([`initrd`]: from the kernel to a
//! verified root), the same in the root ([`root`]: mounts, network, services), and small children
//! of the latter with no rights ([`dhcp`]).

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

mod cgroup;
mod clock;
mod dhcp;
mod end;
mod event_loop;
mod failure;
mod initrd;
mod launch;
mod lifecycle;
mod log;
mod modules;
mod mounts;
mod network;
mod output;
mod power_button;
mod probe;
mod root;
mod slot;
mod supervisor;
mod switch_root;
mod sys;
mod sysctl;
mod verity;
mod volumes;
mod worker;

use std::path::Path;

use appliance::boot::INITRD_FILE;

fn main() {
    // PID 1 takes no arguments: the kernel hands it whatever firmware put on the command line.
    if std::process::id() == 1 {
        let failure = match Path::new(INITRD_FILE).exists() {
            true => initrd::run(),
            false => root::run(),
        };
        end::fail(&failure)
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["dhcp", interface] => dhcp::child::run(interface),
        _ => {
            eprintln!("stele-init is PID 1 of an appliance; nobody else runs it");
            std::process::exit(2)
        }
    }
}
