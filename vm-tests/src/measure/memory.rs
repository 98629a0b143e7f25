//! How much memory the system takes while the Server serves, by the kernel's own count.

use std::collections::BTreeMap;

use serde::Serialize;
use vm_tests::console::Line;
use vm_tests::images::Image;
use vm_tests::machine::Machine;
use vm_tests::{BOOT, SOON};

/// Memory of a machine, in KiB.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Use {
    /// What the machine has, in MiB.
    pub machine_mib: u32,
    /// What the kernel manages of it.
    pub total_kib: u64,
    /// Total − free − cached.
    pub used_kib: u64,
    /// Total − available: with what could not be freed at once.
    pub unavailable_kib: u64,
    /// All that the kernel counts.
    pub counts_kib: BTreeMap<String, u64>,
}

/// Boots machines with 1 GiB and with 512 MiB. What prints the figures is counted too.
pub fn measure() -> Vec<Use> {
    let image = Image::with_layers(&["test-meminfo"]);
    [1024, 512]
        .into_iter()
        .map(|machine_mib| {
            eprintln!("memory: {machine_mib} MiB");
            let vm = Machine::direct(&image).memory(machine_mib).start();
            vm.stream_reply("prose.local", BOOT);
            vm.wait_for("stele-init: service meminfo: done", SOON);
            Use::of(machine_mib, &vm.lines_with("meminfo: "))
        })
        .collect()
}

impl Use {
    fn of(machine_mib: u32, lines: &[Line]) -> Use {
        let entries = lines.iter().filter_map(|line| {
            let (name, value) = line.rest_after("meminfo: ")?.split_once(':')?;
            Some((name.to_owned(), value.trim().strip_suffix(" kB")?.parse().ok()?))
        });
        let entries: BTreeMap<String, u64> = entries.collect();
        let of =
            |name: &str| *entries.get(name).unwrap_or_else(|| panic!("no {name} in {entries:?}"));
        Use {
            machine_mib,
            total_kib: of("MemTotal"),
            used_kib: of("MemTotal") - of("MemFree") - of("Cached"),
            unavailable_kib: of("MemTotal") - of("MemAvailable"),
            counts_kib: entries,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_kernels_count_is_understood() {
        let line = |text: &str| Line {
            number: 0,
            at: Duration::ZERO,
            cpu: Duration::ZERO,
            text: format!("[    4.2] meminfo: {text}"),
        };
        let lines = [
            "MemTotal:         500 kB",
            "MemFree:    100 kB",
            "MemAvailable: 350 kB",
            "Cached: 150 kB",
            "HugePages_Total:       0",
        ];
        let used = Use::of(1, &lines.map(line));
        assert_eq!((used.total_kib, used.used_kib, used.unavailable_kib), (500, 250, 150));
        assert_eq!(used.counts_kib.len(), 4, "{used:?}");
    }
}
