use super::*;
use std::thread;

const GUEST: Mac = [0x52, 0x54, 0, 0x12, 0x34, 0x56];

fn from_guest(port: u16, to: Ipv4Addr, payload: Vec<u8>) -> Vec<u8> {
    let from = SocketAddrV4::new([10, 9, 0, 20].into(), port);
    Datagram { mac: GUEST, from, to: SocketAddrV4::new(to, port), payload }.frame(OURS)
}

fn dhcp_query(kind: Kind, keeps: [u8; 4]) -> Vec<u8> {
    let mut message = vec![1, 1, 6, 0, 7, 7, 7, 7];
    message.resize(12, 0);
    message.extend(keeps);
    message.resize(28, 0);
    message.extend(GUEST);
    message.resize(236, 0);
    message.extend([99, 130, 83, 99, 53, 1, kind as u8, 255]);
    from_guest(DHCP_SERVER, Ipv4Addr::BROADCAST, message)
}

/// The kinds of the DHCP messages in these frames.
fn kinds(frames: &[Vec<u8>]) -> Vec<u8> {
    let kind = |frame: &Vec<u8>| match Frame::parse(frame) {
        Some(Frame::Datagram(datagram)) => datagram.payload[dhcp::OPTIONS + 2],
        other => panic!("{other:?}"),
    };
    frames.iter().map(kind).collect()
}

#[test]
fn each_conduct_has_its_answers() {
    let (discover, take) = (dhcp_query(Kind::Discover, [0; 4]), dhcp_query(Kind::Request, [0; 4]));
    let keep = dhcp_query(Kind::Request, [10, 9, 0, 20]);
    let kept = Asked::Keep([10, 9, 0, 20].into());
    for (conduct, frame, expected, asked) in [
        (Dhcp::Lends, &discover, vec![Kind::Offer as u8], Asked::Discover),
        (Dhcp::Lends, &take, vec![Kind::Ack as u8], Asked::Take),
        (Dhcp::Lends, &keep, vec![Kind::Ack as u8], kept),
        (Dhcp::Silent, &discover, vec![], Asked::Discover),
        (Dhcp::Silent, &keep, vec![], kept),
        (Dhcp::Refuses, &discover, vec![Kind::Offer as u8], Asked::Discover),
        (Dhcp::Refuses, &take, vec![Kind::Nak as u8], Asked::Take),
        (Dhcp::Refuses, &keep, vec![Kind::Nak as u8], kept),
    ] {
        let peer = Peer { dhcp: conduct, ..Peer::silent() };
        let (answers, heard) = peer.on(frame, Duration::ZERO);
        assert_eq!((kinds(&answers), heard), (expected, Some(asked)), "{conduct:?} {asked:?}");
    }
    let spoil: Vec<Spoil> = vec![|message| message[dhcp::OPTIONS + 2] = 77];
    let peer = Peer { spoil, ..Peer::lends(Lease::default()) };
    assert_eq!(kinds(&peer.on(&discover, Duration::ZERO).0), [77, Kind::Offer as u8]);
}

#[test]
fn time_servers_say_what_the_story_wants() {
    let server = Ipv4Addr::new(10, 9, 0, 4);
    let peer = Peer::silent().with_time(server, Says::Deny);
    let mut query = vec![0; 48];
    query[0] = 0x23;
    let asked = |to| peer.on(&from_guest(SNTP, to, query.clone()), Duration::ZERO);
    let (answers, heard) = asked(server);
    assert_eq!((answers.len(), heard), (1, Some(Asked::Time(server))));
    let (answers, heard) = asked(SERVER);
    assert_eq!((answers.len(), heard), (0, Some(Asked::Time(SERVER))));
}

#[test]
fn the_guests_own_address_is_nobody_elses() {
    let who_has = |wanted: [u8; 4]| WhoHas {
        mac: GUEST,
        address: [10, 9, 0, 20].into(),
        wanted: wanted.into(),
    };
    let peer = Peer::silent();
    assert_eq!(peer.on_who_has(&who_has([10, 9, 0, 1])).len(), 1);
    assert_eq!(peer.on_who_has(&who_has([10, 9, 0, 20])).len(), 0);
}

#[test]
fn what_is_heard_can_be_awaited_and_the_thread_ends_when_it_is_unplugged() {
    let (cable, qemus) = Cable::new(Peer::lends(Lease::default())).unwrap();
    let qemus = UnixDatagram::from(qemus);
    let watch = Arc::new(Watch::new(1));
    let serving = thread::spawn({
        let (cable, watch) = (cable.try_clone().unwrap(), Arc::clone(&watch));
        move || serve(&cable, tempfile::tempfile().unwrap(), Instant::now(), &watch)
    });
    let mut answer = [0; 2048];
    qemus.send(&dhcp_query(Kind::Discover, [0; 4])).unwrap();
    assert!(qemus.recv(&mut answer).unwrap() > 240);
    cable.peer().dhcp = Dhcp::Silent;
    qemus.send(b"torn").unwrap();
    qemus.send(&dhcp_query(Kind::Request, [0; 4])).unwrap();
    let what = "two questions";
    let heard = watch.wait(what, Duration::from_secs(20), |seen| {
        (seen.heard.len() == 2).then(|| seen.heard.clone())
    });
    let heard: Vec<Asked> = heard.unwrap().iter().map(|heard| heard.what).collect();
    assert_eq!(heard, [Asked::Discover, Asked::Take]);
    cable.unplug();
    serving.join().unwrap();
}
