//! Requests to a Pod, each bounded, none repeated, no redirection followed: what is sent may be a
//! token, and what is asked for may not be wanted twice.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use appliance::secret::Secret;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use ureq::http::header::{AUTHORIZATION, CONTENT_LENGTH, EXPECT};
use ureq::http::{Response, StatusCode};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Body, SendBody};

use crate::pod::address::Address;
use crate::pod::credential::{self, Credential};
use crate::pod::state::{Failure, State, System};

/// For most answers.
const ANSWERED_WITHIN: Duration = Duration::from_secs(45);
/// For an answer that is asked for again and again.
const LOOKED_WITHIN: Duration = Duration::from_secs(10);
/// For a bundle to be taken.
const SENT_WITHIN: Duration = Duration::from_secs(2 * 3600);
/// For it to be read back and armed after that: a Pod gives up before.
const INSTALLED_WITHIN: Duration = Duration::from_secs(20 * 60);
/// The longest answer, in bytes.
const LONGEST: u64 = 1 << 20;

const APPLIANCE: &str = "/api/v1/appliance";

/// Which Pod, and who asks it.
#[derive(Args)]
pub struct Options {
    /// Where the Pod is, for example http://127.0.0.1:3030.
    #[arg(long, value_name = "URL")]
    pod: Address,
    #[command(flatten)]
    who: credential::Options,
    /// Certificates (PEM) to believe in the place of the usual ones, of a Pod behind https.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Show an unencrypted network who asks: whoever listens there can then do the same.
    #[arg(long)]
    insecure: bool,
}

/// A Pod, and the token of one of its admins.
pub struct Pod {
    agent: Agent,
    address: Address,
    token: Secret,
}

/// An answer that isn't the one that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It won't, and says why.
    #[error("{message} ({error}, {status})")]
    Refused {
        /// Its status.
        status: StatusCode,
        /// The word that programs go by.
        error: String,
        /// The sentence that people read.
        message: String,
    },
    /// Something answers, but not as a Pod does.
    #[error("what is there answers {0}, and not as a Pod does")]
    Odd(StatusCode),
    /// Nothing answers, or not to the end.
    #[error("{0}")]
    Lost(String),
}

/// A refusal, as it comes.
#[derive(Deserialize)]
struct Told {
    error: String,
    message: String,
}

impl Pod {
    /// The Pod of these options, which knows who asks.
    pub fn reach(options: &Options) -> Result<Pod> {
        let address = options.pod.clone();
        if !address.is_safe() && !options.insecure {
            bail!(
                "cannot show {address} who asks: others on the network could read it\n\
                 hint: reach it by https or through a tunnel to this host, or add --insecure"
            );
        }
        let agent = agent(&address, options.ca.as_deref())?;
        match Credential::find(&options.who)? {
            Credential::Token(token) => Ok(Pod { agent, address, token }),
            Credential::Password { user, password } => {
                let logged_in = log_in(&agent, &address, &user, &password);
                let token =
                    logged_in.with_context(|| format!("cannot log in to {address} as {user}"))?;
                Ok(Pod { agent, address, token })
            }
        }
    }

    /// Where it is.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// How it is.
    pub fn state(&self) -> Result<State, Error> {
        let request = self.agent.get(self.address.at(APPLIANCE));
        let request = request.config().timeout_global(Some(LOOKED_WITHIN)).build();
        read(answer(request.call())?)
    }

