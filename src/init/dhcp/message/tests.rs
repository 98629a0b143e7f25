use super::*;

pub const MAC: [u8; 6] = [0x52, 0x54, 0, 0x12, 0x34, 0x56];
const ADDRESS_GIVEN: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);

fn query(kind: Kind) -> Query {
    Query { kind, transaction: 7, mac: MAC, host: "pod".into(), renews: None, takes: None }
}

/// A server's packet, built from a client's by turning it round.
pub fn answer_packet(kind: Kind, transaction: u32, options: &[u8]) -> Vec<u8> {
    let mut packet = Query { transaction, ..query(kind) }.to_packet();
    packet.truncate(IP_HEADER + UDP_HEADER + FIXED + COOKIE.len());
    packet.extend([&[KIND, 1, kind as u8], options, &[END]].concat());
    let length = packet.len() as u16;
    packet[2..4].copy_from_slice(&length.to_be_bytes());
    packet[10..12].fill(0);
    let sum = checksum(&packet[..IP_HEADER]);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet[20..24].copy_from_slice(&[0, 67, 0, 68]);
    packet[24..26].copy_from_slice(&(length - 20).to_be_bytes());
    packet[28] = 2;
    packet[44..48].copy_from_slice(&ADDRESS_GIVEN.octets());
    packet
}

pub const OPTIONS: &[u8] = &[
    0, 1, 4, 255, 255, 255, 0, 3, 8, 10, 0, 2, 2, 10, 0, 2, 1, 6, 8, 10, 0, 2, 3, 1, 1, 1, 1, 12,
    2, b'h', b'i', 42, 8, 10, 0, 2, 4, 0, 0, 0, 0, 51, 4, 0, 1, 81, 128, 54, 4, 10, 0, 2, 2, 58, 4,
    0, 0, 0, 60,
];

#[test]
fn an_answer_is_understood() {
    let answer = Answer::from_packet(&answer_packet(Kind::Ack, 7, OPTIONS)).unwrap();
    let expected = Answer {
        kind: Kind::Ack,
        transaction: 7,
        mac: MAC,
        address: ADDRESS_GIVEN,
        options: Options {
            server: Some(Ipv4Addr::new(10, 0, 2, 2)),
            prefix: Some(24),
            router: Some(Ipv4Addr::new(10, 0, 2, 2)),
            dns: vec![Ipv4Addr::new(10, 0, 2, 3), Ipv4Addr::new(1, 1, 1, 1)],
            time: vec![Ipv4Addr::new(10, 0, 2, 4), Ipv4Addr::UNSPECIFIED],
            seconds: Some(86_400),
            renew_after: Some(60),
            kind: Some(Kind::Ack),
        },
    };
    assert_eq!(answer, expected);
}

#[test]
fn a_query_is_laid_out_as_servers_read_it() {
    let mut query = query(Kind::Request);
    query.takes = Some((ADDRESS_GIVEN, Ipv4Addr::new(10, 0, 2, 2)));
    let packet = query.to_packet();
    assert_eq!(checksum(&packet[..IP_HEADER]), 0);
    assert_eq!(packet.len(), IP_HEADER + UDP_HEADER + SHORTEST);
    assert_eq!(usize::from(u16::from_be_bytes([packet[2], packet[3]])), packet.len());
    assert_eq!(&packet[20..24], [0, 68, 0, 67]);
    let message = &packet[IP_HEADER + UDP_HEADER..];
    assert_eq!(&message[..8], [1, 1, 6, 0, 0, 0, 0, 7]);
    assert_eq!(&message[28..34], MAC);
    let options = [
        &[53, 1, 3, 61, 7, 1][..],
        &MAC,
        &[50, 4, 10, 0, 2, 15, 54, 4, 10, 0, 2, 2, 12, 3],
        b"pod",
        &[55, 6, 1, 3, 6, 42, 51, 58, 255],
    ];
    assert_eq!(&message[240..][..options.concat().len()], options.concat());
}

#[test]
fn what_is_no_answer_is_none() {
    let good = answer_packet(Kind::Offer, 7, OPTIONS);
    let spoilt = |at: usize, byte: u8| {
        let mut packet = good.clone();
        packet[at] = byte;
        Answer::from_packet(&packet)
    };
    assert!(Answer::from_packet(&good).is_some());
    assert_eq!(spoilt(0, 0x65), None, "IPv6");
    assert_eq!(spoilt(9, 6), None, "TCP");
    assert_eq!(spoilt(12, 1), None, "a wrong checksum");
    assert_eq!(spoilt(23, 69), None, "another port");
    assert_eq!(spoilt(28, 1), None, "another client's query");
    assert_eq!(spoilt(264, 0), None, "no cookie");
    assert_eq!(spoilt(270, 9), None, "an unknown kind");
    for length in 0..good.len() {
        assert_eq!(Answer::from_packet(&good[..length]), None, "cut to {length} bytes");
    }
}

#[test]
fn options_that_make_no_sense_are_not_there() {
    for (options, expected) in [
        (&[1, 4, 255, 0, 255, 0][..], Options::default()),
        (&[1, 3, 255, 255, 255], Options::default()),
        (&[51], Options::default()),
        (&[51, 200, 0], Options::default()),
        (&[255, 51, 4, 0, 0, 0, 1], Options::default()),
        (&[6, 5, 1, 1, 1, 1, 9], Options { dns: vec![[1, 1, 1, 1].into()], ..Default::default() }),
    ] {
        assert_eq!(Options::parse(options), expected, "{options:?}");
    }
}

/// Whatever bytes come, parsing ends, and with a value.
#[test]
fn a_mutated_packet_is_parsed_or_refused() {
    let good = answer_packet(Kind::Ack, 7, OPTIONS);
    let mut random = 1u32;
    let mut draw = |below: usize| {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (random >> 8) as usize % below
    };
    let mut understood = 0;
    for _ in 0..200_000 {
        let mut packet = good.clone();
        for _ in 0..draw(6) + 1 {
            // Mostly in the headers and options, where it matters.
            let at =
                if draw(3) == 0 { draw(IP_HEADER + 32) } else { 264 + draw(packet.len() - 264) };
            packet[at] = draw(256) as u8;
        }
        if draw(8) == 0 {
            packet.truncate(draw(packet.len()));
        }
        if packet.len() > IP_HEADER {
            packet[10..12].fill(0);
            let sum = checksum(&packet[..IP_HEADER]).to_be_bytes();
            packet[10..12].copy_from_slice(&sum);
        }
        understood += usize::from(Answer::from_packet(&packet).is_some());
        Options::parse(&packet);
    }
    assert!(understood > 1000, "the loop never got past the headers");
}
