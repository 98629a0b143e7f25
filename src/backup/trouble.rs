//! What could not be done: a [`Trouble`] for the Pod API, in the appliance's one grammar.

use std::fmt::Display;
use std::io::{self, ErrorKind};

use appliance::backup::{Kind, Trouble};

/// Gives an error of the system the words of what was attempted.
pub trait OrCannot<T> {
    /// `cannot <verb> <object>: <cause>`; a full disk is a kind of its own.
    fn or_cannot(self, what: impl Display) -> Result<T, Trouble>;
}

impl<T> OrCannot<T> for io::Result<T> {
    fn or_cannot(self, what: impl Display) -> Result<T, Trouble> {
        self.map_err(|error| {
            let kind = match error.kind() {
                ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Kind::NoRoom,
                _ => Kind::Failed,
            };
            Trouble::new(kind, format_args!("cannot {what}: {error}"))
        })
    }
}

impl<T> OrCannot<T> for nix::Result<T> {
    fn or_cannot(self, what: impl Display) -> Result<T, Trouble> {
        self.map_err(io::Error::from).or_cannot(what)
    }
}

/// What was read isn't what was once written.
pub fn damaged(why: impl Display) -> Trouble {
    Trouble::new(Kind::Damaged, format_args!("the backup is damaged: {why}"))
}
