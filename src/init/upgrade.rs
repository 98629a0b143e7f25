//! Which of two systems runs, whether it may stay, and what is done to the other. Pure:
//! [`crate::esp_device`] and the event loop have the doing.
//!
//! ```text
//!  no loader ─────────────────────────────► NotBooted: nothing is written, nothing is taken
//!  loader ──┬─ an entry that was blessed ─► Steady: a bundle may come, or the other be tried
//!           ├─ one whose tries went down ─► Trial ── healthy, every block read ──► blessed: Steady
//!           │                                └────── not in time, a crash loop ──► condemned, reboot
//!           └─ any other ─────────────────► Uncounted: condemned at once, reboot; with nothing beside
//!                                           it, it serves, and is blessed once it has proved itself
//! ```
//!
//! Only what has a blessed system beside it is condemned: a machine always has one that boots. What
//! is known besides the ESP's one sector ([`kept`]) is for people, and for refusing what was bad.

pub mod kept;
mod origin;
pub mod steady;
pub mod trace;
pub mod trial;

use std::time::Duration;

use appliance::esp::Entry;
use appliance::upgrade::{
    Check, Code, Counting, Line, Refused, Side, Slot, SlotTrust, State, Wish,
};

use self::kept::{Kept, System, Word};
pub use self::origin::{Boot, Listed, Passed, boot};
use self::trace::Trace;
use self::trial::{Step, Trial};
use crate::clock::Moment;

/// What shall be written to the ESP: one sector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Edit {
    /// It is good from now on.
    Bless(Side),
    /// It isn't listed any more.
    Condemn(Side),
    /// It is put on trial, though it was good: somebody wants it back.
    TryAgain(Side),
    /// The same with one try: what is good doesn't start any more.
    TryOnce(Side),
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// This is how healthy it is now.
    Checks(Vec<Check>),
    /// Every block of the root has been read, or not.
    Read(Result<(), String>),
    /// What was to be written is, and the ESP lists this; or it isn't.
    Written(Edit, Result<Listed, String>),
    /// What was wished for begins.
    Asked(Wish),
    /// The child that installs says this.
    Said(Line),
    /// It has ended, and the ESP lists this.
    Ended(Option<Listed>),
}

/// What shall be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Keep [`Upgrade::kept`] for the next boot.
    Keep,
    /// The word that the last boot left has gone into that.
    ForgetWord,
    /// Write this; then say [`Event::Written`].
    Write(Edit),
    /// Read every block of the root; then say [`Event::Read`].
    ReadRoot,
    /// What was kept aside of the data, for the system before this one, isn't needed any more. (Of one
    /// that was blessed in an earlier boot, [`crate::aside::settle`] finds that out.)
    Settled,
    /// Keep why this boot is given up, and which check says so.
    KeepReason {
        /// Its name.
        check: Option<String>,
        /// What it says.
        why: String,
    },
    /// End the boot in order, for this reason.
    Reboot(String),
}

/// All that is known of upgrades.
#[derive(Debug)]
pub struct Upgrade {
    boot: Boot,
    running: System,
    listed: Listed,
    trial: Option<Trial>,
    kept: Kept,
    /// The lowest version that may follow, by what this image says.
    floor: Option<String>,
    /// The bundle that is being taken, or was last.
    task: Option<Line>,
    is_installing: bool,
    checks: Vec<Check>,
}

/// What a boot finds.
#[derive(Debug, Clone)]
pub struct Found {
    /// What runs.
    pub running: System,
    /// What the loader said.
    pub passed: Passed,
    /// What the ESP lists.
    pub listed: Listed,
    /// What earlier boots knew.
    pub kept: Kept,
    /// What the boot before this one left.
    pub word: Option<Word>,
    /// What the last trial left before that.
    pub trace: Trace,
    /// Seconds since 1970.
    pub date: u64,
    /// The lowest version that may follow, by what this image says.
    pub floor: Option<String>,
}

