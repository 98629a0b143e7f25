use std::collections::VecDeque;

use super::*;

fn settings(domain: &str) -> Settings {
    Settings::parse(format!("{{\"domain\":\"{domain}\"}}").as_bytes()).unwrap()
}

fn rendered(domain: &str) -> Rendered {
    Rendered { settings: settings(domain), text: domain.to_owned() }
}

fn submitted(domain: &str) -> Event {
    Event::Submitted(settings(domain))
}

fn text(domain: &str) -> Event {
    Event::Rendered(Ok(domain.to_owned()))
}

fn after(events: &[Event]) -> Configuration {
    let mut configuration = Configuration::new();
    events.iter().for_each(|event| drop(configuration.on(event.clone())));
    configuration
}

/// Serves by the settings of `a.example`.
fn serving() -> Vec<Event> {
    let loaded = Event::Loaded(Loaded::Wholly);
    vec![submitted("a.example"), text("a.example"), Event::Ready, Event::Opened, loaded]
}

fn also(events: &[Event]) -> Configuration {
    after(&[&serving(), events].concat())
}

fn install(domain: &str) -> Effect {
    Effect::Install(Some(domain.to_owned()))
}

#[test]
fn the_way_from_settings_to_a_server_that_serves_by_them() {
    let mut configuration = after(&[]);
    for (event, effects, step) in [
        (Event::Ready, vec![], SettingsStep::None),
        (
            submitted("a.example"),
            vec![Effect::Render(settings("a.example"))],
            SettingsStep::Rendering,
        ),
        (text("a.example"), vec![], SettingsStep::Waiting),
        (Event::Opened, vec![install("a.example"), Effect::Load], SettingsStep::Loading),
        (
            Event::Loaded(Loaded::Wholly),
            vec![Effect::Keep(rendered("a.example"))],
            SettingsStep::Applied,
        ),
        (submitted("a.example"), vec![], SettingsStep::Applied),
        (Event::Ended, vec![], SettingsStep::Applied),
        (Event::Ready, vec![], SettingsStep::Applied),
        (
            submitted("b.example"),
            vec![Effect::Render(settings("b.example"))],
            SettingsStep::Rendering,
        ),
        // Another one before the first is there: only the last counts.
        (submitted("c.example"), vec![], SettingsStep::Rendering),
        (text("b.example"), vec![Effect::Render(settings("c.example"))], SettingsStep::Rendering),
        (text("c.example"), vec![install("c.example"), Effect::Load], SettingsStep::Loading),
        (Event::Loaded(Loaded::AfterRestart), vec![Effect::RestartServer], SettingsStep::Loading),
        (Event::Ended, vec![], SettingsStep::Loading),
        (Event::Ready, vec![Effect::Keep(rendered("c.example"))], SettingsStep::Applied),
    ] {
        assert_eq!(configuration.on(event.clone()), effects, "{event:?}");
        assert_eq!(configuration.step(), step, "{event:?}");
        assert_eq!(configuration.trouble(), None);
    }
}

#[test]
fn nothing_is_installed_while_the_gate_is_shut() {
    let mut configuration = after(&[Event::Ready, submitted("a.example")]);
    for event in [text("a.example"), Event::Ended, Event::Ready, Event::Timeout] {
        assert_eq!(configuration.on(event), []);
    }
    assert_eq!(configuration.on(Event::Opened), [install("a.example"), Effect::Load]);
}

#[test]
fn what_is_refused_leaves_the_last_good_one() {
    let why = "line 3: no".to_owned();
    let mut configuration = also(&[submitted("b.example")]);
    assert_eq!(configuration.on(Event::Rendered(Err(why.clone()))), []);
    assert_eq!(configuration.trouble(), Some(why.as_str()));
    assert_eq!(configuration.step(), SettingsStep::Refused);
    // And it can be taken back.
    assert_eq!(configuration.on(submitted("a.example")), []);
    assert_eq!((configuration.trouble(), configuration.step()), (None, SettingsStep::Applied));

    let trial = [submitted("b.example"), text("b.example")];
    let wait = Effect::WakeIn(FIRST_WAIT);
    let mut configuration = also(&trial);
    let effects = configuration.on(Event::Loaded(Loaded::Refused));
    assert_eq!(effects, [wait.clone(), install("a.example")]);
    let mut configuration = also(&trial);
    let effects = configuration.on(Event::Loaded(Loaded::Unclear));
    assert_eq!(effects, [wait.clone(), install("a.example"), Effect::Load]);
    // What that load says is of no interest.
    assert_eq!(configuration.on(Event::Loaded(Loaded::Wholly)), []);
    let mut configuration = also(&trial);
    for event in [Event::Loaded(Loaded::AfterRestart), Event::Ended] {
        configuration.on(event);
    }
    assert_eq!(configuration.on(Event::Ended), [wait, install("a.example")]);
}

