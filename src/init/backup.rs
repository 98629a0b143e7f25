//! Backups, restorations and the erasure of a Pod, among services that run. Pure; what is asked for
//! here is done by [`crate::event_loop`].
//!
//! ```text
//!        Create             Frozen              Taken               Done, Failed
//!  Idle ────────► Freezing ────────► Holding ─────────► Working ───────────────► Idle
//!   │  anything else: the child works, and no service notices ──►┘ Erase │
//!   │ Restore                                              laid out      ▼
//!   └────────────────────────────────────────────────────────────► Stopping
//!                                                                        │ Stopped: exchange
//!  Idle ◄── Done ── Working (clears) ◄── services start ◄── Making ◄─────┘
//! ```
//!
//! Services are frozen for as long as it takes to give their files second names, and thawed whatever
//! becomes of the child: by its word, by its end, or by the clock.

use std::time::Duration;

use appliance::backup::{Id, Job, Kind, Progress, Report, State, Stats, Task, Trouble, Wish};
use appliance::control::Refusal;

/// Processes that don't freeze in time hang in the kernel.
const FREEZES_WITHIN: Duration = Duration::from_secs(2);
/// Longer nobody waits for a service, or takes it for hung.
const HOLDS_WITHIN: Duration = Duration::from_secs(10);
/// Who is started meanwhile is stopped again.
const STOPS_WITHIN: Duration = Duration::from_secs(15);
/// What a service needs is made by then, or it starts without.
const MAKES_WITHIN: Duration = Duration::from_secs(60);

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Somebody wishes something, and [`Backups::may`].
    Asked(Wish),
    /// There is something that has lost its place.
    Left,
    /// All that freezes is frozen.
    Frozen,
    /// The child has something to say.
    Reported(Report),
    /// The child's process has ended.
    Ended,
    /// All that stops has stopped.
    Stopped,
    /// What became of the last [`Effect::Exchange`].
    Exchanged(Result<(), String>),
    /// All is made that services need at their first start.
    Made,
    /// The time set by the last [`Effect::WakeIn`] is over.
    Timeout,
    /// The machine is about to end.
    Ending,
}

/// What shall be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Freeze the services, and tell when they are.
    Freeze,
    /// Let them go on.
    Thaw,
    /// Have the child do this.
    Order(Job),
    /// The child shall end, and not be started again.
    StopChild,
    /// Stop the services, and tell when they have.
    StopServices,
    /// What was laid out takes the place of what there is.
    Exchange,
    /// Run those tasks again that make what isn't there, and tell when they are done.
    Make,
    /// Start the services.
    StartServices,
    /// Set the one timer, replacing the last.
    WakeIn(Duration),
}

/// What waits for something.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Work {
    Idle,
    Freezing(Job),
    Holding,
    Working(Kin),
    Stopping,
    Making,
}

/// What comes after the child's work.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Kin {
    Nothing,
    Prepared(Id),
    Exchange,
    /// It wasn't asked for: nobody is told.
    Clearing,
}

/// May this be done while a new version is on trial? Should that fail, the data is set back: what was
/// restored would be lost, and what was erased be there again.
pub fn may_on_trial(wish: &Wish) -> Result<(), Refusal> {
    match wish {
        Wish::Restore { .. } | Wish::Erase => Err(Refusal::Busy),
        Wish::State | Wish::Create { .. } | Wish::Accept { .. } | Wish::Prepare { .. } => Ok(()),
        Wish::Describe { .. } | Wish::Delete { .. } => Ok(()),
    }
}

/// Those of one boot.
#[derive(Debug)]
pub struct Backups {
    work: Work,
    task: Option<Task>,
    prepared: Option<Id>,
}

impl Backups {
    /// Nothing was asked for.
    pub fn new() -> Backups {
        Backups { work: Work::Idle, task: None, prepared: None }
    }

    /// As the control socket tells it.
    pub fn state(&self) -> State {
        State { task: self.task.clone(), prepared: self.prepared.clone() }
    }

    /// Are the services to freeze?
    pub fn is_freezing(&self) -> bool {
        matches!(self.work, Work::Freezing(_))
    }

    /// Are they to stop?
    pub fn is_stopping(&self) -> bool {
        self.work == Work::Stopping
    }

    /// Are tasks to be done?
    pub fn is_making(&self) -> bool {
        self.work == Work::Making
    }

    /// Is there time for it, and does it follow from what was done?
    pub fn may(&self, wish: &Wish) -> Result<(), Refusal> {
        match wish {
            Wish::State => Ok(()),
            _ if self.work != Work::Idle => Err(Refusal::Busy),
            Wish::Restore { id } if self.prepared.as_ref() != Some(id) => Err(Refusal::NotPrepared),
            _ => Ok(()),
        }
    }

    /// Something happened.
    pub fn on(&mut self, event: Event) -> Vec<Effect> {
        match event {
            Event::Asked(wish) if self.may(&wish).is_ok() => self.on_asked(wish),
            Event::Left if self.work == Work::Idle => self.clear(vec![]),
            Event::Frozen => self.on_frozen(),
            Event::Reported(report) => self.on_report(report),
            Event::Ended => self.on_ended(),
            Event::Stopped if self.work == Work::Stopping => vec![Effect::Exchange],
            Event::Exchanged(result) if self.work == Work::Stopping => self.on_exchanged(result),
            Event::Made if self.work == Work::Making => self.clear(vec![Effect::StartServices]),
            Event::Timeout => self.on_timeout(),
            Event::Ending => self.on_ending(),
            _ => vec![],
        }
    }

