//! What is asked of the Server: the typed verbs of our Prosody module, each one request and one
//! answer in JSON. How they get there is [`http`]'s; tests have another way.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use appliance::secret::Secret;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::jid::Localpart;
use crate::member::Role;

pub mod http;
pub mod profile;

use profile::Profile;

/// How long a long poll for changes may be silent.
pub const POLL: Duration = Duration::from_secs(25);

/// The word of a refusal: the host isn't served, yet or any more.
pub const NOT_SERVED: &str = "no_such_host";

/// An answer that takes a while.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send + 'a>>;

/// Carries a verb to the Server, as its API's account with this secret.
pub trait Server: Send + Sync {
    /// One request, one answer: never sent twice, so an error may come after it was obeyed.
    fn ask<'a>(&'a self, secret: &'a Secret, verb: &'static str, with: Value) -> Answer<'a, Value>;
}

/// A Server together with the secret that it takes.
#[derive(Clone)]
pub struct Connection {
    server: Arc<dyn Server>,
    secret: Secret,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The secret is wrong.
    #[error("it refuses our secret")]
    Unauthorized,
    /// It won't, and says why in a word and a sentence.
    #[error("it refuses: {error}: {message}")]
    Refused {
        /// 400, 404, 409 or 413.
        status: u16,
        /// A word.
        error: String,
        /// A sentence.
        message: String,
    },
    /// It doesn't remember changes of so long ago.
    #[error("it has forgotten changes that we haven't seen")]
    Gone,
    /// It is asked too much.
    #[error("it is asked too often")]
    Busy,
    /// Not there, or not any more: whether it obeyed isn't known.
    #[error("it does not answer: {0}")]
    Unreachable(String),
    /// It failed, or it speaks another language.
    #[error("its answer makes no sense: {0}")]
    Odd(String),
}

/// The answer to `version`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Version {
    /// Prosody's own, as it calls itself.
    pub prosody: String,
}

/// The answer to `accounts`.
#[derive(Debug, Deserialize)]
pub struct Accounts {
    /// Every account of the host.
    pub accounts: Vec<Account>,
    /// The number of the last change that is in it.
    pub seq: u64,
}

/// An account, as the Server has it.
#[derive(Debug, Deserialize)]
pub struct Account {
    /// Its name.
    pub localpart: String,
    /// Its role: see [`crate::member::role_of`].
    pub role: Option<String>,
    /// Seconds since 1970, where the Server knows.
    pub created: Option<u64>,
}

/// A client that is online.
#[derive(Debug, Deserialize)]
pub struct Session {
    /// Whose.
    pub localpart: String,
}

/// The answer to `changes`.
#[derive(Debug, Deserialize)]
pub struct Changes {
    /// The number of the last one: what to ask for next.
    pub seq: u64,
    /// In order; none, if nothing happened for a while.
    pub changes: Vec<Change>,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Change {
    /// Its number.
    #[serde(default)]
    pub seq: u64,
    /// Where.
    pub host: String,
    /// To whom; absent, where it happened to the host.
    pub localpart: Option<String>,
    /// What.
    #[serde(flatten)]
    pub what: What,
}

/// What happened. Each says how it is now, so that seeing it twice does no harm.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum What {
    /// An account was made, or deleted.
    Account {
        /// Is there one now?
        exists: bool,
        /// Its role.
        role: Option<String>,
    },
    /// Its role is another.
    Role {
        /// This one.
        role: Option<String>,
    },
    /// Its password is another.
    Password,
    /// Its first client came, or its last one went.
    Presence {
        /// Is one there now?
        online: bool,
    },
    /// What it shows of itself is something else.
    Profile(Profile),
    /// The host came, or went.
    Host,
    /// Something that a later module tells of.
    #[serde(other)]
    Unknown,
}

impl Error {
    /// Nothing was asked: it isn't in step.
    pub fn away() -> Error {
        Error::Unreachable("it is being started".into())
    }
}

