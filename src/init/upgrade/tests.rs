use super::kept::Tried;
use super::origin::name;
use super::*;
use appliance::control::{LastFailure, Phase};
use appliance::hash::RootHash;
use std::time::Duration;

const INSTALL: Wish = Wish::Install { announced: None };
const BLESSED: Entry = Entry::Blessed { number: 14 };

fn counted(left: u8, done: u8) -> Entry {
    Entry::Counted { number: 15, left, done }
}

fn at(seconds: u64) -> Moment {
    Moment::from_secs(seconds)
}

fn system(side: Side, number: u8) -> System {
    System { side, version: format!("{number}.0.0"), root_hash: RootHash([number; 32]) }
}

fn word(root: Option<u8>, reason: &str) -> Word {
    Word {
        root_hash: root.map(|number| RootHash([number; 32])),
        version: None,
        phase: None,
        when: Some(7),
        check: Some("data".into()),
        reason: reason.into(),
        console_tail: vec!["last".into()],
    }
}

fn passed(started: &str, counted: &str) -> Passed {
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    Passed { started: some(started), counted: some(counted) }
}

/// Slot B runs, by what the loader says of its entry; slot A is `other`.
fn found(entry: Entry, other: Entry) -> Found {
    let passed = match &entry {
        Entry::Blessed { .. } => passed("p14.efi", ""),
        Entry::Counted { left, done, .. } => {
            let name = format!("p15+{left}-{done}.efi");
            passed(&name, &name)
        }
        _ => Passed::default(),
    };
    Found {
        running: system(Side::B, 2),
        passed,
        listed: Listed { a: other, b: entry },
        kept: Kept::default(),
        word: None,
        trace: Trace::Unknown,
        date: 1000,
        floor: None,
    }
}

fn checks(failing: &[&str]) -> Vec<Check> {
    let names = ["services", "crash_loop", "data"];
    let check = |name: &str| {
        let why = failing.contains(&name).then(|| "no".to_owned());
        Check { name: name.into(), passes: why.is_none(), why }
    };
    names.map(check).into()
}

#[test]
fn a_boot_is_what_loader_and_list_say_together() {
    let trial = |left| Boot::Trial { left };
    let uncounted = |is_broken| Boot::Uncounted { is_broken };
    for (started, told, entry, expected) in [
        ("", "", BLESSED, Boot::NotBooted),
        ("", "", counted(2, 1), Boot::NotBooted),
        ("p14.efi", "", BLESSED, Boot::Steady),
        ("P14.EFI", "", BLESSED, Boot::Steady),
        ("p13.efi", "", BLESSED, Boot::NotBooted),
        ("p15+2-1.efi", "p15+2-1.efi", counted(2, 1), trial(2)),
        ("p15+0-3.efi", "p15+0-3.efi", counted(0, 3), trial(0)),
        // Dates that firmware doesn't take: it renames nothing, and boots.
        ("p15+3-0.efi", "", counted(3, 0), uncounted(true)),
        ("p15+3-0.efi", "p15+3-0.efi", counted(3, 0), uncounted(true)),
        ("p15+2-1.efi", "p15+1-2.efi", counted(2, 1), uncounted(true)),
        // None was left.
        ("p15+0-3.efi", "", counted(0, 3), uncounted(false)),
        // A sector torn in the middle of a name.
        ("SLOTB.EFI", "", Entry::Foreign("SLOTB.EFI".into()), uncounted(false)),
        ("other.efi", "", Entry::Foreign("SLOTB.EFI".into()), Boot::NotBooted),
        ("p14.efi", "", Entry::Off, Boot::NotBooted),
    ] {
        assert_eq!(boot(&passed(started, told), &entry), expected, "{started} {told} {entry:?}");
    }
}

#[test]
fn a_try_that_was_counted_is_known_without_the_list() {
    for (started, told, is_counted) in
        [("", "", false), ("p14.efi", "", false), ("p15+2-1.efi", "p15+2-1.efi", true)]
    {
        assert_eq!(passed(started, told).is_counted(), is_counted, "{started}");
    }
}

