//! DHCP messages in their IPv4 and UDP headers: to bytes, and back from bytes that anybody may have
//! sent. (RFC 2131 and RFC 2132; the headers are RFC 791 and RFC 768.)

use std::net::Ipv4Addr;

/// What a message says, by the number that option 53 carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Is there a server?
    Discover = 1,
    /// You may have this.
    Offer = 2,
    /// I take it (again).
    Request = 3,
    /// It is yours.
    Ack = 5,
    /// It isn't.
    Nak = 6,
}

/// A client's message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// [`Kind::Discover`] or [`Kind::Request`].
    pub kind: Kind,
    /// Its answers carry the same.
    pub transaction: u32,
    /// The interface's own address.
    pub mac: [u8; 6],
    /// The machine's name, for the server's list.
    pub host: String,
    /// The address that is in use already, when it is to be renewed.
    pub renews: Option<Ipv4Addr>,
    /// The offer that is taken: an address, and the server that offered it.
    pub takes: Option<(Ipv4Addr, Ipv4Addr)>,
}

/// A server's message, as far as a client wants to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// [`Kind::Offer`], [`Kind::Ack`] or [`Kind::Nak`].
    pub kind: Kind,
    /// That of the query.
    pub transaction: u32,
    /// The client it is for.
    pub mac: [u8; 6],
    /// The client's address to be.
    pub address: Ipv4Addr,
    /// What the options say.
    pub options: Options,
}

/// What is known from options.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// Who answered.
    pub server: Option<Ipv4Addr>,
    /// Length of the network's prefix.
    pub prefix: Option<u8>,
    /// The first router.
    pub router: Option<Ipv4Addr>,
    /// Name servers.
    pub dns: Vec<Ipv4Addr>,
    /// Time servers.
    pub time: Vec<Ipv4Addr>,
    /// For how long the address may be used.
    pub seconds: Option<u32>,
    /// When to renew it.
    pub renew_after: Option<u32>,
    kind: Option<Kind>,
}

const SERVER_PORT: u16 = 67;
const CLIENT_PORT: u16 = 68;
const UDP: u8 = 17;
const IP_HEADER: usize = 20;
const UDP_HEADER: usize = 8;
/// Between the fixed fields and the options.
const COOKIE: [u8; 4] = [99, 130, 83, 99];
/// The fixed fields.
const FIXED: usize = 236;
/// The least that servers expect of a message.
const SHORTEST: usize = 300;

/// Options, by number.
const PAD: u8 = 0;
const MASK: u8 = 1;
const ROUTER: u8 = 3;
const DNS: u8 = 6;
const HOST: u8 = 12;
const TIME: u8 = 42;
const ADDRESS: u8 = 50;
const SECONDS: u8 = 51;
const KIND: u8 = 53;
const SERVER: u8 = 54;
const WANTED: u8 = 55;
const RENEW_AFTER: u8 = 58;
const CLIENT: u8 = 61;
const END: u8 = 255;

impl Query {
    /// The IPv4 packet that carries it, from nobody to everybody.
    pub fn to_packet(&self) -> Vec<u8> {
        let message = self.to_message();
        let length = |more: usize| ((message.len() + more) as u16).to_be_bytes();
        let mut ip = vec![0x45, 0]; // version 4, five words of header
        ip.extend(length(IP_HEADER + UDP_HEADER));
        ip.extend([0, 0, 0x40, 0, 64, UDP, 0, 0]); // don't fragment; 64 hops; checksum to come
        ip.extend(self.renews.unwrap_or(Ipv4Addr::UNSPECIFIED).octets());
        ip.extend(Ipv4Addr::BROADCAST.octets());
        let sum = checksum(&ip).to_be_bytes();
        ip.splice(10..12, sum);
        ip.extend(CLIENT_PORT.to_be_bytes());
        ip.extend(SERVER_PORT.to_be_bytes());
        ip.extend(length(UDP_HEADER));
        ip.extend([0, 0]); // IPv4 allows UDP without a checksum
        ip.extend(message);
        ip
    }