impl Connection {
    /// Doesn't ask it anything yet.
    pub fn new(server: Arc<dyn Server>, secret: Secret) -> Connection {
        Connection { server, secret }
    }

    /// Which Server it is: the cheapest way to find out whether it takes the secret.
    pub async fn version(&self) -> Result<Version, Error> {
        self.ask("version", json!({})).await
    }

    /// Changes the secret. From then on the old one is refused.
    pub async fn rotate_secret(&self, new: &Secret) -> Result<(), Error> {
        self.tell("rotate_secret", json!({ "new": new.reveal() })).await
    }

    /// All accounts of a host; a refusal with 404 says that it isn't served (yet).
    pub async fn accounts(&self, host: &str) -> Result<Accounts, Error> {
        self.ask("accounts", json!({ "host": host })).await
    }

    /// All clients of a host that are online.
    pub async fn sessions(&self, host: &str) -> Result<Vec<Session>, Error> {
        #[derive(Deserialize)]
        struct Sessions {
            sessions: Vec<Session>,
        }
        let Sessions { sessions } = self.ask("sessions", json!({ "host": host })).await?;
        Ok(sessions)
    }

    /// What happened after `since`; waits for something to, but not longer than [`POLL`].
    pub async fn changes(&self, since: u64) -> Result<Changes, Error> {
        self.ask("changes", json!({ "since": since, "wait": POLL.as_secs() })).await
    }

    /// Makes an account; a refusal with 409 says that there is one of this name.
    pub async fn create_account(
        &self,
        host: &str,
        localpart: &Localpart,
        password: &Secret,
        role: Role,
    ) -> Result<(), Error> {
        let with = json!({
            "host": host, "localpart": localpart.as_str(),
            "password": password.reveal(), "role": role.to_server(),
        });
        self.tell("create_account", with).await
    }

    /// Deletes an account and all that is kept of it: 404 says that there is none.
    pub async fn delete_account(&self, host: &str, localpart: &Localpart) -> Result<(), Error> {
        let with = json!({ "host": host, "localpart": localpart.as_str() });
        self.tell("delete_account", with).await
    }

    /// Gives an account another password; its clients are disconnected.
    pub async fn set_password(
        &self,
        host: &str,
        localpart: &Localpart,
        password: &Secret,
    ) -> Result<(), Error> {
        let with = json!({
            "host": host, "localpart": localpart.as_str(), "password": password.reveal(),
        });
        self.tell("set_password", with).await
    }

    /// Gives an account another role.
    pub async fn set_role(
        &self,
        host: &str,
        localpart: &Localpart,
        role: Role,
    ) -> Result<(), Error> {
        let with =
            json!({ "host": host, "localpart": localpart.as_str(), "role": role.to_server() });
        self.tell("set_role", with).await
    }

    /// Is it this account's password? What can't be one isn't.
    pub async fn check_password(
        &self,
        host: &str,
        localpart: &Localpart,
        password: &Secret,
    ) -> Result<bool, Error> {
        #[derive(Deserialize)]
        struct Checked {
            ok: bool,
        }
        let with = json!({
            "host": host, "localpart": localpart.as_str(), "password": password.reveal(),
        });
        match self.ask("check_password", with).await {
            Ok(Checked { ok }) => Ok(ok),
            Err(Error::Refused { status: 400, .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn ask<T: DeserializeOwned>(&self, verb: &'static str, with: Value) -> Result<T, Error> {
        let answer = self.server.ask(&self.secret, verb, with).await?;
        serde_json::from_value(answer).map_err(|error| Error::Odd(format!("{verb}: {error}")))
    }

    /// Asks for something that has no result: whatever else the object holds.
    async fn tell(&self, verb: &'static str, with: Value) -> Result<(), Error> {
        self.ask::<BTreeMap<String, Value>>(verb, with).await.map(drop)
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connection(…)")
    }
}
