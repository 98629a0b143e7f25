//! What measurements do to the clock: pure.
//!
//! Before the first of a boot nobody has relied on the date, so whatever is off by more than half a
//! second is set right at once. After that the clock is only made faster or slower, unless three
//! measurements in a row agree that it is far off (a machine that slept). It is never set before
//! the floor, nor to a date that no such machine lives to see.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use crate::time::client::ODD;
use crate::time::report::{Measured, Report};

/// So many measurements in a row, all far off and near one another, set a clock that was right.
const AGREEING: usize = 3;
/// How long after its floor a clock can be right, in seconds: 50 years.
const LIFE: i128 = 50 * 365 * 86_400;
const SECOND: i128 = 1_000_000;

/// What shall be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Task {
    /// Ask this server, from anew.
    Follow(Ipv4Addr),
    /// Ask nobody.
    Rest,
    /// Set the clock: add so many microseconds.
    Step(i64),
    /// Let it gain (or lose) so many microseconds bit by bit.
    Slew(i64),
    /// Tell that this would be no date.
    Refuse(i64),
    /// Tell that this server doesn't answer, or doesn't want to.
    GiveUp(Ipv4Addr),
}

/// The servers, and what the clock has gone through.
#[derive(Debug, Default)]
pub struct Keeper {
    servers: Vec<Ipv4Addr>,
    /// Those that want no queries, until the machine starts anew.
    denied: BTreeSet<Ipv4Addr>,
    current: Option<Ipv4Addr>,
    is_synced: bool,
    /// Offsets far off, in a row.
    odd: Vec<i64>,
}

impl Keeper {
    /// Has a server confirmed the date?
    pub fn is_synced(&self) -> bool {
        self.is_synced
    }

    /// Who is asked.
    pub fn server(&self) -> Option<Ipv4Addr> {
        self.current
    }

    /// These are the servers now, the preferred first.
    pub fn offer(&mut self, servers: Vec<Ipv4Addr>) -> Vec<Task> {
        self.servers = servers;
        match self.current {
            Some(current) if self.servers.contains(&current) => vec![],
            _ => self.turn_to(self.servers.first().copied()),
        }
    }

    /// The child has something to say; `date` and `floor` are seconds since 1970.
    pub fn on_report(&mut self, report: Report, date: u64, floor: u64) -> Vec<Task> {
        match report {
            Report::Measured(Measured { offset, .. }) => {
                let task = self.on_offset(offset, date, floor);
                task.into_iter().collect()
            }
            Report::Silent | Report::Denied => {
                let Some(current) = self.current else { return vec![] };
                let next = self.after(current);
                if report == Report::Denied {
                    self.denied.insert(current);
                }
                let mut tasks = vec![Task::GiveUp(current)];
                tasks.extend(self.turn_to(next));
                tasks
            }
        }
    }

    fn on_offset(&mut self, offset: i64, date: u64, floor: u64) -> Option<Task> {
        let is_odd = offset.unsigned_abs() > ODD;
        let at = i128::from(date) * SECOND + i128::from(offset);
        let earliest = i128::from(floor) * SECOND;
        if is_odd && !(earliest..earliest + LIFE * SECOND).contains(&at) {
            return Some(Task::Refuse(offset));
        }
        if !is_odd {
            self.odd.clear();
            self.is_synced = true;
            return Some(Task::Slew(offset));
        }
        if self.odd.first().is_some_and(|first| first.abs_diff(offset) > ODD) {
            self.odd.clear();
        }
        self.odd.push(offset);
        if self.is_synced && self.odd.len() < AGREEING {
            return None;
        }
        self.odd.clear();
        self.is_synced = true;
        Some(Task::Step(offset))
    }

