//! Whose data it is, and what has to be done about that at the start of a boot. Pure.

use appliance::hash::RootHash;
use serde::{Deserialize, Serialize};

use crate::exchange::Exchange;
use appliance::failure::{Failure, OrCannot as _};

/// A system, as far as its data is concerned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct System {
    /// Its root.
    pub root: RootHash,
    /// Its version, for people.
    pub version: String,
    /// The number of the newest format that it knows, and writes.
    pub data_format: u32,
}

/// How this boot came about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Boot {
    /// What runs.
    pub system: System,
    /// Has it still to prove itself?
    pub is_trial: bool,
    /// Does the loader know the other slot's system as a blessed one?
    pub is_other_blessed: bool,
}

/// `system.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    pub system: System,
    pub before: Option<System>,
}

/// `aside.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marker {
    /// Whose data is kept; of a disk that knew of no system: `None`.
    pub of: Option<RootHash>,
    /// What is tried.
    pub to: System,
    /// Since when, in seconds since 1970.
    pub when: u64,
    /// How it is set back.
    pub exchange: Exchange,
}

/// What the data says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    pub record: Option<Record>,
    pub marker: Option<Marker>,
}

/// What is to be done, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// The data is set back.
    SetBack(Marker),
    /// It is this system's from now on; nothing is kept for another.
    Adopt(System),
    /// It is kept aside.
    Keep,
}

impl Known {
    /// Decides; nothing else.
    pub fn plan(&self, boot: &Boot) -> Result<Vec<Step>, Failure> {
        let running = &boot.system;
        let mut whose = self.record.as_ref().map(|record| &record.system);
        let mut steps = vec![];
        match &self.marker {
            // It goes on with what it has begun.
            Some(marker) if marker.to.root == running.root && boot.is_trial => return Ok(steps),
            // It was blessed, and the power went before the data was told so.
            Some(marker) if marker.to.root == running.root => {
                return Ok(vec![Step::Adopt(running.clone())]);
            }
            // The same, and then it couldn't even boot.
            Some(marker) if marker.of == Some(running.root) && boot.is_other_blessed => {
                steps.push(Step::Adopt(marker.to.clone()));
                whose = Some(&marker.to);
            }
            Some(marker) => steps.push(Step::SetBack(marker.clone())),
            None => {}
        }
        if whose.is_some_and(|whose| whose.root == running.root) {
            return Ok(steps);
        }
        if let Some(whose) = whose {
            must_know(running, whose).or_cannot("use the data")?;
        }
        steps.push(match boot.is_trial {
            true => Step::Keep,
            false => Step::Adopt(running.clone()),
        });
        Ok(steps)
    }
}

/// Can this system read what that one may have written?
pub fn must_know(system: &System, data_of: &System) -> Result<(), String> {
    let System { version, data_format, .. } = system;
    match data_of.data_format <= *data_format {
        true => Ok(()),
        false => Err(format!(
            "the data is of format {}, which version {} wrote; version {version} knows {data_format} \
             at most",
            data_of.data_format, data_of.version
        )),
    }
}
