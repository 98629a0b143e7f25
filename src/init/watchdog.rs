//! The hardware watchdog, where the machine has one: a timer that resets it unless somebody feeds
//! it in time. Owner of the one descriptor; PID 1 alone has it.
//!
//! ```text
//! initrd ── opened after its module, armed: 60 s ──► exec ──► root ──► loop: 30 s, fed each turn
//!   reset ◄── a hang anywhere ──────────────────────────────── end: 60 s, fed a last time
//! ```
//!
//! It is never disarmed: not at the hand-over (the descriptor is passed on by its number, see
//! [`KEPT`]), not at the end, where it stays armed until the machine is off or has started anew.
//! No wait of PID 1 is without an end of its own either; a test of `main.rs` counts them:
//!
//! | wait | where | at most |
//! |---|---|---|
//! | the disk appears | `slot.rs` | 10 s, looked at each 500 ms |
//! | a file system is made, or checked | `tool.rs` | 60 s, 600 s, and 10 s to go; fed each 50 ms |
//! | data is kept aside, or set back | `tool.rs` | 1800 s, and 10 s to go; fed each 50 ms |
//! | why there is no data stays on the console | `data.rs` | 60 s, fed each second |
//! | something happens | `event_loop.rs` | 60 s, 5 s with a watchdog; 1 s if the kernel refuses |
//! | files are counted, before an upgrade or a rollback | `aside.rs` | 0.5 s |
//! | a service answers on loopback | `probe.rs`, `pulse.rs` | 5 ms |
//! | services stop, the killed go, disks are written and unmounted | `end.rs` | 50, 2, 30, 5 s |
//! | a failure's reason is kept | `last_failure.rs`, `trial_word.rs`, in a child | 3 s, 2 s after a fault |
//! | a trial is condemned, a failure noted | `esp_device.rs`, `second_net.rs`, in children | 3 s each |
//! | last words stay on the console | `end.rs`, `sys.rs` | 2 s |
//!
//! What the kernel does for PID 1 (loading a module, mounting) has no bound but this watchdog. Its
//! sockets (netlink, control, signals, reports) never block.
//!
//! What is written is a zero byte, never the `V` that would let it go.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::sync::OnceLock;
use std::time::Duration;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};

use crate::log::{error, notice, warning};
use crate::sys;
use appliance::failure::{Failure, OrCannot as _};

const PATH: &str = "/dev/watchdog0";
/// What the kernel tells of it.
const ABOUT: &str = "/sys/class/watchdog/watchdog0";
/// The descriptor's number in the root, which nothing else gets by chance.
const KEPT: i32 = 100;
/// In a bit mask of `bootstatus`: it was the watchdog that started the machine anew.
const WAS_RESET: u32 = 0x20;

/// While the machine starts or ends: no step takes longer, on the slowest of machines.
pub const LONG: Duration = Duration::from_secs(60);
/// While the loop runs.
pub const SHORT: Duration = Duration::from_secs(30);
/// How often the loop feeds it: several are missed before it bites.
pub const FED_EVERY: Duration = Duration::from_secs(5);

static DEVICE: OnceLock<File> = OnceLock::new();

/// Arms it, if there is one and it isn't yet.
pub fn open() {
    if DEVICE.get().is_some() || fs::metadata(PATH).is_err() {
        return;
    }
    match File::options().write(true).open(PATH) {
        Ok(file) => {
            let _ = DEVICE.set(file);
            // From here on not even `V` could disarm it. Some kernels don't offer that.
            let _ = fs::write(format!("{ABOUT}/nowayout"), "1");
            notice!("initrd: watchdog {} armed", about("identity"));
            bite_after(LONG);
        }
        Err(error) => error!("cannot open {PATH}: {error}"),
    }
}

/// Leaves it open for the program that this process becomes.
pub fn hand_over() -> Result<(), Failure> {
    let Some(device) = DEVICE.get() else { return Ok(()) };
    let what = "keep the watchdog open";
    feed();
    match fcntl(device, FcntlArg::F_DUPFD(KEPT)).or_cannot(what)? {
        KEPT => Ok(()),
        other => Err(Failure::new(what, format_args!("it is descriptor {other}"))),
    }
}

/// Takes it over from the program that this process was, or opens it.
pub fn take_over() {
    if let Some(file) = sys::inherited(KEPT).and_then(|kept| the_device(kept).ok()) {
        let _ = fcntl(&file, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC));
        let _ = DEVICE.set(file);
        feed();
    }
    open();
}

/// Is that descriptor the watchdog's?
fn the_device(kept: OwnedFd) -> std::io::Result<File> {
    let file = File::from(kept);
    let (held, device) = (file.metadata()?, fs::metadata(PATH)?);
    let is_same = held.file_type().is_char_device() && held.rdev() == device.rdev();
    is_same.then_some(file).ok_or_else(|| std::io::ErrorKind::InvalidInput.into())
}

/// Is there one that must be fed?
pub fn is_armed() -> bool {
    DEVICE.get().is_some()
}

/// Feeds it. Called by who has just made progress or waits with an end in sight, by nobody else.
pub fn feed() {
    if let Some(Err(error)) = DEVICE.get().map(|mut device| device.write_all(&[0])) {
        warning!("cannot feed the watchdog: {error}");
    }
}

/// Sets when it bites, unless it is fed; and feeds it.
pub fn bite_after(time: Duration) {
    let Some(device) = DEVICE.get() else { return };
    let seconds = time.as_secs();
    // Some can't change it, and say so or don't: what counts is what the kernel says afterwards.
    let set = sys::set_watchdog_timeout(device, seconds as i32);
    let got = about("timeout");
    if set.is_err() || got != seconds.to_string() {
        warning!("watchdog: bites after {got} s, not {seconds}");
    }
    feed();
}

/// Did it end the boot before this one?
pub fn has_bitten() -> bool {
    let status = about("bootstatus");
    let status = match status.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16),
        None => status.parse(),
    };
    status.is_ok_and(|status| status & WAS_RESET != 0)
}

fn about(attribute: &str) -> String {
    let text = fs::read_to_string(format!("{ABOUT}/{attribute}")).unwrap_or_default();
    text.trim_end().to_owned()
}