    /// Why the last upgrade that failed did, if one did.
    pub fn last_failure(&self) -> Result<Option<Failure>, Error> {
        let request = self.agent.get(self.address.at(&format!("{APPLIANCE}/last-failure")));
        let request = request.config().timeout_global(Some(LOOKED_WITHIN)).build();
        match answer(request.header(AUTHORIZATION, self.shown()).call()) {
            Ok(response) => read(response).map(Some),
            Err(Error::Refused { status: StatusCode::NOT_FOUND, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Has something done: `reboot`, `rollback`.
    pub fn order(&self, what: &str) -> Result<(), Error> {
        let request = self.agent.post(self.address.at(&format!("{APPLIANCE}/{what}")));
        answer(request.header(AUTHORIZATION, self.shown()).send_empty()).map(drop)
    }

    /// Sends a bundle of so many bytes; what is armed then.
    pub fn send_bundle(&self, bundle: &mut dyn Read, length: u64) -> Result<System, Error> {
        #[derive(Deserialize)]
        struct Told {
            armed: System,
        }
        let request = self.agent.put(self.address.at(&format!("{APPLIANCE}/upgrade")));
        let request = request
            .config()
            .timeout_global(None)
            // Whoever may not is told so before anything is sent.
            .timeout_await_100(Some(ANSWERED_WITHIN))
            .timeout_send_body(Some(SENT_WITHIN))
            .timeout_recv_response(Some(INSTALLED_WITHIN))
            .build();
        let response = request
            .header(AUTHORIZATION, self.shown())
            .header(EXPECT, "100-continue")
            .header(CONTENT_LENGTH, length.to_string())
            .send(SendBody::from_reader(bundle));
        read(answer(response)?).map(|Told { armed }| armed)
    }

    fn shown(&self) -> String {
        format!("Bearer {}", self.token.reveal())
    }
}

fn agent(address: &Address, ca: Option<&Path>) -> Result<Agent> {
    let mut config = Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .timeout_connect(Some(Duration::from_secs(10)))
        .timeout_global(Some(ANSWERED_WITHIN))
        .user_agent(concat!("stele/", env!("CARGO_PKG_VERSION")));
    // No proxy gets to see what is for this host.
    if address.is_loopback() {
        config = config.proxy(None);
    }
    if let Some(path) = ca {
        let roots = certificates(path).with_context(|| format!("cannot use {}", path.display()))?;
        config = config.tls_config(TlsConfig::builder().root_certs(roots).build());
    }
    Ok(config.build().into())
}

fn certificates(path: &Path) -> Result<RootCerts> {
    let text = std::fs::read(path)?;
    let mut certificates: Vec<Certificate<'_>> = vec![];
    for item in parse_pem(&text) {
        if let PemItem::Certificate(certificate) = item? {
            certificates.push(certificate);
        }
    }
    match certificates.is_empty() {
        true => bail!("it has no certificate"),
        false => Ok(RootCerts::from(certificates)),
    }
}

fn log_in(agent: &Agent, address: &Address, user: &str, password: &Secret) -> Result<Secret> {
    #[derive(Deserialize)]
    struct Login {
        token: Secret,
    }
    let basic = STANDARD.encode(format!("{user}:{}", password.reveal()));
    let request = agent.post(address.at("/api/v1/login"));
    let response = request.header(AUTHORIZATION, format!("Basic {basic}")).send_empty();
    let Login { token } = read(answer(response)?)?;
    Ok(token)
}

/// An answer, if it is the one that was asked for.
fn answer(response: Result<Response<Body>, ureq::Error>) -> Result<Response<Body>, Error> {
    let mut response = response.map_err(|error| Error::Lost(error.to_string()))?;
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let told = text(&mut response).ok();
    let told = told.and_then(|text| serde_json::from_str(&text).ok());
    Err(match told {
        Some(Told { error, message }) => Error::Refused { status, error, message },
        None => Error::Odd(status),
    })
}

fn read<T: DeserializeOwned>(mut response: Response<Body>) -> Result<T, Error> {
    let text = text(&mut response)?;
    serde_json::from_str(&text).map_err(|_| Error::Odd(response.status()))
}

fn text(response: &mut Response<Body>) -> Result<String, Error> {
    let body = response.body_mut().with_config().limit(LONGEST);
    body.read_to_string().map_err(|error| Error::Lost(error.to_string()))
}
