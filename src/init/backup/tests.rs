use super::Effect::{Exchange, Freeze, Make, Order, StartServices, StopChild, StopServices, Thaw};
use super::*;
use appliance::backup::{ENDING, Key, Lock};
use appliance::secret::Secret;

fn id(name: &str) -> Id {
    Id::try_from(format!("{name}{ENDING}")).unwrap()
}

fn secret() -> Secret {
    Secret::try_from("secret".to_owned()).unwrap()
}

fn create() -> Wish {
    let lock = Lock::Passphrase(secret());
    Wish::Create { id: id("a"), description: None, lock }
}

fn prepare() -> Wish {
    Wish::Prepare { id: id("a"), key: Key::Passphrase(secret()) }
}

/// Without timers.
fn on(backups: &mut Backups, event: Event) -> Vec<Effect> {
    let effects = backups.on(event);
    effects.into_iter().filter(|effect| !matches!(effect, Effect::WakeIn(_))).collect()
}

fn asked(backups: &mut Backups, wish: Wish) -> Vec<Effect> {
    assert_eq!(backups.may(&wish), Ok(()));
    on(backups, Event::Asked(wish))
}

fn outcome(backups: &Backups) -> Option<Result<Stats, Kind>> {
    backups.state().task?.outcome.map(|outcome| outcome.map_err(|trouble| trouble.kind))
}

fn is_ordered(effects: &[Effect]) -> bool {
    matches!(effects, [Order(_)])
}

/// One that is prepared.
fn prepared() -> Backups {
    let mut backups = Backups::new();
    assert!(is_ordered(&asked(&mut backups, prepare())));
    let stats = Stats { backup_size_bytes: 1, extracted_bytes: 2 };
    assert_eq!(on(&mut backups, Event::Reported(Report::Done(stats))), []);
    assert_eq!(outcome(&backups), Some(Ok(stats)));
    backups
}

#[test]
fn services_are_frozen_for_no_longer_than_it_takes_to_hold_their_files() {
    let mut backups = Backups::new();
    assert_eq!(asked(&mut backups, create()), [Freeze]);
    assert_eq!(backups.may(&create()), Err(Refusal::Busy));
    assert!(is_ordered(&on(&mut backups, Event::Frozen)));
    assert_eq!(on(&mut backups, Event::Reported(Report::Taken)), [Thaw]);
    let progress = Progress { done: 1, total: 2 };
    on(&mut backups, Event::Reported(Report::Progress(progress)));
    assert_eq!(backups.state().task.unwrap().progress, progress);
    assert_eq!(on(&mut backups, Event::Reported(Report::Done(Stats::default()))), []);
    assert_eq!(outcome(&backups), Some(Ok(Stats::default())));
    assert_eq!(on(&mut backups, Event::Ended), []);
    assert_eq!(backups.may(&create()), Ok(()));
}

#[test]
fn whatever_becomes_of_the_child_the_services_thaw() {
    let trouble = Report::Failed(Trouble::new(Kind::NoRoom, "full"));
    for (event, is_held, effects, kind) in [
        (Event::Timeout, false, vec![Thaw], Kind::Failed),
        (Event::Ending, false, vec![Thaw], Kind::Failed),
        (Event::Timeout, true, vec![Thaw, StopChild], Kind::Failed),
        (Event::Ended, true, vec![Thaw, StopChild], Kind::Failed),
        (Event::Ending, true, vec![Thaw], Kind::Failed),
        (Event::Reported(trouble), true, vec![Thaw], Kind::NoRoom),
    ] {
        let mut backups = Backups::new();
        asked(&mut backups, create());
        if is_held {
            on(&mut backups, Event::Frozen);
        }
        assert_eq!(on(&mut backups, event.clone()), effects, "{event:?}");
        assert_eq!(outcome(&backups), Some(Err(kind)), "{event:?}");
    }
}

#[test]
fn a_child_that_ends_without_a_word_has_failed() {
    let mut backups = Backups::new();
    asked(&mut backups, prepare());
    assert_eq!(on(&mut backups, Event::Ended), [StopChild]);
    assert_eq!(outcome(&backups), Some(Err(Kind::Failed)));
    assert_eq!(backups.state().prepared, None);
}

#[test]
fn only_what_was_prepared_is_restored_and_only_when_all_have_stopped() {
    let restore = |name: &str| Wish::Restore { id: id(name) };
    assert_eq!(Backups::new().may(&restore("a")), Err(Refusal::NotPrepared));
    let mut backups = prepared();
    assert_eq!(backups.may(&restore("b")), Err(Refusal::NotPrepared));
    // A backup of what there is now doesn't change that.
    asked(&mut backups, create());
    on(&mut backups, Event::Timeout);
    assert_eq!(asked(&mut backups, restore("a")), [StopServices]);
    assert!(backups.is_stopping());
    assert_eq!(on(&mut backups, Event::Timeout), [StopServices]);
    assert_eq!(on(&mut backups, Event::Stopped), [Exchange]);
    assert_eq!(on(&mut backups, Event::Exchanged(Ok(()))), [Make]);
    assert_eq!(backups.may(&create()), Err(Refusal::Busy));
    assert_eq!(on(&mut backups, Event::Made), [StartServices, Order(Job::Clear)]);
    on(&mut backups, Event::Reported(Report::Done(Stats::default())));
    assert_eq!(outcome(&backups), Some(Ok(Stats::default())));
    assert_eq!(backups.may(&restore("a")), Err(Refusal::NotPrepared));
}

#[test]
fn an_exchange_that_cannot_begin_leaves_everything_as_it_was() {
    let mut backups = prepared();
    asked(&mut backups, Wish::Restore { id: id("a") });
    on(&mut backups, Event::Stopped);
    let effects = on(&mut backups, Event::Exchanged(Err("no room".into())));
    assert_eq!(effects, [StartServices, Order(Job::Clear)]);
    assert_eq!(outcome(&backups), Some(Err(Kind::Failed)));
}

#[test]
fn an_erasure_goes_on_by_itself() {
    let mut backups = prepared();
    assert_eq!(asked(&mut backups, Wish::Erase), [Order(Job::Erase)]);
    assert_eq!(backups.state().prepared, None);
    let done = Event::Reported(Report::Done(Stats::default()));
    assert_eq!(on(&mut backups, done), [StopServices]);
    assert_eq!(on(&mut backups, Event::Ended), []);
    assert_eq!(on(&mut backups, Event::Stopped), [Exchange]);
    on(&mut backups, Event::Exchanged(Ok(())));
    // A task that never succeeds keeps nobody from being started.
    assert_eq!(on(&mut backups, Event::Timeout), [StartServices, Order(Job::Clear)]);
}

#[test]
fn what_is_left_is_cleared_at_the_start_and_nobody_is_told() {
    let mut backups = Backups::new();
    assert_eq!(on(&mut backups, Event::Left), [Order(Job::Clear)]);
    assert_eq!(on(&mut backups, Event::Ended), [StopChild]);
    assert_eq!((backups.state(), backups.may(&create())), (State::default(), Ok(())));
}

#[test]
fn what_a_failed_trial_would_undo_is_not_done_during_one() {
    let restore = Wish::Restore { id: id("a") };
    assert_eq!(may_on_trial(&restore), Err(Refusal::Busy));
    assert_eq!(may_on_trial(&Wish::Erase), Err(Refusal::Busy));
    for wish in [Wish::State, create(), Wish::Delete { ids: vec![] }] {
        assert_eq!(may_on_trial(&wish), Ok(()), "{wish:?}");
    }
}
