//! Keeps in step with the Server: logs in, rotates the secret if that is left to do, submits the
//! settings, reads all accounts, follows what happens; and starts over whenever any of it fails.
//!
//! ```text
//! logging in ─► settings ─► reading ─► in step ── the connection fails, the host changes ─► logging in
//!     └─ fails ───┴── fail ────┴─ fails ─► a pause, twice as long each time ─► logging in
//! ```
//!
//! Settings that are refused stop nothing, since the Server goes on with the last good ones; they
//! are submitted again at each login until they are taken.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::sleep;

use crate::init::Init;
use crate::log;
use crate::pod::Pod;
use crate::projection::Projection;
use crate::rotation::Rotation;
use crate::server::{self, Connection, Server};

/// The first pause, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));
/// For so long it is usual that the Server doesn't answer: it is being started.
const USUAL: Duration = Duration::from_secs(15);

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
pub async fn follow(pod: &Pod, server: Arc<dyn Server>, init: Arc<dyn Init>) {
    let (mut rotation, mut patience) = (Rotation::default(), Patience::new());
    let settings = pod.config.server.settings();
    let mut are_submitted = false;
    loop {
        let why = match rotation.complete(&server, &*init).await {
            Ok(connection) => {
                let submitted = match are_submitted {
                    true => Ok(()),
                    false => init.settings(&settings).await.map_err(|error| error.to_string()),
                };
                are_submitted = submitted.is_ok();
                stay_in_step(pod, connection, submitted).await
            }
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

/// Returns why it isn't any more. `submitted` says what became of the settings: they may be refused
/// for now, because the gate isn't open yet.
async fn stay_in_step(pod: &Pod, connection: Connection, submitted: Result<(), String>) -> String {
    let mut seq = match read(pod, &connection).await {
        Ok(seq) => seq,
        Err(server::Error::Refused { status: 404, .. }) => {
            let why = submitted.err().map_or(String::new(), |error| format!(": {error}"));
            return format!("the Server does not serve {} yet{why}", pod.domain());
        }
        Err(error) => return format!("cannot read the Server's accounts: {error}"),
    };
    log::info(format_args!("in step with the Server, which serves {}", pod.domain()));
    if let Err(error) = submitted {
        log::error(format_args!("the Server goes on with older settings: {error}"));
    }
    loop {
        match connection.changes(seq).await {
            Ok(changes) => {
                seq = changes.seq;
                if pod.apply(changes).await {
                    return format!("{} came or went", pod.domain());
                }
            }
            Err(error) => return format!("cannot follow its changes: {error}"),
        }
    }
}

/// Reads everything; returns the number of the last change in it.
async fn read(pod: &Pod, connection: &Connection) -> Result<u64, server::Error> {
    let version = connection.version().await?;
    let host = pod.domain().as_ref();
    // In this order: a session that comes or goes in between is among the changes.
    let accounts = connection.accounts(host).await?;
    let sessions = connection.sessions(host).await?;
    let projection = Projection::new(accounts, &sessions);
    let seq = projection.seq();
    pod.link(connection.clone(), version, projection).await;
    Ok(seq)
}

impl Patience {
    fn new() -> Patience {
        Patience { pause: PAUSES.0, failing: None, said: String::new() }
    }

    async fn wait(&mut self, why: &str) {
        let since = self.failing.get_or_insert_with(Instant::now);
        if since.elapsed() > USUAL && self.said != why {
            log::warn(why);
            self.said = why.to_owned();
        }
        sleep(self.pause).await;
        self.pause = PAUSES.1.min(self.pause * 2);
    }
}
