//! What is agreed with `stele-init` about backups: it has them made, opened and put in place; we
//! only ever see them encrypted.

use std::pin::Pin;

use appliance::backup::{State, Wish};
use appliance::control::{Refusal, Reply, Verb};

use super::Error;
use super::control::Control;

/// An answer that takes a while.
pub type Granted<'a, T> = Pin<Box<dyn Future<Output = Result<T, NotGranted>> + Send + 'a>>;

/// `stele-init`, as far as it keeps backups.
pub trait Backups: Send + Sync {
    /// Has this done, and doesn't wait for that.
    fn wish(&self, wish: Wish) -> Granted<'_, ()>;
    /// What is being done, or was last.
    fn backup_state(&self) -> Granted<'_, State>;
}

/// Why it isn't.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotGranted {
    /// Something else is being done.
    Busy,
    /// This backup isn't the one that was prepared last.
    NotPrepared,
    /// For another reason.
    Other(Error),
}

impl Backups for Control {
    fn wish(&self, wish: Wish) -> Granted<'_, ()> {
        let asked = self.exchange(Verb::Backup(Box::new(wish)));
        Box::pin(async move {
            match asked.await.map_err(NotGranted::Other)? {
                Reply::Accepted => Ok(()),
                other => Err(refused(other)),
            }
        })
    }

    fn backup_state(&self) -> Granted<'_, State> {
        let asked = self.exchange(Verb::Backup(Box::new(Wish::State)));
        Box::pin(async move {
            match asked.await.map_err(NotGranted::Other)? {
                Reply::Backup(state) => Ok(*state),
                other => Err(refused(other)),
            }
        })
    }
}

fn refused(reply: Reply) -> NotGranted {
    let other = |why| NotGranted::Other(Error::Refused("what is wished about backups", why));
    match reply {
        Reply::Refused(Refusal::Busy | Refusal::Ending) => NotGranted::Busy,
        Reply::Refused(Refusal::NotPrepared) => NotGranted::NotPrepared,
        Reply::Refused(refusal) => other(format!("{refusal:?}")),
        _ => other("it answers another question".into()),
    }
}
