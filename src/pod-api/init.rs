//! What is agreed with `stele-init`: the secrets it hands us, the two words that rotate them, and
//! the settings that it makes the Server's configuration of.

use std::future::Future;
use std::pin::Pin;

use appliance::control::SettingsState;
use appliance::secret::Secret;
use appliance::settings::Settings;

pub mod control;

/// An answer that takes a while.
pub type Answer<'a, T = ()> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send + 'a>>;

/// `stele-init`, as pod-api knows it.
pub trait Init: Send + Sync {
    /// The secrets that it has for us now: they change.
    fn credentials(&self) -> Result<Credentials, Error>;
    /// Hands over a secret that the Server will be told next. Saying it twice does no harm.
    fn rotation_pending<'a>(&'a self, secret: &'a Secret) -> Answer<'a>;
    /// The pending secret is the Server's: prove it, and open the gate.
    fn rotation_done(&self) -> Answer<'_>;
    /// What the Server is to be like: rendered, checked, loaded. The same again changes nothing.
    fn settings<'a>(&'a self, settings: &'a Settings) -> Answer<'a>;
    /// What became of the last settings.
    fn settings_state(&self) -> Answer<'_, SettingsState>;
    /// The configuration that the Server runs with; `None`: it has no settings yet.
    fn server_file(&self) -> Answer<'_, Option<String>>;
}

/// What may be the secret of the API's account.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    /// The one that was proved.
    pub current: Option<Secret>,
    /// The one that was handed over last, and wasn't proved yet.
    pub pending: Option<Secret>,
    /// The one that the Server was started with.
    pub bootstrap: Option<Secret>,
}

/// Why it didn't.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It says so.
    #[error("stele-init refuses {0}: {1}")]
    Refused(&'static str, String),
    /// It, or what it left for us, isn't there.
    #[error("cannot {0}: {1}")]
    Unreachable(String, String),
}
