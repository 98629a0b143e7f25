//! How a boot came about: by what loader and firmware left word of, and what the ESP lists. Pure.

use appliance::esp::{Entry, Name};
use appliance::upgrade::Side;

/// What the loader left word of: names of files in the ESP's folder of systems.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Passed {
    /// What the firmware says was started. `None`: it wasn't the loader that did.
    pub started: Option<String>,
    /// What the loader called it when it counted a try.
    pub counted: Option<String>,
}

impl Passed {
    /// Did the loader count a try? Then this is a trial, whatever else isn't known.
    pub fn is_counted(&self) -> bool {
        self.counted.is_some()
    }
}

/// How this boot came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Boot {
    /// Not through the loader's list.
    NotBooted,
    /// It is a system that was blessed.
    Steady,
    /// It has to prove itself, and so many tries are left if it doesn't.
    Trial {
        /// Beside this one.
        left: u8,
    },
    /// It isn't blessed, and its tries don't go down: it would be tried for ever.
    Uncounted {
        /// It had a counter, which the loader left as it was.
        is_broken: bool,
    },
}

/// What the ESP lists, for both places.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// In the first run.
    pub a: Entry,
    /// In the second.
    pub b: Entry,
}

impl Listed {
    /// For one place.
    pub fn of(&self, side: Side) -> &Entry {
        match side {
            Side::A => &self.a,
            Side::B => &self.b,
        }
    }
}

/// How this boot came about, `entry` being what the ESP lists for what runs.
pub fn boot(passed: &Passed, entry: &Entry) -> Boot {
    let Some(started) = &passed.started else { return Boot::NotBooted };
    let is = |name: &str| started.eq_ignore_ascii_case(name);
    let counted = passed.counted.as_deref();
    match entry {
        Entry::Blessed { number } if is(&name(*number, None)) => Boot::Steady,
        Entry::Counted { number, left, done } => {
            let name = name(*number, Some((*left, *done)));
            let is_counted = counted.is_some_and(|counted| counted.eq_ignore_ascii_case(&name));
            match is(&name) && is_counted && *done > 0 {
                true => Boot::Trial { left: *left },
                // Nothing was left that could have been taken off.
                false => Boot::Uncounted { is_broken: *left > 0 || counted.is_some() },
            }
        }
        // What a sector that was torn may leave: newer than all, and without a counter.
        Entry::Foreign(name) if is(name) => Boot::Uncounted { is_broken: false },
        _ => Boot::NotBooted,
    }
}

pub(super) fn name(number: u16, tries: Option<(u8, u8)>) -> String {
    Name { number, tries }.to_string()
}