#[test]
fn what_was_never_blessed_is_unproven_whoever_started_it() {
    let no_word = |entry| Found { passed: Passed::default(), ..found(entry, BLESSED) };
    for (found, boot, is_unproven) in [
        (found(BLESSED, BLESSED), Boot::Steady, false),
        (found(counted(2, 1), BLESSED), Boot::Trial { left: 2 }, true),
        // Of a new version that can't read the firmware's variables, say.
        (no_word(counted(2, 1)), Boot::NotBooted, true),
        (no_word(BLESSED), Boot::NotBooted, false),
        (no_word(Entry::Off), Boot::NotBooted, false),
    ] {
        let (upgrade, _) = Upgrade::begin(found);
        assert_eq!((upgrade.boot(), upgrade.is_unproven()), (boot, is_unproven));
    }
}

#[test]
fn a_steady_boot_writes_nothing_to_the_esp() {
    for other in [BLESSED, Entry::Off] {
        let mut found = found(BLESSED, other);
        let (first, effects) = Upgrade::begin(found.clone());
        assert_eq!(effects, [Effect::Keep]);
        found.kept = first.kept().clone();
        let (mut again, effects) = Upgrade::begin(found);
        assert_eq!(effects, []);
        for seconds in 0..1000 {
            let failing: &[&str] = if seconds % 90 < 10 { &["crash_loop", "data"] } else { &[] };
            assert_eq!(again.on(Event::Checks(checks(failing)), at(seconds)), []);
        }
        assert_eq!(again.deadline(), None);
    }
}

#[test]
fn what_is_not_counted_is_condemned_at_once() {
    let mut found = found(counted(3, 0), BLESSED);
    found.passed.counted = None;
    let (upgrade, effects) = Upgrade::begin(found.clone());
    let reason = |why: &str| Effect::KeepReason { check: Some("loader".into()), why: why.into() };
    let (condemn, reboot) =
        (Effect::Write(Edit::Condemn(Side::B)), Effect::Reboot(UNCOUNTED.into()));
    assert_eq!(effects, [Effect::Keep, reason(UNCOUNTED), condemn.clone(), reboot.clone()]);
    assert_eq!(upgrade.kept().counting, Counting::Broken);
    assert!(upgrade.would_come_back());
    let mut condemned = upgrade;
    let listed = Listed { a: BLESSED, b: Entry::Off };
    condemned.on(Event::Written(Edit::Condemn(Side::B), Ok(listed)), at(1));
    assert!(!condemned.would_come_back());
    // The same with what a torn sector left.
    let name = "SLOTB.EFI";
    found.listed.b = Entry::Foreign(name.into());
    found.passed = passed(name, "");
    let (upgrade, effects) = Upgrade::begin(found);
    assert_eq!(effects, [Effect::Keep, reason(UNCOUNTED), condemn, reboot]);
    assert_eq!(upgrade.kept().counting, Counting::Unknown);
}

#[test]
fn what_is_not_counted_serves_if_nothing_is_beside_it() {
    let alone = |entry: Entry, started: &str, other: Entry| {
        let passed = passed(started, "");
        Upgrade::begin(Found { passed, ..found(entry, other) })
    };
    let foreign = || Entry::Foreign("SLOTB.EFI".into());
    for (entry, started, other) in [
        (counted(3, 0), "p15+3-0.efi", Entry::Off),
        (counted(0, 3), "p15+0-3.efi", Entry::Off),
        (counted(0, 3), "p15+0-3.efi", Entry::Counted { number: 14, left: 0, done: 3 }),
        (foreign(), "SLOTB.EFI", Entry::Off),
    ] {
        let listed = Listed { a: other.clone(), b: BLESSED };
        let (mut upgrade, effects) = alone(entry.clone(), started, other.clone());
        assert_eq!(effects, [Effect::Keep], "{entry:?}");
        // Whatever ails it: it isn't restarted for that.
        assert!(upgrade.is_on_trial());
        assert_eq!(upgrade.on(Event::Checks(checks(&["crash_loop"])), at(9)), []);
        assert!(!upgrade.is_on_trial() && upgrade.deadline().is_none());
        assert_eq!(upgrade.on(Event::Checks(checks(&["data"])), at(999)), []);
        // Healthy, it is blessed as any other.
        let (mut upgrade, _) = alone(entry.clone(), started, other);
        for seconds in 10..40 {
            assert_eq!(upgrade.on(Event::Checks(checks(&[])), at(seconds)), [], "{entry:?}");
        }
        assert_eq!(upgrade.on(Event::Checks(checks(&[])), at(40)), [Effect::ReadRoot]);
        let bless = Edit::Bless(Side::B);
        assert_eq!(upgrade.on(Event::Read(Ok(())), at(41)), [Effect::Write(bless)]);
        let effects = upgrade.on(Event::Written(bless, Ok(listed)), at(42));
        assert_eq!(effects, [Effect::Keep, Effect::Settled]);
        assert_eq!((upgrade.boot(), upgrade.is_on_trial()), (Boot::Steady, false));
    }
}