    /// To this server, or to the first after it that wants queries.
    fn turn_to(&mut self, server: Option<Ipv4Addr>) -> Vec<Task> {
        let from = self.servers.iter().position(|known| Some(*known) == server).unwrap_or(0);
        let mut round = self.servers.iter().cycle().skip(from).take(self.servers.len());
        let next = round.find(|server| !self.denied.contains(server)).copied();
        let before = std::mem::replace(&mut self.current, next);
        match next {
            Some(server) => vec![Task::Follow(server)],
            None => before.map(|_| Task::Rest).into_iter().collect(),
        }
    }

    fn after(&self, current: Ipv4Addr) -> Option<Ipv4Addr> {
        self.servers.iter().cycle().skip_while(|server| **server != current).nth(1).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
    const B: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
    const FLOOR: u64 = 1_700_000_000;
    const NOW: u64 = 1_800_000_000;

    fn measured(offset: i64) -> Report {
        Report::Measured(Measured { offset, delay: 1, stratum: 2 })
    }

    #[test]
    fn servers_are_followed_one_after_another() {
        let mut keeper = Keeper::default();
        let mut on = |report| keeper.on_report(report, NOW, FLOOR);
        assert_eq!(on(Report::Silent), []);
        assert_eq!(keeper.offer(vec![]), []);
        assert_eq!(keeper.offer(vec![A, B]), [Task::Follow(A)]);
        assert_eq!(keeper.offer(vec![B, A]), [], "the one that is asked is still there");
        let mut on = |report| keeper.on_report(report, NOW, FLOOR);
        assert_eq!(on(Report::Silent), [Task::GiveUp(A), Task::Follow(B)]);
        assert_eq!(on(Report::Silent), [Task::GiveUp(B), Task::Follow(A)]);
        assert_eq!(on(Report::Denied), [Task::GiveUp(A), Task::Follow(B)]);
        assert_eq!(on(Report::Silent), [Task::GiveUp(B), Task::Follow(B)]);
        assert_eq!(on(Report::Denied), [Task::GiveUp(B), Task::Rest]);
        assert_eq!(keeper.offer(vec![A]), [], "denied once, denied for this boot");
        let mut other = Keeper::default();
        other.offer(vec![A]);
        assert_eq!(other.offer(vec![]), [Task::Rest]);
    }

    #[test]
    fn the_first_measurement_sets_the_clock_and_later_ones_correct_it() {
        let far = 3_600_000_000;
        let mut keeper = Keeper::default();
        let mut on = |offset| keeper.on_report(measured(offset), NOW, FLOOR);
        assert_eq!(on(far), [Task::Step(far)]);
        assert_eq!(on(-20_000), [Task::Slew(-20_000)]);
        assert_eq!(on(500_000), [Task::Slew(500_000)]);
        // One that lies, or two that don't agree, set nothing.
        assert_eq!(on(far), []);
        assert_eq!(on(-far), []);
        assert_eq!(on(far), []);
        assert_eq!(on(7), [Task::Slew(7)]);
        // Three that agree do.
        assert_eq!(on(-far), []);
        assert_eq!(on(-far + 400_000), []);
        assert_eq!(on(-far - 400_000), [Task::Step(-far - 400_000)]);
        assert!(keeper.is_synced());
    }

    #[test]
    fn no_date_before_the_floor_or_beyond_a_life() {
        let seconds = |seconds: i64| seconds * 1_000_000;
        for (offset, expected) in [
            (seconds(-100_000_000), Task::Step(seconds(-100_000_000))),
            (seconds(-100_000_001), Task::Refuse(seconds(-100_000_001))),
            (seconds(1_400_000_000), Task::Step(seconds(1_400_000_000))),
            (seconds(1_500_000_000), Task::Refuse(seconds(1_500_000_000))),
            (i64::MAX, Task::Refuse(i64::MAX)),
            (i64::MIN, Task::Refuse(i64::MIN)),
        ] {
            let mut keeper = Keeper::default();
            let tasks = keeper.on_report(measured(offset), NOW, FLOOR);
            assert_eq!(tasks.first(), Some(&expected));
            assert_eq!(keeper.is_synced(), matches!(expected, Task::Step(_)));
        }
    }
}
