use super::*;
use crate::dhcp::message::tests::{MAC, OPTIONS, answer_packet};

fn client() -> Client {
    Client::new(MAC, "pod".into(), 1)
}

fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn answer(client: &Client, kind: Kind, options: &[u8]) -> Answer {
    Answer::from_packet(&answer_packet(kind, client.transaction, options)).unwrap()
}

/// What was sent, or told, by name.
fn names(actions: &[Action]) -> Vec<&'static str> {
    let name = |action: &Action| match action {
        Action::Send(Query { kind: Kind::Discover, .. }) => "discover",
        Action::Send(Query { renews: Some(_), .. }) => "renew",
        Action::Send(_) => "request",
        Action::Tell(Report::Lease(_)) => "lease",
        Action::Tell(Report::Lost) => "lost",
    };
    actions.iter().map(name).collect()
}

/// A client with a lease of a day that is to be renewed after a minute, asked for at 10 s.
fn bound() -> Client {
    let mut client = client();
    client.on_time(s(9));
    client.on_answer(s(10), &answer(&client, Kind::Offer, OPTIONS));
    let actions = client.on_answer(s(11), &answer(&client, Kind::Ack, OPTIONS));
    assert_eq!(names(&actions), ["lease"]);
    client
}

#[test]
fn a_lease_is_won_in_four_messages() {
    let mut client = client();
    assert_eq!(names(&client.on_time(s(1))), ["discover"]);
    let actions = client.on_answer(s(1), &answer(&client, Kind::Offer, OPTIONS));
    let Some(Action::Send(query)) = actions.first() else { panic!("{actions:?}") };
    assert_eq!(query.takes, Some(([10, 0, 2, 15].into(), [10, 0, 2, 2].into())));
    let actions = client.on_answer(s(2), &answer(&client, Kind::Ack, OPTIONS));
    let lease = Lease {
        address: [10, 0, 2, 15].into(),
        prefix: 24,
        router: Some([10, 0, 2, 2].into()),
        dns: vec![[10, 0, 2, 3].into(), [1, 1, 1, 1].into()],
        time: vec![[10, 0, 2, 4].into()],
        seconds: 86_400,
    };
    assert_eq!(actions, [Action::Tell(Report::Lease(lease))]);
    assert_eq!(client.deadline(), s(1 + 60));
}

#[test]
fn silence_is_met_with_patience_that_doubles() {
    let mut client = client();
    let (mut now, mut waits) = (s(0), vec![]);
    for _ in 0..7 {
        assert_eq!(names(&client.on_time(now)), ["discover"]);
        waits.push((client.deadline() - now).as_secs_f32());
        now = client.deadline();
    }
    for (wait, expected) in waits.iter().zip([4., 8., 16., 32., 64., 64., 64.]) {
        assert!((wait - expected).abs() <= 1., "{waits:?}");
    }
}

#[test]
fn an_offer_whose_taking_is_not_answered_is_forgotten() {
    let mut client = client();
    client.on_time(s(0));
    client.on_answer(s(0), &answer(&client, Kind::Offer, OPTIONS));
    let sent: Vec<_> = (0..4).map(|_| names(&client.on_time(client.deadline()))).collect();
    assert_eq!(sent, [["request"], ["request"], ["discover"], ["discover"]]);
}

#[test]
fn what_is_not_for_this_client_changes_nothing() {
    let mut client = client();
    client.on_time(s(0));
    let deadline = client.deadline();
    let mut other = answer(&client, Kind::Offer, OPTIONS);
    other.transaction ^= 1;
    let mut foreign = answer(&client, Kind::Offer, OPTIONS);
    foreign.mac = [1; 6];
    let no_server = answer(&client, Kind::Offer, &[]);
    let early = answer(&client, Kind::Ack, OPTIONS);
    for answer in [other, foreign, no_server, early] {
        assert_eq!(client.on_answer(s(1), &answer), [], "{answer:?}");
    }
    assert_eq!(client.deadline(), deadline);
}

#[test]
fn an_ack_without_mask_or_time_is_no_lease() {
    let mut client = client();
    client.on_time(s(0));
    client.on_answer(s(0), &answer(&client, Kind::Offer, OPTIONS));
    assert_eq!(client.on_answer(s(0), &answer(&client, Kind::Ack, &[51, 4, 0, 0, 1, 0])), []);
    assert!(matches!(client.stage, Stage::Requesting { .. }));
}