#[test]
fn what_a_boot_left_is_forgotten_once_what_follows_is_kept() {
    let tried = Some(Tried { side: Side::A, system: Some(system(Side::A, 3)), armed: true });
    let said = || Some(Word { version: Some("3.0.0".into()), ..word(Some(3), "why") });
    let mut found = found(BLESSED, counted(0, 3));
    (found.kept.tried, found.word) = (tried, said());
    let (first, effects) = Upgrade::begin(found.clone());
    let clear = Effect::Write(Edit::Condemn(Side::A));
    assert_eq!(effects, [Effect::Keep, Effect::ForgetWord, clear]);
    // The power goes after each of these: the verdict stays the same, and stays one.
    found.kept = first.kept().clone();
    for (other, word) in
        [(counted(0, 3), said()), (counted(0, 3), None), (Entry::Off, said()), (Entry::Off, None)]
    {
        found.listed.a = other;
        let had_word = word.is_some();
        found.word = word;
        let (again, effects) = Upgrade::begin(found.clone());
        assert_eq!(again.kept().verdicts, first.kept().verdicts);
        assert_eq!(effects.contains(&Effect::ForgetWord), had_word);
    }
}

/// Who is told that the loader doesn't count has to flash another image: its loader may.
#[test]
fn a_disk_that_was_written_anew_shows_again_whether_its_loader_counts() {
    for (known, expected) in [
        (vec![system(Side::B, 2)], Counting::Broken),
        (vec![system(Side::B, 1)], Counting::Unknown),
        (vec![system(Side::A, 2)], Counting::Unknown),
    ] {
        let mut found = found(BLESSED, Entry::Off);
        (found.kept.systems, found.kept.counting) = (known, Counting::Broken);
        assert_eq!(Upgrade::begin(found).0.kept().counting, expected);
    }
    let mut proved = found(BLESSED, Entry::Off);
    proved.kept.counting = Counting::Proved;
    assert_eq!(Upgrade::begin(proved).0.kept().counting, Counting::Proved);
}

#[test]
fn a_failed_trial_has_its_verdict() {
    let tried = |armed| Some(Tried { side: Side::A, system: Some(system(Side::A, 3)), armed });
    let no_word = "it left no word: it ended before the data was mounted, or the machine hung";
    type Row<'a> = (Entry, Option<Tried>, Option<Word>, bool, Option<(u8, &'a str)>);
    let table: [Row; 11] = [
        // It hung three times.
        (counted(0, 3), tried(true), None, true, Some((3, no_word))),
        // PID 1 failed, or a check, and condemned it.
        (Entry::Off, tried(true), Some(word(Some(3), "why")), false, Some((3, "why"))),
        // The same, and the power went before it was kept what was armed.
        (Entry::Off, None, Some(word(Some(3), "why")), false, Some((3, "why"))),
        // A fault, or the watchdog: whoever leaves such a word doesn't know what it is.
        (counted(0, 3), tried(true), Some(word(None, "fault")), true, Some((3, "fault"))),
        // The loader passed it over.
        (counted(3, 0), tried(true), None, true, Some((3, no_word))),
        // Nobody knows what it was.
        (counted(0, 3), None, None, true, None),
        // It was still being written when the power went.
        (Entry::Off, tried(false), None, false, None),
        // What runs had failed itself before.
        (BLESSED, None, Some(word(Some(2), "own")), false, None),
        (BLESSED, None, Some(word(None, "fault")), false, None),
        // The power went before the loader was told.
        (BLESSED, tried(true), None, false, None),
        // The rest of a sector that was torn.
        (Entry::Foreign("SLOTA.EFI".into()), tried(true), None, true, Some((3, no_word))),
    ];
    for (other, tried, word, is_cleared, verdict) in table {
        let row = format!("{other:?} {tried:?} {word:?}");
        let mut found = found(BLESSED, other);
        (found.kept.tried, found.word) = (tried, word);
        let (upgrade, effects) = Upgrade::begin(found);
        let cleared = effects.contains(&Effect::Write(Edit::Condemn(Side::A)));
        assert_eq!(cleared, is_cleared, "{row}");
        let verdicts = upgrade.kept().verdicts.iter();
        let found: Vec<_> = verdicts.map(|it| (it.root_hash.0[0], it.reason.as_str())).collect();
        assert_eq!(found, verdict.into_iter().collect::<Vec<_>>(), "{row}");
        assert_eq!(upgrade.kept().tried, None, "{row}");
    }
}

