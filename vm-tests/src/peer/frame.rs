//! Ethernet frames, as far as the guest's neighbour needs them: ARP, and UDP in IPv4.

use std::net::{Ipv4Addr, SocketAddrV4};

/// The address of a network card.
pub type Mac = [u8; 6];

/// What a frame of the guest's says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// Who has the address `wanted`?
    WhoHas(WhoHas),
    /// UDP.
    Datagram(Datagram),
}

/// A question of ARP's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WhoHas {
    /// Who asks.
    pub mac: Mac,
    /// Who asks.
    pub address: Ipv4Addr,
    /// Whom it looks for.
    pub wanted: Ipv4Addr,
}

/// UDP in one piece.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Datagram {
    /// The card that sent it.
    pub mac: Mac,
    /// Address and port that sent it.
    pub from: SocketAddrV4,
    /// Where it shall go.
    pub to: SocketAddrV4,
    /// What it carries.
    pub payload: Vec<u8>,
}

const EVERYBODY: Mac = [0xff; 6];
const ARP: [u8; 2] = [0x08, 0x06];
const IPV4: [u8; 2] = [0x08, 0x00];
/// Ethernet, whose addresses have 6 bytes, and IPv4, whose have 4.
const ARP_KIND: [u8; 6] = [0, 1, 0x08, 0x00, 6, 4];
const ARP_QUESTION: [u8; 2] = [0, 1];
const ARP_ANSWER: [u8; 2] = [0, 2];
const UDP: u8 = 17;
const IP_HEADER: usize = 20;
const UDP_HEADER: usize = 8;

impl Frame {
    /// Reads a frame; `None`: it is of another kind, or its checksums are wrong.
    pub fn parse(bytes: &[u8]) -> Option<Frame> {
        let mac = field(bytes, 6)?;
        let body = bytes.get(14..)?;
        match field(bytes, 12)? {
            ARP => WhoHas::parse(body).map(Frame::WhoHas),
            IPV4 => Datagram::parse(mac, body).map(Frame::Datagram),
            _ => None,
        }
    }
}

impl WhoHas {
    fn parse(body: &[u8]) -> Option<WhoHas> {
        let is_question = body.starts_with(&ARP_KIND) && field(body, 6)? == ARP_QUESTION;
        let [address, wanted] = [field(body, 14)?, field(body, 24)?].map(Ipv4Addr::from_octets);
        is_question.then_some(WhoHas { mac: field(body, 8)?, address, wanted })
    }

    /// The frame that says: this card has it.
    pub fn answer(&self, mac: Mac) -> Vec<u8> {
        let mut frame = ethernet(self.mac, mac, ARP);
        frame.extend(ARP_KIND);
        frame.extend(ARP_ANSWER);
        frame.extend(mac);
        frame.extend(self.wanted.octets());
        frame.extend(self.mac);
        frame.extend(self.address.octets());
        frame
    }
}

impl Datagram {
    fn parse(mac: Mac, packet: &[u8]) -> Option<Datagram> {
        let header = usize::from(packet.first()? & 15) * 4;
        let length = usize::from(u16::from_be_bytes(field(packet, 2)?));
        let [from, to] = [field(packet, 12)?, field(packet, 16)?].map(Ipv4Addr::from_octets);
        let is_udp = packet[0] >> 4 == 4 && packet.get(9)? == &UDP;
        if !is_udp || header < IP_HEADER || checksum(packet.get(..header)?) != 0 {
            return None;
        }
        let udp = packet.get(header..length)?;
        let length = usize::from(u16::from_be_bytes(field(udp, 4)?));
        let [from_port, to_port] = [field(udp, 0)?, field(udp, 2)?].map(u16::from_be_bytes);
        let payload = udp.get(UDP_HEADER..length)?.to_vec();
        // IPv4 allows UDP without a checksum.
        let has_sum = field(udp, 6)? != [0, 0];
        if has_sum && checksum(&[&pseudo_header(from, to, length), &udp[..length]].concat()) != 0 {
            return None;
        }
        let (from, to) = (SocketAddrV4::new(from, from_port), SocketAddrV4::new(to, to_port));
        Some(Datagram { mac, from, to, payload })
    }

