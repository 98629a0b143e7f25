//! The network: every Ethernet interface is switched on, and while somebody is at its other end a
//! [`crate::dhcp`] child asks for a lease, which is applied here. IPv6 configures itself, in the
//! kernel.

mod netlink;
pub mod resolver;

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::time::Duration;

use appliance::control::Address;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send,
    socket,
};

use crate::clock::{self, Moment};
use crate::dhcp::report::{Lease, Report};
use crate::log::{error, notice};
use appliance::failure::{Failure, OrCannot as _};
use netlink::{Link, News};

/// Services that wait for the network wait so long at most.
const READY_WITHIN: Duration = Duration::from_secs(5);
/// The group in which the kernel tells of links.
const LINKS: u32 = 1;
/// Longer than any datagram of the kernel's.
const DATAGRAM: usize = 32 * 1024;

/// One line each: address, interface's number, prefix, scope, flags (hexadecimal), name.
const IPV6_ADDRESSES: &str = "/proc/net/if_inet6";
/// A child to start or stop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wish {
    /// For the interface of this name, which has this number.
    Ask(String, u32),
    /// For the interface of this name.
    Leave(String),
}

/// The interfaces and what is lent to them.
#[derive(Debug)]
pub struct Network {
    /// Hears of links.
    news: OwnedFd,
    /// Asks for changes; each answer is there when the request has been sent.
    requests: OwnedFd,
    links: BTreeMap<u32, Link>,
    leases: BTreeMap<u32, Held>,
    /// The list of links is complete.
    is_listed: bool,
    /// May anybody outside be spoken to?
    is_open: bool,
    give_up: Moment,
}

/// A lease, and its end.
#[derive(Debug)]
struct Held {
    lease: Lease,
    until: Moment,
}

impl Network {
    /// Switches the loopback on, and nothing else until it is opened.
    pub fn new() -> Result<Network, Failure> {
        let network = Network {
            news: route_socket(LINKS)?,
            requests: route_socket(0)?,
            links: BTreeMap::new(),
            leases: BTreeMap::new(),
            is_listed: false,
            is_open: false,
            give_up: Moment::MAX,
        };
        network.request(&netlink::switch_on("lo")).or_cannot("switch on lo")?;
        Ok(network)
    }

    /// From here on every interface is switched on that there is, or will be. One way.
    pub fn open(&mut self) -> Result<(), Failure> {
        self.list().or_cannot("list the network's links")?;
        (self.is_open, self.is_listed) = (true, false);
        self.give_up = clock::now() + READY_WITHIN;
        Ok(())
    }

    /// Is there a device that could bring a network, plugged in or not?
    pub fn has_device(&self) -> bool {
        self.links.values().any(|link| link.is_ethernet)
    }

    /// When, at the latest, what waits for the network shall start.
    pub fn deadline(&self) -> Moment {
        self.give_up
    }

    /// Is there a lease, or nothing that could bring one, or no patience left?
    pub fn is_ready(&self, now: Moment) -> bool {
        let is_alone = self.is_listed && !self.links.values().any(|link| link.is_ethernet);
        !self.leases.is_empty() || is_alone || now >= self.give_up
    }

    /// When the first of the leases ends, unless it is renewed.
    pub fn next_end(&self) -> Option<Moment> {
        self.leases.values().map(|held| held.until).min()
    }

    /// Ends the leases whose time is over. Their children tell that too, but not one that was
    /// started anew meanwhile: it knows nothing of what the one before it had won.
    pub fn on_time(&mut self, now: Moment) {
        for index in ended(&self.leases, now) {
            let name = self.links.get(&index).map(|link| link.name.clone()).unwrap_or_default();
            if let Err(failure) = self.lost(index, &name) {
                error!("network: {name}: {failure}");
            }
        }
    }

    /// Reads what the kernel tells of links.
    pub fn read(&mut self) -> Vec<Wish> {
        let mut datagram = vec![0; DATAGRAM];
        match recv(self.news.as_raw_fd(), &mut datagram, MsgFlags::empty()) {
            Ok(length) => {
                datagram.truncate(length);
                let news = netlink::parse(&datagram);
                news.into_iter().filter_map(|news| self.on(news)).collect()
            }
            // Something was lost: the whole list, then.
            Err(Errno::ENOBUFS) => {
                if let Err(errno) = self.list() {
                    error!("cannot list the network's links: {errno}");
                }
                vec![]
            }
            Err(_) => vec![],
        }
    }

