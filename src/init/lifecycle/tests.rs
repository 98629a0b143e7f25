use super::*;
use Effect::*;
use Event::{Exit, Start, Stop, Timeout};
use Outcome::{Failure, Success};
use State::*;

const READY: Duration = Duration::from_secs(20);
const STOP: Duration = Duration::from_secs(10);
const HALF: Duration = Duration::from_millis(500);

const EVENTS: [Event; 6] = [Start, Event::Ready, Exit(Success), Exit(Failure), Timeout, Stop];

fn in_state(state: State, is_task: bool) -> Lifecycle {
    let policy = Policy { is_task, ready_within: READY, stop_within: STOP };
    Lifecycle { policy, state, failures: 0, again: false }
}

/// A row: in this state, this event leads there and asks for that. What isn't in a table changes
/// nothing, and asks for nothing.
type Row = (State, Event, State, Vec<Effect>);

fn common() -> Vec<Row> {
    vec![
        (Waiting, Start, Starting, vec![Spawn, WakeIn(READY)]),
        (Waiting, Stop, Stopped, vec![]),
        (Starting, Exit(Failure), Backoff(HALF), vec![Kill, WakeIn(HALF)]),
        (Starting, Timeout, Starting, vec![Kill]),
        (Starting, Stop, Stopping, vec![Terminate, WakeIn(STOP)]),
        (Ready, Exit(Success), Backoff(HALF), vec![Kill, WakeIn(HALF)]),
        (Ready, Exit(Failure), Backoff(HALF), vec![Kill, WakeIn(HALF)]),
        (Ready, Stop, Stopping, vec![Terminate, WakeIn(STOP)]),
        (Done, Stop, Stopped, vec![]),
        (Backoff(HALF), Timeout, Starting, vec![Spawn, WakeIn(READY)]),
        (Backoff(HALF), Stop, Stopped, vec![]),
        (Stopping, Exit(Success), Stopped, vec![Kill]),
        (Stopping, Exit(Failure), Stopped, vec![Kill]),
        (Stopping, Timeout, Killing, vec![Kill, WakeIn(KILL_WITHIN)]),
        (Killing, Exit(Success), Stopped, vec![Kill]),
        (Killing, Exit(Failure), Stopped, vec![Kill]),
        (Killing, Timeout, Stopped, vec![Kill]),
        (Stopped, Start, Starting, vec![Spawn, WakeIn(READY)]),
    ]
}

fn check(is_task: bool, rows: Vec<Row>) {
    for state in [Waiting, Starting, Ready, Done, Backoff(HALF), Stopping, Killing, Stopped] {
        for event in EVENTS {
            let mut service = in_state(state, is_task);
            let effects = service.on(event);
            let row = rows.iter().find(|row| (row.0, row.1) == (state, event));
            let (next, expected) = row.map_or((state, vec![]), |row| (row.2, row.3.clone()));
            assert_eq!((service.state, effects), (next, expected), "{state:?} + {event:?}");
        }
    }
}

#[test]
fn a_daemon_in_every_state_with_every_event() {
    let mut rows = common();
    rows.push((Starting, Event::Ready, Ready, vec![WakeIn(LONGEST_DELAY)]));
    rows.push((Starting, Exit(Success), Backoff(HALF), vec![Kill, WakeIn(HALF)]));
    check(false, rows);
}

#[test]
fn a_task_in_every_state_with_every_event() {
    let mut rows = common();
    rows.push((Starting, Exit(Success), Done, vec![Kill]));
    check(true, rows);
}

#[test]
fn delays_double_up_to_a_minute_and_are_forgotten_when_healthy() {
    let mut service = in_state(Waiting, false);
    service.on(Start);
    let mut delays = vec![];
    for _ in 0..9 {
        service.on(Exit(Failure));
        let Backoff(delay) = service.state else { panic!("{:?}", service.state) };
        delays.push(delay.as_secs_f32());
        service.on(Timeout);
    }
    assert_eq!(delays, [0.5, 1., 2., 4., 8., 16., 32., 60., 60.]);
    service.on(Event::Ready);
    service.on(Timeout);
    service.on(Exit(Failure));
    assert_eq!(service.state, Backoff(HALF));
}

#[test]
fn a_service_wanted_while_it_stops_starts_again() {
    for (events, last) in [
        (&[Stop, Start, Exit(Success)][..], Starting),
        (&[Stop, Start, Stop, Exit(Success)], Stopped),
        (&[Stop, Timeout, Start, Exit(Failure)], Starting),
        (&[Stop, Timeout, Start, Timeout], Starting),
    ] {
        let mut service = in_state(Ready, false);
        events.iter().for_each(|&event| drop(service.on(event)));
        assert_eq!(service.state, last, "{events:?}");
    }
}
