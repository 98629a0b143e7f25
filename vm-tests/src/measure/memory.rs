//! How much memory the system takes while the Server serves, by the kernel's own count.

use std::collections::BTreeMap;

use serde::Serialize;
use vm_tests::console::{DENYLIST, Line};
use vm_tests::images::Image;
use vm_tests::machine::Machine;
use vm_tests::{BOOT, SOON};

/// In MiB: where the search for the smallest memory begins and ends, and how it goes.
const MOST: u32 = 128;
const LEAST: u32 = 48;
const STEP: usize = 8;

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

/// The least memory, in MiB and in steps of [`STEP`], with which the shipped image serves.
pub fn smallest() -> Option<u32> {
    let image = Image::release();
    let mut smallest = None;
    for machine_mib in (LEAST..=MOST).rev().step_by(STEP) {
        eprintln!("memory: does it serve with {machine_mib} MiB?");
        // With too little, a machine may show any trouble.
        let machine = DENYLIST.iter().fold(Machine::direct(&image), |m, trouble| m.expect(trouble));
        let vm = machine.memory(machine_mib).deadline(BOOT).start();
        if vm.try_stream_reply("prose.local", BOOT).is_err() {
            break;
        }
        smallest = Some(machine_mib);
    }
    smallest
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
