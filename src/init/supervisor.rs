//! All services together: who may start, who must stop first. Pure, like [`crate::lifecycle`].
//!
//! A service starts when everything that it is `after` is up, and at the end it stops when
//! everything that is after *it* has stopped. One that fails is started again by itself; what came
//! after it is left alone.

use std::collections::BTreeSet;

use crate::lifecycle::{Effect, Event, Lifecycle, Policy, State};

/// A service, by its place among all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Id(pub usize);

/// What shall be done, and for whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// Its state changed: say so.
    Say(Id, State),
    /// Do this for it.
    Do(Id, Effect),
}

/// All services of an appliance.
#[derive(Debug, Default)]
pub struct Supervisor {
    services: Vec<Member>,
    /// What is up besides services, such as `network`.
    milestones: BTreeSet<String>,
    ending: bool,
}

#[derive(Debug)]
struct Member {
    name: String,
    after: Vec<String>,
    life: Lifecycle,
}

impl Supervisor {
    /// Adds one that waits. It must come after all that it names.
    pub fn add(&mut self, name: &str, after: &[String], policy: Policy) -> Id {
        let life = Lifecycle::new(policy);
        self.services.push(Member { name: name.to_owned(), after: after.to_vec(), life });
        Id(self.services.len() - 1)
    }

    /// Where a service is; one that doesn't exist has stopped.
    pub fn state(&self, id: Id) -> State {
        self.services.get(id.0).map_or(State::Stopped, |service| service.life.state())
    }

    /// Something happened to a service.
    pub fn on(&mut self, id: Id, event: Event) -> Vec<Order> {
        let mut orders = vec![];
        // At the end nothing starts any more.
        if !(self.ending && event == Event::Start) {
            self.step(id, event, &mut orders);
        }
        self.settle(&mut orders);
        orders
    }

    /// Something other than a service is up, such as `network`.
    pub fn reached(&mut self, milestone: &str) -> Vec<Order> {
        self.milestones.insert(milestone.to_owned());
        self.start()
    }

    /// Starts whatever may start.
    pub fn start(&mut self) -> Vec<Order> {
        let mut orders = vec![];
        self.settle(&mut orders);
        orders
    }

    /// The end: stops all, those that others come after last.
    pub fn end(&mut self) -> Vec<Order> {
        self.ending = true;
        self.start()
    }

    /// Has everything stopped?
    pub fn has_ended(&self) -> bool {
        self.ending && self.services.iter().all(|service| service.life.state() == State::Stopped)
    }

    fn settle(&mut self, orders: &mut Vec<Order>) {
        if self.ending {
            // From the last: what comes after a service is looked at before it.
            for id in (0..self.services.len()).rev().map(Id) {
                if self.is_free_to_stop(id) {
                    self.step(id, Event::Stop, orders);
                }
            }
        } else {
            for id in (0..self.services.len()).map(Id) {
                if self.state(id) == State::Waiting && self.is_free_to_start(id) {
                    self.step(id, Event::Start, orders);
                }
            }
        }
    }

    fn step(&mut self, id: Id, event: Event, orders: &mut Vec<Order>) {
        let Some(service) = self.services.get_mut(id.0) else { return };
        let before = service.life.state();
        let effects = service.life.on(event);
        let now = service.life.state();
        if now != before {
            orders.push(Order::Say(id, now));
        }
        orders.extend(effects.into_iter().map(|effect| Order::Do(id, effect)));
    }

    fn is_free_to_start(&self, id: Id) -> bool {
        let is_up = |name: &String| {
            let service = self.services.iter().find(|service| service.name == *name);
            service.map_or_else(|| self.milestones.contains(name), |found| found.life.is_up())
        };
        self.services.get(id.0).is_some_and(|service| service.after.iter().all(is_up))
    }

    fn is_free_to_stop(&self, id: Id) -> bool {
        let Some(this) = self.services.get(id.0) else { return false };
        let mut later = self.services.iter().filter(|service| service.after.contains(&this.name));
        later.all(|service| service.life.state() == State::Stopped)
    }
}

#[cfg(test)]
mod tests;
