//! The two clocks: time since boot, for every deadline; and the date, which never goes back past
//! the build's.

use std::time::Duration;

use nix::sys::time::TimeSpec;
use nix::time::ClockId;

use crate::failure::{Failure, OrCannot as _};
use crate::log::notice;

/// A moment: how long after the kernel started. It never jumps, whatever happens to the date.
pub type Moment = Duration;

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

/// Sets the date to `earliest` (seconds since 1970) if it is before: a machine whose clock battery
/// is dead must still find certificates valid.
pub fn not_before(earliest: u64) -> Result<(), Failure> {
    let earliest = Duration::from_secs(earliest);
    let date = Duration::from(ClockId::CLOCK_REALTIME.now().or_cannot("read the clock")?);
    if date >= earliest {
        return Ok(());
    }
    notice!("root: clock set from {} to {} s, the build's", date.as_secs(), earliest.as_secs());
    let earliest = TimeSpec::from_duration(earliest);
    ClockId::CLOCK_REALTIME.set_time(earliest).or_cannot("set the clock")
}