#[test]
fn a_server_with_something_to_lose_is_disturbed_a_few_times_only() {
    let mut configuration = also(&[submitted("b.example")]);
    for try_ in 1..=TRIES {
        assert_eq!(configuration.on(text("b.example")).len(), 2);
        let effects = configuration.on(Event::Loaded(Loaded::Refused));
        let first = effects.first().unwrap();
        if try_ < TRIES {
            assert_eq!(*first, Effect::WakeIn(FIRST_WAIT * (1 << (try_ - 1))));
            assert_eq!(configuration.on(Event::Timeout), [Effect::Render(settings("b.example"))]);
        } else {
            assert_eq!(*first, install("a.example"));
        }
    }
    assert_eq!(configuration.on(Event::Timeout), []);
    assert_eq!(configuration.on(submitted("b.example")), [Effect::Render(settings("b.example"))]);

    // Without anything to lose it is never given up.
    let mut configuration = after(&[Event::Ready, Event::Opened, submitted("b.example")]);
    for _ in 0..100 {
        assert_eq!(configuration.on(text("b.example")).len(), 2);
        let effects = configuration.on(Event::Loaded(Loaded::Refused));
        let [Effect::WakeIn(wait), Effect::Install(None)] = effects.as_slice() else { panic!() };
        assert!(*wait <= Duration::from_secs(32));
        assert_eq!(configuration.on(Event::Timeout).len(), 1);
    }
}

/// A world around it: a Server that reads what lies there when it starts, or is told to.
#[derive(Debug, Default)]
struct World {
    file: Option<String>,
    running: Option<Option<String>>,
    coming: VecDeque<Event>,
    is_resting: bool,
}

impl World {
    fn carry_out(&mut self, effects: Vec<Effect>, bad: &str) {
        for effect in effects {
            match effect {
                Effect::Render(settings) => {
                    self.coming.push_back(text(settings.domain.as_ref()));
                }
                Effect::Install(text) => self.file = text,
                Effect::Load => {
                    let is_fine = self.file.as_deref() != Some(bad);
                    let said = match &mut self.running {
                        None => Loaded::Unclear,
                        Some(_) if !is_fine => Loaded::Refused,
                        Some(running) => {
                            running.clone_from(&self.file);
                            Loaded::Wholly
                        }
                    };
                    self.coming.push_back(Event::Loaded(said));
                }
                Effect::RestartServer => self.kill(),
                Effect::Keep(_) => {}
                Effect::WakeIn(_) => self.is_resting = true,
            }
        }
    }

    fn kill(&mut self) {
        if self.running.take().is_some() {
            self.coming.push_back(Event::Ended);
        }
    }

    /// With a bad file it ends at once.
    fn revive(&mut self, bad: &str) {
        if self.running.is_none() && self.file.as_deref() == Some(bad) {
            self.coming.push_back(Event::Ended);
        } else if self.running.is_none() {
            self.running = Some(self.file.clone());
            self.coming.push_back(Event::Ready);
        }
    }
}

/// The Server is killed at any two moments of the way (before each event is taken in, after it):
/// in the end it serves by what was wanted, or still by the good one if that is bad.
#[test]
fn every_single_and_double_death_heals() {
    for bad in ["none", "b.example"] {
        for first in 0..16 {
            for second in first..16 {
                let (mut world, mut configuration) = (World::default(), Configuration::new());
                world.revive(bad);
                world.coming.extend([submitted("a.example"), Event::Opened]);
                let mut moment = 0;
                for domain in ["a.example", "b.example"] {
                    world.coming.push_back(submitted(domain));
                    while !world.coming.is_empty() || world.is_resting || world.running.is_none() {
                        if moment == first || moment == second {
                            world.kill();
                        }
                        moment += 1;
                        let event = world.coming.pop_front().unwrap_or_else(|| {
                            world.revive(bad);
                            world.is_resting = false;
                            Event::Timeout
                        });
                        let effects = configuration.on(event);
                        world.carry_out(effects, bad);
                        assert!(moment < 200, "{first}, {second}: {configuration:?}");
                    }
                }
                let expected = if bad == "none" { "b.example" } else { "a.example" };
                let told = format!("{bad}, {first}, {second}: {configuration:?}");
                assert_eq!(world.running, Some(Some(expected.to_owned())), "{told}");
            }
        }
    }
}
