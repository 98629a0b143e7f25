use super::*;

const ALL: Parts = Parts { xmpp: true, api: true };
const NONE: Parts = Parts { xmpp: false, api: false };

fn checked(name: &str, why: Option<&str>) -> Event {
    let why = why.map(str::to_owned);
    Event::Checked(Check { name: name.to_owned(), passes: why.is_none(), why })
}

fn step(effects: &[Effect]) -> Option<Step> {
    effects.iter().find_map(|effect| match effect {
        Effect::Begin(step) => Some(*step),
        _ => None,
    })
}

/// One round in which each check comes out like this; `None`: it passes. Returns the last effects.
fn round(prober: &mut Prober, outcome: impl Fn(&str) -> Option<&'static str>) -> Vec<Effect> {
    let mut effects = prober.on(Event::Timeout);
    while let Some(step) = step(&effects) {
        effects = match step {
            Step::Arming => prober.on(Event::Armed(Ok(()))),
            step => {
                let names = if step == Step::Data { vec![DATA] } else { vec![API, XMPP] };
                for name in names {
                    assert_eq!(prober.on(checked(name, outcome(name))), []);
                }
                prober.on(Event::Ended(step))
            }
        };
    }
    effects
}

fn told(prober: &Prober) -> Vec<(String, bool, Option<String>)> {
    prober.checks().into_iter().map(|check| (check.name, check.passes, check.why)).collect()
}

fn state_of(prober: &Prober, name: &str) -> (bool, Option<String>) {
    let check = prober.checks().into_iter().find(|check| check.name == name).unwrap();
    (check.passes, check.why)
}

#[test]
fn a_round_takes_each_step_that_there_is() {
    for (parts, steps, names) in [
        (ALL, vec![Step::Data, Step::Arming, Step::Asking], vec![DATA, API, XMPP]),
        (
            Parts { api: false, ..ALL },
            vec![Step::Data, Step::Arming, Step::Asking],
            vec![DATA, XMPP],
        ),
        (Parts { api: true, ..NONE }, vec![Step::Data, Step::Asking], vec![DATA, API]),
        (NONE, vec![Step::Data], vec![DATA]),
    ] {
        let mut prober = Prober::new(parts);
        let (mut taken, mut effects) = (vec![], prober.on(Event::Timeout));
        while let Some(step) = step(&effects) {
            assert_eq!(effects, [Effect::WakeIn(WITHIN + GRACE), Effect::Begin(step)]);
            taken.push(step);
            effects = match step {
                Step::Arming => prober.on(Event::Armed(Ok(()))),
                step => prober.on(Event::Ended(step)),
            };
        }
        assert_eq!(taken, steps);
        assert_eq!(effects[0], Effect::Tell);
        let told: Vec<String> = prober.checks().into_iter().map(|check| check.name).collect();
        assert_eq!(told, names);
    }
}

#[test]
fn nothing_passes_before_it_was_tried_nor_without_an_answer() {
    let mut prober = Prober::new(ALL);
    let not_yet = Some("it has not been tried yet".to_owned());
    assert!(prober.checks().iter().all(|check| !check.passes && check.why == not_yet));
    prober.on(Event::Timeout);
    prober.on(Event::Ended(Step::Data));
    prober.on(Event::Armed(Ok(())));
    let effects = prober.on(Event::Ended(Step::Asking));
    assert_eq!(effects, [Effect::Tell, Effect::WakeIn(AGAIN)]);
    let none = Some("whoever tries it gives no answer within 20 s".to_owned());
    assert!(prober.checks().iter().all(|check| !check.passes && check.why == none));
}

