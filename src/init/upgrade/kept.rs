//! What boots tell one another of upgrades: a file on the data, for people and for refusing what
//! was bad. What boots is decided by the ESP alone; should this be lost, nothing breaks. Pure.
//!
//! Versions to come may add to it, and versions that were must still read it.

use appliance::control::Phase;
use appliance::esp::Entry;
use appliance::hash::RootHash;
use appliance::upgrade::{Counting, MOST_VERDICTS, Side, Verdict};
use appliance::version::Version;
use serde::{Deserialize, Serialize};

use super::trace::Trace;

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Kept {
    /// Does the loader count?
    pub counting: Counting,
    /// No version before this one is taken.
    pub floor: Option<String>,
    /// Trials that failed, the newest first.
    pub verdicts: Vec<Verdict>,
    /// What lies in the slots: one each, at most.
    pub systems: Vec<System>,
    /// What is to be tried, or is being tried.
    pub tried: Option<Tried>,
    /// Had the last good boot a network device?
    pub had_network: bool,
}

/// What lies in a slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct System {
    /// Which slot.
    pub side: Side,
    /// The image's version.
    pub version: String,
    /// Which root.
    pub root_hash: RootHash,
}

/// What is to prove itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tried {
    /// In which slot.
    pub side: Side,
    /// What it is, if that is known.
    pub system: Option<System>,
    /// The loader was told: else it is still being written.
    pub armed: bool,
}

/// What a boot left that ended before its time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    /// Which system's, if it could say.
    pub root_hash: Option<RootHash>,
    /// Its version, likewise.
    pub version: Option<String>,
    /// How far it came.
    pub phase: Option<Phase>,
    /// When.
    pub when: Option<u64>,
    /// The check that failed.
    pub check: Option<String>,
    /// What was said last.
    pub reason: String,
    /// What the console showed.
    pub console_tail: Vec<String>,
}

impl Kept {
    /// What lies there.
    pub fn of(&self, side: Side) -> Option<&System> {
        self.systems.iter().find(|system| system.side == side)
    }

    /// This lies there.
    pub fn knows(&mut self, system: &System) {
        if self.of(system.side) != Some(system) {
            self.systems.retain(|other| other.side != system.side);
            self.systems.push(system.clone());
            self.systems.sort_by_key(|system| system.side);
        }
    }

    /// A system that was blessed runs. One that nobody here has put there came with a disk that was
    /// written anew, and with that another loader: it gets to show whether it counts.
    pub fn meets(&mut self, running: &System) {
        if self.counting == Counting::Broken && self.of(running.side) != Some(running) {
            self.counting = Counting::Unknown;
        }
    }

    /// Nothing lies there. True: that is news.
    pub fn forget(&mut self, side: Side) -> bool {
        let before = self.systems.len();
        self.systems.retain(|other| other.side != side);
        self.systems.len() != before
    }

    /// This will be tried there, once the loader is told.
    pub fn begins(&mut self, side: Side, system: Option<System>, armed: bool) {
        match &system {
            Some(system) => self.knows(system),
            None => drop(self.forget(side)),
        }
        self.tried = Some(Tried { side, system, armed });
    }

    /// This is being tried: whoever wrote it there may not have had the time to say so.
    pub fn tries(&mut self, running: &System) {
        let (side, system) = (running.side, Some(running.clone()));
        self.tried = Some(Tried { side, system, armed: true });
    }

    /// It is good, whatever was said of it.
    pub fn blessed(&mut self, running: &System) {
        self.tried = None;
        self.verdicts.retain(|verdict| verdict.root_hash != running.root_hash);
        self.knows(running);
    }

    /// No version before `floor` from now on. One that can't be compared changes nothing.
    pub fn raise(&mut self, floor: Option<&str>) {
        let version = |text: &str| Version::try_from(text.to_owned()).ok();
        let Some(floor) = floor.filter(|floor| version(floor).is_some()) else { return };
        let known = self.floor.as_deref().and_then(version);
        if known.is_none_or(|known| version(floor).is_some_and(|floor| floor > known)) {
            self.floor = Some(floor.to_owned());
        }
    }

    /// The boot before this steady one of `running` may have been a trial of the other, which the
    /// ESP lists as `other`: then this is why it isn't running, by the `word` that it left on the data,
    /// or else by its `trace`. True: what it lists must go.
    pub fn settle(
        &mut self,
        running: &System,
        other: &Entry,
        (word, trace): (Option<&Word>, &Trace),
        date: u64,
    ) -> bool {
        // It was blessed, and the power went before that was kept.
        if self.tried.as_ref().is_some_and(|tried| tried.side == running.side) {
            self.blessed(running);
        }
        let tried = self.tried.take();
        let is_armed = tried.as_ref().is_some_and(|tried| tried.armed);
        let has_failed = match other {
            // It was at it, or the loader passed it over.
            Entry::Counted { .. } => true,
            // It was condemned; or still being written, and never tried.
            Entry::Off | Entry::Foreign(_) => is_armed,
            Entry::Blessed { .. } => false,
        };
        let system =
            tried.and_then(|tried| tried.system).or(self.of(running.side.other()).cloned());
        let foreign = |word: &&Word| word.root_hash.is_some_and(|hash| hash != running.root_hash);
        let own = |word: &&Word| word.root_hash.is_none() && has_failed;
        let word = word.filter(|word| foreign(word) || own(word)).cloned();
        let traced = || has_failed.then(|| trace.word(system.is_some(), running.root_hash));
        let word = word.or_else(traced);
        let system = system.filter(|_| has_failed);
        if let Some(verdict) = word.and_then(|word| verdict(system, word, date)) {
            self.verdicts.retain(|other| other.root_hash != verdict.root_hash);
            self.verdicts.insert(0, verdict);
            self.verdicts.truncate(MOST_VERDICTS);
        }
        if !matches!(other, Entry::Blessed { .. }) {
            self.forget(running.side.other());
        }
        matches!(other, Entry::Counted { .. } | Entry::Foreign(_))
    }
}

/// On `system`, if it was tried, by the word that it left.
pub(super) fn verdict(system: Option<System>, word: Word, date: u64) -> Option<Verdict> {
    let root_hash = word.root_hash.or(system.as_ref().map(|it| it.root_hash))?;
    let of_it = system.filter(|system| system.root_hash == root_hash);
    Some(Verdict {
        version: word.version.or(of_it.map(|system| system.version)),
        root_hash,
        when: word.when.unwrap_or(date),
        phase: word.phase,
        check: word.check,
        reason: word.reason,
        console_tail: word.console_tail,
    })
}