    /// The frame that brings it to the card `to`.
    pub fn frame(&self, to: Mac) -> Vec<u8> {
        let length = |more: usize| ((self.payload.len() + more) as u16).to_be_bytes();
        let (from, into) = (*self.from.ip(), *self.to.ip());
        let mut udp = [self.from.port().to_be_bytes(), self.to.port().to_be_bytes()].concat();
        udp.extend(length(UDP_HEADER));
        udp.extend([0, 0]);
        udp.extend(&self.payload);
        let sum = checksum(&[&pseudo_header(from, into, udp.len()), &udp[..]].concat());
        // A sum of zero would say that there is none.
        udp.splice(6..8, if sum == 0 { [0xff; 2] } else { sum.to_be_bytes() });
        let mut ip = vec![0x45, 0]; // version 4, five words of header
        ip.extend(length(IP_HEADER + UDP_HEADER));
        ip.extend([0, 0, 0x40, 0, 64, UDP, 0, 0]); // don't fragment; 64 hops
        ip.extend(from.octets());
        ip.extend(into.octets());
        let sum = checksum(&ip).to_be_bytes();
        ip.splice(10..12, sum);
        let to = if into.is_broadcast() { EVERYBODY } else { to };
        [ethernet(to, self.mac, IPV4), ip, udp].concat()
    }
}

fn ethernet(to: Mac, from: Mac, kind: [u8; 2]) -> Vec<u8> {
    [&to[..], &from, &kind].concat()
}

/// What UDP's checksum covers besides UDP itself.
fn pseudo_header(from: Ipv4Addr, to: Ipv4Addr, length: usize) -> Vec<u8> {
    [&from.octets()[..], &to.octets(), &[0, UDP], &(length as u16).to_be_bytes()].concat()
}

/// The Internet checksum; 0 over bytes that carry their own.
fn checksum(bytes: &[u8]) -> u16 {
    let words =
        bytes.chunks(2).map(|pair| u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]));
    let mut sum: u32 = words.map(u32::from).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// The bytes of a field; `None`: they end before.
pub fn field<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GUEST: Mac = [0x52, 0x54, 0, 0x12, 0x34, 0x56];
    const OURS: Mac = [2, 0, 0, 0, 0, 1];

    fn datagram(payload: &[u8]) -> Datagram {
        Datagram {
            mac: GUEST,
            from: "10.9.0.20:1000".parse().unwrap(),
            to: "10.9.0.1:123".parse().unwrap(),
            payload: payload.to_vec(),
        }
    }

    #[test]
    fn a_checksum_is_the_one_of_the_rfc() {
        // RFC 1071, section 3.
        assert_eq!(checksum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), !0xddf2);
        assert_eq!(checksum(&[1]), !0x0100);
        // A header known to be right.
        let header = [
            0x45, 0, 0, 0x73, 0, 0, 0x40, 0, 0x40, 0x11, 0xb8, 0x61, 192, 168, 0, 1, 192, 168, 0,
            199,
        ];
        assert_eq!(checksum(&header), 0);
    }

    #[test]
    fn a_datagram_is_read_as_it_was_written() {
        for payload in [&b""[..], b"odd", b"even", &[0xff; 1400]] {
            let sent = datagram(payload);
            let frame = sent.frame(OURS);
            assert_eq!(frame[..6], OURS);
            assert_eq!(Frame::parse(&frame), Some(Frame::Datagram(sent)));
        }
        let to = SocketAddrV4::new(Ipv4Addr::BROADCAST, 68);
        assert_eq!(Datagram { to, ..datagram(b"x") }.frame(OURS)[..6], EVERYBODY);
    }

    #[test]
    fn a_frame_that_is_torn_or_spoiled_says_nothing() {
        let frame = datagram(b"hello").frame(OURS);
        for length in 0..frame.len() {
            assert_eq!(Frame::parse(&frame[..length]), None, "{length} bytes");
        }
        for at in 14..frame.len() {
            let mut spoiled = frame.clone();
            spoiled[at] ^= 0x10;
            assert_eq!(Frame::parse(&spoiled), None, "byte {at}");
        }
        let mut without_sum = frame;
        without_sum[40..42].fill(0);
        assert!(Frame::parse(&without_sum).is_some());
    }

    #[test]
    fn who_has_an_address_is_asked_and_answered() {
        let mut question = ethernet(EVERYBODY, GUEST, ARP);
        question.extend([0, 1, 8, 0, 6, 4, 0, 1]);
        question.extend(GUEST);
        question.extend([10, 9, 0, 20, 0, 0, 0, 0, 0, 0, 10, 9, 0, 1]);
        let asked =
            WhoHas { mac: GUEST, address: [10, 9, 0, 20].into(), wanted: [10, 9, 0, 1].into() };
        assert_eq!(Frame::parse(&question), Some(Frame::WhoHas(asked)));
        let answer = asked.answer(OURS);
        let expected: [&[u8]; 8] = [
            &GUEST,
            &OURS,
            &ARP,
            &[0, 1, 8, 0, 6, 4, 0, 2],
            &OURS,
            &[10, 9, 0, 1],
            &GUEST,
            &[10, 9, 0, 20],
        ];
        assert_eq!(answer, expected.concat());
        assert_eq!(Frame::parse(&answer), None, "an answer is no question");
    }
}
