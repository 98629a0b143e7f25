use std::time::Duration;

use super::*;
use crate::lifecycle::Outcome;
use Effect::{Spawn, Terminate};

const DAEMON: Policy = Policy {
    is_task: false,
    ready_within: Duration::from_secs(20),
    stop_within: Duration::from_secs(10),
};
const TASK: Policy = Policy { is_task: true, ..DAEMON };

/// A task, a daemon after it, another after the daemon and the network.
fn supervisor() -> (Supervisor, Id, Id, Id) {
    let mut all = Supervisor::default();
    let keys = all.add("keys", &[], TASK);
    let server = all.add("server", &["keys".into()], DAEMON);
    let front = all.add("front", &["server".into(), "network".into()], DAEMON);
    (all, keys, server, front)
}

/// Only who shall do what, without timers and sayings.
fn deeds(orders: Vec<Order>) -> Vec<(Id, Effect)> {
    let deed = |order| match order {
        Order::Do(id, effect @ (Spawn | Terminate)) => Some((id, effect)),
        _ => None,
    };
    orders.into_iter().filter_map(deed).collect()
}

#[test]
fn a_service_starts_when_all_that_it_is_after_is_up() {
    let (mut all, keys, server, front) = supervisor();
    assert_eq!(deeds(all.start()), [(keys, Spawn)]);
    assert_eq!(deeds(all.on(keys, Event::Exit(Outcome::Failure))), []);
    assert_eq!(deeds(all.on(keys, Event::Timeout)), [(keys, Spawn)]);
    assert_eq!(deeds(all.on(keys, Event::Exit(Outcome::Success))), [(server, Spawn)]);
    assert_eq!(deeds(all.on(server, Event::Ready)), []);
    assert_eq!(deeds(all.reached("network")), [(front, Spawn)]);
}

#[test]
fn what_came_after_a_failed_service_is_left_alone() {
    let (mut all, keys, server, front) = supervisor();
    all.start();
    all.reached("network");
    all.on(keys, Event::Exit(Outcome::Success));
    all.on(server, Event::Ready);
    all.on(front, Event::Ready);
    assert_eq!(deeds(all.on(server, Event::Exit(Outcome::Failure))), []);
    assert_eq!(all.state(front), State::Ready);
    assert_eq!(deeds(all.on(server, Event::Timeout)), [(server, Spawn)]);
}

#[test]
fn services_stop_in_reverse_and_nothing_starts_meanwhile() {
    let (mut all, keys, server, front) = supervisor();
    all.start();
    all.reached("network");
    all.on(keys, Event::Exit(Outcome::Success));
    all.on(server, Event::Ready);
    all.on(front, Event::Ready);
    assert_eq!(deeds(all.end()), [(front, Terminate)]);
    assert_eq!(deeds(all.on(front, Event::Start)), []);
    assert!(!all.has_ended());
    assert_eq!(deeds(all.on(front, Event::Exit(Outcome::Success))), [(server, Terminate)]);
    assert_eq!(all.state(keys), State::Done);
    assert_eq!(deeds(all.on(server, Event::Exit(Outcome::Failure))), []);
    assert!(all.has_ended());
    assert_eq!(deeds(all.on(keys, Event::Start)), []);
}

/// Whatever happens in whatever order: a service never gets a second process beside its first, and
/// the end is reached once every process has gone.
#[test]
fn any_history_keeps_one_process_a_service_and_can_be_ended() {
    for seed in 1..500u32 {
        let mut random = seed;
        let mut draw = |below: u32| {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (random >> 16) % below
        };
        let (mut all, ..) = supervisor();
        let mut alive = [false; 3];
        let obey = |orders: Vec<Order>, alive: &mut [bool; 3]| {
            for order in orders {
                if let Order::Do(id, Spawn) = order {
                    assert!(!alive[id.0], "seed {seed}: a second process of {id:?}");
                    alive[id.0] = true;
                }
            }
        };
        let orders = all.start();
        obey(orders, &mut alive);
        for _ in 0..60 {
            let id = Id(draw(3) as usize);
            let event = match draw(6) {
                0 => Event::Start,
                1 => Event::Ready,
                2 => Event::Stop,
                // A timer may outlive a kill that did nothing; see `KILL_WITHIN`.
                3 if all.state(id) != State::Killing => Event::Timeout,
                4 if alive[id.0] => Event::Exit(Outcome::Success),
                5 if alive[id.0] => Event::Exit(Outcome::Failure),
                _ => continue,
            };
            alive[id.0] &= !matches!(event, Event::Exit(_));
            let orders = all.on(id, event);
            obey(orders, &mut alive);
        }
        all.end();
        for id in [2, 1, 0].map(Id) {
            all.on(id, Event::Exit(Outcome::Failure));
        }
        assert!(all.has_ended(), "seed {seed}: {all:?}");
    }
}
