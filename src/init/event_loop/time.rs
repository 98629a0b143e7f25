//! What time servers bring: a child that asks one, and what that does to the clock.

use std::net::Ipv4Addr;

use super::EventLoop;
use crate::lifecycle::Event;
use crate::log::{detail, error, notice, warning};
use crate::time::keeper::Task;
use crate::time::report::Report;
use crate::worker::{Input, Worker};
use crate::{clock, time};
use appliance::failure::{Failure, OrCannot as _};

impl EventLoop {
    /// Leases came or went, and with them servers.
    pub(super) fn look_for_time(&mut self) {
        for task in self.keeper.offer(self.network.time_servers()) {
            self.do_task(task);
        }
    }

    /// The child has something to say.
    pub(super) fn on_time_report(&mut self, server: Ipv4Addr, line: &str) {
        // It may be what the child for the server before has left.
        if self.keeper.server() != Some(server) {
            return;
        }
        let report = match Report::from_line(line) {
            Ok(report) => report,
            Err(refused) => return error!("time: cannot accept what its child says: {refused}"),
        };
        if let Report::Measured(measured) = report {
            detail!("time: {server} measured: {measured:?}");
        }
        let was_synced = self.keeper.is_synced();
        let (date, floor) = (clock::date(), clock::floor());
        for task in self.keeper.on_report(report, date.as_secs(), floor.as_secs()) {
            self.do_task(task);
        }
        if self.keeper.is_synced() && !was_synced {
            notice!("time: synced to {server}");
            self.hourly.is_due();
        }
    }

    fn do_task(&mut self, task: Task) {
        let done = match task {
            Task::Follow(server) => self.follow(server),
            Task::Rest => {
                self.tell_time(Event::Stop);
                Ok(())
            }
            Task::Step(offset) => clock::step(offset),
            Task::Slew(offset) => clock::slew(offset),
            Task::Refuse(offset) => {
                warning!(
                    "time: not set by {:.3} s: before the floor or far in the future",
                    seconds(offset)
                );
                Ok(())
            }
            Task::GiveUp(server) => {
                warning!("time: {server} gives none");
                Ok(())
            }
        };
        if let Err(failure) = done {
            error!("time: {failure}");
        }
    }

    fn follow(&mut self, server: Ipv4Addr) -> Result<(), Failure> {
        let socket = Input::Time(server);
        if let Some(id) = self.time {
            self.with(id, |worker| worker.move_to(socket));
            self.tell(id, Event::Stop);
        } else {
            let service = time::service(clock::floor().as_secs());
            let worker = Worker::for_child(service, socket).or_cannot("ask for the time")?;
            self.time = Some(self.add(worker));
        }
        self.tell_time(Event::Start);
        Ok(())
    }

    fn tell_time(&mut self, event: Event) {
        if let Some(id) = self.time {
            self.tell(id, event);
        }
    }
}

fn seconds(micros: i64) -> f64 {
    micros as f64 / 1e6
}
