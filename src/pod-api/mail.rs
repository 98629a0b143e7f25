//! E-mail: to whom, what, and by which way.
//!
//! ```text
//! letters ──► Letter ── Mailer ──► the operator's SMTP server
//! ```

pub mod address;
pub mod letters;
pub mod smtp;

use std::future::Future;
use std::pin::Pin;

use address::EmailAddress;

use crate::config::mail::Mail;

/// Something to be sent, in two forms of which the reader's program shows one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letter {
    /// To whom.
    pub to: EmailAddress,
    /// One line.
    pub subject: String,
    /// For programs that show text.
    pub text: String,
    /// For those that show more.
    pub html: String,
}

/// Why a letter wasn't sent, or perhaps wasn't. It holds no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot send an e-mail through {server}: {cause}")]
pub struct Error {
    /// The SMTP server, and its port.
    pub server: String,
    /// What went wrong.
    pub cause: String,
}

/// Whether it was sent, in a while.
pub type Sent<'a> = Pin<Box<dyn Future<Output = Result<(), Error>> + Send + 'a>>;

/// Sends letters; another one in tests.
pub trait Mailer: Send + Sync {
    /// Done when the server has taken it, and whatever happens within half a minute.
    fn send<'a>(&'a self, by: &'a Mail, letter: Letter) -> Sent<'a>;
}
