//! Upgrades, as programs speak of them: the front passes a bundle on, `stele-init` orders, its child
//! (`stele-install`) verifies and writes, and everybody may look at the slots.
//!
//! ```text
//! front ── Wish, over the control socket ──► stele-init ── Order, in a file without a name ──► stele-install
//!       ◄── Accepted, and one end of a stream ──         ◄── Line: a report, as JSON, on stdout ──
//!       ◄══ the stream: the bundle goes in; Line by Line, what becomes of it comes out ══►
//! ```
//!
//! What boots is decided by one sector, [`crate::esp`]; what a bundle is, by [`crate::bundle`].

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::control::Phase;
use crate::hash::RootHash;
use crate::verity::Geometry;
use crate::version::Version;

/// What verifies bundles and writes them.
pub const PROGRAM: &str = "/usr/lib/stele/stele-install";
/// How many verdicts are kept.
pub const MOST_VERDICTS: usize = 8;

/// One of the two places for a system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// Partition `slot-a`, and the ESP's first run.
    A,
    /// Partition `slot-b`, and the ESP's second run.
    B,
}

impl Side {
    /// The other one.
    pub fn other(self) -> Side {
        match self {
            Side::A => Side::B,
            Side::B => Side::A,
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Side::A => "a",
            Side::B => "b",
        })
    }
}

/// What the front wishes ([`crate::control::Verb::Upgrade`]).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Wish {
    /// A bundle comes: [`crate::control::Reply::Accepted`], and with it (`SCM_RIGHTS`) one end of a
    /// stream socket, into which the bundle goes and from which [`Line`]s come.
    Install {
        /// Bytes that who sends it announces, if they do.
        announced: Option<u64>,
    },
    /// The other slot's system shall be tried at the next boot.
    Rollback,
}

/// What the child is told, beside its descriptors: 0 is the stream of the bundle, and answers to
/// whoever sends it; 1 is what PID 1 reads; 3 is the ESP's block device, 4 the other slot's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    /// Where it goes.
    pub side: Side,
    /// Bytes of the bundle, if who sends it has announced them.
    pub announced: Option<u64>,
    /// Whom to believe, and what to believe of.
    pub trust: Trust,
    /// The version that runs.
    pub version: String,
    /// The root that runs: it is never written over, nor installed again.
    pub running: Geometry,
    /// No version before this one is taken.
    pub floor: Option<String>,
    /// What was tried and found bad.
    pub bad: Vec<RootHash>,
    /// The number of the format that the data has: who doesn't know it can't use it.
    pub data_format: u32,
    /// Bytes that the data has room for, beside its reserve, and bytes that keeping it aside takes.
    pub space: Space,
}

/// Room on the data, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Space {
    /// What is free.
    pub free: u64,
    /// What is needed to keep the data aside at the first boot of a new version.
    pub needed: u64,
}

/// Whom an image believes when it is given a successor.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trust {
    /// What a bundle must be of: the recipe's name.
    pub product: String,
    /// The architecture, as Debian calls it.
    pub architecture: String,
    /// Ed25519 public keys, 64 hexadecimal digits each: the one in use, and the next. With none, no
    /// bundle is taken.
    pub keys: Vec<String>,
    /// No version before this one is taken.
    #[serde(default)]
    pub floor: Option<Version>,
}

/// A report of the child, one line of JSON, at most 4096 bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Line {
    /// The manifest is good and fits: writing begins.
    Begun {
        /// What comes.
        version: String,
        /// Which root.
        root_hash: RootHash,
        /// Bytes of the whole bundle.
        total: u64,
    },
    /// So many bytes of it were taken.
    Progress {
        /// Of the bundle.
        done: u64,
    },
    /// Read back, hashed, and armed: it is the next boot's.
    Armed {
        /// What will boot.
        version: String,
        /// Which root.
        root_hash: RootHash,
    },
    /// It wasn't installed. What runs is as it was.
    Failed(Refused),
}

