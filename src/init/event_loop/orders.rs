//! Carries out what the supervisor orders.

use super::EventLoop;
use crate::clock::{self, Moment};
use crate::lifecycle::{Effect, Event, Outcome, State};
use crate::log::{self, error};
use crate::supervisor::{Id, Order};
use crate::worker::{Start, Worker};

impl EventLoop {
    pub(super) fn tell(&mut self, id: Id, event: Event) {
        let orders = self.supervisor.on(id, event);
        self.obey(orders);
    }

    /// Carries orders out, and those that follow from what happens meanwhile.
    pub(super) fn obey(&mut self, orders: Vec<Order>) {
        orders.into_iter().for_each(|order| self.carry_out(order));
        while let Some((id, event)) = self.happened.pop_front() {
            self.supervisor.on(id, event).into_iter().for_each(|order| self.carry_out(order));
        }
    }

    pub(super) fn carry_out(&mut self, order: Order) {
        let now = clock::now();
        match order {
            Order::Say(id, state) => {
                self.with(id, |worker| {
                    let name = worker.name();
                    log::own(worker.priority(), format_args!("service {name}: {state}"));
                    if state == State::Ready {
                        worker.on_ready(now);
                    }
                });
                self.gate_sees(id, state);
            }
            Order::Do(id, Effect::Spawn) => self.start(id, now),
            Order::Do(id, Effect::Terminate) => self.with(id, |worker| worker.terminate()),
            Order::Do(id, Effect::Kill) => self.with(id, |worker| worker.kill()),
            Order::Do(id, Effect::WakeIn(delay)) => {
                self.with(id, |worker| worker.wake_at(now + delay))
            }
        }
    }

    pub(super) fn start(&mut self, id: Id, now: Moment) {
        let Some(worker) = self.workers.get_mut(id.0) else { return };
        match worker.start(now) {
            Ok(Start::Running) => self.starts.iter_mut().skip(id.0).take(1).for_each(|n| *n += 1),
            Ok(Start::NothingToDo) => {
                self.happened.push_back((id, Event::Exit(Outcome::Success, now)));
            }
            Err(failure) => {
                error!("service {}: {failure}", worker.name());
                self.happened.push_back((id, Event::Exit(Outcome::Failure, now)));
            }
        }
    }

    pub(super) fn with(&mut self, id: Id, act: impl FnOnce(&mut Worker)) {
        if let Some(worker) = self.workers.get_mut(id.0) {
            act(worker);
        }
    }
}
