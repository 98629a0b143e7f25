//! What a failed trial left on the disk, outside of any file system, and what follows from that: of
//! one that left nothing, by elimination. Pure.

use appliance::control::{LastFailure, Phase};
use appliance::hash::RootHash;

use super::kept::Word;

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trace {
    /// It can't be read.
    Unknown,
    /// None.
    Nothing,
    /// That its initrd has begun.
    Begun(LastFailure),
    /// And why it ended.
    Ended(LastFailure),
}

const UNKNOWN: &str = "it left no word: it ended before the data was mounted, or the machine hung";
/// A kernel that panics before its initrd runs has nobody who could write.
const NOTHING: &str = "it never came to its initrd's disk: it could not be loaded, its kernel panicked \
                       or hung before its init ran, or that has no driver for the disk";
const BEGUN: &str = "its initrd began, and nothing came of it: the machine hung or was reset";

impl Trace {
    /// What is said of a trial by which, as far as that is `known`, this was left. `running` isn't it.
    pub fn word(&self, known: bool, running: RootHash) -> Word {
        let none = LastFailure::default();
        let not_own = |said: &LastFailure| said.root_hash != Some(running);
        let (said, reason) = match self {
            Trace::Ended(said) if not_own(said) => (said, said.reason.as_str()),
            Trace::Begun(said) if not_own(said) => (said, BEGUN),
            Trace::Nothing => (&none, NOTHING),
            // What runs said it at a trial of its own, and it could not be blanked since.
            Trace::Unknown | Trace::Begun(_) | Trace::Ended(_) => (&none, UNKNOWN),
        };
        Word {
            // What was armed is the truth: an initrd that pins another root says of that one.
            root_hash: said.root_hash.filter(|_| !known),
            version: said.version.clone().filter(|_| !known),
            phase: said.phase,
            // In the initrd the clock isn't set.
            when: said.when.filter(|_| said.phase != Some(Phase::Initrd)),
            check: said.check.clone(),
            reason: reason.to_owned(),
            console_tail: said.console_tail.clone(),
        }
    }
}
