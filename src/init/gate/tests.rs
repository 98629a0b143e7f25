use super::*;

const ONE: Generation = Generation(1);
const TWO: Generation = Generation(2);

fn secret(text: &str) -> Secret {
    Secret::try_from(text.to_owned()).unwrap()
}

fn proof(server: Generation) -> Effect {
    Effect::Prove { server, old: secret("first"), new: secret("strong") }
}

fn pending() -> Event {
    Event::Pending(secret("strong"))
}

fn gate(events: &[Event]) -> Gate {
    let mut gate = Gate::new(secret("first"));
    events.iter().for_each(|event| drop(gate.on(event.clone())));
    gate
}

fn opened() -> Vec<Event> {
    vec![Event::Ready(ONE), pending(), Event::Done, Event::Proved(ONE, Verdict::Rotated)]
}

#[test]
fn the_way_from_shut_to_open() {
    let mut gate = gate(&[]);
    for (event, effects, step) in [
        (Event::Ready(ONE), vec![], Step::Unrotated),
        (pending(), vec![Effect::GivePending(Some(secret("strong")))], Step::Unrotated),
        (Event::Done, vec![proof(ONE)], Step::Proving),
        (
            Event::Proved(ONE, Verdict::Rotated),
            vec![Effect::GiveCurrent(secret("strong")), Effect::GivePending(None), Effect::Open],
            Step::Open,
        ),
    ] {
        assert_eq!(gate.on(event.clone()), effects, "{event:?}");
        assert_eq!(gate.step(), step, "{event:?}");
    }
    assert_eq!(gate.server_secret(), &secret("strong"));
}

#[test]
fn only_the_proof_of_the_same_process_opens_it() {
    for (events, proved, trouble) in [
        (vec![Event::Ready(ONE), pending(), Event::Done], TWO, None),
        (vec![Event::Ready(ONE), pending()], ONE, None),
        (vec![Event::Ready(ONE), Event::Done], ONE, None),
        (
            vec![Event::Ready(ONE), pending(), Event::Done, Event::Ended, Event::Ready(TWO)],
            ONE,
            Some("the Server ended before the change was proved"),
        ),
    ] {
        let mut gate = gate(&events);
        assert_eq!(gate.on(Event::Proved(proved, Verdict::Rotated)), [], "{events:?}");
        assert_ne!(gate.step(), Step::Open, "{events:?}");
        assert_eq!(gate.trouble(), trouble);
        assert_eq!(gate.server_secret(), &secret("first"));
    }
}

#[test]
fn what_is_not_proved_keeps_it_shut_and_is_tried_again() {
    for verdict in [Verdict::OldAccepted, Verdict::NewRefused] {
        let mut gate = gate(&[Event::Ready(ONE), pending(), Event::Done]);
        assert_eq!(gate.on(Event::Proved(ONE, verdict)), [Effect::RestartApi]);
        assert_eq!(gate.step(), Step::Unrotated);
        assert!(gate.trouble().is_some());
    }
    let mut gate = gate(&[Event::Ready(ONE), pending(), Event::Done]);
    for millis in [500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000] {
        let wait = Effect::WakeIn(Duration::from_millis(millis));
        assert_eq!(gate.on(Event::Proved(ONE, Verdict::Unclear)), [wait]);
        assert_eq!(gate.on(Event::Timeout), [proof(ONE)]);
    }
}

#[test]
fn open_it_stays_whatever_happens() {
    let events = [
        Event::Ready(TWO),
        Event::Ended,
        Event::Pending(secret("another")),
        Event::Done,
        Event::Proved(TWO, Verdict::OldAccepted),
        Event::Timeout,
    ];
    for one in &events {
        for other in &events {
            let mut gate = gate(&opened());
            assert_eq!(gate.on(one.clone()), [], "{one:?}");
            assert_eq!(gate.on(other.clone()), [], "{one:?}, {other:?}");
            assert_eq!(gate.step(), Step::Open);
            assert_eq!(gate.server_secret(), &secret("strong"));
        }
    }
}

/// The API, the Server and the gate as they are together, where each may be started anew.
struct World {
    gate: Gate,
    generation: u32,
    /// What the running Server accepts.
    accepted: Secret,
    /// The API's credentials beside the bootstrap secret.
    pending: Option<Secret>,
    current: Option<Secret>,
    effects: Vec<Effect>,
    is_open: bool,
}

