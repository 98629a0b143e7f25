//! The first thing that happens: the secret that the Server was started with is changed to a strong
//! random one, before anybody outside can reach it.
//!
//! ```text
//! 1. a new secret, handed to init: pending   dies here: the Server still takes the bootstrap secret
//! 2. the Server is told to change to it      dies here: the Server takes one of the two
//! 3. init is told that it is done            dies here: the Server takes what init calls pending
//!    init proves it, and calls it current
//! ```
//!
//! So after any death the Server takes one of init's three secrets, and which one tells what is
//! left to do. A secret that is pending already is used again, never replaced: a request to change
//! to it may be on its way still.

use std::sync::Arc;

use appliance::secret::Secret;

use crate::init::{self, Credentials, Init};
use crate::secret;
use crate::server::{self, Connection, Server};

/// What a secret is to init, in the order in which they are tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// It proved it.
    Current,
    /// It was handed it.
    Pending,
    /// The Server was started with it.
    Bootstrap,
}

/// What is left to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// Nothing.
    Nothing,
    /// Tell init that it is done.
    Report,
    /// All of it.
    Rotate,
}

/// Why it isn't done. It is tried again.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// init left no secret.
    #[error("cannot log in to the Server: there is no secret to do it with")]
    NoSecret,
    /// The Server takes none of them.
    #[error("cannot log in to the Server: it refuses each of our {0} secrets")]
    AllRefused(usize),
    /// The Server doesn't answer.
    #[error("cannot {0}: {1}")]
    Server(&'static str, server::Error),
    /// init doesn't.
    #[error(transparent)]
    Init(#[from] init::Error),
    /// The kernel has no randomness.
    #[error("cannot make a secret: {0}")]
    Random(String),
}

/// What this process remembers of it: what it was told sooner than the files say.
#[derive(Debug, Default)]
pub struct Rotation {
    current: Option<Secret>,
    pending: Option<Secret>,
}

impl Left {
    /// Decided by which secret the Server takes.
    pub fn after(taken: Known) -> Left {
        match taken {
            Known::Current => Left::Nothing,
            Known::Pending => Left::Report,
            Known::Bootstrap => Left::Rotate,
        }
    }
}

impl Rotation {
    /// Finds the secret that the Server takes, and does what is left to do.
    pub async fn complete(
        &mut self,
        server: &Arc<dyn Server>,
        init: &dyn Init,
    ) -> Result<Connection, Error> {
        let candidates = self.candidates(init.credentials()?);
        let connect = |secret: &Secret| Connection::new(server.clone(), secret.clone());
        let (known, secret) = taken(&candidates, connect).await?;
        let secret = match Left::after(known) {
            Left::Nothing => secret,
            Left::Report => self.report(init, secret).await?,
            Left::Rotate => {
                let new = match candidates.iter().find(|(known, _)| *known == Known::Pending) {
                    Some((_, pending)) => pending.clone(),
                    None => secret::random("").map_err(Error::Random)?,
                };
                self.pending = Some(new.clone());
                init.rotation_pending(&new).await?;
                let changed = connect(&secret).rotate_secret(&new).await;
                changed.map_err(|error| Error::Server("change the Server's secret", error))?;
                self.report(init, new).await?
            }
        };
        Ok(connect(&secret))
    }

    async fn report(&mut self, init: &dyn Init, secret: Secret) -> Result<Secret, Error> {
        init.rotation_done().await?;
        self.current = Some(secret.clone());
        self.pending = None;
        Ok(secret)
    }

    /// What to try, in order, each once.
    fn candidates(&self, files: Credentials) -> Vec<(Known, Secret)> {
        let all = [
            (Known::Current, self.current.clone()),
            (Known::Current, files.current),
            (Known::Pending, self.pending.clone()),
            (Known::Pending, files.pending),
            (Known::Bootstrap, files.bootstrap),
        ];
        let mut candidates: Vec<(Known, Secret)> = vec![];
        for (known, secret) in all.into_iter().filter_map(|(known, it)| Some((known, it?))) {
            if candidates.iter().all(|(_, other)| *other != secret) {
                candidates.push((known, secret));
            }
        }
        candidates
    }
}

/// The first that the Server takes. A Server that doesn't answer refuses nothing.
async fn taken(
    candidates: &[(Known, Secret)],
    connect: impl Fn(&Secret) -> Connection,
) -> Result<(Known, Secret), Error> {
    for (known, secret) in candidates {
        match connect(secret).version().await {
            Ok(_) => return Ok((*known, secret.clone())),
            Err(server::Error::Unauthorized) => (),
            Err(error) => return Err(Error::Server("log in to the Server", error)),
        }
    }
    match candidates.len() {
        0 => Err(Error::NoSecret),
        tried => Err(Error::AllRefused(tried)),
    }
}

#[cfg(test)]
mod tests;
