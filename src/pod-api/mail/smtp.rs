//! The way of a letter: one connection to the operator's SMTP server, encrypted by STARTTLS.
//!
//! Whom that server's certificate must be from is the system's choice: its bundle of authorities, as
//! for every other program. Nothing here accepts another one.

use std::path::{Path, PathBuf};
use std::time::Duration;

use lettre::message::{Mailbox, MultiPart};
use lettre::transport::smtp::AsyncSmtpTransport;
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, CertificateStore, Tls, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use lettre::{AsyncTransport as _, Message, Tokio1Executor};
use tokio::time::timeout;

use super::letters::line;
use super::{Error, Letter, Mailer, Sent};
use crate::config::mail::{Encryption, Mail};
use crate::secret;

/// The system's authorities.
pub const AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";
/// The server must have taken the connection by then.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// And the letter by then: the Dashboard waits for 30 s.
const SEND_WITHIN: Duration = Duration::from_secs(25);

/// SMTP.
#[derive(Debug)]
pub struct Smtp {
    authorities: PathBuf,
    within: Duration,
}

impl Smtp {
    /// Trusts the authorities of this bundle, which is read at each letter.
    pub fn trusting(authorities: impl Into<PathBuf>) -> Smtp {
        Smtp { authorities: authorities.into(), within: SEND_WITHIN }
    }

    async fn deliver(&self, by: &Mail, letter: Letter) -> Result<(), String> {
        let message = message(by, letter)?;
        let mut transport = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&by.host)
            .port(by.port)
            .hello_name(ClientId::Domain(by.our_host.clone()))
            .timeout(Some(CONNECT_WITHIN))
            .tls(encryption(by, &self.authorities)?);
        if let Some((name, password)) = &by.credentials {
            let password = password.reveal().to_owned();
            transport = transport.credentials(Credentials::new(name.clone(), password));
        }
        let sending = transport.build::<Tokio1Executor>();
        let sent = timeout(self.within, sending.send(message)).await;
        let late = |_| format!("it took longer than {} s", self.within.as_secs_f32());
        sent.map_err(late)?.map_err(|error| error.to_string()).map(drop)
    }
}

impl Mailer for Smtp {
    fn send<'a>(&'a self, by: &'a Mail, letter: Letter) -> Sent<'a> {
        Box::pin(async move {
            let server = format!("{}:{}", by.host, by.port);
            let sent = self.deliver(by, letter).await;
            // One line, whatever the server said.
            sent.map_err(|cause| Error { server, cause: cause.replace(char::is_control, " ") })
        })
    }
}

fn encryption(by: &Mail, authorities: &Path) -> Result<Tls, String> {
    let unreadable = |error: &dyn std::fmt::Display| {
        format!("cannot read authorities {}: {error}", authorities.display())
    };
    let bundle = std::fs::read(authorities).map_err(|error| unreadable(&error))?;
    let trusted = Certificate::from_pem(&bundle).map_err(|error| unreadable(&error))?;
    let tls = TlsParameters::builder(by.host.clone())
        .certificate_store(CertificateStore::None)
        .add_root_certificate(trusted)
        .build()
        .map_err(|error| unreadable(&error))?;
    Ok(match by.encryption {
        Encryption::Always => Tls::Required(tls),
        Encryption::IfOffered => Tls::Opportunistic(tls),
    })
}

fn message(by: &Mail, letter: Letter) -> Result<Message, String> {
    let from = Mailbox::new(Some(line(&by.our_name)), by.our_address.to_lettre());
    let id = secret::random("")?;
    Message::builder()
        .from(from)
        .to(Mailbox::new(None, letter.to.to_lettre()))
        .subject(line(&letter.subject))
        .message_id(Some(format!("<{}@{}>", id.reveal(), by.our_host)))
        .multipart(MultiPart::alternative_plain_html(letter.text, letter.html))
        .map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests;