impl World {
    fn new() -> World {
        let gate = Gate::new(secret("first"));
        let mut world = World {
            gate,
            generation: 0,
            accepted: secret("first"),
            pending: None,
            current: None,
            effects: vec![],
            is_open: false,
        };
        world.restart_server();
        world
    }

    fn tell(&mut self, event: Event) {
        let effects = self.gate.on(event);
        self.effects.extend(effects);
    }

    fn restart_server(&mut self) {
        self.tell(Event::Ended);
        self.generation += 1;
        self.accepted = self.gate.server_secret().clone();
        self.tell(Event::Ready(Generation(self.generation)));
    }

    /// The API from its start, up to (and without) the step of this number.
    fn run_api(&mut self, steps: usize) {
        let known = [self.current.clone(), self.pending.clone(), Some(secret("first"))];
        let valid = known.into_iter().flatten().find(|secret| *secret == self.accepted);
        let Some(valid) = valid else { return };
        if self.current.as_ref() == Some(&valid) {
            return;
        }
        let new = match &self.pending {
            Some(pending) if *pending == valid => pending.clone(),
            _ => secret(&format!("strong {}", self.generation)),
        };
        let acts: [&dyn Fn(&mut World); 3] = [
            &|world| world.tell(Event::Pending(new.clone())),
            &|world| world.accepted = new.clone(),
            &|world| world.tell(Event::Done),
        ];
        acts.iter().take(steps).for_each(|act| {
            act(self);
            self.settle_credentials();
        });
    }

    fn settle_credentials(&mut self) {
        self.effects.retain(|effect| match effect {
            Effect::GivePending(secret) => {
                self.pending.clone_from(secret);
                false
            }
            Effect::GiveCurrent(secret) => {
                self.current = Some(secret.clone());
                false
            }
            Effect::Open => {
                self.is_open = true;
                false
            }
            _ => true,
        });
    }

    /// Does what is outstanding, and starts the API anew if that is wanted.
    fn settle(&mut self) {
        for _ in 0..10 {
            self.settle_credentials();
            let Some(effect) = (!self.effects.is_empty()).then(|| self.effects.remove(0)) else {
                return;
            };
            match effect {
                Effect::Prove { server, old, new } => {
                    let verdict = match (self.accepted == old, self.accepted == new) {
                        (false, true) => Verdict::Rotated,
                        (true, _) => Verdict::OldAccepted,
                        (false, false) => Verdict::NewRefused,
                    };
                    self.tell(Event::Proved(server, verdict));
                }
                Effect::RestartApi => self.run_api(3),
                _ => self.tell(Event::Timeout),
            }
        }
    }
}

#[test]
fn every_single_and_double_restart_heals_at_any_moment() {
    type Restart = fn(&mut World);
    let server: Restart = World::restart_server;
    let nobody: Restart = |_| {};
    for first_steps in 0..=3 {
        for second_steps in 0..=3 {
            for (one, other) in
                [(nobody, nobody), (server, nobody), (nobody, server), (server, server)]
            {
                let mut world = World::new();
                world.run_api(first_steps);
                one(&mut world);
                world.run_api(second_steps);
                other(&mut world);
                world.settle();
                world.run_api(3);
                world.settle();
                let what = format!("{first_steps}, {second_steps}");
                assert!(world.is_open, "{what}: {:?}", world.gate);
                assert_eq!(world.current.as_ref(), Some(&world.accepted), "{what}");
                world.restart_server();
                assert_eq!(world.current.as_ref(), Some(&world.accepted), "{what}");
            }
        }
    }
}

/// The API looks more often than init does.
#[test]
fn the_api_may_be_done_before_the_server_was_seen_to_be_ready() {
    let early = [pending(), Event::Done];
    assert_eq!(gate(&early).step(), Step::Unserved);
    assert_eq!(gate(&early).on(Event::Ready(ONE)), [proof(ONE)]);
    // It was another process that it was done with: it has to do it again.
    let mut gate = gate(&early);
    assert_eq!(gate.on(Event::Ended), [Effect::RestartApi]);
    assert_eq!(gate.on(Event::Ended), []);
    assert_eq!(gate.on(Event::Ready(TWO)), []);
    assert_eq!(gate.step(), Step::Unrotated);
    assert_eq!(gate.on(Event::Done), [proof(TWO)]);
}
