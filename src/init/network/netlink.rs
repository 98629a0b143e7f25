//! Route netlink, as far as a host needs it: links, addresses, one default route.
//!
//! A message is a header of 16 bytes (length, type, flags, sequence, port), a body of its type's
//! own, and attributes (length, type, value), each padded to 4 bytes. All numbers are the
//! machine's own; addresses are the network's. (`include/uapi/linux/rtnetlink.h` in the kernel.)

use std::net::Ipv4Addr;

use crate::dhcp::report::Lease;

const HEADER: usize = 16;

/// Types of messages.
const ERROR: u16 = 2;
const DONE: u16 = 3;
const NEW_LINK: u16 = 16;
const DELETE_LINK: u16 = 17;
const GET_LINK: u16 = 18;
const NEW_ADDRESS: u16 = 20;
const DELETE_ADDRESS: u16 = 21;
const NEW_ROUTE: u16 = 24;

/// Flags of requests.
const REQUEST: u16 = 1;
const ACKNOWLEDGE: u16 = 4;
const REPLACE: u16 = 0x100;
const DUMP: u16 = 0x300;
const CREATE: u16 = 0x400;

/// Attributes.
const LINK_NAME: u16 = 3;
const ADDRESS: u16 = 1;
const LOCAL_ADDRESS: u16 = 2;
const CACHE: u16 = 6;
const OUT_LINK: u16 = 4;
const GATEWAY: u16 = 5;
const PRIORITY: u16 = 6;
const SOURCE: u16 = 7;

/// Values of bodies.
const INET: u8 = 2;
const MAIN_TABLE: u8 = 254;
const BY_DHCP: u8 = 16;
const UNICAST: u8 = 1;
/// The gateway is on this link, even if no prefix says so.
const ON_LINK: u32 = 4;
const ETHERNET: u16 = 1;
const UP: u32 = 1;
const CARRIER: u32 = 1 << 16;

/// Of several interfaces, the route by the one with the lowest number is preferred.
const FIRST_PRIORITY: u32 = 1024;

/// A network interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its number.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Does it speak Ethernet? (The loopback doesn't.)
    pub is_ethernet: bool,
    /// Is it switched on?
    pub is_up: bool,
    /// Is somebody at the other end?
    pub has_carrier: bool,
}

/// What the kernel says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// A link is so now.
    Link(Link),
    /// The link of this number is gone.
    Gone(u32),
    /// That was the whole list.
    EndOfList,
    /// What was asked for is done (0), or why not (an errno).
    Answer(i32),
}

/// Asks for a [`News::Link`] for each, then [`News::EndOfList`].
pub fn list_links() -> Vec<u8> {
    Message::new(GET_LINK, DUMP, &[0; 16]).finish()
}

/// Switches the link of this name on.
pub fn switch_on(name: &str) -> Vec<u8> {
    let body: [&[u8]; 3] = [&[0; 8], &UP.to_ne_bytes(), &UP.to_ne_bytes()];
    let name = [name.as_bytes(), &[0]].concat();
    Message::new(NEW_LINK, ACKNOWLEDGE, &body.concat()).attribute(LINK_NAME, &name).finish()
}

/// Gives a link the lease's address, for as long as it is lent: the kernel itself takes it away.
pub fn add_address(link: u32, lease: &Lease) -> Vec<u8> {
    let lent = lease.seconds.to_ne_bytes();
    let cache: [&[u8]; 3] = [&lent, &lent, &[0; 8]];
    address(NEW_ADDRESS, CREATE | REPLACE, link, lease).attribute(CACHE, &cache.concat()).finish()
}

/// Takes the lease's address away.
pub fn remove_address(link: u32, lease: &Lease) -> Vec<u8> {
    address(DELETE_ADDRESS, 0, link, lease).finish()
}

fn address(kind: u16, flags: u16, link: u32, lease: &Lease) -> Message {
    let mut body = vec![INET, lease.prefix, 0, 0];
    body.extend(link.to_ne_bytes());
    Message::new(kind, flags | ACKNOWLEDGE, &body)
        .attribute(LOCAL_ADDRESS, &lease.address.octets())
        .attribute(ADDRESS, &lease.address.octets())
}

/// The route to everywhere by `router`. It goes when the address goes.
pub fn add_default_route(link: u32, lease: &Lease, router: Ipv4Addr) -> Vec<u8> {
    let mut body = vec![INET, 0, 0, 0, MAIN_TABLE, BY_DHCP, 0, UNICAST];
    let flags = if lease.reaches(router) { 0 } else { ON_LINK };
    body.extend(flags.to_ne_bytes());
    Message::new(NEW_ROUTE, CREATE | REPLACE | ACKNOWLEDGE, &body)
        .attribute(GATEWAY, &router.octets())
        .attribute(OUT_LINK, &link.to_ne_bytes())
        .attribute(SOURCE, &lease.address.octets())
        .attribute(PRIORITY, &FIRST_PRIORITY.saturating_add(link).to_ne_bytes())
        .finish()
}

struct Message(Vec<u8>);

impl Message {
    fn new(kind: u16, flags: u16, body: &[u8]) -> Message {
        let mut bytes = vec![0; 4]; // the length, in the end
        bytes.extend(kind.to_ne_bytes());
        bytes.extend((flags | REQUEST).to_ne_bytes());
        bytes.resize(HEADER, 0);
        bytes.extend(body);
        Message(bytes)
    }

