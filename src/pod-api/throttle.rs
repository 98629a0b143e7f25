//! How many logins may fail: a few at once, then one now and then. For each name, so that its
//! password isn't found by trying; for each address, so that nobody tries many names.
//!
//! And how many letters anybody may have sent who isn't logged in: to each member, from each address,
//! and in all, so that a Pod floods nobody and spends its mail server's patience on nobody.

use std::collections::HashMap;

/// Failures that a name has free.
const NAME: u32 = 20;
/// Failures that an address has free.
const ADDRESS: u32 = 50;
/// After so many seconds, one more is free.
const REGAIN: u64 = 6;
/// Letters that a member gets at once.
const RECIPIENT: u32 = 3;
/// Letters that an address asks for at once.
const REQUESTER: u32 = 10;
/// Letters in all, at once.
const ANYBODY: u32 = 30;
/// After so many seconds, a member may get another, and an address ask for one.
const REGAIN_LETTER: u64 = 10 * 60;
/// After so many seconds, another one may be sent to anybody.
const REGAIN_ANY: u64 = 60;
/// The most that is remembered: what is nearly free again is forgotten first.
const MOST: usize = 4096;

/// Who tries, or what is counted.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Who {
    /// The JID that they say is theirs.
    Name(String),
    /// Where they are.
    Address(String),
    /// Whom a letter goes to: a JID.
    Recipient(String),
    /// Where those are who want one sent.
    Requester(String),
    /// All letters.
    Anybody,
}

impl Who {
    /// What is free at once, and after how many seconds one more is.
    fn bounds(&self) -> (u32, u64) {
        match self {
            Who::Name(_) => (NAME, REGAIN),
            Who::Address(_) => (ADDRESS, REGAIN),
            Who::Recipient(_) => (RECIPIENT, REGAIN_LETTER),
            Who::Requester(_) => (REQUESTER, REGAIN_LETTER),
            Who::Anybody => (ANYBODY, REGAIN_ANY),
        }
    }
}

/// Failures, each as what is left of them: when all are forgiven, in seconds since 1970.
#[derive(Debug, Default)]
pub struct Throttle {
    forgiven: HashMap<Who, u64>,
}

impl Throttle {
    /// May one more be tried? If not: after how many seconds.
    pub fn allows(&self, who: &[Who], now: u64) -> Result<(), u32> {
        let wait = |who: &Who| {
            let (free, regain) = who.bounds();
            let forgiven = self.forgiven.get(who).copied().unwrap_or(now);
            forgiven.saturating_sub(now).saturating_sub(u64::from(free - 1) * regain)
        };
        match who.iter().map(wait).max().unwrap_or(0) {
            0 => Ok(()),
            seconds => Err(u32::try_from(seconds).unwrap_or(u32::MAX)),
        }
    }

    /// One has failed, or was sent.
    pub fn failed(&mut self, who: Vec<Who>, now: u64) {
        for who in who {
            let (_, regain) = who.bounds();
            let forgiven = self.forgiven.entry(who).or_insert(now);
            *forgiven = (*forgiven).max(now) + regain;
        }
        if self.forgiven.len() > MOST {
            self.forgiven.retain(|_, forgiven| *forgiven > now);
        }
        while self.forgiven.len() > MOST {
            let least = self.forgiven.iter().min_by_key(|(_, forgiven)| **forgiven);
            let Some(least) = least.map(|(who, _)| who.clone()) else { return };
            self.forgiven.remove(&least);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_some_failures_one_waits() {
        let mut throttle = Throttle::default();
        let alice = || vec![Who::Name("alice".into()), Who::Address("1".into())];
        for _ in 0..NAME {
            assert_eq!(throttle.allows(&alice(), 1000), Ok(()));
            throttle.failed(alice(), 1000);
        }
        assert_eq!(throttle.allows(&alice(), 1000), Err(REGAIN as u32));
        assert_eq!(throttle.allows(&alice(), 1005), Err(1));
        assert_eq!(throttle.allows(&alice(), 1006), Ok(()));
        // Another name from there may still be tried, and hers stays hers from elsewhere.
        assert_eq!(
            throttle.allows(&[Who::Name("bob".into()), Who::Address("1".into())], 1000),
            Ok(())
        );
        assert!(throttle.allows(&[Who::Name("alice".into())], 1000).is_err());
        for _ in NAME..ADDRESS {
            throttle.failed(vec![Who::Address("1".into())], 1000);
        }
        assert!(
            throttle.allows(&[Who::Name("bob".into()), Who::Address("1".into())], 1000).is_err()
        );
    }

    #[test]
    fn letters_are_few() {
        for (who, free, regain) in [
            (Who::Recipient("alice".into()), RECIPIENT, REGAIN_LETTER),
            (Who::Requester("1".into()), REQUESTER, REGAIN_LETTER),
            (Who::Anybody, ANYBODY, REGAIN_ANY),
        ] {
            let (mut throttle, who) = (Throttle::default(), [who]);
            for _ in 0..free {
                assert_eq!(throttle.allows(&who, 1000), Ok(()));
                throttle.failed(who.to_vec(), 1000);
            }
            assert_eq!(throttle.allows(&who, 1000), Err(regain as u32), "{who:?}");
            assert_eq!(throttle.allows(&who, 1000 + regain), Ok(()), "{who:?}");
        }
    }

    #[test]
    fn it_does_not_grow() {
        let mut throttle = Throttle::default();
        let victim = vec![Who::Name("alice".into())];
        (0..NAME).for_each(|_| throttle.failed(victim.clone(), 1000));
        for number in 0..MOST * 2 {
            throttle.failed(vec![Who::Name(number.to_string())], 1000);
        }
        assert_eq!(throttle.forgiven.len(), MOST);
        assert!(throttle.allows(&victim, 1000).is_err(), "the worst is forgotten last");
    }
}
