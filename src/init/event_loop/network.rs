//! What the network brings: children that ask for leases, and what these report.

use super::EventLoop;
use crate::clock::Moment;
use crate::dhcp;
use crate::lifecycle::Event;
use crate::log::error;
use crate::network::Wish;
use crate::supervisor::Id;
use crate::worker::{Input, Worker};

impl EventLoop {
    /// An interface has somebody to ask, or nobody any more.
    pub(super) fn grant(&mut self, wish: Wish) {
        match wish {
            Wish::Ask(name, interface) => match self.dhcp.get(&name).copied() {
                Some(id) => {
                    self.with(id, |worker| worker.move_to(Input::Dhcp(interface)));
                    self.tell(id, Event::Start);
                }
                None => match Worker::for_child(dhcp::service(&name), Input::Dhcp(interface)) {
                    Ok(worker) => {
                        let id = self.add(worker);
                        self.dhcp.insert(name, id);
                        self.tell(id, Event::Start);
                    }
                    Err(failure) => error!("{failure}"),
                },
            },
            Wish::Leave(name) => {
                if let Some(id) = self.dhcp.get(&name) {
                    self.tell(*id, Event::Stop);
                }
            }
        }
    }

    /// Links came or went.
    pub(super) fn on_links(&mut self) {
        for wish in self.network.read() {
            self.grant(wish);
        }
        self.look_for_time();
    }

    /// Leases may be over.
    pub(super) fn on_leases(&mut self, now: Moment) {
        if self.network.next_end().is_some_and(|end| end <= now) {
            self.network.on_time(now);
            self.look_for_time();
        }
    }

    /// A child of init's own has something to say.
    pub(super) fn on_reports(&mut self, id: Id) {
        match self.workers.get_mut(id.0).and_then(Worker::on_reports) {
            Some((Input::Dhcp(interface), lines)) => {
                lines.iter().for_each(|line| self.network.apply(interface, line));
                self.look_for_time();
            }
            Some((Input::Time(server), lines)) => {
                lines.iter().for_each(|line| self.on_time_report(server, line));
            }
            Some((Input::Ask, lines)) => lines.iter().for_each(|line| self.on_answer(line)),
            Some((Input::Render, lines)) => {
                lines.iter().for_each(|line| self.on_rendered(id, line));
            }
            Some((Input::Backup | Input::Restore, lines)) => {
                lines.iter().for_each(|line| self.on_backup_line(line));
            }
            Some((Input::Install, lines)) => {
                lines.iter().for_each(|line| self.on_install_line(line));
            }
            Some((Input::TryData | Input::Probe, lines)) => {
                lines.iter().for_each(|line| self.on_probe_line(line));
            }
            // It has nothing to say.
            Some((Input::Read, _)) => {}
            None => {}
        }
    }
}
