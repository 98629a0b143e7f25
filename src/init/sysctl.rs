//! Settings of the kernel, for every appliance the same.

use std::fs;
use std::io::ErrorKind;

use crate::log::{detail, warning};

/// Path under `/proc/sys`, and value. A kernel without one of them is no reason not to boot.
const SETTINGS: &[(&str, &str)] = &[
    // A broken kernel reboots at once; a disk that answers nothing for ten minutes counts as such.
    ("kernel/panic_on_oops", "1"),
    ("kernel/hung_task_timeout_secs", "600"),
    ("kernel/hung_task_panic", "1"),
    // A service that took too much memory is named; a list of all processes helps nobody.
    ("vm/oom_dump_tasks", "0"),
    // What services overwrite is on the disk as soon as what they append (see `data.rs`).
    ("vm/dirty_expire_centisecs", "300"),
    ("vm/dirty_writeback_centisecs", "100"),
    // What services have no use for, an intruder hasn't either.
    ("kernel/kptr_restrict", "2"),
    ("kernel/dmesg_restrict", "1"),
    ("kernel/unprivileged_bpf_disabled", "1"),
    ("kernel/kexec_load_disabled", "1"),
    ("kernel/sysrq", "0"),
    ("kernel/yama/ptrace_scope", "2"),
    ("kernel/perf_event_paranoid", "3"),
    ("net/core/bpf_jit_harden", "2"),
    ("dev/tty/ldisc_autoload", "0"),
    ("vm/unprivileged_userfaultfd", "0"),
    ("fs/suid_dumpable", "0"),
    ("fs/protected_hardlinks", "1"),
    ("fs/protected_symlinks", "1"),
    ("fs/protected_fifos", "2"),
    ("fs/protected_regular", "2"),
    // A server among strangers.
    ("net/ipv4/tcp_syncookies", "1"),
    ("net/ipv4/conf/all/rp_filter", "2"),
    ("net/ipv4/conf/all/accept_redirects", "0"),
    ("net/ipv4/conf/default/accept_redirects", "0"),
    ("net/ipv4/conf/all/send_redirects", "0"),
    ("net/ipv6/conf/all/accept_redirects", "0"),
    ("net/ipv6/conf/default/accept_redirects", "0"),
    ("net/core/somaxconn", "4096"),
    // Clients that vanished are noticed after 300 + 5 × 60 s, not after two hours.
    ("net/ipv4/tcp_keepalive_time", "300"),
    ("net/ipv4/tcp_keepalive_intvl", "60"),
    ("net/ipv4/tcp_keepalive_probes", "5"),
];

/// Applies all of them.
pub fn apply() {
    SETTINGS.iter().for_each(|(path, value)| set(path, value));
}

/// A kernel that panics restarts after a second, whatever its command line says or lacks.
pub fn reboot_on_panic() {
    set("kernel/panic", "1");
}

/// No module is loaded from here on. Until the next boot nothing can take this back.
pub fn close_modules() {
    set("kernel/modules_disabled", "1");
}

fn set(path: &str, value: &str) {
    match fs::write(format!("/proc/sys/{path}"), value) {
        Err(error) if error.kind() == ErrorKind::NotFound => detail!("no setting {path}"),
        Err(error) => warning!("cannot set {path} to {value}: {error}"),
        Ok(()) => {}
    }
}
