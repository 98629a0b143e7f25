//! Backups: what is kept, what is wished about that, and codes that confirm what can't be undone.
//!
//! ```text
//! routes::backups ── wish ──► Backups::run ── turn by turn ──► stele-init
//!        ▲                        │ looks how it goes
//!        └──── Step, Step, … ─────┘
//! ```
//!
//! What is kept is read from the folder that `stele-init` shows us; it is written by nobody here.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use appliance::backup::{Id, Progress, State, Stats, Task, Wish};
use appliance::secret::Secret;
use tokio::sync::{Mutex as Turn, watch};
use tokio::time::{Instant, sleep, timeout};

use crate::init::Init;
use crate::init::backup::NotGranted;
use crate::problem::Problem;
use crate::secret;

pub mod download;
pub mod shelf;
pub mod upload;

use shelf::Shelf;

/// How long a code, or the address of a download, is good.
pub const GOOD_FOR: Duration = Duration::from_secs(5 * 60);
/// The characters of a confirmation code.
pub const CODE: usize = 16;
/// How long one waits for the turn, or for what `stele-init` does by itself.
const TURN_WITHIN: Duration = Duration::from_secs(15);
/// How often one looks how it goes: at first, and later.
const LOOKED_AT: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(500));
/// The most downloads that may begin.
const MOST_DOWNLOADS: usize = 32;

/// What is kept, and what is under way.
pub struct Backups {
    /// What is kept.
    pub shelf: Shelf,
    /// Where uploads wait.
    pub incoming: PathBuf,
    /// Held while something is done about backups.
    turn: Arc<Turn<()>>,
    state: Mutex<Codes>,
}

/// What was handed out.
#[derive(Default)]
struct Codes {
    erasure: Option<Code<()>>,
    restoration: Option<Code<Id>>,
    downloads: Vec<Code<Id>>,
    /// What was prepared, and by which key: whoever has that needn't wait twice.
    preparing: Option<(Id, appliance::backup::Key)>,
    /// All data is being exchanged: nothing that is answered would be true for long.
    is_leaving: bool,
}

/// One that is good for something, for a while.
struct Code<T> {
    text: Secret,
    of: T,
    until: Instant,
}

/// How far something is.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// So far.
    Under(Progress),
    /// There.
    Over(Result<Stats, Problem>),
}

impl<T> Code<T> {
    fn new(length: usize, of: T) -> Result<Code<T>, Problem> {
        let text = secret::random("").and_then(|all| {
            let part = all.reveal().get(..length).unwrap_or_default().to_owned();
            Secret::try_from(part).map_err(|error| error.to_string())
        });
        let text = text.map_err(|error| {
            crate::log::error(format_args!("cannot make a code: {error}"));
            Problem::internal()
        })?;
        Ok(Code { text, of, until: Instant::now() + GOOD_FOR })
    }

    fn is(&self, text: &str) -> bool {
        self.text.reveal() == text && self.until > Instant::now()
    }
}

impl Backups {
    /// Kept here, uploaded there. What an earlier run left of uploads is deleted.
    pub fn at(kept: &Path, incoming: &Path) -> Backups {
        upload::clear(incoming);
        Backups {
            shelf: Shelf::at(kept),
            incoming: incoming.to_owned(),
            turn: Arc::default(),
            state: Mutex::default(),
        }
    }

    /// Is all data being exchanged?
    pub fn is_leaving(&self) -> bool {
        self.with(|codes| codes.is_leaving)
    }

    /// A code that confirms an erasure.
    pub fn offer_erasure(&self) -> Result<String, Problem> {
        let code = Code::new(CODE, ())?;
        let text = code.text.reveal().to_owned();
        self.with(|codes| codes.erasure = Some(code));
        Ok(text)
    }

    /// Takes that code, once.
    pub fn confirm_erasure(&self, text: &str) -> Result<(), Problem> {
        let taken = self.with(|codes| codes.erasure.take_if(|code| code.is(text)));
        taken.map(|code| code.of).ok_or_else(Problem::invalid_confirmation_code)
    }

