use super::*;
use appliance::backup::Id;
use appliance::control::{GateState, ServiceState, SettingsState, SettingsStep, VERSION};

const FRONT: [VerbName; 4] =
    [VerbName::State, VerbName::Logs, VerbName::Reboot, VerbName::PowerOff];

struct Ring(Vec<String>);

impl Papers for Ring {
    fn last(&self, name: &str, lines: usize) -> Option<Vec<String>> {
        let skipped = self.0.len().saturating_sub(lines);
        (name != "nobody").then(|| self.0.iter().skip(skipped).cloned().collect())
    }

    fn server_file(&self) -> Option<&str> {
        self.0.first().map(String::as_str)
    }
}

impl Backups for Ring {
    fn state(&self) -> State {
        State { task: None, prepared: Some(id()) }
    }

    fn may(&self, wish: &Wish) -> Result<(), Refusal> {
        (*wish != Wish::Erase).then_some(()).ok_or(Refusal::Busy)
    }
}

impl Upgrades for Ring {
    fn state(&self) -> upgrade::State {
        upgrade::State { floor: Some("1.0.0".into()), ..upgrade::State::default() }
    }

    fn may(&self, wish: &upgrade::Wish) -> Result<(), Refusal> {
        matches!(wish, upgrade::Wish::Install { .. }).then_some(()).ok_or(Refusal::Busy)
    }
}

fn id() -> Id {
    Id::try_from("a.tar.zst.age".to_owned()).unwrap()
}

fn machine() -> Machine {
    let service = |name: &str, state: &str| ServiceState {
        name: name.into(),
        state: state.into(),
        restarts: 0,
        pid: None,
        memory: None,
        resident: None,
    };
    let services = vec![
        service("prosody", "ready"),
        service("mute", "backoff 0.5 s"),
        service("late", "waiting"),
        service("gone", "stopped"),
    ];
    Machine { name: "pod".into(), services, ..Machine::default() }
}

fn ask(caller: &Caller, verb: Verb, machine: &Machine) -> (Reply, Option<Effect>) {
    let logs = Ring(["one", "two", "three"].map(String::from).into());
    answer(caller, Ok(Request { version: VERSION, verb }), machine, &logs)
}

fn restart(service: &str) -> Verb {
    Verb::Restart { service: service.into() }
}

fn logs(service: &str, lines: u32) -> Verb {
    Verb::Logs { service: service.into(), lines }
}

#[test]
fn every_request_has_its_answer() {
    let refused = |refusal| (Reply::Refused(refusal), None);
    let accepted = |effect| (Reply::Accepted, Some(effect));
    let lines =
        |lines: &[&str]| (Reply::Logs(lines.iter().map(|&line| line.to_owned()).collect()), None);
    let table = [
        (Verb::State, (Reply::State(Box::new(machine())), None)),
        (Verb::Services, (Reply::Services(machine().services), None)),
        (Verb::Reboot, accepted(Effect::End(End::Reboot))),
        (Verb::PowerOff, accepted(Effect::End(End::PowerOff))),
        (restart("prosody"), accepted(Effect::Restart("prosody".into()))),
        (restart("mute"), accepted(Effect::Restart("mute".into()))),
        (restart("late"), refused(Refusal::NotStarted("late".into()))),
        (restart("gone"), refused(Refusal::NotStarted("gone".into()))),
        (restart("nobody"), refused(Refusal::NoSuchService("nobody".into()))),
        (logs("prosody", 2), lines(&["two", "three"])),
        (logs("prosody", 0), lines(&[])),
        (logs("prosody", u32::MAX), lines(&["one", "two", "three"])),
        (logs("kernel", 1), lines(&["three"])),
        (logs("nobody", 1), refused(Refusal::NoSuchService("nobody".into()))),
    ];
    for (verb, expected) in table {
        assert_eq!(ask(&Caller::Root, verb.clone(), &machine()), expected, "{verb:?}");
    }
}

#[test]
fn who_is_not_granted_a_verb_is_refused() {
    let services = [(7, [].into()), (8, FRONT.into()), (8, [VerbName::State].into())];
    let caller = |user| Caller::of(user, &services);
    let forbidden = (Reply::Refused(Refusal::Forbidden), None);
    let verbs = || {
        let others = [Verb::State, Verb::Services, Verb::Reboot, Verb::PowerOff];
        others.into_iter().chain([logs("prosody", 1), restart("prosody")])
    };
    for (user, granted) in [
        (0, 0b111111),
        (8, 0b011101), // front: not services, not restart
        (7, 0),
        (65534, 0),
    ] {
        for (number, verb) in verbs().enumerate() {
            let is_granted = ask(&caller(user), verb.clone(), &machine()) != forbidden;
            assert_eq!(is_granted, granted >> number & 1 == 1, "user {user}: {verb:?}");
        }
        assert_eq!(caller(user).is_known(), granted != 0, "user {user}");
    }
}

#[test]
fn nothing_is_restarted_at_the_end() {
    let machine = Machine { phase: Phase::Ending, ..machine() };
    let expected = (Reply::Refused(Refusal::Ending), None);
    assert_eq!(ask(&Caller::Root, restart("prosody"), &machine), expected);
}

#[test]
fn what_was_no_request_has_no_effect() {
    for refusal in [Refusal::TooLong, Refusal::Version(2), Refusal::Malformed("x".into())] {
        let answer = answer(&Caller::Root, Err(refusal.clone()), &machine(), &Ring(vec![]));
        assert_eq!(answer, (Reply::Refused(refusal), None));
    }
}

