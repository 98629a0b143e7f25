//! DHCP's messages (RFC 2131 and RFC 2132), as a server reads and writes them.

use std::net::Ipv4Addr;

use super::frame::{Mac, field};

/// What a message says, by the number that option 53 carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Is there a server?
    Discover = 1,
    /// You may have this.
    Offer = 2,
    /// I take it, or keep it.
    Request = 3,
    /// It is yours.
    Ack = 5,
    /// It isn't.
    Nak = 6,
}

/// What the guest asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// [`Kind::Discover`] or [`Kind::Request`].
    pub kind: Kind,
    /// Its answers carry the same.
    pub transaction: [u8; 4],
    /// The guest's card.
    pub mac: Mac,
    /// The address that it has already, and wants to keep.
    pub keeps: Option<Ipv4Addr>,
}

/// What is lent. [`Default`]: an hour of `10.9.0.20/24`, and nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The guest's address.
    pub address: Ipv4Addr,
    /// Its network's mask.
    pub mask: Ipv4Addr,
    /// The way to everywhere else.
    pub router: Option<Ipv4Addr>,
    /// Name servers.
    pub dns: Vec<Ipv4Addr>,
    /// Time servers.
    pub time: Vec<Ipv4Addr>,
    /// For how long, in seconds.
    pub seconds: u32,
    /// When to renew it; else that is for the guest to know.
    pub renew_after: Option<u32>,
}

impl Default for Lease {
    fn default() -> Lease {
        Lease {
            address: [10, 9, 0, 20].into(),
            mask: [255, 255, 255, 0].into(),
            router: None,
            dns: vec![],
            time: vec![],
            seconds: 3600,
            renew_after: None,
        }
    }
}

/// Where a message carries the client's address to be, and where its options begin.
pub const ADDRESS: usize = 16;
/// See [`ADDRESS`].
pub const OPTIONS: usize = 240;
const COOKIE: [u8; 4] = [99, 130, 83, 99];
const FIXED: usize = 236;

impl Query {
    /// Reads a client's message.
    pub fn parse(message: &[u8]) -> Option<Query> {
        let is_query = message.first() == Some(&1) && field(message, FIXED)? == COOKIE;
        let kind = option(message.get(OPTIONS..)?, 53).filter(|_| is_query)?;
        let kinds = [Kind::Discover, Kind::Request];
        let keeps = Ipv4Addr::from_octets(field(message, 12)?);
        Some(Query {
            kind: kinds.into_iter().find(|known| kind == [*known as u8])?,
            transaction: field(message, 4)?,
            mac: field(message, 28)?,
            keeps: (!keeps.is_unspecified()).then_some(keeps),
        })
    }

    /// The message that answers it, from the server with this address.
    pub fn answer(&self, kind: Kind, server: Ipv4Addr, lease: &Lease) -> Vec<u8> {
        let mut message = vec![2, 1, 6, 0]; // an answer; Ethernet, whose addresses have 6 bytes
        message.extend(self.transaction);
        message.resize(ADDRESS, 0);
        if kind != Kind::Nak {
            message.extend(lease.address.octets());
        }
        message.resize(28, 0);
        message.extend(self.mac);
        message.resize(FIXED, 0);
        message.extend(COOKIE);
        let mut option = |number: u8, value: &[u8]| {
            message.extend([number, value.len() as u8]);
            message.extend(value);
        };
        let seconds = |seconds: u32| seconds.to_be_bytes();
        option(53, &[kind as u8]);
        option(54, &server.octets());
        if kind != Kind::Nak {
            option(1, &lease.mask.octets());
            option(51, &seconds(lease.seconds));
            lease.renew_after.iter().for_each(|after| option(58, &seconds(*after)));
            lease.router.iter().for_each(|router| option(3, &router.octets()));
            for (number, servers) in [(6, &lease.dns), (42, &lease.time)] {
                let servers: Vec<u8> = servers.iter().flat_map(Ipv4Addr::octets).collect();
                if !servers.is_empty() {
                    option(number, &servers);
                }
            }
        }
        message.push(255);
        message
    }
}

/// The value of the option of this number.
fn option(mut options: &[u8], wanted: u8) -> Option<&[u8]> {
    loop {
        match *options {
            [0, ref rest @ ..] => options = rest,
            [255, ..] | [] | [_] => return None,
            [number, length, ref rest @ ..] => {
                let (value, rest) = rest.split_at_checked(length.into())?;
                if number == wanted {
                    return Some(value);
                }
                options = rest;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A client's message with these options.
    fn query(options: &[u8]) -> Vec<u8> {
        let mut message = vec![1, 1, 6, 0, 7, 7, 7, 7];
        message.resize(28, 0);
        message.extend([1, 2, 3, 4, 5, 6]);
        message.resize(FIXED, 0);
        message.extend(COOKIE);
        message.extend(options);
        message
    }

    #[test]
    fn a_query_is_understood_and_anything_else_is_none() {
        let expected = |kind| {
            let (transaction, mac) = ([7; 4], [1, 2, 3, 4, 5, 6]);
            Some(Query { kind, transaction, mac, keeps: None })
        };
        let table: [(&[u8], _); 6] = [
            (&[53, 1, 1, 255], expected(Kind::Discover)),
            (&[0, 12, 3, 1, 2, 3, 53, 1, 3], expected(Kind::Request)),
            (&[53, 1, 5], None),
            (&[255, 53, 1, 1], None),
            (&[53, 200, 1], None),
            (&[], None),
        ];
        for (options, expected) in table {
            assert_eq!(Query::parse(&query(options)), expected, "{options:?}");
        }
        let mut renewal = query(&[53, 1, 3]);
        renewal[12..16].copy_from_slice(&[10, 9, 0, 20]);
        let keeps = Query::parse(&renewal).unwrap().keeps;
        assert_eq!(keeps, Some([10, 9, 0, 20].into()));
        assert_eq!(Query::parse(&renewal[..200]), None);
    }

    #[test]
    fn an_answer_carries_the_lease_and_a_no_carries_none() {
        let server = Ipv4Addr::new(10, 9, 0, 1);
        let query = Query::parse(&query(&[53, 1, 1])).unwrap();
        let lease = Lease {
            router: Some(server),
            dns: vec![server, [9, 9, 9, 9].into()],
            renew_after: Some(5),
            ..Lease::default()
        };
        let ack = query.answer(Kind::Ack, server, &lease);
        assert_eq!((&ack[..8], &ack[28..34]), (&[2, 1, 6, 0, 7, 7, 7, 7][..], &query.mac[..]));
        assert_eq!(ack[ADDRESS..ADDRESS + 4], [10, 9, 0, 20]);
        let options: [(u8, Option<&[u8]>); 8] = [
            (53, Some(&[5])),
            (54, Some(&[10, 9, 0, 1])),
            (1, Some(&[255, 255, 255, 0])),
            (51, Some(&[0, 0, 14, 16])),
            (58, Some(&[0, 0, 0, 5])),
            (3, Some(&[10, 9, 0, 1])),
            (6, Some(&[10, 9, 0, 1, 9, 9, 9, 9])),
            (42, None),
        ];
        for (number, expected) in options {
            assert_eq!(option(&ack[OPTIONS..], number), expected, "option {number}");
        }
        let nak = query.answer(Kind::Nak, server, &lease);
        assert_eq!(nak[ADDRESS..ADDRESS + 4], [0; 4]);
        assert_eq!(nak[OPTIONS..], [53, 1, 6, 54, 4, 10, 9, 0, 1, 255]);
    }
}
