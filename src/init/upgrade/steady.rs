//! A boot that has nothing to prove is good once its services have been up for a while. Pure.

use std::time::Duration;

use crate::clock::Moment;

/// For how long.
const STEADY_FOR: Duration = Duration::from_secs(30);

/// Of one boot.
#[derive(Debug, Default)]
pub struct Steady {
    /// Since when its services are up.
    since: Option<Moment>,
    /// It was told to be good.
    is_told: bool,
}

impl Steady {
    /// When it shall be looked at again. A trial is not: what decides there is [`super::trial`].
    pub fn deadline(&self, is_on_trial: bool) -> Option<Moment> {
        self.since.filter(|_| !self.is_told && !is_on_trial).map(|since| since + STEADY_FOR)
    }

    /// The services are up now, or aren't. True, and once only: this boot is good.
    pub fn on_services(&mut self, are_up: bool, is_on_trial: bool, now: Moment) -> bool {
        self.since = are_up.then(|| self.since.unwrap_or(now));
        let is_good = self.deadline(is_on_trial).is_some_and(|at| now >= at);
        self.is_told |= is_good;
        is_good
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment::from_secs(seconds)
    }

    #[test]
    fn a_boot_is_good_once() {
        let mut steady = Steady::default();
        for (seconds, are_up, deadline, is_good) in [
            (1, false, None, false),
            (2, true, Some(32), false),
            (31, true, Some(32), false),
            (32, false, None, false),
            (40, true, Some(70), false),
            (70, true, None, true),
            (71, false, None, false),
            (72, true, None, false),
            (999, true, None, false),
        ] {
            assert_eq!(steady.on_services(are_up, false, at(seconds)), is_good, "{seconds}");
            assert_eq!(steady.deadline(false), deadline.map(at), "{seconds}");
        }
    }

    /// A deadline that is over, and at which nothing happens, would be waited for without a pause.
    #[test]
    fn a_trial_is_waited_for_by_nobody_here() {
        let mut steady = Steady::default();
        for seconds in 1..200 {
            assert!(!steady.on_services(true, true, at(seconds)));
            assert_eq!(steady.deadline(true), None, "{seconds}");
        }
        // It was blessed.
        assert_eq!(steady.deadline(false), Some(at(31)));
        assert!(steady.on_services(true, false, at(200)));
        assert_eq!(steady.deadline(false), None);
    }
}