    fn on(&mut self, news: News) -> Option<Wish> {
        match news {
            News::Link(_) if !self.is_open => None,
            News::Link(link) => self.on_link(link),
            News::Gone(index) => {
                let link = self.links.remove(&index)?;
                if let Err(failure) = self.lost(index, &link.name) {
                    error!("network: {}: {failure}", link.name);
                }
                Some(Wish::Leave(link.name))
            }
            News::EndOfList => {
                self.is_listed = true;
                None
            }
            News::Answer(_) => None,
        }
    }

    fn on_link(&mut self, link: Link) -> Option<Wish> {
        if !link.is_ethernet {
            return None;
        }
        let before = self.links.get(&link.index);
        if before.is_none()
            && !link.is_up
            && let Err(errno) = self.request(&netlink::switch_on(&link.name))
        {
            error!("cannot switch on {}: {errno}", link.name);
        }
        let wish = wish(before, &link);
        match &wish {
            Some(Wish::Ask(name, _)) => notice!("network: {name}: link up"),
            Some(Wish::Leave(name)) => notice!("network: {name}: link down"),
            None => {}
        }
        self.links.insert(link.index, link);
        wish
    }

    /// Acts on a line that the child for this interface wrote.
    pub fn apply(&mut self, index: u32, line: &str) {
        let Some(name) = self.links.get(&index).map(|link| link.name.clone()) else { return };
        let done =
            Report::from_line(line).or_cannot("accept what its child says").and_then(|report| {
                match report {
                    Report::Lease(lease) => self.lease(index, &name, lease),
                    Report::Lost => self.lost(index, &name),
                }
            });
        if let Err(failure) = done {
            error!("network: {name}: {failure}");
        }
    }

    fn lease(&mut self, index: u32, name: &str, lease: Lease) -> Result<(), Failure> {
        let before = self.leases.remove(&index).map(|held| held.lease);
        let place = |lease: &Lease| (lease.address, lease.prefix, lease.router);
        // First the old one, and with it its route: removed later, an address takes newer ones of
        // its network along.
        if let Some(old) = before.as_ref().filter(|old| place(old) != place(&lease)) {
            let _ = self.request(&netlink::remove_address(index, old));
        }
        self.request(&netlink::add_address(index, &lease)).or_cannot("set the address")?;
        if before.as_ref() != Some(&lease) {
            notice!("network: {name} {lease}");
        }
        let route = lease.router.map(|router| netlink::add_default_route(index, &lease, router));
        let until = clock::now() + Duration::from_secs(lease.seconds.into());
        self.leases.insert(index, Held { lease, until });
        self.write_servers()?;
        // Without the route, neighbours still reach the machine.
        route.map_or(Ok(()), |route| self.request(&route)).or_cannot("set the route")
    }

    fn lost(&mut self, index: u32, name: &str) -> Result<(), Failure> {
        let Some(Held { lease, .. }) = self.leases.remove(&index) else { return Ok(()) };
        notice!("network: {name}: lease lost");
        // It may have run out by itself.
        let _ = self.request(&netlink::remove_address(index, &lease));
        self.write_servers()
    }

    fn write_servers(&self) -> Result<(), Failure> {
        resolver::write_servers(self.leases.values().map(|held| &held.lease))
    }

    /// The addresses that others reach this machine by: leases, and what IPv6 has made itself.
    pub fn addresses(&self) -> Vec<Address> {
        let name = |index| self.links.get(index).map_or_else(String::new, |link| link.name.clone());
        let leases = self.leases.iter().map(|(index, Held { lease, .. })| Address {
            interface: name(index),
            address: format!("{}/{}", lease.address, lease.prefix),
        });
        let ipv6 = fs::read_to_string(IPV6_ADDRESSES).unwrap_or_default();
        leases.chain(ipv6.lines().filter_map(ipv6_address)).collect()
    }

    /// The time servers of all leases, each once.
    pub fn time_servers(&self) -> Vec<Ipv4Addr> {
        let mut servers = vec![];
        for server in self.leases.values().flat_map(|held| &held.lease.time) {
            if !servers.contains(server) {
                servers.push(*server);
            }
        }
        servers
    }