    fn attribute(mut self, kind: u16, value: &[u8]) -> Message {
        self.0.extend((value.len() as u16 + 4).to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    fn finish(mut self) -> Vec<u8> {
        let length = (self.0.len() as u32).to_ne_bytes();
        self.0.splice(..4, length);
        self.0
    }
}

/// What a datagram from the kernel says.
pub fn parse(mut datagram: &[u8]) -> Vec<News> {
    let mut news = vec![];
    while let Some((kind, body, rest)) = message(datagram) {
        news.extend(match kind {
            NEW_LINK => link(body).map(News::Link),
            DELETE_LINK => number(body, 4).map(News::Gone),
            DONE => Some(News::EndOfList),
            ERROR => number(body, 0).map(|negative| News::Answer((negative as i32).wrapping_neg())),
            _ => None,
        });
        datagram = rest;
    }
    news
}

/// The first message: its type, what comes after the header, and the other messages.
fn message(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = number(bytes, 0)? as usize;
    let kind = u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?);
    let body = bytes.get(HEADER..length)?;
    Some((kind, body, bytes.get(length.next_multiple_of(4)..).unwrap_or_default()))
}

/// A body of type `struct ifinfomsg`: family, hardware type, index, flags.
fn link(body: &[u8]) -> Option<Link> {
    const BODY: usize = 16;
    let [family, _, a, b, ..] = *body else { return None };
    // A bridge speaks of its ports under another family.
    if family != 0 {
        return None;
    }
    let flags = number(body, 8)?;
    Some(Link {
        index: number(body, 4)?,
        name: name(body.get(BODY..)?)?,
        is_ethernet: u16::from_ne_bytes([a, b]) == ETHERNET,
        is_up: flags & UP != 0,
        has_carrier: flags & UP != 0 && flags & CARRIER != 0,
    })
}

/// The value of the name among attributes.
fn name(mut attributes: &[u8]) -> Option<String> {
    loop {
        let [l0, l1, k0, k1, ..] = *attributes else { return None };
        let length = usize::from(u16::from_ne_bytes([l0, l1]));
        let value = attributes.get(4..length)?;
        if u16::from_ne_bytes([k0, k1]) == LINK_NAME {
            let value = value.split(|byte| *byte == 0).next()?;
            return String::from_utf8(value.to_vec()).ok();
        }
        attributes = attributes.get(length.next_multiple_of(4)..)?;
    }
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link_message(kind: u16, family: u8, flags: u32) -> Vec<u8> {
        let mut body = vec![family, 0];
        body.extend(ETHERNET.to_ne_bytes());
        body.extend(2u32.to_ne_bytes());
        body.extend(flags.to_ne_bytes());
        body.extend([0; 4]);
        let message = Message::new(kind, 0, &body).attribute(13, &[1]);
        message.attribute(LINK_NAME, b"eth0\0").attribute(4, &[0; 4]).finish()
    }

    #[test]
    fn a_datagram_of_several_messages_is_understood() {
        let link = |is_up, has_carrier| {
            let name = "eth0".to_owned();
            News::Link(Link { index: 2, name, is_ethernet: true, is_up, has_carrier })
        };
        let answer = Message::new(ERROR, 0, &(-17i32).to_ne_bytes()).finish();
        let datagram = [
            link_message(NEW_LINK, 0, 0),
            link_message(NEW_LINK, 7, 0),
            link_message(NEW_LINK, 0, UP),
            link_message(NEW_LINK, 0, UP | CARRIER),
            link_message(DELETE_LINK, 0, 0),
            answer,
            Message::new(DONE, 0, &[0; 4]).finish(),
        ];
        let expected = [
            link(false, false),
            link(true, false),
            link(true, true),
            News::Gone(2),
            News::Answer(17),
            News::EndOfList,
        ];
        assert_eq!(parse(&datagram.concat()), expected);
    }

    #[test]
    fn a_torn_datagram_is_understood_as_far_as_it_goes() {
        let whole = link_message(NEW_LINK, 0, UP);
        for length in 0..whole.len() {
            assert_eq!(parse(&whole[..length]), [], "{length} bytes");
        }
        let mut lying = whole.clone();
        for length in [0u32, 1, 15, 16, 17, 20, u32::MAX] {
            lying[..4].copy_from_slice(&length.to_ne_bytes());
            assert_eq!(parse(&lying), [], "length {length}");
        }
        let mut lying = whole.clone();
        for length in [0u16, 3, u16::MAX] {
            lying[32..34].copy_from_slice(&length.to_ne_bytes());
            assert_eq!(parse(&lying), [], "attribute length {length}");
        }
    }

    #[test]
    fn a_request_is_laid_out_as_the_kernel_reads_it() {
        let lease = Lease {
            address: [10, 0, 2, 15].into(),
            prefix: 24,
            router: None,
            dns: vec![],
            time: vec![],
            seconds: 60,
        };
        let message = remove_address(2, &lease);
        assert_eq!(message.len(), 16 + 8 + 2 * 8);
        assert_eq!(number(&message, 0), Some(40));
        assert_eq!(message[4..8], [21u16.to_ne_bytes(), 5u16.to_ne_bytes()].concat());
        assert_eq!(message[16..20], [2, 24, 0, 0]);
        assert_eq!(message[24..32], [&[8, 0, 2, 0], &[10, 0, 2, 15][..]].concat());
        let near = add_default_route(2, &lease, [10, 0, 2, 2].into());
        let far = add_default_route(2, &lease, [10, 1, 2, 2].into());
        assert_eq!((number(&near, 24), number(&far, 24)), (Some(0), Some(ON_LINK)));
    }
}