#[test]
fn a_trial_that_kept_nothing_is_told_of_by_its_trace() {
    let said = |root: u8, reason: &str| LastFailure {
        when: Some(5),
        phase: Some(Phase::Initrd),
        root_hash: Some(RootHash([root; 32])),
        reason: reason.into(),
        console_tail: vec!["line".into()],
        ..LastFailure::default()
    };
    let tried = || Some(Tried { side: Side::A, system: Some(system(Side::A, 3)), armed: true });
    let initrd = Some(Phase::Initrd);
    type Row<'a> = (Trace, Option<Tried>, Option<(u8, Option<Phase>, &'a str)>);
    let table: [Row; 8] = [
        (Trace::Unknown, tried(), Some((3, None, "it left no word: "))),
        (Trace::Nothing, tried(), Some((3, None, "it never came to its initrd's disk"))),
        (Trace::Begun(said(3, "")), tried(), Some((3, initrd, "its initrd began, and nothing"))),
        (Trace::Ended(said(3, "cannot x")), tried(), Some((3, initrd, "cannot x"))),
        // It was made wrongly: it looks for another root than its bundle's.
        (Trace::Ended(said(9, "cannot x")), tried(), Some((3, initrd, "cannot x"))),
        // What was armed was lost with the file that says so.
        (Trace::Ended(said(9, "cannot x")), None, Some((9, initrd, "cannot x"))),
        (Trace::Nothing, None, None),
        // What runs said it, long ago.
        (Trace::Ended(said(2, "cannot x")), tried(), Some((3, None, "it left no word: "))),
    ];
    for (trace, tried, expected) in table {
        let row = format!("{trace:?} {tried:?}");
        let mut found = found(BLESSED, counted(0, 3));
        (found.kept.tried, found.trace) = (tried, trace.clone());
        let (upgrade, _) = Upgrade::begin(found.clone());
        let verdict = upgrade.kept().verdicts.first();
        let told = verdict.map(|it| (it.root_hash.0[0], it.phase));
        assert_eq!(told, expected.map(|(root, phase, _)| (root, phase)), "{row}");
        if let (Some(verdict), Some((.., reason))) = (verdict, expected) {
            assert!(verdict.reason.starts_with(reason), "{row}: {}", verdict.reason);
            assert_eq!(verdict.when, 1000, "{row}");
        }
        // What was kept on the data says more; and without a trial that failed, nothing is said.
        found.word = Some(word(Some(3), "why"));
        let (upgrade, _) = Upgrade::begin(found.clone());
        assert_eq!(upgrade.kept().verdicts[0].reason, "why", "{row}");
        (found.word, found.listed.a) = (None, BLESSED);
        let (upgrade, _) = Upgrade::begin(found);
        assert_eq!(upgrade.kept().verdicts, [], "{row}");
    }
}

#[test]
fn a_trial_is_blessed_when_it_was_healthy_and_read() {
    let mut found = found(counted(2, 1), BLESSED);
    found.floor = Some("1.5".into());
    let (mut upgrade, effects) = Upgrade::begin(found);
    assert_eq!(effects, [Effect::Keep]);
    assert_eq!(upgrade.kept().counting, Counting::Proved);
    assert_eq!(upgrade.on(Event::Checks(checks(&["services"])), at(5)), []);
    assert_eq!(upgrade.on(Event::Checks(checks(&[])), at(20)), []);
    assert_eq!(upgrade.deadline(), Some(at(50)));
    // One break, and it starts over.
    assert_eq!(upgrade.on(Event::Checks(checks(&["data"])), at(40)), []);
    assert_eq!(upgrade.on(Event::Checks(checks(&[])), at(41)), []);
    assert_eq!(upgrade.on_time(at(70)), []);
    assert_eq!(upgrade.on_time(at(71)), [Effect::ReadRoot]);
    assert!(upgrade.may(&INSTALL).is_err_and(|it| it.code == Code::Unblessed));
    let bless = Effect::Write(Edit::Bless(Side::B));
    assert_eq!(upgrade.on(Event::Read(Ok(())), at(80)), [bless]);
    let listed = Listed { a: BLESSED, b: Entry::Blessed { number: 15 } };
    let written = Event::Written(Edit::Bless(Side::B), Ok(listed));
    assert_eq!(upgrade.on(written, at(81)), [Effect::Keep, Effect::Settled]);
    assert_eq!((upgrade.boot(), upgrade.deadline()), (Boot::Steady, None));
    assert_eq!(upgrade.kept().floor.as_deref(), Some("1.5"));
    assert_eq!(upgrade.may(&INSTALL), Ok(()));
}