    /// A code that confirms the restoration of this one.
    pub fn offer_restoration(&self, id: &Id) -> Result<String, Problem> {
        let code = Code::new(CODE, id.clone())?;
        let text = code.text.reveal().to_owned();
        self.with(|codes| codes.restoration = Some(code));
        Ok(text)
    }

    /// Takes that code, once.
    pub fn confirm_restoration(&self, id: &Id, text: &str) -> Result<(), Problem> {
        let is_it = |code: &mut Code<Id>| code.of == *id && code.is(text);
        let taken = self.with(|codes| codes.restoration.take_if(is_it));
        taken.map(drop).ok_or_else(Problem::invalid_confirmation_code)
    }

    /// What names a download for a while.
    pub fn offer_download(&self, id: Id) -> Result<String, Problem> {
        let code = Code::new(64, id)?;
        let text = code.text.reveal().to_owned();
        self.with(|codes| {
            codes.downloads.retain(|code| code.until > Instant::now());
            if codes.downloads.len() >= MOST_DOWNLOADS {
                codes.downloads.remove(0);
            }
            codes.downloads.push(code);
        });
        Ok(text)
    }

    /// What it names.
    pub fn download(&self, text: &str) -> Option<Id> {
        self.with(|codes| codes.downloads.iter().find(|it| it.is(text)).map(|it| it.of.clone()))
    }

    /// Has something done, in turn, to its end, even if nobody waits any more.
    pub fn run(&self, init: Arc<dyn Init>, wish: Wish) -> watch::Receiver<Step> {
        let (tell, steps) = watch::channel(Step::Under(Progress::default()));
        let turn = self.turn.clone();
        tokio::spawn(async move {
            let outcome = match timeout(TURN_WITHIN, turn.lock_owned()).await {
                Ok(_turn) => follow(&*init, wish, &tell).await,
                Err(_) => Err(Problem::backup_in_progress()),
            };
            tell.send_replace(Step::Over(outcome));
        });
        steps
    }

    /// The same; returns what came of it, if that doesn't take longer.
    pub async fn run_within(
        &self,
        init: Arc<dyn Init>,
        wish: Wish,
        within: Duration,
    ) -> Option<Result<Stats, Problem>> {
        let mut steps = self.run(init, wish);
        timeout(within, over(&mut steps)).await.ok()
    }

    /// Prepares a restoration; with the key of the one that is being prepared, or was, it is joined.
    pub async fn prepare(
        &self,
        init: Arc<dyn Init>,
        id: Id,
        key: appliance::backup::Key,
    ) -> watch::Receiver<Step> {
        let is_same = self.with(|codes| codes.preparing == Some((id.clone(), key.clone())));
        let state = init.backup_state().await.ok().filter(|_| is_same);
        if let Some(state) = state
            && let Some(Task { id: Some(of), outcome, .. }) = &state.task
            && *of == id
            && (outcome.is_none() || state.prepared.as_ref() == Some(&id))
        {
            let (tell, steps) = watch::channel(Step::Under(Progress::default()));
            tokio::spawn(async move {
                let outcome = watch_over(&*init, &id, &tell).await;
                tell.send_replace(Step::Over(outcome));
            });
            return steps;
        }
        self.with(|codes| codes.preparing = Some((id.clone(), key.clone())));
        self.run(init, Wish::Prepare { id, key })
    }

    /// Has all data exchanged: we are stopped for that. Should it fail, we go on.
    pub async fn leave(self: Arc<Self>, init: Arc<dyn Init>, wish: Wish) -> Result<(), Problem> {
        let turn = timeout(TURN_WITHIN, self.turn.clone().lock_owned()).await;
        let turn = turn.map_err(|_| Problem::backup_in_progress())?;
        granted(&*init, wish).await?;
        self.with(|codes| codes.is_leaving = true);
        tokio::spawn(async move {
            let failed = loop {
                match init.backup_state().await.map(|state| state.task.and_then(|it| it.outcome)) {
                    Ok(Some(Err(trouble))) => break trouble,
                    _ => sleep(LOOKED_AT.1).await,
                }
            };
            crate::log::error(failed);
            self.with(|codes| codes.is_leaving = false);
            drop(turn);
        });
        Ok(())
    }

