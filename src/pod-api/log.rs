//! Lines for the journal: one an event, its level first. No secret ever gets here: a
//! [`Secret`](appliance::secret::Secret) shows nothing of itself.

use std::fmt::Display;

/// Something that a healthy Pod says.
pub fn info(text: impl Display) {
    eprintln!("info: {text}");
}

/// Something that heals by itself, or is somebody else's fault.
pub fn warn(text: impl Display) {
    eprintln!("warn: {text}");
}

/// Something that doesn't work.
pub fn error(text: impl Display) {
    eprintln!("error: {text}");
}
