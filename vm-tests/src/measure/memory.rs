//! How much memory the system takes while the Server serves, by the kernel's own count.

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
    /// PID 1's resident set.
    pub init_kib: u64,
    /// The same of each service's main process.
    pub services: Vec<Resident>,
}

/// A service.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Resident {
    /// Its name.
    pub name: String,
    /// The resident set of its main process.
    pub kib: u64,
}

/// Boots machines with 1 GiB and with 512 MiB. What prints the figures is counted too.
pub fn measure() -> Vec<Use> {
    let image = Image::pod("meminfo", &["test-trigger", "test-meminfo"], &[]);
    [1024, 512]
        .into_iter()
        .map(|machine_mib| {
            eprintln!("memory: {machine_mib} MiB");
            let vm = Machine::direct(&image).memory(machine_mib).start();
            vm.pod_serves();
            vm.make_admin();
            vm.stream_reply("prose.local", BOOT);
            vm.pull_trigger();
            vm.wait_for("stele-init: service meminfo: done", SOON);
            Use::of(machine_mib, &vm.lines_with("meminfo: ")).expect("no counts of memory")
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
    /// From the reply to `state`, whose counts are in bytes.
    fn of(machine_mib: u32, lines: &[Line]) -> Option<Use> {
        let memory = lines.iter().skip_while(|line| !line.text.ends_with("\"memory\": {"));
        let kib = |name: &str| -> Option<u64> {
            let mut values =
                memory.clone().filter_map(|line| line.rest_after(&format!("\"{name}\": ")));
            Some(values.next()?.trim_end_matches(',').parse::<u64>().ok()? / 1024)
        };
        Some(Use {
            machine_mib,
            total_kib: kib("total")?,
            used_kib: kib("total")? - kib("free")? - kib("cached")?,
            unavailable_kib: kib("total")? - kib("available")?,
            init_kib: kib("init")?,
            services: residents(lines),
        })
    }
}

/// Of services that have a process: keys of an object are in their order.
fn residents(lines: &[Line]) -> Vec<Resident> {
    let value = |line: &Line, key: &str| {
        let rest = line.rest_after(&format!("\"{key}\": "))?;
        Some(rest.trim_end_matches(',').trim_matches('"').to_owned())
    };
    let mut name = None;
    let mut services = vec![];
    for line in lines {
        name = value(line, "name").or(name);
        let kib = value(line, "resident").and_then(|bytes| bytes.parse::<u64>().ok());
        if let (Some(kib), Some(name)) = (kib, &name) {
            services.push(Resident { name: name.clone(), kib: kib / 1024 });
        }
    }
    services.retain(|service| service.name != "meminfo");
    services
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
        let counts = [
            "    \"free\": 7,",
            "    \"memory\": {",
            "      \"available\": 358400,",
            "      \"cached\": 153600,",
            "      \"free\": 102400,",
            "      \"init\": 2048,",
            "      \"total\": 512000",
            "    },",
            "    \"services\": [",
            "        \"name\": \"certificate\",",
            "        \"resident\": null,",
            "        \"name\": \"front\",",
            "        \"resident\": 2097152,",
        ];
        let used = Use::of(1, &counts.map(line)).unwrap();
        assert_eq!((used.total_kib, used.used_kib, used.unavailable_kib), (500, 250, 150));
        assert_eq!(used.init_kib, 2);
        assert_eq!(used.services, [Resident { name: "front".into(), kib: 2048 }]);
        assert!(
            Use::of(1, &counts[..4].iter().map(|text| line(text)).collect::<Vec<_>>()).is_none()
        );
    }
}
