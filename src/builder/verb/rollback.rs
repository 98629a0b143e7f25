//! `stele rollback`: has a Pod try the system in its other slot, and waits as an upgrade does.

use anyhow::{Context, Result};

use crate::pod::client::{self, Pod};
use crate::pod::switch::{self, Outcome, switch};
use crate::progress::Progress;
use crate::verb::upgrade::other_slot;

/// Has the other system tried.
pub fn rollback(
    reach: &client::Options,
    options: &switch::Options,
    progress: &Progress,
) -> Result<Outcome> {
    let pod = Pod::reach(reach)?;
    let target = other_slot(&pod)?;
    let ordered = pod.order("rollback");
    ordered.with_context(|| format!("cannot have {} go back", pod.address()))?;
    switch(&pod, &target, target.system(), options, progress)
}