#[test]
fn logs_fit_into_a_packet_the_newest_first() {
    let worst = Ring((0..1000).map(|_| "\u{1}".repeat(500)).chain(["last".into()]).collect());
    let verb = logs("prosody", 100_000);
    let request = Ok(Request { version: VERSION, verb });
    let (reply, _) = answer(&Caller::Root, request, &machine(), &worst);
    let packet = reply.to_packet();
    assert!(packet.len() > LONGEST / 2 && packet.ends_with(br#""last"]}"#), "{}", packet.len());
}

#[test]
fn settings_are_taken_where_there_is_a_gate_and_lua_where_it_is_allowed() {
    let state = |may_hold_lua| SettingsState {
        of: None,
        step: SettingsStep::None,
        why: None,
        may_hold_lua,
    };
    let settings = |more: &str| {
        let json = format!("{{\"domain\":\"a.example\"{more}}}");
        Box::new(Settings::parse(json.as_bytes()).unwrap())
    };
    let (plain, lua) = (settings(""), settings(r#","prosody_overrides_raw":"x = 1""#));
    let taken = |it: &Settings| (Reply::Accepted, Some(Effect::Settings(Box::new(it.clone()))));
    let refused = |refusal| (Reply::Refused(refusal), None);
    for (allowed, submitted, expected) in [
        (None, &plain, refused(Refusal::NoGate)),
        (Some(false), &plain, taken(&plain)),
        (Some(false), &lua, refused(Refusal::Lua)),
        (Some(true), &lua, taken(&lua)),
    ] {
        let machine = Machine { settings: allowed.map(state), ..machine() };
        let asked = ask(&Caller::Root, Verb::Settings(submitted.clone()), &machine);
        assert_eq!(asked, expected, "{allowed:?}");
        let told = match allowed {
            None => refused(Refusal::NoGate),
            Some(allowed) => (Reply::SettingsState(state(allowed)), None),
        };
        assert_eq!(ask(&Caller::Root, Verb::SettingsState, &machine), told);
    }
}

#[test]
fn a_file_comes_in_parts_that_fit() {
    let text: String = "\u{1}ü".repeat(10_000);
    let ring = Ring(vec![text.clone()]);
    let mut read = String::new();
    while read.len() < text.len() {
        let verb = Verb::ServerFile { from: read.len() as u32 };
        let request = Ok(Request { version: VERSION, verb });
        let (reply, _) = answer(&Caller::Root, request, &machine(), &ring);
        assert!(reply.to_packet().len() > 9, "too long");
        let Reply::ServerFile { text: part, length } = reply else { panic!("{reply:?}") };
        assert_eq!(length as usize, text.len());
        assert!(!part.is_empty());
        read += &part;
    }
    assert_eq!(read, text);
    for (papers, from, expected) in [
        (Ring(vec![]), 0, Reply::Refused(Refusal::NoSettings)),
        (Ring(vec!["ü".into()]), 9, Reply::ServerFile { text: String::new(), length: 2 }),
        (Ring(vec!["ü".into()]), 1, Reply::ServerFile { text: String::new(), length: 2 }),
    ] {
        let request = Ok(Request { version: VERSION, verb: Verb::ServerFile { from } });
        assert_eq!(answer(&Caller::Root, request, &machine(), &papers), (expected, None));
    }
}

#[test]
fn backups_are_asked_for_where_there_is_a_gate_and_time() {
    let open = GateState { open: true, step: String::new(), why: None };
    let with_gate = Machine { gate: Some(open), ..machine() };
    let ending = Machine { phase: Phase::Ending, ..with_gate.clone() };
    let of = |wish: Wish| Verb::Backup(Box::new(wish));
    let refused = |refusal| (Reply::Refused(refusal), None);
    let restore = || Wish::Restore { id: id() };
    let state = Box::new(State { task: None, prepared: Some(id()) });
    let accepted = (Reply::Accepted, Some(Effect::Backup(Box::new(restore()))));
    for (wish, machine, expected) in [
        (Wish::State, &machine(), refused(Refusal::NoGate)),
        (Wish::State, &with_gate, (Reply::Backup(state.clone()), None)),
        (Wish::State, &ending, (Reply::Backup(state), None)),
        (restore(), &with_gate, accepted),
        (restore(), &ending, refused(Refusal::Ending)),
        (Wish::Erase, &with_gate, refused(Refusal::Busy)),
    ] {
        assert_eq!(ask(&Caller::Root, of(wish), machine), expected);
    }
    let stranger = Caller::Granted(FRONT.into());
    let forbidden = refused(Refusal::Forbidden);
    assert_eq!(ask(&stranger, of(Wish::State), &with_gate), forbidden);
}

#[test]
fn upgrades_are_asked_for_until_the_end() {
    let ending = Machine { phase: Phase::Ending, ..machine() };
    let refused = |refusal| (Reply::Refused(refusal), None);
    let (install, rollback) =
        (upgrade::Wish::Install { announced: Some(1) }, upgrade::Wish::Rollback);
    let state = Box::new(Upgrades::state(&Ring(vec![])));
    let accepted = (Reply::Accepted, Some(Effect::Upgrade(install.clone())));
    for (verb, machine, expected) in [
        (Verb::UpgradeState, &ending, (Reply::Upgrade(state), None)),
        (Verb::Upgrade(install.clone()), &machine(), accepted),
        (Verb::Upgrade(rollback), &machine(), refused(Refusal::Busy)),
        (Verb::Upgrade(install), &ending, refused(Refusal::Ending)),
    ] {
        assert_eq!(ask(&Caller::Root, verb, machine), expected);
    }
}