impl Upgrade {
    /// What follows from what is found.
    pub fn begin(found: Found) -> (Upgrade, Vec<Effect>) {
        let Found { running, passed, listed, mut kept, word, trace, date, floor } = found;
        let boot = boot(&passed, listed.of(running.side));
        let before = kept.clone();
        let other = listed.of(running.side.other()).clone();
        let mut effects = vec![];
        if word.is_some() {
            effects.push(Effect::ForgetWord);
        }
        match boot {
            Boot::NotBooted => {}
            Boot::Steady => {
                kept.meets(&running);
                let leftover = kept.settle(&running, &other, (word.as_ref(), &trace), date);
                kept.raise(floor.as_deref());
                if leftover {
                    effects.push(Effect::Write(Edit::Condemn(running.side.other())));
                }
            }
            Boot::Trial { .. } => {
                kept.counting = Counting::Proved;
                kept.tries(&running);
            }
            Boot::Uncounted { is_broken } => {
                if is_broken {
                    kept.counting = Counting::Broken;
                }
                kept.tries(&running);
            }
        }
        if boot != Boot::NotBooted {
            kept.knows(&running);
        }
        if kept != before {
            effects.insert(0, Effect::Keep);
        }
        let is_unproven = matches!(boot, Boot::Trial { .. } | Boot::Uncounted { .. });
        let trial = is_unproven.then(Trial::new);
        let mut this = Upgrade {
            boot,
            running,
            listed,
            trial,
            kept,
            floor,
            task: None,
            is_installing: false,
            checks: vec![],
        };
        if matches!(boot, Boot::Uncounted { .. }) && this.has_other() {
            effects.extend(this.give_up("loader", UNCOUNTED));
        }
        (this, effects)
    }

    /// How this boot came about.
    pub fn boot(&self) -> Boot {
        self.boot
    }

    /// What runs.
    pub fn running(&self) -> &System {
        &self.running
    }

    /// What the next boot shall know.
    pub fn kept(&self) -> &Kept {
        &self.kept
    }

    /// Is what runs listed as one that has to prove itself, whether or not anybody saw this try being
    /// counted? Should it fail, the data is set back.
    pub fn is_unproven(&self) -> bool {
        matches!(self.listed.of(self.running.side), Entry::Counted { .. })
    }

    /// Is there still something to be proved?
    pub fn is_on_trial(&self) -> bool {
        self.trial.is_some()
    }

    /// Would the next boot be the same as this one, for all that was written? Then it is better to
    /// serve.
    pub fn would_come_back(&self) -> bool {
        let is_uncounted = matches!(self.boot, Boot::Uncounted { .. });
        is_uncounted && *self.listed.of(self.running.side) != Entry::Off
    }

    /// Had the last good boot a network device?
    pub fn had_network(&self) -> bool {
        self.kept.had_network
    }

    /// This boot is good, and has a network device or hasn't.
    pub fn has_network(&mut self, has: bool) -> Vec<Effect> {
        let is_news = self.boot == Boot::Steady && self.kept.had_network != has;
        if is_news {
            self.kept.had_network = has;
        }
        is_news.then_some(Effect::Keep).into_iter().collect()
    }

    /// Keeping the data aside took so long, before any service could start.
    pub fn kept_aside(&mut self, took: Duration) {
        if let Some(trial) = &mut self.trial {
            trial.waited(took);
        }
    }

    /// When [`Upgrade::on_time`] is due.
    pub fn deadline(&self) -> Option<Moment> {
        self.trial.as_ref().and_then(Trial::deadline)
    }

    /// Time goes by.
    pub fn on_time(&mut self, now: Moment) -> Vec<Effect> {
        let step = self.trial.as_mut().and_then(|trial| trial.on_time(now));
        self.follow(step)
    }

