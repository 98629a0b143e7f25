//! How a guest is ended. Pure: what happened goes in, what shall be done comes out.
//!
//! ```text
//! Running ── stop ─► PoweringOff ── stop, or 30 s ─► Quitting ── stop, or 5 s ─► Killed
//!                    presses the power button        tells QEMU to end           ends its process
//!                    once a second
//! ```
//! QEMU's end ends it in every state.

use std::time::Duration;

/// How long a guest may take to power off.
const POWER_OFF_WITHIN: Duration = Duration::from_secs(30);
/// A guest that still boots doesn't see the power button: it is pressed again.
const PRESS_EVERY: Duration = Duration::from_secs(1);
/// How long QEMU may take to end when it is told to.
const QUIT_WITHIN: Duration = Duration::from_secs(5);

/// Where the ending is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Nobody wants it to end.
    Running,
    /// The power button was pressed so often.
    PoweringOff(u32),
    /// QEMU was told to end.
    Quitting,
    /// Its process was killed.
    Killed,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// Somebody wants the guest to end, perhaps again.
    Stop,
    /// The time of the last [`Effect::WakeIn`] has come.
    Timeout,
}

/// What shall be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Press the guest's power button.
    PressPower,
    /// Tell QEMU to end.
    Quit,
    /// Kill its process.
    Kill,
    /// Send [`Event::Timeout`] after that time, and not at any earlier one's.
    WakeIn(Duration),
}

impl State {
    /// What follows from `event`.
    pub fn on(self, event: Event) -> (State, Vec<Effect>) {
        use {Effect::*, Event::*, State::*};
        let presses = (POWER_OFF_WITHIN.as_secs() / PRESS_EVERY.as_secs()) as u32;
        match (self, event) {
            (Running, Stop) => (PoweringOff(1), vec![PressPower, WakeIn(PRESS_EVERY)]),
            (PoweringOff(pressed), Timeout) if pressed < presses => {
                (PoweringOff(pressed + 1), vec![PressPower, WakeIn(PRESS_EVERY)])
            }
            (PoweringOff(_), _) => (Quitting, vec![Quit, WakeIn(QUIT_WITHIN)]),
            (Quitting, _) => (Killed, vec![Kill]),
            (Running, Timeout) | (Killed, _) => (self, vec![]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_leads_to_an_end() {
        use {Effect::*, Event::*, State::*};
        let second = Duration::from_secs(1);
        let rows = [
            (Running, Stop, PoweringOff(1), vec![PressPower, WakeIn(second)]),
            (Running, Timeout, Running, vec![]),
            (PoweringOff(1), Timeout, PoweringOff(2), vec![PressPower, WakeIn(second)]),
            (PoweringOff(29), Timeout, PoweringOff(30), vec![PressPower, WakeIn(second)]),
            (PoweringOff(30), Timeout, Quitting, vec![Quit, WakeIn(5 * second)]),
            (PoweringOff(2), Stop, Quitting, vec![Quit, WakeIn(5 * second)]),
            (Quitting, Timeout, Killed, vec![Kill]),
            (Quitting, Stop, Killed, vec![Kill]),
            (Killed, Stop, Killed, vec![]),
        ];
        for (state, event, next, effects) in rows {
            assert_eq!(state.on(event), (next, effects), "{state:?} + {event:?}");
        }
    }
}