#[test]
fn three_failures_in_a_row_are_one_and_fewer_are_a_doubt() {
    let mut prober = Prober::new(ALL);
    let fine = |_: &str| None;
    let broken = |name: &str| (name == XMPP).then_some("closed");
    assert_eq!(round(&mut prober, fine), [Effect::Tell, Effect::WakeIn(EVERY)]);
    let why = || Some("closed".to_owned());
    for (is_fine, expected) in [
        (false, (true, why())),
        (false, (true, why())),
        (true, (true, None)),
        (false, (true, why())),
        (false, (true, why())),
        (false, (false, why())),
        (false, (false, why())),
        (true, (true, None)),
        (false, (true, why())),
    ] {
        let effects = if is_fine { round(&mut prober, fine) } else { round(&mut prober, broken) };
        let wait = if is_fine { EVERY } else { AGAIN };
        assert_eq!(effects, [Effect::Tell, Effect::WakeIn(wait)]);
        assert_eq!(state_of(&prober, XMPP), expected);
        assert_eq!(state_of(&prober, API), (true, None), "each for itself");
    }
}

#[test]
fn who_never_passed_does_not_by_failing_seldom() {
    let mut prober = Prober::new(NONE);
    round(&mut prober, |_| Some("read-only"));
    assert_eq!(told(&prober), [(DATA.to_owned(), false, Some("read-only".to_owned()))]);
}

#[test]
fn a_server_that_lets_nobody_in_is_not_logged_in_at() {
    let mut prober = Prober::new(ALL);
    prober.on(Event::Timeout);
    prober.on(Event::Ended(Step::Data));
    let effects = prober.on(Event::Armed(Err("no settings".into())));
    assert_eq!(step(&effects), Some(Step::Asking));
    assert!(prober.asks_for(API) && !prober.asks_for(XMPP));
    // Whatever it says of what it wasn't asked.
    prober.on(checked(XMPP, None));
    prober.on(checked("other", None));
    prober.on(checked(API, None));
    prober.on(checked(API, Some("twice")));
    prober.on(Event::Ended(Step::Asking));
    assert_eq!(state_of(&prober, XMPP), (false, Some("no settings".into())));
    assert_eq!(state_of(&prober, API), (true, None));
    assert_eq!(prober.checks().len(), 3);

    // Without anything else to ask, that is all.
    let mut prober = Prober::new(Parts { api: false, ..ALL });
    prober.on(Event::Timeout);
    prober.on(Event::Ended(Step::Data));
    let effects = prober.on(Event::Armed(Err("no settings".into())));
    assert_eq!(effects, [Effect::Tell, Effect::WakeIn(AGAIN)]);
}

#[test]
fn each_step_that_hangs_is_left() {
    for hangs in [Step::Data, Step::Arming, Step::Asking] {
        let mut prober = Prober::new(ALL);
        let mut effects = prober.on(Event::Timeout);
        while let Some(now) = step(&effects) {
            effects = match now {
                now if now == hangs => prober.on(Event::Timeout),
                Step::Arming => prober.on(Event::Armed(Ok(()))),
                now => {
                    for name in [DATA, API, XMPP] {
                        prober.on(checked(name, None));
                    }
                    prober.on(Event::Ended(now))
                }
            };
            assert_eq!(effects[0] == Effect::Stop(now), now == hangs);
        }
        let failing: Vec<_> = prober.checks().into_iter().filter(|it| !it.passes).collect();
        let names: Vec<&str> = failing.iter().map(|check| check.name.as_str()).collect();
        let expected = match hangs {
            Step::Data => vec![DATA],
            Step::Arming => vec![XMPP],
            _ => vec![API, XMPP],
        };
        assert_eq!(names, expected, "{hangs:?}");
    }
}

#[test]
fn what_comes_late_changes_nothing() {
    let mut prober = Prober::new(ALL);
    for event in [
        Event::Armed(Ok(())),
        checked(DATA, None),
        Event::Ended(Step::Data),
        Event::Ended(Step::Resting),
    ] {
        assert_eq!(prober.on(event.clone()), [], "{event:?}");
    }
    prober.on(Event::Timeout);
    for event in [Event::Armed(Ok(())), Event::Ended(Step::Asking), Event::Ended(Step::Arming)] {
        assert_eq!(prober.on(event.clone()), [], "{event:?}");
    }
    assert!(prober.checks().iter().all(|check| !check.passes));
}
