//! From the kernel to a verified root. Nothing here asks, waits for ever or offers a shell: a
//! failure is told and the machine reboots, so that a loader which counts tries can count.

use std::convert::Infallible;
use std::fs;
use std::time::Duration;

use appliance::boot::{INITRD_FILE, INITRD_MODULES, Initrd};

use crate::log::notice;
use crate::{
    end, log, modules, mounts, second_net, slot, switch_root, sysctl, systems, trial_word, verity,
    watchdog,
};
use appliance::failure::{Failure, OrCannot as _};

/// How long the disk may take to appear.
const DISK_WITHIN: Duration = Duration::from_secs(10);

/// Comes back only with what went wrong.
pub fn run() -> Failure {
    match open_root() {
        Ok(never) => match never {},
        Err(failure) => failure,
    }
}

fn open_root() -> Result<Infallible, Failure> {
    mounts::first()?;
    let log = log::open()?;
    end::arm(log)?;
    log::show_notices();
    sysctl::reboot_on_panic();
    notice!("initrd: starts");
    let Initrd { modules, root } = read()?;
    for name in &modules {
        modules::load(INITRD_MODULES, name)?;
        watchdog::open();
    }
    notice!("initrd: {} modules loaded", modules.len());
    let slot = slot::find(&root, DISK_WITHIN).inspect_err(|_| {
        second_net::begin_lost();
        trial_word::begin_lost(root.root_hash);
    })?;
    notice!("initrd: slot found on {}", slot.name);
    second_net::begin(&slot)?;
    trial_word::begin(&slot, root.root_hash);
    let device = verity::open(&slot, &root)?;
    switch_root::mount_root(&device)?;
    notice!("initrd: root {} opened", root.root_hash);
    systems::leave_word(&root)?;
    trial_word::hand_over();
    notice!("initrd: hands over to the root");
    watchdog::hand_over()?;
    Err(switch_root::hand_over())
}

fn read() -> Result<Initrd, Failure> {
    let text = fs::read(INITRD_FILE).or_cannot(format_args!("read {INITRD_FILE}"))?;
    serde_json::from_slice(&text).or_cannot(format_args!("understand {INITRD_FILE}"))
}