    /// Something happened.
    pub fn on(&mut self, event: Event, now: Moment) -> Vec<Effect> {
        match event {
            Event::Checks(checks) => {
                self.checks.clone_from(&checks);
                let step = self.trial.as_mut().and_then(|trial| trial.on_checks(checks, now));
                self.follow(step)
            }
            Event::Read(read) => {
                let step = self.trial.as_mut().and_then(|trial| trial.on_read(read, now));
                self.follow(step)
            }
            Event::Written(edit, Ok(listed)) => {
                self.listed = listed;
                self.written(edit)
            }
            Event::Written(Edit::Bless(_), Err(why)) => {
                let step = self.trial.as_mut().and_then(|trial| trial.on_unblessed(why));
                self.follow(step)
            }
            Event::Written(Edit::TryAgain(_) | Edit::TryOnce(_), Err(_)) => {
                self.kept.tried = None;
                vec![Effect::Keep]
            }
            Event::Written(Edit::Condemn(_), Err(_)) => vec![],
            Event::Asked(Wish::Install { .. }) => {
                (self.task, self.is_installing) = (None, true);
                vec![]
            }
            Event::Asked(Wish::Rollback) => {
                let other = self.running.side.other();
                self.kept.begins(other, self.kept.of(other).cloned(), true);
                vec![Effect::Keep, Effect::Write(Edit::TryAgain(other))]
            }
            Event::Said(line) => self.said(line),
            Event::Ended(listed) => {
                self.is_installing = false;
                self.listed = listed.unwrap_or(self.listed.clone());
                self.ended()
            }
        }
    }

    /// May this be done now?
    pub fn may(&self, wish: &Wish) -> Result<(), Refused> {
        let refused = |code, message: &str| Err(Refused { code, message: message.to_owned() });
        let other = self.listed.of(self.running.side.other());
        match (wish, self.boot) {
            (_, Boot::NotBooted) => refused(Code::NoCounting, NOT_BOOTED),
            (_, Boot::Trial { .. } | Boot::Uncounted { .. }) => {
                refused(Code::Unblessed, "what runs is itself on trial: wait until it is blessed")
            }
            _ if self.kept.counting == Counting::Broken => refused(Code::NoCounting, BROKEN),
            _ if self.is_installing => refused(Code::Busy, "a bundle is being installed"),
            (Wish::Rollback, _) if !matches!(other, Entry::Blessed { .. }) => {
                refused(Code::Unblessed, "the other slot holds no system that was blessed")
            }
            _ => Ok(()),
        }
    }

    /// As the control socket tells it.
    pub fn state(&self, now: Moment) -> State {
        State {
            slots: [Side::A, Side::B].map(|side| self.slot(side)).into(),
            counting: match self.boot {
                Boot::NotBooted => Counting::NotBooted,
                _ => self.kept.counting,
            },
            task: self.task.clone(),
            health: self.checks.clone(),
            trial_ends_in: self.trial.as_ref().and_then(|trial| trial.ends_in(now)),
            floor: self.kept.floor.clone(),
            verdicts: self.kept.verdicts.clone(),
        }
    }

    fn slot(&self, side: Side) -> Slot {
        let running = side == self.running.side;
        let (trust, tries_left) = match self.listed.of(side) {
            Entry::Off => (SlotTrust::Empty, None),
            Entry::Blessed { .. } => (SlotTrust::Blessed, None),
            Entry::Counted { left: 0, .. } if !running => (SlotTrust::Bad, Some(0)),
            Entry::Counted { left, .. } => (SlotTrust::Trial, Some(*left)),
            Entry::Foreign(_) => (SlotTrust::Bad, None),
        };
        let is_there = trust != SlotTrust::Empty;
        let system = self.kept.of(side).filter(|_| is_there);
        let system = if running { Some(&self.running) } else { system };
        Slot {
            name: side,
            running,
            trust,
            tries_left,
            version: system.map(|system| system.version.clone()),
            root_hash: system.map(|system| system.root_hash),
        }
    }