/// Why a bundle wasn't installed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refused {
    /// Which of the reasons.
    pub code: Code,
    /// A sentence for people, with the numbers.
    pub message: String,
}

/// Each reason for which a bundle isn't installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// It doesn't begin as a bundle.
    NotABundle,
    /// It is of a format that isn't known here.
    Format,
    /// This image was built without keys.
    NoKeys,
    /// None of this image's keys signed it.
    UnknownKey,
    /// The signature is wrong.
    Signature,
    /// The manifest, though signed, isn't one.
    Manifest,
    /// It is for another product.
    Product,
    /// It is for another architecture.
    Architecture,
    /// It runs already.
    Running,
    /// It is older than the floor, may not follow what runs, or doesn't know what that has written.
    Downgrade,
    /// It was tried before, and found bad.
    KnownBad,
    /// It is larger than the slot or the ESP's run.
    Size,
    /// The data has no room to be kept aside.
    Space,
    /// What runs is itself on trial.
    Unblessed,
    /// Another one is being installed.
    Busy,
    /// The stream ended early, or stalled.
    Truncated,
    /// There is more than the manifest says.
    Oversized,
    /// A chunk isn't what the manifest says.
    Chunk,
    /// What was written isn't what was read back.
    ReadBack,
    /// The disk isn't laid out as it was made, or can't be written.
    Disk,
    /// The loader was not seen to count tries on this machine.
    NoCounting,
}

/// What a slot holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Slot {
    /// Which.
    pub name: Side,
    /// Does it run?
    pub running: bool,
    /// As the loader sees it.
    pub trust: SlotTrust,
    /// Tries that are left to one on trial.
    pub tries_left: Option<u8>,
    /// The version in it, if it is known.
    pub version: Option<String>,
    /// The root in it, if it is known.
    pub root_hash: Option<RootHash>,
}

/// What the loader makes of a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SlotTrust {
    /// Nothing that boots.
    Empty,
    /// It was healthy.
    Blessed,
    /// It has to prove itself.
    Trial,
    /// It has used up its tries.
    Bad,
}

/// Whether the loader counts tries on this machine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Counting {
    /// No trial has shown it yet.
    #[default]
    Unknown,
    /// A trial boot's counter went down.
    Proved,
    /// A trial boot's counter did not.
    Broken,
    /// This boot didn't come through the loader.
    NotBooted,
}

/// All that is known of upgrades.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// Both slots, or none where the disk has none.
    pub slots: Vec<Slot>,
    /// Does the loader count?
    pub counting: Counting,
    /// The bundle that is being taken, or was last in this boot.
    pub task: Option<Line>,
    /// How this boot proves itself, if it is a trial: each check and whether it passed last.
    pub health: Vec<Check>,
    /// Seconds until the trial ends, if this is one.
    pub trial_ends_in: Option<u64>,
    /// No version before this one is taken.
    pub floor: Option<String>,
    /// Trials that failed, the newest first.
    pub verdicts: Vec<Verdict>,
}

/// One thing that a healthy system does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Check {
    /// Its name: `services`, `crash_loop`, `data`, `xmpp`, `api`, `network`, `loader`.
    pub name: String,
    /// Does it pass?
    pub passes: bool,
    /// Why not; or, if it does, why it didn't when it was looked at last.
    pub why: Option<String>,
}

impl Check {
    /// Does it pass, though not when it was looked at last?
    pub fn is_in_doubt(&self) -> bool {
        self.passes && self.why.is_some()
    }
}

/// Why a trial failed. One root's verdict is final. It is kept on the data, where a version to come may
/// have added to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// What was tried.
    pub version: Option<String>,
    /// Which root.
    pub root_hash: RootHash,
    /// Seconds since 1970.
    pub when: u64,
    /// How far it came, if it left a word.
    pub phase: Option<Phase>,
    /// The check that failed, if one did.
    pub check: Option<String>,
    /// What was said last.
    pub reason: String,
    /// What the console showed before that, the oldest first.
    #[serde(default)]
    pub console_tail: Vec<String>,
}
