//! A trial's clock: healthy for a while, then every block read, then blessed; or given up. Pure.

use std::time::Duration;

use appliance::upgrade::Check;

use crate::clock::Moment;

/// How long all checks must pass, without a break.
const HEALTHY_FOR: Duration = Duration::from_secs(30);
/// Since the kernel started, what keeping the data aside took not counted: who isn't healthy by then
/// won't be.
const ENDS_AT: Moment = Moment::from_secs(300);
/// How long reading every block may take, once that has begun.
const READ_WITHIN: Duration = Duration::from_secs(120);
/// The check that isn't waited for: what fails again and again is given up at once.
pub const CRASH_LOOP: &str = "crash_loop";

/// One that isn't over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trial {
    checks: Vec<Check>,
    /// Since when all of them pass.
    healthy_since: Option<Moment>,
    reading: Reading,
    /// Whatever comes of the reading: not before that.
    ends_at: Moment,
    /// It was decided.
    is_over: bool,
}

/// Whether every block of the root was found to be what it should.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reading {
    Outstanding,
    /// Until this moment at most.
    Begun(Moment),
    /// At this moment.
    Done(Moment),
}

/// What comes next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Read every block of the root.
    Read,
    /// It is good.
    Bless,
    /// It isn't.
    GiveUp {
        /// By this check.
        check: String,
        /// Which says this.
        why: String,
    },
}

impl Trial {
    /// One that begins.
    pub fn new() -> Trial {
        let (checks, reading) = (vec![], Reading::Outstanding);
        Trial { checks, healthy_since: None, reading, ends_at: ENDS_AT, is_over: false }
    }

    /// Its services could not start for so long, which isn't their fault.
    pub fn waited(&mut self, wait: Duration) {
        self.ends_at += wait;
    }

    /// When [`Trial::on_time`] is due.
    pub fn deadline(&self) -> Option<Moment> {
        let is_read = matches!(self.reading, Reading::Begun(_));
        let is_awaited = !is_read && !self.is_in_doubt();
        let healthy = self.healthy_since.filter(|_| is_awaited).map(|since| since + HEALTHY_FOR);
        (!self.is_over).then(|| healthy.into_iter().chain([self.ends()]).min()).flatten()
    }

    /// Seconds until it ends.
    pub fn ends_in(&self, now: Moment) -> Option<u64> {
        (!self.is_over).then(|| self.ends().saturating_sub(now).as_secs())
    }

    /// All that is looked at, as it is now.
    pub fn on_checks(&mut self, checks: Vec<Check>, now: Moment) -> Option<Step> {
        let is_healthy = !checks.is_empty() && checks.iter().all(|check| check.passes);
        self.healthy_since = is_healthy.then(|| self.healthy_since.unwrap_or(now));
        self.checks = checks;
        let looping = self.failing().find(|check| check.name == CRASH_LOOP).cloned();
        match looping {
            Some(check) => self.give_up(check.name, check.why.unwrap_or_default()),
            None => self.on_time(now),
        }
    }

    /// Time goes by.
    pub fn on_time(&mut self, now: Moment) -> Option<Step> {
        if self.is_over {
            return None;
        }
        if now >= self.ends() {
            let (check, why) = self.why_not();
            return self.give_up(check, why);
        }
        let is_proved = self.healthy_since.is_some_and(|since| now >= since + HEALTHY_FOR);
        let is_proved = is_proved && !self.is_in_doubt();
        match self.reading {
            Reading::Outstanding if is_proved => {
                self.reading = Reading::Begun(now + READ_WITHIN);
                Some(Step::Read)
            }
            Reading::Done(_) if is_proved => {
                self.is_over = true;
                Some(Step::Bless)
            }
            _ => None,
        }
    }

    /// Every block was read, or not.
    pub fn on_read(&mut self, read: Result<(), String>, now: Moment) -> Option<Step> {
        match (read, self.reading) {
            (_, Reading::Outstanding | Reading::Done(_)) => None,
            (Ok(()), Reading::Begun(_)) => {
                self.reading = Reading::Done(now);
                self.on_time(now)
            }
            (Err(why), Reading::Begun(_)) => self.give_up("root".into(), why),
        }
    }

    /// It was to be blessed, and that could not be written.
    pub fn on_unblessed(&mut self, why: String) -> Option<Step> {
        self.is_over = false;
        self.give_up("loader".into(), why)
    }

    /// While its blocks are being read it has time for that; who was unhealthy meanwhile gets to
    /// prove itself once more.
    fn ends(&self) -> Moment {
        self.ends_at.max(match self.reading {
            Reading::Outstanding => self.ends_at,
            Reading::Begun(until) => until,
            Reading::Done(at) => at + HEALTHY_FOR + HEALTHY_FOR,
        })
    }

    /// Did any of those that pass not do so when it was looked at last? Nothing is decided by that
    /// yet, neither way.
    fn is_in_doubt(&self) -> bool {
        self.checks.iter().any(Check::is_in_doubt)
    }

    fn failing(&self) -> impl Iterator<Item = &Check> {
        self.checks.iter().filter(|check| !check.passes)
    }

    /// The first check that fails, and what each that fails says.
    fn why_not(&self) -> (String, String) {
        let name = self.failing().next().map(|check| check.name.clone());
        let said = self.failing().map(|check| match &check.why {
            Some(why) => format!("{}: {why}", check.name),
            None => check.name.clone(),
        });
        let said = said.collect::<Vec<_>>().join("; ");
        let seconds = self.ends_at.as_secs();
        match (name, self.reading) {
            (Some(name), _) => (name, format!("not healthy within {seconds} s: {said}")),
            (None, Reading::Begun(_)) => {
                let seconds = READ_WITHIN.as_secs();
                ("root".into(), format!("its root was not read within {seconds} s"))
            }
            (None, _) => {
                let held = HEALTHY_FOR.as_secs();
                ("time".into(), format!("not healthy for {held} s within {seconds} s"))
            }
        }
    }

    fn give_up(&mut self, check: String, why: String) -> Option<Step> {
        let is_new = !self.is_over;
        self.is_over = true;
        is_new.then_some(Step::GiveUp { check, why })
    }
}