    fn list(&self) -> nix::Result<()> {
        send(self.news.as_raw_fd(), &netlink::list_links(), MsgFlags::empty()).map(drop)
    }

    /// Asks for a change. Netlink answers before the call that sends returns.
    fn request(&self, message: &[u8]) -> nix::Result<()> {
        let socket = self.requests.as_raw_fd();
        send(socket, message, MsgFlags::empty())?;
        let mut datagram = [0; 1024];
        let length = recv(socket, &mut datagram, MsgFlags::empty())?;
        let news = datagram.get(..length).map(netlink::parse).unwrap_or_default();
        match news.first() {
            Some(News::Answer(0)) => Ok(()),
            Some(News::Answer(errno)) => Err(Errno::from_raw(*errno)),
            _ => Err(Errno::EPROTO),
        }
    }
}

impl AsFd for Network {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.news.as_fd()
    }
}

/// The address in such a line, unless it is the loopback's.
fn ipv6_address(line: &str) -> Option<Address> {
    let mut words = line.split_whitespace();
    let address = u128::from_str_radix(words.next()?, 16).ok().map(Ipv6Addr::from)?;
    let prefix = u8::from_str_radix(words.nth(1)?, 16).ok()?;
    let interface = words.nth(2)?.to_owned();
    let address = (!address.is_loopback()).then(|| format!("{address}/{prefix}"))?;
    Some(Address { interface, address })
}

/// The interfaces whose leases are over.
fn ended(leases: &BTreeMap<u32, Held>, now: Moment) -> Vec<u32> {
    leases.iter().filter(|(_, held)| held.until <= now).map(|(index, _)| *index).collect()
}

/// What follows from a link that was so before and is so now.
fn wish(before: Option<&Link>, now: &Link) -> Option<Wish> {
    match (before.is_some_and(|link| link.has_carrier), now.has_carrier) {
        (false, true) => Some(Wish::Ask(now.name.clone(), now.index)),
        (true, false) => Some(Wish::Leave(now.name.clone())),
        _ => None,
    }
}

fn route_socket(groups: u32) -> Result<OwnedFd, Failure> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute);
    let socket = socket.or_cannot("open a netlink socket")?;
    bind(socket.as_raw_fd(), &NetlinkAddr::new(0, groups)).or_cannot("bind a netlink socket")?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_asked_for_while_somebody_is_at_the_other_end() {
        let link = |has_carrier| Link {
            index: 2,
            name: "eth0".into(),
            is_ethernet: true,
            is_up: true,
            has_carrier,
        };
        let ask = Some(Wish::Ask("eth0".into(), 2));
        for (before, now, expected) in [
            (None, false, None),
            (None, true, ask.clone()),
            (Some(false), true, ask),
            (Some(true), true, None),
            (Some(true), false, Some(Wish::Leave("eth0".into()))),
            (Some(false), false, None),
        ] {
            let was = before.map(link);
            assert_eq!(wish(was.as_ref(), &link(now)), expected, "{before:?} -> {now}");
        }
    }

    #[test]
    fn a_lease_ends_with_its_time() {
        let held = |seconds| {
            let (address, prefix) = ([10, 0, 2, 15].into(), 24);
            let lease = Lease { address, prefix, router: None, dns: vec![], time: vec![], seconds };
            Held { lease, until: Duration::from_secs(seconds.into()) }
        };
        let leases = BTreeMap::from([(2, held(60)), (3, held(90)), (4, held(u32::MAX))]);
        for (seconds, expected) in [(59, vec![]), (60, vec![2]), (90, vec![2, 3])] {
            assert_eq!(ended(&leases, Duration::from_secs(seconds)), expected, "{seconds} s");
        }
    }

    #[test]
    fn an_ipv6_address_is_read_from_its_line() {
        let line = |address: &str, name: &str| format!("{address} 02 40 20 80     {name}");
        let table = [
            (line("fe80000000000000505400fffe123456", "eth0"), Some("fe80::5054:ff:fe12:3456/64")),
            (line("00000000000000000000000000000001", "lo"), None),
            (String::new(), None),
            ("x".into(), None),
        ];
        for (line, expected) in table {
            let address = ipv6_address(&line).map(|address| address.address);
            assert_eq!(address.as_deref(), expected, "{line}");
        }
    }
}
