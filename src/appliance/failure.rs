//! What did not go as it should, in one grammar: a line for the console.

use std::fmt::Display;

/// Prints as `cannot <verb> <object>: <cause>`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot {what}: {cause}")]
pub struct Failure {
    what: String,
    cause: String,
}

impl Failure {
    /// `what` is a verb and its object; `cause` says why it was not done.
    pub fn new(what: impl Display, cause: impl Display) -> Failure {
        Failure { what: what.to_string(), cause: cause.to_string() }
    }
}

/// Gives an error the words of what was attempted.
pub trait OrCannot<T> {
    /// `mount(…).or_cannot("mount /dev")?`; `what` is written out only if it comes to that.
    fn or_cannot(self, what: impl Display) -> Result<T, Failure>;
}

impl<T, E: Display> OrCannot<T> for Result<T, E> {
    fn or_cannot(self, what: impl Display) -> Result<T, Failure> {
        self.map_err(|cause| Failure::new(what, cause))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_says_what_and_why() {
        let failure = Err::<(), _>("no such device").or_cannot(format_args!("mount {}", "/dev"));
        assert_eq!(failure.unwrap_err().to_string(), "cannot mount /dev: no such device");
    }
}
