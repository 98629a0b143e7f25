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

mod aside;
mod ask;
mod backup;
mod cgroup;
mod child;
mod clock;
mod configuration;
mod control;
mod credentials;
mod data;
mod dhcp;
mod direct;
mod end;
mod esp_device;
mod event_loop;
mod exchange;
mod gate;
mod health;
mod initrd;
mod jail;
mod journal;
mod keep;
mod kernel_log;
mod last_failure;
mod launch;
mod lifecycle;
mod loader;
mod log;
mod memory;
mod modules;
mod mounts;
mod network;
mod notify;
mod output;
mod power_button;
mod probe;
mod pulse;
mod random;
mod read_through;
mod render;
mod root;
mod second_net;
mod seed;
mod server_file;
mod slot;
mod supervisor;
mod switch_root;
mod sys;
mod sysctl;
mod systems;
mod time;
mod tool;
mod trial_word;
mod try_data;
mod upgrade;
mod verity;
mod volumes;
mod watchdog;
mod worker;

fn main() {
    // PID 1 takes no arguments: the kernel hands it whatever firmware put on the command line.
    if std::process::id() == 1 {
        let failure = match switch_root::is_initrd() {
            true => initrd::run(),
            false => root::run(),
        };
        end::fail(&failure)
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["dhcp", interface] => dhcp::child::run(interface),
        ["time", floor] => time::child::run(floor),
        ["control", request] => control::client::run(request),
        ["ask"] => ask::run(),
        ["render"] => render::run(),
        ["read"] => read_through::run(),
        ["try-data"] => try_data::run(),
        _ => {
            eprintln!("stele-init is PID 1 of an appliance; nobody else runs it");
            std::process::exit(2)
        }
    }
}

#[cfg(test)]
mod tests {
    /// What decides is apart from what does: these look at nothing but their arguments.
    const PURE: [(&str, &str); 21] = [
        ("aside/plan.rs", include_str!("aside/plan.rs")),
        ("backup.rs", include_str!("backup.rs")),
        ("configuration.rs", include_str!("configuration.rs")),
        ("control.rs", include_str!("control.rs")),
        ("data/content.rs", include_str!("data/content.rs")),
        ("gate.rs", include_str!("gate.rs")),
        ("health.rs", include_str!("health.rs")),
        ("lifecycle.rs", include_str!("lifecycle.rs")),
        ("supervisor.rs", include_str!("supervisor.rs")),
        ("upgrade.rs", include_str!("upgrade.rs")),
        ("upgrade/kept.rs", include_str!("upgrade/kept.rs")),
        ("upgrade/origin.rs", include_str!("upgrade/origin.rs")),
        ("upgrade/steady.rs", include_str!("upgrade/steady.rs")),
        ("upgrade/trace.rs", include_str!("upgrade/trace.rs")),
        ("upgrade/trial.rs", include_str!("upgrade/trial.rs")),
        ("dhcp/client.rs", include_str!("dhcp/client.rs")),
        ("dhcp/message.rs", include_str!("dhcp/message.rs")),
        ("time/client.rs", include_str!("time/client.rs")),
        ("time/keeper.rs", include_str!("time/keeper.rs")),
        ("time/message.rs", include_str!("time/message.rs")),
        ("network/netlink.rs", include_str!("network/netlink.rs")),
    ];

    /// Where PID 1 (or a child of its own) waits, and how often. Each has a deadline, which
    /// `watchdog.rs` lists: so should a new one.
    const WAITS: [(&str, usize); 8] = [
        ("data.rs", 1),
        ("dhcp/child.rs", 1),
        ("end.rs", 4),
        ("event_loop.rs", 2),
        ("slot.rs", 1),
        ("sys.rs", 1),
        ("time/child.rs", 1),
        ("tool.rs", 1),
    ];

    #[test]
    fn every_wait_is_known() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let (mut folders, mut found) = (vec![root.to_owned()], vec![]);
        while let Some(folder) = folders.pop() {
            for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                let text = std::fs::read_to_string(&path).unwrap();
                let code = text.split("#[cfg(test)]").next().unwrap();
                let is_wait = |line: &&str| {
                    [" sleep(", "> sleep(", " poll(", "nanosleep(", "ppoll(", "park("]
                        .iter()
                        .any(|call| line.contains(call))
                };
                let count = code.lines().filter(is_wait).count();
                if count > 0 {
                    let path = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
                    found.push((path, count));
                }
            }
        }
        found.sort();
        let found: Vec<(&str, usize)> = found.iter().map(|(p, n)| (p.as_str(), *n)).collect();
        assert_eq!(found, WAITS);
    }

    #[test]
    fn what_decides_calls_no_system() {
        for (file, text) in PURE {
            for system in ["nix::", "libc::", "std::fs", "std::io", "std::process", "crate::sys"] {
                assert!(!text.contains(system), "{file} mentions {system}");
            }
        }
    }
}