    /// Is there another that boots, should this one not?
    pub fn has_other(&self) -> bool {
        matches!(self.listed.of(self.running.side.other()), Entry::Blessed { .. })
    }

    /// Will the other one be tried by the next boot?
    pub fn is_armed(&self) -> bool {
        matches!(self.listed.of(self.running.side.other()), Entry::Counted { .. })
    }

    fn follow(&mut self, step: Option<Step>) -> Vec<Effect> {
        match step {
            None => vec![],
            Some(Step::Read) => vec![Effect::ReadRoot],
            Some(Step::Bless) => vec![Effect::Write(Edit::Bless(self.running.side))],
            // It can't be gone back from.
            Some(Step::GiveUp { .. }) if self.would_come_back() => {
                self.trial = None;
                vec![]
            }
            Some(Step::GiveUp { check, why }) => self.give_up(&check, &why),
        }
    }

    fn give_up(&mut self, check: &str, why: &str) -> Vec<Effect> {
        let (check, why) = (Some(check.to_owned()), why.to_owned());
        let mut effects = vec![Effect::KeepReason { check, why: why.clone() }];
        // With nothing beside it, it is tried for as long as it takes.
        if self.has_other() {
            effects.push(Effect::Write(Edit::Condemn(self.running.side)));
        }
        effects.push(Effect::Reboot(why));
        effects
    }

    fn written(&mut self, edit: Edit) -> Vec<Effect> {
        match edit {
            Edit::Bless(_) => {
                (self.boot, self.trial) = (Boot::Steady, None);
                self.kept.blessed(&self.running);
                self.kept.raise(self.floor.as_deref());
                // The sector is the truth: if the power goes here, the next boot finds a steady one,
                // and does the rest.
                vec![Effect::Keep, Effect::Settled]
            }
            Edit::Condemn(side) => {
                let is_forgotten = side != self.running.side && self.kept.forget(side);
                is_forgotten.then_some(Effect::Keep).into_iter().collect()
            }
            Edit::TryAgain(_) | Edit::TryOnce(_) => vec![],
        }
    }

    fn said(&mut self, line: Line) -> Vec<Effect> {
        let other = self.running.side.other();
        let system = |version: &String, root_hash| {
            Some(System { side: other, version: version.clone(), root_hash })
        };
        let effects = match &line {
            // Before a byte is written: what lies there is no longer what it was.
            Line::Begun { version, root_hash, .. } => {
                self.kept.begins(other, system(version, *root_hash), false);
                vec![Effect::Keep]
            }
            Line::Armed { version, root_hash } => {
                self.kept.begins(other, system(version, *root_hash), true);
                vec![Effect::Keep]
            }
            Line::Progress { .. } | Line::Failed(_) => vec![],
        };
        self.task = Some(line);
        effects
    }

    /// What it didn't say, the ESP does.
    fn ended(&mut self) -> Vec<Effect> {
        let other = self.running.side.other();
        let is_armed = self.is_armed();
        match &self.task {
            Some(Line::Armed { .. } | Line::Failed(_)) => {}
            _ => {
                let message = "the installer ended before its time".to_owned();
                self.task = Some(Line::Failed(Refused { code: Code::Truncated, message }));
            }
        }
        let before = self.kept.clone();
        match (&mut self.kept.tried, is_armed) {
            (Some(tried), true) => tried.armed = true,
            (unarmed, false) => *unarmed = None,
            (None, true) => {}
        }
        if *self.listed.of(other) == Entry::Off {
            self.kept.forget(other);
        }
        (self.kept != before).then_some(Effect::Keep).into_iter().collect()
    }
}

/// Why a boot is given up that the loader didn't count.
const UNCOUNTED: &str = "the loader did not count this try";
const NOT_BOOTED: &str = "this boot did not come through the loader, so it would not start another";
const BROKEN: &str = "the loader does not count tries on this machine: a trial that failed would \
                      never end";

#[cfg(test)]
mod tests;
