//! Every moment at which pod-api, the Server, or both may die; once, and twice in a row.

use std::sync::Mutex;

use appliance::control::SettingsState;
use appliance::settings::Settings;
use serde_json::Value;

use super::*;
use crate::contract::gate::FakeInit;
use crate::contract::server::FakeServer;
use crate::init::Answer as InitAnswer;
use crate::server::Answer;

const BOOTSTRAP: &str = "the bootstrap secret";

/// What dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dies {
    PodApi,
    Server,
    Both,
    /// Nobody: an answer is lost.
    Answer,
}

/// Where: at the effect of this number, before it or after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Death {
    who: Dies,
    effect: usize,
    after: bool,
}

/// Stands between pod-api and the others, and lets it, or them, die.
struct Stage {
    server: Arc<FakeServer>,
    init: Arc<FakeInit>,
    /// The deaths that are still to come, the next one last.
    deaths: Mutex<Vec<Death>>,
    effects: Mutex<usize>,
    /// Is pod-api dead? Then nothing that it asks has an effect any more.
    is_dead: Mutex<bool>,
}

impl Stage {
    fn new(mut deaths: Vec<Death>) -> Arc<Stage> {
        deaths.reverse();
        let server = Arc::new(FakeServer::new(BOOTSTRAP));
        let init = FakeInit::new(BOOTSTRAP, server.clone());
        let (deaths, effects, is_dead) = (Mutex::new(deaths), Mutex::new(0), Mutex::new(false));
        Arc::new(Stage { server, init, deaths, effects, is_dead })
    }

    /// Is this the moment? Returns whether the answer arrives.
    fn survives(&self, after: bool) -> bool {
        if *self.is_dead.lock().unwrap() {
            return false;
        }
        let number = *self.effects.lock().unwrap();
        let mut deaths = self.deaths.lock().unwrap();
        let Some(death) = deaths.last().copied() else { return true };
        if (death.effect, death.after) != (number, after) {
            return true;
        }
        deaths.pop();
        *self.effects.lock().unwrap() = 0;
        if matches!(death.who, Dies::PodApi | Dies::Both) {
            *self.is_dead.lock().unwrap() = true;
        }
        if matches!(death.who, Dies::Server | Dies::Both) {
            self.server.restart(&self.init.secret_of_a_new_server());
        }
        false
    }

    /// One effect: none of it if it dies before, all of it if it dies after.
    async fn act<T, E>(&self, effect: impl Future<Output = Result<T, E>>, lost: E) -> Result<T, E> {
        if !self.survives(false) {
            return Err(lost);
        }
        let result = effect.await;
        let arrives = self.survives(true);
        if arrives {
            *self.effects.lock().unwrap() += 1;
            return result;
        }
        Err(lost)
    }

    /// Whatever the Server takes now, init must know of: else nobody could ever log in again.
    fn assert_known(&self, what: &str) {
        let taken = secret::of(&self.server.state().secret);
        let Credentials { current, pending, bootstrap } = self.init.state().credentials.clone();
        let known = [current, pending, bootstrap].contains(&Some(taken));
        assert!(known, "{what}: the Server takes a secret that init doesn't know");
    }
}

impl Server for Stage {
    fn ask<'a>(&'a self, secret: &'a Secret, verb: &'static str, with: Value) -> Answer<'a, Value> {
        let lost = server::Error::Unreachable("died".into());
        Box::pin(self.act(self.server.ask(secret, verb, with), lost))
    }
}

impl Init for Stage {
    fn credentials(&self) -> Result<Credentials, init::Error> {
        self.init.credentials()
    }

    fn rotation_pending<'a>(&'a self, secret: &'a Secret) -> InitAnswer<'a> {
        let lost = init::Error::Unreachable("die".into(), "died".into());
        Box::pin(self.act(self.init.rotation_pending(secret), lost))
    }

    fn rotation_done(&self) -> InitAnswer<'_> {
        let lost = init::Error::Unreachable("die".into(), "died".into());
        Box::pin(self.act(self.init.rotation_done(), lost))
    }

    fn settings<'a>(&'a self, settings: &'a Settings) -> InitAnswer<'a> {
        self.init.settings(settings)
    }

    fn settings_state(&self) -> InitAnswer<'_, SettingsState> {
        self.init.settings_state()
    }

    fn server_file(&self) -> InitAnswer<'_, Option<String>> {
        self.init.server_file()
    }
}

