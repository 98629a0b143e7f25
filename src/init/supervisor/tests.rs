use std::time::Duration;

use super::*;
use crate::clock::Moment;
use crate::lifecycle::Outcome;
use Effect::{Spawn, Terminate};

fn exit(outcome: Outcome) -> Event {
    Event::Exit(outcome, Moment::ZERO)
}

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
    assert_eq!(deeds(all.on(keys, exit(Outcome::Failure))), []);
    assert_eq!(deeds(all.on(keys, Event::Timeout)), [(keys, Spawn)]);
    assert_eq!(deeds(all.on(keys, exit(Outcome::Success))), [(server, Spawn)]);
    assert_eq!(deeds(all.on(server, Event::Ready)), []);
    assert_eq!(deeds(all.reached("network")), [(front, Spawn)]);
}

#[test]
fn what_came_after_a_failed_service_is_left_alone() {
    let (mut all, keys, server, front) = supervisor();
    all.start();
    all.reached("network");
    all.on(keys, exit(Outcome::Success));
    all.on(server, Event::Ready);
    all.on(front, Event::Ready);
    assert_eq!(deeds(all.on(server, exit(Outcome::Failure))), []);
    assert_eq!(all.state(front), State::Ready);
    assert_eq!(deeds(all.on(server, Event::Timeout)), [(server, Spawn)]);
}

#[test]
fn services_stop_in_reverse_and_nothing_starts_meanwhile() {
    let (mut all, keys, server, front) = supervisor();
    all.start();
    all.reached("network");
    all.on(keys, exit(Outcome::Success));
    all.on(server, Event::Ready);
    all.on(front, Event::Ready);
    assert_eq!(deeds(all.end()), [(front, Terminate)]);
    assert_eq!(deeds(all.on(front, Event::Start)), []);
    assert!(!all.has_ended());
    assert_eq!(deeds(all.on(front, exit(Outcome::Success))), [(server, Terminate)]);
    assert_eq!(all.state(keys), State::Done);
    assert_eq!(deeds(all.on(server, exit(Outcome::Failure))), []);
    assert!(all.has_ended());
    assert_eq!(deeds(all.on(keys, Event::Start)), []);
}

/// What the world may do, over and over: time passes, processes end or hang, proofs come, somebody
/// wants this or that.
struct World {
    all: Supervisor,
    now: Moment,
    /// Each service's process, and its one timer.
    processes: [bool; 3],
    timers: [Option<Moment>; 3],
}

impl World {
    fn obey(&mut self, orders: Vec<Order>, seed: u32) {
        for order in orders {
            match order {
                Order::Do(id, Spawn) => {
                    let process = &mut self.processes[id.0];
                    assert!(!*process, "seed {seed}: a second process of {id:?}");
                    *process = true;
                    self.timers[id.0] = None;
                }
                Order::Do(id, Effect::WakeIn(delay)) => {
                    self.timers[id.0] = Some(self.now + delay);
                }
                _ => {}
            }
        }
        for (id, process) in self.processes.iter().enumerate() {
            let state = self.all.state(Id(id));
            let is_bounded = self.timers[id].is_some()
                || matches!(state, State::Waiting | State::Ready | State::Done | State::Stopped);
            assert!(is_bounded, "seed {seed}: {id} is {state:?} without a deadline");
            let needs_none = matches!(state, State::Backoff(_) | State::CrashLoop | State::Done);
            assert!(!(*process && needs_none), "seed {seed}: {id} is {state:?} with a process");
        }
    }

    fn tell(&mut self, id: Id, event: Event, seed: u32) {
        if let Event::Exit(..) = event {
            self.processes[id.0] = false;
        }
        let orders = self.all.on(id, event);
        self.obey(orders, seed);
    }

    /// The next timer of all.
    fn ring(&mut self, seed: u32) -> bool {
        let next = (0..3).filter_map(|id| Some((self.timers[id]?, id))).min();
        let Some((at, id)) = next else { return false };
        self.now = self.now.max(at);
        self.timers[id] = None;
        self.tell(Id(id), Event::Timeout, seed);
        true
    }
}

#[test]
fn any_history_keeps_one_process_a_service_and_a_deadline_and_can_be_ended() {
    for seed in 1..2000u32 {
        let mut random = seed;
        let mut draw = |below: u32| {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (random >> 16) % below
        };
        let (all, ..) = supervisor();
        let (now, processes, timers) = (Moment::ZERO, [false; 3], [None; 3]);
        let mut world = World { all, now, processes, timers };
        let orders = world.all.start();
        world.obey(orders, seed);
        for _ in 0..80 {
            let id = Id(draw(3) as usize);
            let at = world.now + Duration::from_millis(draw(2000).into());
            world.now = at;
            match draw(8) {
                0 => world.tell(id, Event::Start, seed),
                1 => world.tell(id, Event::Ready, seed),
                2 => world.tell(id, Event::Stop, seed),
                3 if world.processes[id.0] => world.tell(id, Event::Hung, seed),
                4 if world.processes[id.0] => {
                    world.tell(id, Event::Exit(Outcome::Success, at), seed);
                }
                5 if world.processes[id.0] => {
                    world.tell(id, Event::Exit(Outcome::Failure, at), seed);
                }
                6 => drop(world.ring(seed)),
                _ => {}
            }
        }
        // The end comes even if no process ever ends: by time alone, and within its bounds.
        let began = world.now;
        let orders = world.all.end();
        world.obey(orders, seed);
        while !world.all.has_ended() && world.ring(seed) {}
        assert!(world.all.has_ended(), "seed {seed}: {:?}", world.all);
        let bound = 3 * (DAEMON.stop_within + Duration::from_secs(2));
        assert!(world.now - began <= bound, "seed {seed}: {:?}", world.now - began);
        // Nor does anything start once it is over.
        for id in (0..3).map(Id).filter(|id| world.processes[id.0]).collect::<Vec<_>>() {
            world.tell(id, Event::Exit(Outcome::Failure, world.now), seed);
            assert!(!world.processes[id.0], "seed {seed}: {id:?} started after the end");
        }
    }
}
