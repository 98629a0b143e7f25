use super::*;
use Effect::*;
use Event::{Hung, Start, Stop, Timeout};
use Outcome::{Failure, Success};
use State::*;

const READY: Duration = Duration::from_secs(20);
const STOP: Duration = Duration::from_secs(10);
const HALF: Duration = Duration::from_millis(500);
const NOW: Moment = Moment::from_secs(1000);

const EVENTS: [Event; 7] = [Start, Event::Ready, exit(Success), exit(Failure), Hung, Timeout, Stop];
const STATES: [State; 10] =
    [Waiting, Starting, Ready, Done, Failing, Backoff(HALF), CrashLoop, Stopping, Killing, Stopped];

const fn exit(outcome: Outcome) -> Event {
    Event::Exit(outcome, NOW)
}

fn in_state(state: State, is_task: bool) -> Lifecycle {
    let policy = Policy { is_task, ready_within: READY, stop_within: STOP };
    let has_process = matches!(state, Starting | Ready | Failing | Stopping | Killing);
    Lifecycle { state, has_process, ..Lifecycle::new(policy) }
}

/// A row: in this state, this event leads there and asks for that. What isn't in a table changes
/// nothing, and asks for nothing.
type Row = (State, Event, State, Vec<Effect>);

fn common() -> Vec<Row> {
    let spawn = || vec![Spawn, WakeIn(READY)];
    let failed = || vec![Kill, WakeIn(HALF)];
    let kill = || vec![Kill, WakeIn(KILL_WITHIN)];
    vec![
        (Waiting, Start, Starting, spawn()),
        (Waiting, Stop, Stopped, vec![]),
        (Starting, exit(Failure), Backoff(HALF), failed()),
        (Starting, Timeout, Failing, kill()),
        (Starting, Hung, Failing, kill()),
        (Starting, Stop, Stopping, vec![Terminate, WakeIn(STOP)]),
        (Ready, exit(Success), Backoff(HALF), failed()),
        (Ready, exit(Failure), Backoff(HALF), failed()),
        (Ready, Hung, Failing, kill()),
        (Ready, Stop, Stopping, vec![Terminate, WakeIn(STOP)]),
        (Failing, exit(Success), Backoff(HALF), failed()),
        (Failing, exit(Failure), Backoff(HALF), failed()),
        (Failing, Timeout, Failing, kill()),
        (Failing, Stop, Killing, kill()),
        (Done, Start, Starting, spawn()),
        (Done, Stop, Stopped, vec![]),
        (Backoff(HALF), Timeout, Starting, spawn()),
        (Backoff(HALF), Stop, Stopped, vec![]),
        (CrashLoop, Timeout, Starting, spawn()),
        (CrashLoop, Stop, Stopped, vec![]),
        (Stopping, exit(Success), Stopped, vec![Kill]),
        (Stopping, exit(Failure), Stopped, vec![Kill]),
        (Stopping, Timeout, Killing, kill()),
        (Killing, exit(Success), Stopped, vec![Kill]),
        (Killing, exit(Failure), Stopped, vec![Kill]),
        (Killing, Timeout, Stopped, vec![Kill]),
        (Stopped, Start, Starting, spawn()),
    ]
}

fn check(is_task: bool, rows: Vec<Row>) {
    for state in STATES {
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
    rows.push((Starting, Event::Ready, Ready, vec![WakeIn(HEALTHY_AFTER)]));
    rows.push((Starting, exit(Success), Backoff(HALF), vec![Kill, WakeIn(HALF)]));
    check(false, rows);
}

#[test]
fn a_task_in_every_state_with_every_event() {
    let mut rows = common();
    rows.push((Starting, Event::Ready, Ready, vec![WakeIn(HEALTHY_AFTER)]));
    rows.push((Starting, exit(Success), Done, vec![Kill]));
    check(true, rows);
}

/// Dies as soon as it runs, so and so long after it died last.
fn deaths(service: &mut Lifecycle, at: &mut Moment, apart: Duration, many: usize) -> Vec<State> {
    let mut states = vec![];
    for _ in 0..many {
        *at += apart;
        service.on(Event::Exit(Failure, *at));
        states.push(service.state);
        service.on(Timeout);
    }
    states
}

#[test]
fn delays_double_up_to_a_minute_and_are_forgotten_when_healthy() {
    let mut service = in_state(Starting, false);
    let mut at = NOW;
    let states = deaths(&mut service, &mut at, LOOP_WITHIN, 9);
    let delays = [0.5, 1., 2., 4., 8., 16., 32., 60., 60.].map(Duration::from_secs_f64);
    assert_eq!(states, delays.map(Backoff));
    service.on(Event::Ready);
    service.on(Timeout);
    service.on(exit(Failure));
    assert_eq!(service.state, Backoff(HALF));
}

#[test]
fn five_deaths_in_two_minutes_are_a_crash_loop_until_it_is_healthy() {
    let mut service = in_state(Starting, false);
    let mut at = NOW;
    let quick = deaths(&mut service, &mut at, LOOP_WITHIN / 4, 5);
    assert!(quick[..4].iter().all(|state| matches!(state, Backoff(_))), "{quick:?}");
    assert_eq!(quick[4], CrashLoop);
    // Seldom now, but it was never healthy.
    assert_eq!(deaths(&mut service, &mut at, 2 * LOOP_WITHIN, 2), [CrashLoop; 2]);
    service.on(Event::Ready);
    service.on(Timeout);
    assert_eq!(deaths(&mut service, &mut at, HALF, 1), [Backoff(HALF)]);
}

#[test]
fn a_service_wanted_while_it_stops_starts_again() {
    for (events, last) in [
        (&[Stop, Start, exit(Success)][..], Starting),
        (&[Stop, Start, Stop, exit(Success)], Stopped),
        (&[Stop, Timeout, Start, exit(Failure)], Starting),
        // A process that no kill ends is never joined by a second one.
        (&[Stop, Timeout, Start, Timeout], Stopped),
        (&[Stop, Timeout, Start, Timeout, exit(Failure)], Starting),
        (&[Stop, Timeout, Timeout, Start], Stopped),
        (&[Stop, Timeout, Timeout, Start, exit(Failure)], Starting),
        (&[Stop, Timeout, Timeout, Start, Stop, exit(Failure)], Stopped),
    ] {
        let mut service = in_state(Ready, false);
        events.iter().for_each(|&event| drop(service.on(event)));
        assert_eq!(service.state, last, "{events:?}");
    }
}