    fn on_asked(&mut self, wish: Wish) -> Vec<Effect> {
        let (job, kin) = match wish {
            Wish::State => return vec![],
            Wish::Create { id, description, lock } => {
                (Job::Create { id, description, lock }, Kin::Nothing)
            }
            Wish::Accept { id, description } => (Job::Accept { id, description }, Kin::Nothing),
            Wish::Describe { id, description } => (Job::Describe { id, description }, Kin::Nothing),
            Wish::Delete { ids } => (Job::Delete { ids }, Kin::Nothing),
            Wish::Prepare { id, key } => (Job::Prepare { id: id.clone(), key }, Kin::Prepared(id)),
            Wish::Erase => (Job::Erase, Kin::Exchange),
            Wish::Restore { id } => {
                self.begin(Some(id));
                return self.stop();
            }
        };
        self.begin(job.id().cloned());
        // What was laid out makes room for it, or loses what it was made of.
        if !matches!(job, Job::Create { .. } | Job::Describe { .. } | Job::Accept { .. }) {
            self.prepared = None;
        }
        if matches!(job, Job::Create { .. }) {
            self.work = Work::Freezing(job);
            return vec![Effect::WakeIn(FREEZES_WITHIN), Effect::Freeze];
        }
        self.work = Work::Working(kin);
        vec![Effect::Order(job)]
    }

    fn begin(&mut self, id: Option<Id>) {
        self.task = Some(Task { id, progress: Progress::default(), outcome: None });
    }

    fn on_frozen(&mut self) -> Vec<Effect> {
        let Work::Freezing(job) = &self.work else { return vec![] };
        let job = job.clone();
        self.work = Work::Holding;
        vec![Effect::WakeIn(HOLDS_WITHIN), Effect::Order(job)]
    }

    fn on_report(&mut self, report: Report) -> Vec<Effect> {
        match (&self.work, report) {
            (Work::Holding, Report::Taken) => {
                self.work = Work::Working(Kin::Nothing);
                vec![Effect::Thaw]
            }
            (Work::Working(Kin::Clearing), Report::Done(_) | Report::Failed(_)) => {
                self.work = Work::Idle;
                vec![]
            }
            (Work::Working(_), Report::Progress(progress)) => {
                self.task.iter_mut().for_each(|task| task.progress = progress);
                vec![]
            }
            (Work::Working(kin), Report::Done(stats)) => {
                let kin = kin.clone();
                self.on_done(kin, stats)
            }
            (Work::Holding | Work::Working(_), Report::Failed(trouble)) => self.fail(trouble),
            _ => vec![],
        }
    }

    fn on_done(&mut self, kin: Kin, stats: Stats) -> Vec<Effect> {
        match kin {
            Kin::Exchange => return self.stop(),
            Kin::Prepared(id) => self.prepared = Some(id),
            Kin::Nothing | Kin::Clearing => {}
        }
        self.over(Ok(stats));
        vec![]
    }

    /// Without a word about what came of it, unless that was told before.
    fn on_ended(&mut self) -> Vec<Effect> {
        match self.work {
            Work::Holding | Work::Working(_) => {
                let mut effects =
                    self.fail(failed("what writes and reads backups ended: the log says why"));
                // One that failed would be started again, with what it was told.
                effects.push(Effect::StopChild);
                effects
            }
            _ => vec![],
        }
    }

    fn stop(&mut self) -> Vec<Effect> {
        self.work = Work::Stopping;
        self.prepared = None;
        vec![Effect::WakeIn(STOPS_WITHIN), Effect::StopServices]
    }

    fn on_exchanged(&mut self, result: Result<(), String>) -> Vec<Effect> {
        match result {
            Ok(()) => {
                self.over(Ok(Stats::default()));
                self.work = Work::Making;
                vec![Effect::WakeIn(MAKES_WITHIN), Effect::Make]
            }
            Err(why) => {
                self.over(Err(failed(&why)));
                self.clear(vec![Effect::StartServices])
            }
        }
    }

    fn clear(&mut self, mut before: Vec<Effect>) -> Vec<Effect> {
        self.work = Work::Working(Kin::Clearing);
        before.push(Effect::Order(Job::Clear));
        before
    }

    fn on_timeout(&mut self) -> Vec<Effect> {
        match self.work {
            Work::Freezing(_) => self.fail(failed("the services didn't freeze in time")),
            Work::Holding => {
                let mut effects = self.fail(failed("there are too many files to hold at once"));
                effects.push(Effect::StopChild);
                effects
            }
            Work::Stopping => vec![Effect::WakeIn(STOPS_WITHIN), Effect::StopServices],
            Work::Making => self.clear(vec![Effect::StartServices]),
            Work::Idle | Work::Working(_) => vec![],
        }
    }

    fn on_ending(&mut self) -> Vec<Effect> {
        match self.work {
            // The frozen couldn't end.
            Work::Freezing(_) | Work::Holding => self.fail(failed("the machine is about to end")),
            _ => {
                self.work = Work::Idle;
                vec![]
            }
        }
    }

    fn fail(&mut self, trouble: Trouble) -> Vec<Effect> {
        let is_frozen = matches!(self.work, Work::Freezing(_) | Work::Holding);
        match self.work {
            Work::Working(Kin::Clearing) => self.work = Work::Idle,
            _ => self.over(Err(trouble)),
        }
        is_frozen.then_some(Effect::Thaw).into_iter().collect()
    }

    fn over(&mut self, outcome: Result<Stats, Trouble>) {
        self.work = Work::Idle;
        self.task.iter_mut().for_each(|task| task.outcome = Some(outcome.clone()));
    }
}

fn failed(why: &str) -> Trouble {
    Trouble::new(Kind::Failed, why)
}

#[cfg(test)]
mod tests;