    fn to_message(&self) -> Vec<u8> {
        let mut message = vec![1, 1, 6, 0]; // a request; Ethernet, whose addresses have 6 bytes
        message.extend(self.transaction.to_be_bytes());
        message.extend([0; 4]); // seconds; flags: the answer may be sent to our address alone
        message.extend(self.renews.unwrap_or(Ipv4Addr::UNSPECIFIED).octets());
        message.extend([0; 12]);
        message.extend(self.mac);
        message.resize(FIXED, 0);
        message.extend(COOKIE);
        let mut option = |number: u8, value: &[u8]| {
            message.extend([number, value.len() as u8]);
            message.extend(value);
        };
        option(KIND, &[self.kind as u8]);
        option(CLIENT, &[&[1], &self.mac[..]].concat());
        if let Some((address, server)) = self.takes {
            option(ADDRESS, &address.octets());
            option(SERVER, &server.octets());
        }
        let host = self.host.as_bytes();
        if (1..=63).contains(&host.len()) {
            option(HOST, host);
        }
        option(WANTED, &[MASK, ROUTER, DNS, TIME, SECONDS, RENEW_AFTER]);
        message.push(END);
        message.resize(message.len().max(SHORTEST), PAD);
        message
    }
}

impl Answer {
    /// Reads an IPv4 packet; `None`: it is no answer of a DHCP server, or a broken one.
    ///
    /// UDP's checksum isn't looked at: on a virtual network it may still be outstanding, left to
    /// hardware that doesn't exist.
    pub fn from_packet(packet: &[u8]) -> Option<Answer> {
        let first = *packet.first()?;
        let header = usize::from(first & 15) * 4;
        let length = usize::from(u16::from_be_bytes(field(packet, 2)?));
        let is_whole = first >> 4 == 4 && header >= IP_HEADER && length <= packet.len();
        if !is_whole || *packet.get(9)? != UDP || checksum(packet.get(..header)?) != 0 {
            return None;
        }
        let udp = packet.get(header..length)?;
        let ports = [field(udp, 0)?, field(udp, 2)?].map(u16::from_be_bytes);
        let length = usize::from(u16::from_be_bytes(field(udp, 4)?));
        if ports != [SERVER_PORT, CLIENT_PORT] {
            return None;
        }
        Answer::from_message(udp.get(UDP_HEADER..length)?)
    }

    fn from_message(message: &[u8]) -> Option<Answer> {
        let [operation, hardware, address_length] = field(message, 0)?;
        let cookie: [u8; 4] = field(message, FIXED)?;
        if [operation, hardware, address_length] != [2, 1, 6] || cookie != COOKIE {
            return None;
        }
        let options = Options::parse(message.get(FIXED + COOKIE.len()..)?);
        Some(Answer {
            kind: options.kind?,
            transaction: u32::from_be_bytes(field(message, 4)?),
            mac: field(message, 28)?,
            address: Ipv4Addr::from(field::<4>(message, 16)?),
            options,
        })
    }
}

impl Options {
    /// What cannot be understood is as if it weren't there.
    fn parse(mut bytes: &[u8]) -> Options {
        let mut options = Options::default();
        while let [number, rest @ ..] = bytes {
            bytes = match *number {
                END => break,
                PAD => rest,
                number => {
                    let Some((length, rest)) = rest.split_first() else { break };
                    let Some((value, rest)) = rest.split_at_checked((*length).into()) else {
                        break;
                    };
                    options.take(number, value);
                    rest
                }
            };
        }
        options
    }

    fn take(&mut self, number: u8, value: &[u8]) {
        let address = || field(value, 0).map(Ipv4Addr::from);
        let number_of = || field(value, 0).map(u32::from_be_bytes);
        match number {
            MASK => self.prefix = number_of().and_then(prefix),
            ROUTER => self.router = address(),
            DNS => self.dns = addresses(value),
            TIME => self.time = addresses(value),
            SECONDS => self.seconds = number_of(),
            KIND => self.kind = value.first().copied().and_then(answer_kind),
            SERVER => self.server = address(),
            RENEW_AFTER => self.renew_after = number_of(),
            _ => {}
        }
    }
}

fn addresses(value: &[u8]) -> Vec<Ipv4Addr> {
    let (addresses, _) = value.as_chunks::<4>();
    addresses.iter().copied().map(Ipv4Addr::from).collect()
}

fn answer_kind(number: u8) -> Option<Kind> {
    [Kind::Offer, Kind::Ack, Kind::Nak].into_iter().find(|kind| *kind as u8 == number)
}

/// The length of a mask that is one run of ones.
fn prefix(mask: u32) -> Option<u8> {
    let ones = mask.leading_ones();
    (ones == mask.count_ones()).then_some(ones as u8)
}

/// The Internet checksum; 0 over a header that carries its own.
fn checksum(header: &[u8]) -> u16 {
    let (words, _) = header.as_chunks::<2>();
    let sum: u32 = words.iter().map(|word| u32::from(u16::from_be_bytes(*word))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !((folded & 0xffff) + (folded >> 16)) as u16
}

/// The bytes of a field; `None`: they end before.
fn field<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

#[cfg(test)]
pub mod tests;