#[test]
fn who_is_in_doubt_is_neither_blessed_nor_starts_over() {
    let (mut upgrade, _) = Upgrade::begin(found(counted(2, 1), BLESSED));
    let mut doubtful = checks(&["data"]);
    doubtful.iter_mut().for_each(|check| check.passes = true);
    assert_eq!(upgrade.on(Event::Checks(checks(&[])), at(10)), []);
    assert_eq!(upgrade.deadline(), Some(at(40)));
    assert_eq!(upgrade.on(Event::Checks(doubtful), at(30)), []);
    // Its next look is awaited, and nothing else until the end.
    assert_eq!(upgrade.deadline(), Some(at(300)));
    assert_eq!(upgrade.on_time(at(45)), []);
    assert_eq!(upgrade.on(Event::Checks(checks(&[])), at(46)), [Effect::ReadRoot]);
}

#[test]
fn a_trial_that_fails_is_condemned_and_says_why() {
    let give_up = |check: &str, why: &str| {
        vec![
            Effect::KeepReason { check: Some(check.into()), why: why.into() },
            Effect::Write(Edit::Condemn(Side::B)),
            Effect::Reboot(why.into()),
        ]
    };
    let begin = || Upgrade::begin(found(counted(2, 1), BLESSED)).0;
    // A crash loop isn't waited for.
    let mut upgrade = begin();
    let effects = upgrade.on(Event::Checks(checks(&["services", "crash_loop"])), at(30));
    assert_eq!(effects, give_up("crash_loop", "no"));
    assert_eq!(upgrade.on(Event::Checks(checks(&["crash_loop"])), at(31)), []);
    // Any other check has its time.
    let mut upgrade = begin();
    assert_eq!(upgrade.on(Event::Checks(checks(&["services", "data"])), at(299)), []);
    let why = "not healthy within 300 s: services: no; data: no";
    assert_eq!(upgrade.on_time(at(300)), give_up("services", why));
    assert_eq!(upgrade.on_time(at(301)), []);
    // Its root can't be read.
    let mut upgrade = begin();
    upgrade.on(Event::Checks(checks(&[])), at(30));
    assert_eq!(upgrade.on_time(at(60)), [Effect::ReadRoot]);
    assert_eq!(upgrade.on(Event::Read(Err("torn".into())), at(61)), give_up("root", "torn"));
    // The ESP can't be written.
    let mut upgrade = begin();
    upgrade.on(Event::Checks(checks(&[])), at(30));
    upgrade.on_time(at(60));
    upgrade.on(Event::Read(Ok(())), at(61));
    let written = Event::Written(Edit::Bless(Side::B), Err("full".into()));
    assert_eq!(upgrade.on(written, at(62)), give_up("loader", "full"));
}