#[test]
fn an_offer_that_would_be_no_lease_is_passed_over() {
    let mut client = client();
    client.on_time(s(0));
    let good = answer(&client, Kind::Offer, OPTIONS);
    let spoilt = |spoil: fn(&mut Answer)| {
        let mut answer = good.clone();
        spoil(&mut answer);
        answer
    };
    for (what, offer) in [
        ("nobody's address", spoilt(|offer| offer.address = Ipv4Addr::UNSPECIFIED)),
        ("the loopback", spoilt(|offer| offer.address = Ipv4Addr::LOCALHOST)),
        ("everybody's address", spoilt(|offer| offer.address = Ipv4Addr::BROADCAST)),
        ("no mask", spoilt(|offer| offer.options.prefix = None)),
        ("a mask of no bits", spoilt(|offer| offer.options.prefix = Some(0))),
        ("no time", spoilt(|offer| offer.options.seconds = None)),
        ("hardly any time", spoilt(|offer| offer.options.seconds = Some(9))),
        ("no server", spoilt(|offer| offer.options.server = None)),
    ] {
        assert_eq!(client.on_answer(s(1), &offer), [], "{what}");
    }
    assert_eq!(names(&client.on_answer(s(1), &good)), ["request"]);
    let nonsense = Answer { kind: Kind::Ack, address: Ipv4Addr::UNSPECIFIED, ..good.clone() };
    assert_eq!(client.on_answer(s(1), &nonsense), []);
    let ack = Answer { kind: Kind::Ack, ..good };
    assert_eq!(names(&client.on_answer(s(1), &ack)), ["lease"]);
}

#[test]
fn a_router_or_server_that_is_no_host_is_left_out() {
    let address = Ipv4Addr::new(10, 0, 2, 15);
    let mut odd = answer(&client(), Kind::Ack, OPTIONS);
    odd.options.dns.insert(0, Ipv4Addr::UNSPECIFIED);
    for router in [Ipv4Addr::UNSPECIFIED, Ipv4Addr::LOCALHOST, address] {
        odd.options.router = Some(router);
        let lease = lease(&odd).unwrap();
        assert_eq!((lease.address, lease.router), (address, None), "{router}");
        assert_eq!(lease.dns, [Ipv4Addr::new(10, 0, 2, 3), Ipv4Addr::new(1, 1, 1, 1)]);
    }
}

/// The moments at which a lease of so many seconds, asked for at 0 s, is to be renewed, and its
/// end.
fn renewals(seconds: u32, renew_after: Option<u32>) -> (Vec<u64>, u64) {
    let mut client = client();
    client.on_time(s(0));
    client.on_answer(s(0), &answer(&client, Kind::Offer, OPTIONS));
    let mut ack = answer(&client, Kind::Ack, OPTIONS);
    ack.options.seconds = Some(seconds);
    ack.options.renew_after = renew_after;
    client.on_answer(s(0), &ack);
    let mut moments = vec![];
    loop {
        let now = client.deadline();
        match names(&client.on_time(now))[..] {
            ["renew"] => moments.push(now.as_secs()),
            ["lost", "discover"] => return (moments, now.as_secs()),
            ref other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_short_lease_is_asked_for_more_than_once() {
    for (seconds, renew_after, expected) in [
        (16, None, vec![8, 12, 14]),
        (120, None, vec![60, 90, 105]),
        (600, None, vec![300, 450, 525, 585]),
        (600, Some(60), vec![60, 330, 465, 532, 592]),
        // It isn't asked for all the time, even if the server says so.
        (600, Some(0), vec![300, 450, 525, 585]),
        (600, Some(4), vec![300, 450, 525, 585]),
        (600, Some(600), vec![300, 450, 525, 585]),
    ] {
        assert_eq!(renewals(seconds, renew_after), (expected, seconds.into()), "{seconds} s");
    }
}

#[test]
fn a_lease_is_renewed_and_counts_from_when_it_was_asked_for() {
    let mut client = bound();
    let actions = client.on_time(s(70));
    assert_eq!(names(&actions), ["renew"]);
    let actions = client.on_answer(s(75), &answer(&client, Kind::Ack, OPTIONS));
    assert_eq!(names(&actions), ["lease"]);
    assert_eq!(client.deadline(), s(70 + 60));
}

#[test]
fn a_lease_that_nobody_renews_runs_out() {
    let mut client = bound();
    let mut asked = 0;
    loop {
        let now = client.deadline();
        let actions = names(&client.on_time(now));
        if actions == ["lost", "discover"] {
            assert_eq!(now, s(10 + 86_400));
            break;
        }
        assert_eq!(actions, ["renew"]);
        asked += 1;
    }
    assert!((8..20).contains(&asked), "asked {asked} times");
}

#[test]
fn a_no_is_taken_for_one() {
    let mut client = bound();
    client.on_time(s(70));
    let no = answer(&client, Kind::Nak, &[]);
    assert_eq!(names(&client.on_answer(s(71), &no)), ["lost", "discover"]);
    client.on_answer(s(72), &answer(&client, Kind::Offer, OPTIONS));
    let no = answer(&client, Kind::Nak, &[]);
    assert_eq!(client.on_answer(s(73), &no), []);
    assert!(client.deadline() >= s(76));
}