    fn with<T>(&self, look: impl FnOnce(&mut Codes) -> T) -> T {
        // Nothing that holds it is left half done by a panic.
        look(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What came of it, when it is over.
pub async fn over(steps: &mut watch::Receiver<Step>) -> Result<Stats, Problem> {
    let last = steps.wait_for(|step| matches!(step, Step::Over(_))).await;
    match last.map(|step| step.clone()) {
        Ok(Step::Over(outcome)) => outcome,
        _ => Err(Problem::internal()),
    }
}

async fn follow(init: &dyn Init, wish: Wish, tell: &watch::Sender<Step>) -> Result<Stats, Problem> {
    granted(init, wish).await?;
    let (first, later) = LOOKED_AT;
    let mut pause = first;
    loop {
        sleep(pause).await;
        pause = (pause * 2).min(later);
        match init.backup_state().await? {
            State { task: Some(Task { outcome: Some(outcome), .. }), .. } => {
                return outcome.map_err(Problem::from);
            }
            State { task: Some(Task { progress, .. }), .. } => {
                tell.send_replace(Step::Under(progress));
            }
            State { task: None, .. } => return Err(Problem::internal()),
        }
    }
}

/// Somebody else has it done.
async fn watch_over(
    init: &dyn Init,
    id: &Id,
    tell: &watch::Sender<Step>,
) -> Result<Stats, Problem> {
    loop {
        match init.backup_state().await?.task {
            Some(Task { id: Some(of), outcome: Some(outcome), .. }) if of == *id => {
                return outcome.map_err(Problem::from);
            }
            Some(Task { id: Some(of), progress, .. }) if of == *id => {
                tell.send_replace(Step::Under(progress));
            }
            _ => return Err(Problem::backup_in_progress()),
        }
        sleep(LOOKED_AT.1).await;
    }
}

/// What `stele-init` does by itself (it clears away what is old) isn't worth a refusal.
async fn granted(init: &dyn Init, wish: Wish) -> Result<(), Problem> {
    let until = Instant::now() + TURN_WITHIN;
    loop {
        match init.wish(wish.clone()).await {
            Err(NotGranted::Busy) if Instant::now() < until => sleep(LOOKED_AT.0).await,
            granted => return granted.map_err(Problem::from),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_good_once_for_one_thing_and_for_five_minutes() {
        let folder = tempfile::tempdir().unwrap();
        let backups = Backups::at(folder.path(), folder.path());
        let id = |name: &str| Id::try_from(format!("{name}.tar.zst.age")).unwrap();
        let code = backups.offer_erasure().unwrap();
        assert_eq!(code.len(), CODE);
        assert!(backups.confirm_erasure("0123456789abcdef").is_err());
        assert!(backups.confirm_restoration(&id("a"), &code).is_err());
        assert!(backups.confirm_erasure(&code).is_ok() && backups.confirm_erasure(&code).is_err());
        let code = backups.offer_restoration(&id("a")).unwrap();
        assert!(backups.confirm_restoration(&id("b"), &code).is_err());
        assert!(backups.confirm_restoration(&id("a"), &code).is_ok());
        let code = backups.offer_restoration(&id("a")).unwrap();
        let erasure = backups.offer_erasure().unwrap();
        let download = backups.offer_download(id("a")).unwrap();
        assert_eq!((backups.download(&download), backups.download("")), (Some(id("a")), None));
        backups.with(|codes| {
            let until = Instant::now();
            codes.restoration.iter_mut().for_each(|code| code.until = until);
            codes.erasure.iter_mut().for_each(|code| code.until = until);
            codes.downloads.iter_mut().for_each(|code| code.until = until);
        });
        assert!(backups.confirm_restoration(&id("a"), &code).is_err());
        assert!(backups.confirm_erasure(&erasure).is_err());
        assert_eq!(backups.download(&download), None);
    }
}
