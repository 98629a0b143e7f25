//! Who may have how many connections. Pure but for the lock that counts them.
//!
//! Whoever fills the house from outside must not keep `stele-init` from seeing that the front is
//! alive: loopback has places of its own.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Counts connections.
#[derive(Debug, Clone)]
pub struct Door(Arc<Mutex<Count>>);

#[derive(Debug)]
struct Count {
    most: usize,
    most_per_address: usize,
    strangers: usize,
    by_address: BTreeMap<IpAddr, usize>,
}

/// A place in the house, given back when dropped.
#[derive(Debug)]
pub struct Place {
    door: Door,
    address: IpAddr,
}

impl Door {
    /// A door to so many places for other machines, and so many for one address.
    pub fn new(most: usize, most_per_address: usize) -> Door {
        let by_address = BTreeMap::new();
        Door(Arc::new(Mutex::new(Count { most, most_per_address, strangers: 0, by_address })))
    }

    /// A place for this peer, if there is one.
    pub fn enter(&self, peer: IpAddr) -> Option<Place> {
        let address = network_of(peer);
        let mut count = self.count();
        if !address.is_loopback() && count.strangers >= count.most {
            return None;
        }
        let most = count.most_per_address;
        let here = count.by_address.entry(address).or_default();
        if *here >= most {
            return None;
        }
        *here += 1;
        count.strangers += usize::from(!address.is_loopback());
        Some(Place { door: self.clone(), address })
    }

    /// How many are inside.
    pub fn inside(&self) -> usize {
        self.count().by_address.values().sum()
    }

    /// Counting can't fail halfway: a panic elsewhere spoils nothing.
    fn count(&self) -> MutexGuard<'_, Count> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut count = self.door.count();
        count.strangers -= usize::from(!self.address.is_loopback());
        if let Some(here) = count.by_address.get_mut(&self.address) {
            *here -= 1;
            if *here == 0 {
                count.by_address.remove(&self.address);
            }
        }
    }
}

/// Whoever has an address of IPv6 has 2^64 of them, and this machine has all of loopback.
fn network_of(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        address if address.is_loopback() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn enter(door: &Door, peer: &str) -> Option<Place> {
        door.enter(peer.parse().unwrap())
    }

    #[test]
    fn places_are_bounded_and_given_back() {
        let door = Door::new(3, 2);
        let mut places: Vec<Option<Place>> = vec![];
        for (peer, gets_in) in [
            ("10.0.0.1", true),
            ("::ffff:10.0.0.1", true),
            ("10.0.0.1", false), // its third
            ("2001:db8::1", true),
            ("10.0.0.2", false), // the fourth in all
            ("127.0.0.1", true), // which loopback doesn't count for
            ("127.8.9.1", true),
            ("::1", false), // which is one address
            ("127.0.0.1", false),
        ] {
            let place = enter(&door, peer);
            assert_eq!(place.is_some(), gets_in, "{peer}");
            places.push(place);
        }
        assert_eq!(door.inside(), 5);
        drop(places);
        assert_eq!(door.inside(), 0);
        assert!(enter(&door, "10.0.0.1").is_some());
    }

    #[test]
    fn a_network_of_ipv6_counts_as_one() {
        let door = Door::new(9, 2);
        let places = ["2001:db8::1", "2001:db8::ffff:1", "2001:db8::2", "2001:db8:0:1::1"];
        let places = places.map(|peer| enter(&door, peer));
        let got_in = places.each_ref().map(Option::is_some);
        assert_eq!(got_in, [true, true, false, true]);
    }
}
