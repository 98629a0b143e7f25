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
