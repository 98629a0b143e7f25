//! Keeps in step with the Server: logs in, rotates the secret if that is left to do, submits the
//! settings, reads all accounts, follows what happens; and starts over whenever any of it fails.
//!
//! ```text
//! logging in ─► settings ─► reading ─► in step ── the connection fails, the host changes ─► logging in
//!     │                       ├─ the domain isn't served yet ─► a pause ─► reading
//!     └───────── fails ───────┴─ fails ─► a pause ─► logging in
//! ```
//!
//! What members show of themselves is read with the accounts where they are few; of many, in parts,
//! when it is in step already.
//!
//! `stele-init` accepts settings before they are checked and loaded, and keeps them until the gate
//! is open: the domain is served a while later. A Server that is started anew starts with the last
//! ones that were good. So to submit them once a login is enough. Where they are refused, they are
//! submitted again until the domain is served; if it is, the Server goes on with older ones till
//! the next login.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::sleep;

use crate::init::Init;
use crate::jid::Localpart;
use crate::log;
use crate::pod::Pod;
use crate::projection::{Known, Projection};
use crate::publish;
use crate::rotation::Rotation;
use crate::server::profile::{self, Profiles};
use crate::server::{self, Connection, Server};

/// The first pause; each is twice as long as the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// For so long it is usual that the Server isn't there: it is being started, or loads the settings.
const USUAL: Duration = Duration::from_secs(15);
/// The longest pause within that time, and after it.
const LONGEST_PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(2));

/// Pauses between attempts, and what is said of those that fail: only what goes on failing.
struct Patience {
    pause: Duration,
    failing: Option<Instant>,
    said: String,
}

/// Logs in to the Server, for as often as it takes; the secret is rotated then.
pub async fn log_in(server: &Arc<dyn Server>, init: &dyn Init) -> Connection {
    let (mut rotation, mut patience) = (Rotation::default(), Patience::new());
    loop {
        match rotation.complete(server, init).await {
            Ok(connection) => return connection,
            Err(error) => patience.wait(&error.to_string()).await,
        }
    }
}

/// Keeps `pod` in step, for ever.
pub async fn follow(pod: &Arc<Pod>, server: Arc<dyn Server>) -> Infallible {
    let (mut rotation, mut patience) = (Rotation::default(), Patience::new());
    loop {
        let why = match rotation.complete(&server, &*pod.init).await {
            Ok(connection) => stay_in_step(pod, &connection).await,
            Err(error) => error.to_string(),
        };
        if pod.unlink() {
            log::info(format_args!("out of step with the Server: {why}"));
            patience = Patience::new();
        } else {
            patience.wait(&why).await;
        }
    }
}

/// Returns why it isn't any more.
async fn stay_in_step(pod: &Arc<Pod>, connection: &Connection) -> String {
    let (seq, unread) = match begin(pod, connection).await {
        Ok(read) => read,
        Err(error) => return format!("cannot read the Server's accounts: {error}"),
    };
    log::info(format_args!("in step with the Server, which serves {}", pod.domain()));
    tokio::select! {
        why = follow_changes(pod, connection, seq) => why,
        why = complete(pod, connection, &unread) => why,
    }
}

async fn follow_changes(pod: &Arc<Pod>, connection: &Connection, mut seq: u64) -> String {
    loop {
        match connection.changes(seq).await {
            Ok(changes) => {
                seq = changes.seq;
                // By itself: it is finished even if the configuration is read anew meanwhile.
                let pod = pod.clone();
                let domain = pod.domain().clone();
                match tokio::spawn(async move { pod.apply(changes).await }).await {
                    Ok(false) => (),
                    Ok(true) => return format!("{domain} came or went"),
                    Err(error) => return format!("cannot take its changes: {error}"),
                }
            }
            Err(error) => return format!("cannot follow its changes: {error}"),
        }
    }
}

/// Reads what others show of themselves, and hands over what an older version kept. Returns why it
/// can't; else never.
async fn complete(pod: &Pod, connection: &Connection, unread: &[Localpart]) -> String {
    match profiles(pod, connection, unread).await {
        Ok(()) => std::future::pending().await,
        Err(error) => format!("cannot read its profiles: {error}"),
    }
}

