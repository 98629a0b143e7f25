//! How much memory the machine has and takes, by the kernel's own count.

use std::fmt::Display;
use std::fs;

use appliance::control::Memory;
use nix::unistd::{SysconfVar, sysconf};

/// Now. What the kernel doesn't tell is 0.
pub fn now() -> Memory {
    let counts = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    Memory { init: resident_of("self").unwrap_or_default(), ..parse(&counts) }
}

/// The resident set of a process, in bytes.
pub fn resident_of(process: impl Display) -> Option<u64> {
    let pages = fs::read_to_string(format!("/proc/{process}/statm")).ok()?;
    let page = sysconf(SysconfVar::PAGE_SIZE).ok().flatten();
    Some(resident(&pages) * page.and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or(4096))
}

/// Of lines `MemTotal:  1010816 kB`; see proc_meminfo(5).
fn parse(counts: &str) -> Memory {
    let of = |name: &str| {
        let rest = counts.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let kib = rest.and_then(|rest| rest.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        kib.unwrap_or_default() * 1024
    };
    Memory {
        total: of("MemTotal"),
        free: of("MemFree"),
        available: of("MemAvailable"),
        cached: of("Cached"),
        init: 0,
    }
}

/// The second number of proc_pid_statm(5), in pages.
fn resident(pages: &str) -> u64 {
    pages.split(' ').nth(1).and_then(|count| count.parse().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_counts_are_understood() {
        let counts = "MemTotal:         500 kB\nMemFree:    100 kB\nMemAvailable: 350 kB\n\
                      Buffers:   7 kB\nCached: 150 kB\nSwapCached: 9 kB\nHugePages_Total:  0\n";
        let expected = Memory { total: 500, free: 100, available: 350, cached: 150, init: 0 };
        let kib = |bytes: u64| bytes / 1024;
        let Memory { total, free, available, cached, init } = parse(counts);
        let parsed = Memory {
            total: kib(total),
            free: kib(free),
            available: kib(available),
            cached: kib(cached),
            init,
        };
        assert_eq!(parsed, expected);
        assert_eq!(parse("torn"), Memory::default());
    }

    #[test]
    fn this_process_takes_some() {
        let now = now();
        assert!(now.init > 0 && now.init < now.total && now.free < now.total, "{now:?}");
        assert_eq!((resident("9 4 3 2 0 5 0"), resident("")), (4, 0));
    }
}