/// Tries until it is done, starting pod-api again whenever it died. Returns how often it was tried.
async fn play(stage: &Arc<Stage>, what: &str) -> usize {
    let as_server: Arc<dyn Server> = stage.clone();
    let mut rotation = Rotation::default();
    for attempt in 1..=12 {
        let works = match rotation.complete(&as_server, &**stage).await {
            Ok(connection) => connection.version().await.is_ok(),
            Err(_) => false,
        };
        stage.assert_known(what);
        if std::mem::take(&mut *stage.is_dead.lock().unwrap()) {
            // What it remembered died with it.
            rotation = Rotation::default();
        } else if works {
            return attempt;
        }
    }
    panic!("{what}: it never heals")
}

async fn plays_to_the_end(deaths: Vec<Death>) {
    let what = format!("{deaths:?}");
    let stage = Stage::new(deaths);
    play(&stage, &what).await;
    // A death at the very end is only noticed by the next login.
    stage.deaths.lock().unwrap().clear();
    play(&stage, &what).await;
    let (is_open, credentials) = {
        let state = stage.init.state();
        (state.is_open, state.credentials.clone())
    };
    assert!(is_open, "{what}: the gate stayed shut");
    let current = credentials.current.unwrap();
    assert_eq!(stage.server.state().secret, current.reveal(), "{what}");
    assert_eq!(current.reveal().len(), 64, "{what}: not one that we made");
    let old = Connection::new(stage.server.clone(), secret::of(BOOTSTRAP));
    assert_eq!(old.version().await, Err(server::Error::Unauthorized), "{what}");
}

fn deaths() -> Vec<Death> {
    let whos = [Dies::PodApi, Dies::Server, Dies::Both, Dies::Answer];
    let moments = (0..6).flat_map(|effect| [(effect, false), (effect, true)]);
    let death = |(effect, after)| whos.map(|who| Death { who, effect, after });
    moments.flat_map(death).collect()
}

#[tokio::test]
async fn nobody_dies() {
    plays_to_the_end(vec![]).await;
    let stage = Stage::new(vec![]);
    assert_eq!(play(&stage, "alone").await, 1);
    let asked = stage.server.state().asked.clone();
    assert_eq!(asked, ["version", "rotate_secret", "version"]);
}

#[tokio::test]
async fn every_single_death_heals() {
    for death in deaths() {
        plays_to_the_end(vec![death]).await;
    }
}

#[tokio::test]
async fn every_two_deaths_heal() {
    for first in deaths() {
        for second in deaths() {
            plays_to_the_end(vec![first, second]).await;
        }
    }
}

#[tokio::test]
async fn a_restart_after_the_gate_opened_changes_nothing() {
    let stage = Stage::new(vec![]);
    play(&stage, "first").await;
    let secret = stage.server.state().secret.clone();
    stage.server.restart(&stage.init.secret_of_a_new_server());
    play(&stage, "the Server restarted").await;
    assert_eq!(stage.server.state().secret, secret);
    let rotations = stage.server.state().asked.iter().filter(|it| **it == "rotate_secret").count();
    assert_eq!(rotations, 1);
}

#[test]
fn what_is_left_depends_on_the_secret_that_is_taken() {
    for (known, left) in [
        (Known::Current, Left::Nothing),
        (Known::Pending, Left::Report),
        (Known::Bootstrap, Left::Rotate),
    ] {
        assert_eq!(Left::after(known), left);
    }
}

#[tokio::test]
async fn without_a_secret_that_is_taken_it_says_so() {
    let server = Arc::new(FakeServer::new("another"));
    let init = FakeInit::new(BOOTSTRAP, server.clone());
    let as_server: Arc<dyn Server> = server.clone();
    let mut rotation = Rotation::default();
    let error = rotation.complete(&as_server, &*init).await.unwrap_err();
    assert_eq!(error.to_string(), "cannot log in to the Server: it refuses each of our 1 secrets");
    init.state().credentials = Credentials::default();
    let error = rotation.complete(&as_server, &*init).await.unwrap_err();
    assert!(error.to_string().ends_with("there is no secret to do it with"), "{error}");
}

#[tokio::test]
async fn a_pending_secret_is_used_again() {
    // The request to change it is on its way still: replaced, it would lock everybody out.
    let server = Arc::new(FakeServer::new(BOOTSTRAP));
    let init = FakeInit::new(BOOTSTRAP, server.clone());
    let pending = secret::random("").unwrap();
    init.state().credentials.pending = Some(pending.clone());
    let as_server: Arc<dyn Server> = server.clone();
    Rotation::default().complete(&as_server, &*init).await.unwrap();
    assert_eq!(server.state().secret, pending.reveal());
}
