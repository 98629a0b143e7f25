//! What the network brings: children that ask for leases, and what these report.

use super::EventLoop;
use crate::lifecycle::Event;
use crate::log::error;
use crate::network::Wish;
use crate::worker::Worker;

impl EventLoop {
    /// An interface has somebody to ask, or nobody any more.
    pub(super) fn grant(&mut self, wish: Wish) {
        match wish {
            Wish::Ask(name, interface) => match self.dhcp.get(&name).copied() {
                Some(id) => {
                    self.with(id, |worker| worker.move_to(interface));
                    self.tell(id, Event::Start);
                }
                None => match Worker::for_dhcp(interface, &name) {
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
}
