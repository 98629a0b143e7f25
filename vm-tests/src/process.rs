//! What the kernel of this host tells about a process.

use std::fs;
use std::time::Duration;

/// CPU time that a process has taken, in user and kernel mode (proc(5), fields 14 and 15 of stat).
pub fn cpu_time(pid: u32) -> Option<Duration> {
    /// The unit of those fields, the same on every Linux.
    const TICKS_PER_SECOND: u64 = 100;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before may hold blanks and parentheses.
    let (_, fields) = stat.rsplit_once(") ")?;
    let ticks = fields.split(' ').skip(11).take(2).map(|field| field.parse::<u64>().unwrap_or(0));
    Some(Duration::from_millis(ticks.sum::<u64>() * 1000 / TICKS_PER_SECOND))
}

/// The resident set of a process, in KiB.
pub fn resident_kib(pid: u32) -> Option<u64> {
    status_kib(pid, "VmRSS:")
}

/// The largest that it has been, in KiB.
pub fn peak_kib(pid: u32) -> Option<u64> {
    status_kib(pid, "VmHWM:")
}

fn status_kib(pid: u32, field: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let value = status.lines().find_map(|line| line.strip_prefix(field))?;
    value.trim().strip_suffix(" kB")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn a_process_is_somewhere() {
        assert!(resident_kib(std::process::id()).unwrap() > 100);
        let resident = resident_kib(std::process::id());
        assert!(peak_kib(std::process::id()) >= resident);
        assert_eq!(resident_kib(u32::MAX), None);
    }

    #[test]
    fn the_cpu_time_of_a_process_grows() {
        let own = || cpu_time(std::process::id()).unwrap();
        let before = own();
        let deadline = Instant::now() + Duration::from_secs(20);
        while own() < before + Duration::from_millis(20) {
            assert!(Instant::now() < deadline, "{:?} after {before:?}", own());
        }
    }
}