#[test]
fn what_a_version_to_come_keeps_is_understood() {
    let mut upgrade = Upgrade::begin(found(BLESSED, counted(0, 3))).0;
    upgrade.kept.tries(&system(Side::B, 2));
    upgrade.kept.verdicts.extend(kept::verdict(Some(system(Side::A, 3)), word(None, "x"), 7));
    let kept = upgrade.kept();
    let text = serde_json::to_string(kept).unwrap().replace('{', r#"{"more":[1],"#);
    assert_eq!(serde_json::from_str::<Kept>(&text).unwrap(), *kept);
}

#[test]
fn a_trial_has_its_time_after_the_data_was_kept_aside() {
    let (mut upgrade, _) = Upgrade::begin(found(counted(2, 1), BLESSED));
    upgrade.kept_aside(Duration::from_secs(1000));
    assert_eq!(upgrade.state(at(1010)).trial_ends_in, Some(290));
    assert_eq!(upgrade.on(Event::Checks(checks(&["services"])), at(1010)), []);
    assert_eq!(upgrade.on(Event::Checks(checks(&[])), at(1020)), []);
    assert_eq!(upgrade.on_time(at(1050)), [Effect::ReadRoot]);
    assert_eq!(upgrade.deadline(), Some(at(1300)));
    let effects = upgrade.on_time(at(1300));
    assert!(effects.contains(&Effect::Write(Edit::Condemn(Side::B))), "{effects:?}");
}

#[test]
fn a_rollback_that_was_not_written_is_none() {
    let edit = Edit::TryAgain(Side::A);
    let armed = Listed { a: counted(3, 0), b: BLESSED };
    for (written, is_armed) in [(Ok(armed), true), (Err("full".to_owned()), false)] {
        let (mut upgrade, _) = Upgrade::begin(found(BLESSED, BLESSED));
        assert!(!upgrade.is_armed());
        let effects = upgrade.on(Event::Asked(Wish::Rollback), at(100));
        assert_eq!(effects, [Effect::Keep, Effect::Write(edit)]);
        upgrade.on(Event::Written(edit, written), at(100));
        assert_eq!((upgrade.is_armed(), upgrade.kept().tried.is_some()), (is_armed, is_armed));
    }
}

#[test]
fn what_may_be_wished_depends_on_both_systems() {
    let code = |found: Found, wish| Upgrade::begin(found).0.may(&wish).err().map(|it| it.code);
    let mut broken = found(BLESSED, BLESSED);
    broken.kept.counting = Counting::Broken;
    broken.kept.systems = vec![broken.running.clone()];
    let started = Found { passed: Passed::default(), ..found(BLESSED, BLESSED) };
    for (found, install, rollback) in [
        (found(BLESSED, BLESSED), None, None),
        (found(BLESSED, Entry::Off), None, Some(Code::Unblessed)),
        (found(counted(2, 1), BLESSED), Some(Code::Unblessed), Some(Code::Unblessed)),
        (broken, Some(Code::NoCounting), Some(Code::NoCounting)),
        (started, Some(Code::NoCounting), Some(Code::NoCounting)),
    ] {
        assert_eq!(code(found.clone(), INSTALL), install, "{found:?}");
        assert_eq!(code(found.clone(), Wish::Rollback), rollback, "{found:?}");
    }
}

#[test]
fn an_installation_is_followed_to_its_end() {
    let listed = |a: Entry| Some(Listed { a, b: BLESSED });
    let root_hash = RootHash([3; 32]);
    let begun = || Line::Begun { version: "3.0.0".into(), root_hash, total: 9 };
    let armed = || Line::Armed { version: "3.0.0".into(), root_hash };
    let mut upgrade = Upgrade::begin(found(BLESSED, BLESSED)).0;
    assert_eq!(upgrade.on(Event::Asked(INSTALL), at(1)), []);
    assert!(upgrade.may(&INSTALL).is_err_and(|it| it.code == Code::Busy));
    assert_eq!(upgrade.on(Event::Said(begun()), at(2)), [Effect::Keep]);
    assert!(upgrade.kept().tried.as_ref().is_some_and(|tried| !tried.armed));
    // It is killed: what the ESP lists then is what counts.
    assert_eq!(upgrade.on(Event::Ended(listed(Entry::Off)), at(3)), [Effect::Keep]);
    assert_eq!(upgrade.kept().tried, None);
    assert!(matches!(upgrade.state(at(3)).task, Some(Line::Failed(_))));
    assert_eq!(upgrade.state(at(3)).slots[0].version, None);
    for line in [begun(), Line::Progress { done: 5 }, armed()] {
        upgrade.on(Event::Said(line), at(4));
    }
    assert_eq!(upgrade.on(Event::Ended(listed(counted(3, 0))), at(5)), []);
    assert!(upgrade.kept().tried.as_ref().is_some_and(|tried| tried.armed));
    let slot = &upgrade.state(at(6)).slots[0];
    assert_eq!((slot.trust, slot.tries_left), (SlotTrust::Trial, Some(3)));
    assert_eq!(slot.version.as_deref(), Some("3.0.0"));
}

#[test]
fn a_floor_only_rises() {
    let mut kept = Kept::default();
    for (floor, expected) in [
        (None, None),
        (Some("1.9"), Some("1.9")),
        (Some("1.10"), Some("1.10")),
        (Some("1.9"), Some("1.10")),
        (Some("nonsense"), Some("1.10")),
    ] {
        kept.raise(floor);
        assert_eq!(kept.floor.as_deref(), expected);
    }
}

#[test]
fn a_file_of_another_version_is_read() {
    let newer =
        r#"{"floor":"1.0","more":[1],"tried":{"side":"a","system":null,"armed":true,"x":1}}"#;
    let kept: Kept = serde_json::from_str(newer).unwrap();
    assert!(kept.tried.is_some_and(|tried| tried.armed));
    assert_eq!(serde_json::from_str::<Kept>("{}").unwrap(), Kept::default());
}

/// A machine: its ESP, its loader, what it keeps, and whatever may happen to it.
struct World {
    listed: Listed,
    kept: Kept,
    word: Option<Word>,
    /// What each slot holds.
    systems: [u8; 2],
    highest: u16,
    random: fastrand::Rng,
}

impl World {
    fn entry(&mut self, side: Side) -> &mut Entry {
        match side {
            Side::A => &mut self.listed.a,
            Side::B => &mut self.listed.b,
        }
    }

    /// What the loader takes: the highest number that isn't bad, counting a try.
    fn load(&mut self) -> (Side, Passed) {
        let rank = |entry: &Entry| match entry {
            Entry::Off | Entry::Foreign(_) => (0, 0),
            Entry::Counted { number, left: 0, .. } => (1, *number),
            Entry::Counted { number, .. } | Entry::Blessed { number } => (2, *number),
        };
        let is_a = rank(&self.listed.a) > rank(&self.listed.b);
        let side = if is_a { Side::A } else { Side::B };
        let entry = self.entry(side);
        if let Entry::Counted { left, done, .. } = entry
            && *left > 0
        {
            (*left, *done) = (*left - 1, *done + 1);
        }
        let passed = match entry {
            Entry::Counted { number, left, done } => {
                let name = name(*number, Some((*left, *done)));
                Passed { started: Some(name.clone()), counted: Some(name) }
            }
            Entry::Blessed { number } => {
                Passed { started: Some(name(*number, None)), counted: None }
            }
            _ => panic!("nothing boots: {:?}", self.listed),
        };
        (side, passed)
    }

    fn running(&self, side: Side) -> System {
        system(side, self.systems[usize::from(side == Side::B)])
    }

    /// Writes it, or fails to.
    fn write(&mut self, edit: Edit, boot: Boot, running: Side) -> Result<Listed, String> {
        match edit {
            Edit::Condemn(side) => {
                assert!(matches!(self.listed.of(side.other()), Entry::Blessed { .. }), "{edit:?}");
                assert!(side != running || boot != Boot::Steady, "{edit:?} in {boot:?}");
            }
            Edit::Bless(side) => assert!(side == running && matches!(boot, Boot::Trial { .. })),
            Edit::TryAgain(side) | Edit::TryOnce(side) => assert!(side != running),
        }
        if self.random.u8(..10) == 0 {
            return Err("no".into());
        }
        self.highest += 1;
        let (number, highest) = (self.highest - 1, self.highest);
        match edit {
            Edit::Condemn(side) => *self.entry(side) = Entry::Off,
            Edit::Bless(side) => *self.entry(side) = Entry::Blessed { number },
            Edit::TryAgain(side) | Edit::TryOnce(side) => {
                *self.entry(side) = Entry::Counted { number: highest, left: 3, done: 0 };
            }
        }
        Ok(self.listed.clone())
    }
}

/// What a boot does until it ends by itself, or the power goes at `cut`.
fn live(world: &mut World, cut: u64) {
    let (side, passed) = world.load();
    let found = Found {
        running: world.running(side),
        passed,
        listed: world.listed.clone(),
        kept: world.kept.clone(),
        word: world.word.clone(),
        trace: Trace::Unknown,
        date: 1,
        floor: None,
    };
    let is_leftover = !matches!(world.listed.of(side.other()), Entry::Blessed { .. } | Entry::Off);
    let (mut upgrade, effects) = Upgrade::begin(found);
    let is_steady = upgrade.boot() == Boot::Steady;
    let (is_well, mut has_wished) = (world.random.u8(..3) > 0, false);
    let mut left: Vec<Effect> = effects.into_iter().rev().collect();
    for seconds in 10.. {
        while let Some(effect) = left.pop() {
            let more = match effect {
                Effect::Keep => {
                    world.kept = upgrade.kept().clone();
                    vec![]
                }
                Effect::Write(edit) => {
                    assert!(!is_steady || is_leftover || has_wished, "a steady boot: {edit:?}");
                    let written = world.write(edit, upgrade.boot(), side);
                    upgrade.on(Event::Written(edit, written), at(seconds))
                }
                Effect::ReadRoot => upgrade.on(Event::Read(Ok(())), at(seconds)),
                Effect::Settled => vec![],
                Effect::ForgetWord => {
                    world.word = None;
                    vec![]
                }
                Effect::KeepReason { why, .. } => {
                    world.word = Some(word(Some(upgrade.running().root_hash.0[0]), &why));
                    vec![]
                }
                Effect::Reboot(_) => return,
            };
            left.extend(more.into_iter().rev());
        }
        assert!(seconds < 1000 || upgrade.deadline().is_none(), "a trial never ends");
        if seconds >= cut || seconds > 1000 {
            return;
        }
        let failing: &[&str] = if is_well && seconds > 20 { &[] } else { &["services"] };
        let mut effects = upgrade.on(Event::Checks(checks(failing)), at(seconds));
        if world.random.u8(..200) == 0 && upgrade.may(&INSTALL).is_ok() {
            has_wished = true;
            effects.extend(wish(world, &mut upgrade, at(seconds)));
        }
        left.extend(effects.into_iter().rev());
    }
}

/// Somebody wants the other one back, or another one installed, as far as that comes.
fn wish(world: &mut World, upgrade: &mut Upgrade, now: Moment) -> Vec<Effect> {
    if world.random.bool() {
        let may = upgrade.may(&Wish::Rollback).is_ok();
        return if may { upgrade.on(Event::Asked(Wish::Rollback), now) } else { vec![] };
    }
    let other = upgrade.running().side.other();
    let number = world.random.u8(10..);
    let (version, root_hash) = (format!("{number}.0.0"), RootHash([number; 32]));
    let mut effects = upgrade.on(Event::Asked(INSTALL), now);
    let come = world.random.u8(..4);
    if come > 0 {
        let line = Line::Begun { version: version.clone(), root_hash, total: 1 };
        effects.extend(upgrade.on(Event::Said(line), now));
        *world.entry(other) = Entry::Off;
        world.systems[usize::from(other == Side::B)] = number;
    }
    if come > 1 {
        world.highest += 1;
        *world.entry(other) = Entry::Counted { number: world.highest, left: 3, done: 0 };
    }
    if come > 2 {
        effects.extend(upgrade.on(Event::Said(Line::Armed { version, root_hash }), now));
    }
    let listed = world.listed.clone();
    effects.extend(upgrade.on(Event::Ended(Some(listed)), now));
    effects
}

#[test]
fn whatever_happens_something_good_boots() {
    for seed in 0..300 {
        let mut world = World {
            listed: Listed { a: Entry::Blessed { number: 1 }, b: Entry::Off },
            kept: Kept::default(),
            word: None,
            systems: [1, 2],
            highest: 1,
            random: fastrand::Rng::with_seed(seed),
        };
        for _ in 0..40 {
            let cut = if world.random.bool() { world.random.u64(10..400) } else { u64::MAX };
            live(&mut world, cut);
            let good = [&world.listed.a, &world.listed.b];
            assert!(good.iter().any(|it| matches!(it, Entry::Blessed { .. })), "seed {seed}");
            assert!(world.kept.verdicts.len() <= 8 && world.kept.systems.len() <= 2);
        }
    }
}

#[test]
fn a_trial_is_over_within_its_bound() {
    let mut random = fastrand::Rng::with_seed(9);
    for _ in 0..500 {
        let mut trial = Trial::new();
        let (mut over, mut reading) = (None, false);
        let bound = Duration::from_secs(481);
        let mut now = Moment::ZERO;
        while over.is_none() {
            now = trial.deadline().map_or(now, |at| at.min(now + at_most(&mut random)));
            assert!(now <= bound, "{trial:?}");
            let failing: &[&str] = if random.u8(..20) == 0 { &["data"] } else { &[] };
            let mut step = trial.on_checks(checks(failing), now);
            if reading && random.u8(..40) == 0 {
                step = step.or(trial.on_read(Ok(()), now));
                reading = false;
            }
            match step {
                Some(Step::Read) => reading = true,
                Some(decided) => over = Some(decided),
                None => {}
            }
        }
        assert_eq!(trial.on_time(now + bound), None);
    }
}

fn at_most(random: &mut fastrand::Rng) -> Duration {
    Duration::from_secs(random.u64(1..20))
}