async fn profiles(
    pod: &Pod,
    connection: &Connection,
    unread: &[Localpart],
) -> Result<(), server::Error> {
    let host = pod.domain().as_ref();
    for some in unread.chunks(profile::MOST) {
        if let Some(profiles) = read_profiles(connection, host, some).await? {
            pod.note(|accounts| accounts.show(profiles));
        }
    }
    for (local, nickname) in pod.left_over() {
        let lacks = |known: &Known| known.profile.nickname.is_none();
        let is_lacking = pod.look(|accounts| accounts.account(&local).is_some_and(lacks));
        if is_lacking.is_ok_and(|is| is) {
            match pod.name(&local, nickname).await {
                Ok(()) => (),
                Err(error @ server::Error::Refused { .. }) => log::warn(error),
                Err(error) => return Err(error),
            }
        }
        if let Err(error) = pod.hand_over(&local).await {
            log::error(error);
        }
    }
    Ok(())
}

/// None, if the Server can't: nobody has to wait for a nickname.
async fn read_profiles(
    connection: &Connection,
    host: &str,
    some: &[Localpart],
) -> Result<Option<Profiles>, server::Error> {
    use server::Error::{Busy, Odd, Refused};
    match connection.profiles(host, some).await {
        Ok(profiles) => Ok(Some(profiles)),
        Err(error @ (Busy | Odd(_) | Refused { .. })) => {
            log::warn(format_args!("cannot read the Server's profiles: {error}"));
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Submits the settings, and reads everything as soon as the domain is served: see [`read`].
async fn begin(pod: &Pod, connection: &Connection) -> Result<(u64, Vec<Localpart>), server::Error> {
    let (mut patience, mut submitted) = (Patience::new(), pod.submit_settings().await);
    let began = loop {
        match read(pod, connection).await {
            Err(server::Error::Refused { error, .. }) if error == server::NOT_SERVED => (),
            result => break result?,
        }
        let why = submitted.as_ref().err().map_or(String::new(), |error| format!(": {error}"));
        patience.wait(&format!("the Server does not serve {} yet{why}", pod.domain())).await;
        if submitted.is_err() {
            submitted = pod.submit_settings().await;
        }
    };
    if let Err(error) = submitted {
        log::error(format_args!("the Server goes on with older settings: {error}"));
    }
    Ok(began)
}

/// Reads everything but the profiles of many, and puts the workspace right. Returns the number of
/// the last change in it, and whose profiles are left to read. Who is in step still, since only the
/// configuration is another, goes on from there: nobody who asks has to wait.
async fn read(pod: &Pod, connection: &Connection) -> Result<(u64, Vec<Localpart>), server::Error> {
    let names = |accounts: &Projection| accounts.members().map(|(it, ..)| it.clone()).collect();
    let known = pod.look(|it| (it.seq(), names(it), publish::account(it)));
    if let Ok((seq, all, account)) = known {
        publish::workspace(pod, connection, account).await;
        return Ok((seq, all));
    }
    let host = pod.domain().as_ref();
    // In this order: a session that comes or goes in between is among the changes.
    let accounts = connection.accounts(host).await?;
    let sessions = connection.sessions(host).await?;
    let version = connection.version().await?;
    let mut projection = Projection::new(accounts, &sessions);
    let seq = projection.seq();
    let mut some: Vec<Localpart> = names(&projection);
    let rest = some.split_off(some.len().min(profile::MOST));
    if !some.is_empty()
        && let Some(profiles) = read_profiles(connection, host, &some).await?
    {
        projection.show(profiles);
    }
    publish::workspace(pod, connection, publish::account(&projection)).await;
    pod.link(connection.clone(), version, projection).await;
    Ok((seq, rest))
}

impl Patience {
    fn new() -> Patience {
        Patience { pause: FIRST_PAUSE, failing: None, said: String::new() }
    }

    async fn wait(&mut self, why: &str) {
        let since = self.failing.get_or_insert_with(Instant::now).elapsed();
        if since > USUAL && self.said != why {
            log::warn(why);
            self.said = why.to_owned();
        }
        sleep(self.pause).await;
        self.pause = after(self.pause, since);
    }
}

/// The pause after this one, so long after the first failure.
fn after(pause: Duration, since: Duration) -> Duration {
    let longest = if since > USUAL { LONGEST_PAUSES.1 } else { LONGEST_PAUSES.0 };
    longest.min(pause * 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_are_short_while_that_is_usual() {
        for (pause, since, next) in [
            (50, 0, 100),
            (400, 1000, 500),
            (500, 15_000, 500),
            (500, 15_001, 1000),
            (1000, 60_000, 2000),
            (2000, 60_000, 2000),
        ] {
            let [pause, since, next] = [pause, since, next].map(Duration::from_millis);
            assert_eq!(after(pause, since), next, "{pause:?} {since:?}");
        }
    }
}
