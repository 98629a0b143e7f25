//! How many members there may be. Stele sells no seats: there is a bound only if the operator set one.

use std::num::NonZeroU32;

use crate::member::role_of;
use crate::problem::Problem;
use crate::server::Account;

/// How many of these accounts are members': a service takes no seat.
pub fn seats_taken(accounts: &[Account]) -> usize {
    accounts.iter().filter(|account| role_of(account.role.as_deref()).is_some()).count()
}

/// Is there a seat for one more?
pub fn check(limit: Option<NonZeroU32>, taken: usize) -> Result<(), Problem> {
    let is_full = limit.is_some_and(|limit| taken >= limit.get() as usize);
    if is_full { Err(Problem::user_limit_reached()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_the_limit_or_above_there_is_no_seat() {
        for (limit, taken, has_one) in [
            (None, 0, true),
            (None, 1_000_000, true),
            (Some(2), 1, true),
            (Some(2), 2, false),
            (Some(2), 3, false),
        ] {
            let limit = limit.and_then(NonZeroU32::new);
            assert_eq!(check(limit, taken).is_ok(), has_one, "{limit:?} {taken}");
        }
    }

    #[test]
    fn a_service_takes_none() {
        let account = |role: Option<&str>| Account {
            localpart: "a".into(),
            role: role.map(str::to_owned),
            created: None,
        };
        let accounts = [Some("prosody:admin"), None, Some("prosody:registered")].map(account);
        assert_eq!(seats_taken(&accounts), 2);
    }
}
