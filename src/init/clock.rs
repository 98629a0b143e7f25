//! The two clocks: time since boot, for every deadline; and the date, which never goes back past
//! the floor: the build's, or a later one that this machine has seen.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nix::sys::time::TimeSpec;
use nix::time::ClockId;

use crate::log::notice;
use crate::sys;
use appliance::failure::{Failure, OrCannot as _};

/// A moment: how long after the kernel started. It never jumps, whatever happens to the date.
pub type Moment = Duration;

/// The highest that [`not_before`] was given, in seconds since 1970.
static FLOOR: AtomicU64 = AtomicU64::new(0);

/// Now.
pub fn now() -> Moment {
    // The call cannot fail for a clock that the kernel has.
    ClockId::CLOCK_MONOTONIC.now().map(Duration::from).unwrap_or_default()
}

/// The date: since 1970.
pub fn date() -> Duration {
    // As above. Before 1970 is 1970.
    ClockId::CLOCK_REALTIME.now().map(Duration::from).unwrap_or_default()
}

/// No date is before this one.
pub fn floor() -> Duration {
    Duration::from_secs(FLOOR.load(Ordering::Relaxed))
}

/// Sets the date to `earliest` (seconds since 1970) if it is before: a machine whose clock battery
/// is dead must still find certificates valid. `whose` says where that time comes from.
pub fn not_before(earliest: u64, whose: &str) -> Result<(), Failure> {
    FLOOR.fetch_max(earliest, Ordering::Relaxed);
    let earliest = Duration::from_secs(earliest);
    let date = Duration::from(ClockId::CLOCK_REALTIME.now().or_cannot("read the clock")?);
    if date >= earliest {
        return Ok(());
    }
    notice!("root: clock set from {} to {} s, {whose}", date.as_secs(), earliest.as_secs());
    set(earliest)
}

/// Adds so many microseconds to the date, at once. The floor holds.
pub fn step(offset: i64) -> Result<(), Failure> {
    let (before, by) = (date(), Duration::from_micros(offset.unsigned_abs()));
    let after = if offset < 0 { before.saturating_sub(by) } else { before.saturating_add(by) };
    let after = after.max(floor());
    set(after)?;
    notice!("time: clock set from {} to {} s", before.as_secs(), after.as_secs());
    sys::trust_clock().or_cannot("call the clock right")
}

/// Adds so many microseconds to the date, over the next minutes: it never jumps, nor goes back.
pub fn slew(offset: i64) -> Result<(), Failure> {
    sys::slew_clock(offset).or_cannot("correct the clock")?;
    sys::trust_clock().or_cannot("call the clock right")
}

fn set(date: Duration) -> Result<(), Failure> {
    ClockId::CLOCK_REALTIME.set_time(TimeSpec::from_duration(date)).or_cannot("set the clock")
}
