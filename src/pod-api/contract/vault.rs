//! init's side of backups: a fake that keeps files, opens none without its key, and lets no second
//! step come before the first.

use std::fs;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard};

use appliance::backup::{Id, Key, Kind, Label, Lock, Progress, State, Stats, Task, Trouble, Wish};
use sha2::{Digest as _, Sha256};

use super::gate::FakeInit;
use crate::init::backup::{Backups, Granted, NotGranted};

/// What it keeps, and what it was told.
#[derive(Default)]
pub struct Vault {
    state: Mutex<Told>,
}

#[derive(Default)]
pub struct Told {
    pub kept: PathBuf,
    pub incoming: PathBuf,
    pub state: State,
    /// What opens each.
    pub locks: Vec<(Id, Lock)>,
    /// The next wish isn't finished by itself.
    pub is_slow: bool,
    /// The next wishes, so many, are refused for want of time.
    pub busy: u32,
    /// What comes of the next wish.
    pub trouble: Option<Trouble>,
    /// Everything was exchanged so often.
    pub exchanged: Vec<Wish>,
}

impl Vault {
    pub fn told(&self) -> MutexGuard<'_, Told> {
        self.state.lock().unwrap()
    }
}

impl Told {
    fn put(&self, id: &Id, description: Option<String>, recipient: Option<String>, bytes: &[u8]) {
        let sha256 = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        let created = 1_768_298_400 + self.locks.len() as u64;
        let label = Label { description, created, recipient, sha256 };
        fs::write(self.kept.join(id.as_ref()), bytes).unwrap();
        let label = serde_json::to_vec(&label).unwrap();
        fs::write(self.kept.join(Label::file_of(id)), label).unwrap();
    }

    fn do_it(&mut self, wish: Wish) -> Result<Stats, Trouble> {
        let missing = || Trouble::new(Kind::NotFound, "there is none");
        let is_there = |told: &Told, id: &Id| told.kept.join(id.as_ref()).exists();
        match wish {
            Wish::State => {}
            Wish::Create { id, description, lock } => {
                let recipient = match &lock {
                    Lock::Recipient(address) => Some(address.clone()),
                    Lock::Passphrase(_) => None,
                };
                self.put(&id, description, recipient, b"age-encryption.org/v1\n...");
                self.locks.push((id, lock));
            }
            Wish::Accept { id, description } => {
                let bytes = fs::read(self.incoming.join(id.as_ref())).unwrap();
                if !bytes.starts_with(b"age-encryption.org/") {
                    return Err(Trouble::new(Kind::Damaged, "it isn't encrypted by age"));
                }
                fs::remove_file(self.incoming.join(id.as_ref())).unwrap();
                self.put(&id, description, None, &bytes);
            }
            Wish::Describe { id, description } => {
                let text = fs::read(self.kept.join(Label::file_of(&id))).map_err(|_| missing())?;
                let label: Label = serde_json::from_slice(&text).unwrap();
                let label = serde_json::to_vec(&Label { description, ..label }).unwrap();
                fs::write(self.kept.join(Label::file_of(&id)), label).unwrap();
            }
            Wish::Delete { ids } => {
                if !ids.iter().all(|id| is_there(self, id)) {
                    return Err(missing());
                }
                for id in ids {
                    fs::remove_file(self.kept.join(id.as_ref())).unwrap();
                }
            }
            Wish::Prepare { id, key } => {
                let lock = self.locks.iter().find(|(of, _)| *of == id).map(|(_, lock)| lock);
                let opens = match (lock, &key) {
                    (Some(Lock::Passphrase(its)), Key::Passphrase(it)) => its == it,
                    (Some(Lock::Recipient(_)), Key::Identity(_)) => true,
                    _ => false,
                };
                if !opens {
                    return Err(Trouble::new(Kind::WrongKey, "it doesn't open it"));
                }
                self.state.prepared = Some(id);
            }
            wish @ (Wish::Restore { .. } | Wish::Erase) => {
                self.state.prepared = None;
                self.exchanged.push(wish);
            }
        }
        Ok(Stats { backup_size_bytes: 25, extracted_bytes: 100 })
    }

    /// What was slow is done.
    pub fn finish(&mut self) {
        let task = self.state.task.as_mut().unwrap();
        task.outcome = Some(Ok(Stats::default()));
    }
}

impl Backups for FakeInit {
    fn wish(&self, wish: Wish) -> Granted<'_, ()> {
        Box::pin(async move {
            let mut told = self.vault.told();
            let is_running = told.state.task.as_ref().is_some_and(|task| task.outcome.is_none());
            if told.busy > 0 || is_running {
                told.busy = told.busy.saturating_sub(1);
                return Err(NotGranted::Busy);
            }
            let id = match &wish {
                Wish::Create { id, .. }
                | Wish::Accept { id, .. }
                | Wish::Describe { id, .. }
                | Wish::Prepare { id, .. }
                | Wish::Restore { id } => Some(id.clone()),
                Wish::State | Wish::Delete { .. } | Wish::Erase => None,
            };
            if matches!(wish, Wish::Restore { .. }) && told.state.prepared != id {
                return Err(NotGranted::NotPrepared);
            }
            let outcome = match told.trouble.take() {
                Some(trouble) => Some(Err(trouble)),
                None => {
                    let outcome = told.do_it(wish);
                    (!std::mem::take(&mut told.is_slow)).then_some(outcome)
                }
            };
            let progress = Progress { done: 50, total: 100 };
            told.state.task = Some(Task { id, progress, outcome });
            Ok(())
        })
    }

    fn backup_state(&self) -> Granted<'_, State> {
        Box::pin(async move { Ok(self.vault.told().state.clone()) })
    }
}
