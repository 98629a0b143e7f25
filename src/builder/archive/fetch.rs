//! Downloads: bounded, hashed while they arrive, resumed when they break off.

use std::io::{Read, Write};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::Context;
use appliance::hash::Digest;
use sha2::{Digest as _, Sha256};
use tracing::debug;
use ureq::Agent;
use ureq::http::StatusCode;

use crate::archive::store::Store;
use crate::progress::Progress;

/// Downloads at a time.
const PARALLEL: usize = 4;
/// How often a download that breaks off is resumed.
const TRIES: usize = 3;
/// The longest file whose length nobody has told beforehand.
const UNKNOWN_LIMIT: u64 = 16 << 20;

/// A file that is known by its digest before it is fetched.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// What messages call it.
    pub name: String,
    /// Places to try, in this order.
    pub urls: Vec<String>,
    /// Its length in bytes.
    pub size: u64,
    /// What is must be.
    pub digest: Digest,
}

/// Why a file could not be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server doesn't have it.
    #[error("the mirror does not have it")]
    NotFound,
    /// The server's refusal.
    #[error("the mirror answers {0}")]
    Status(StatusCode),
    /// The end came early.
    #[error("the download ended after {got} of {size} bytes")]
    Truncated {
        /// What came.
        got: u64,
        /// What should have come.
        size: u64,
    },
    /// More came than should.
    #[error("it is longer than {0} bytes")]
    TooLong(u64),
    /// Something else came.
    #[error("it has SHA-256 {got}, not {wanted} as its index says")]
    WrongDigest {
        /// What came.
        got: Digest,
        /// What should have come.
        wanted: Digest,
    },
    /// No connection, or one that broke.
    #[error("{0}")]
    Connection(String),
    /// The store can't take it.
    #[error("{0:#}")]
    Store(anyhow::Error),
}

/// Gets files from mirrors into a store.
pub struct Fetcher<'a> {
    agent: Agent,
    store: &'a Store,
    progress: &'a Progress,
}

impl<'a> Fetcher<'a> {
    /// A fetcher that fills `store`.
    pub fn new(store: &'a Store, progress: &'a Progress) -> Fetcher<'a> {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_connect(Some(Duration::from_secs(20)))
            .timeout_recv_response(Some(Duration::from_secs(30)))
            .timeout_recv_body(Some(Duration::from_secs(600)))
            .user_agent(concat!("stele/", env!("CARGO_PKG_VERSION")))
            .build();
        Fetcher { agent: config.into(), store, progress }
    }

    /// A file whose digest nobody knows yet: the signed index itself.
    pub fn fetch_unknown(&self, url: &str) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::new();
        let (_, mut body) = self.open(url, 0)?;
        body.by_ref()
            .take(UNKNOWN_LIMIT + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| Error::Connection(error.to_string()))?;
        match bytes.len() as u64 > UNKNOWN_LIMIT {
            true => Err(Error::TooLong(UNKNOWN_LIMIT)),
            false => Ok(bytes),
        }
    }

    /// Puts all of `wanted` into the store; what is there already isn't fetched again.
    pub fn fetch_all(&self, wanted: &[Wanted]) -> anyhow::Result<()> {
        let missing: Vec<&Wanted> =
            wanted.iter().filter(|wanted| !self.store.has(&wanted.digest)).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let bytes = missing.iter().map(|wanted| wanted.size).sum();
        self.progress.start(&format!("fetching {} files", missing.len()), bytes);
        let next = AtomicUsize::new(0);
        let failures = Mutex::new(Vec::new());
        thread::scope(|scope| {
            for _ in 0..PARALLEL.min(missing.len()) {
                scope.spawn(|| {
                    while let Some(wanted) = missing.get(next.fetch_add(1, Ordering::Relaxed)) {
                        if let Err(error) = self.fetch(wanted) {
                            let mut failures = failures.lock().unwrap_or_else(|e| e.into_inner());
                            failures.push((wanted.name.clone(), error));
                        }
                    }
                });
            }
        });
        self.progress.finish();
        let mut failures = failures.into_inner().unwrap_or_else(|e| e.into_inner());
        failures.sort_by(|(a, _), (b, _)| a.cmp(b));
        let names: Vec<String> = failures.iter().map(|(name, _)| name.clone()).collect();
        match failures.into_iter().next() {
            None => Ok(()),
            Some((_, error)) => Err(error).context(format!("cannot fetch {}", names.join(", "))),
        }
    }

    fn fetch(&self, wanted: &Wanted) -> Result<(), Error> {
        let mut last = Error::NotFound;
        for url in &wanted.urls {
            match self.fetch_from(url, wanted) {
                Ok(()) => return Ok(()),
                // What the first place says about itself is more telling than that a fallback
                // doesn't have it either.
                Err(Error::NotFound) => {}
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn fetch_from(&self, url: &str, wanted: &Wanted) -> Result<(), Error> {
        let mut file = self.store.new_file().map_err(|error| Error::Store(error.into()))?;
        let mut hash = Sha256::new();
        let mut got = 0;
        let mut broken = None;
        for _ in 0..TRIES {
            match self.receive(url, wanted.size, got, &mut hash, file.as_file_mut()) {
                Received::All => {
                    broken = None;
                    got = wanted.size;
                    break;
                }
                Received::Part(new, error) => {
                    got = new;
                    broken = Some(error);
                }
                Received::Nothing(error) => return Err(error),
            }
        }
        match broken {
            Some(error) if got == 0 => return Err(error),
            Some(_) => return Err(Error::Truncated { got, size: wanted.size }),
            None => {}
        }
        let digest = Digest(hash.finalize().into());
        if digest != wanted.digest {
            return Err(Error::WrongDigest { got: digest, wanted: wanted.digest });
        }
        self.store.keep(file, &digest).map_err(Error::Store)
    }

    /// Appends what is still missing from byte `from` on.
    fn receive(
        &self,
        url: &str,
        size: u64,
        from: u64,
        hash: &mut Sha256,
        file: &mut impl Write,
    ) -> Received {
        let (start, mut body) = match self.open(url, from) {
            Ok(opened) => opened,
            Err(error @ Error::Connection(_)) => return Received::Part(from, error),
            Err(error) => return Received::Nothing(error),
        };
        // A server that ignores the range begins again: skip what is here already.
        let mut skip = from - start;
        let mut got = from;
        let mut buffer = vec![0; 64 << 10];
        loop {
            let length = match body.read(&mut buffer) {
                Ok(0) if got == size => return Received::All,
                Ok(0) => return Received::Part(got, Error::Truncated { got, size }),
                Ok(length) => length,
                Err(error) => return Received::Part(got, Error::Connection(error.to_string())),
            };
            let skipped = skip.min(length as u64) as usize;
            skip -= skipped as u64;
            let new = &buffer[skipped..length];
            if got + new.len() as u64 > size {
                return Received::Nothing(Error::TooLong(size));
            }
            hash.update(new);
            if let Err(error) = file.write_all(new) {
                return Received::Nothing(Error::Store(error.into()));
            }
            got += new.len() as u64;
            self.progress.advance(new.len() as u64);
        }
    }

    /// Opens `url` from byte `from` on, or from the start: the first number says which.
    fn open(&self, url: &str, from: u64) -> Result<(u64, impl Read + use<>), Error> {
        debug!(url, from, "fetching");
        let mut request = self.agent.get(url);
        if from > 0 {
            request = request.header("Range", format!("bytes={from}-"));
        }
        let response = request.call().map_err(|error| Error::Connection(error.to_string()))?;
        let start = match response.status() {
            StatusCode::OK => 0,
            StatusCode::PARTIAL_CONTENT if from > 0 => from,
            StatusCode::NOT_FOUND | StatusCode::GONE => return Err(Error::NotFound),
            status => return Err(Error::Status(status)),
        };
        Ok((start, response.into_body().into_reader()))
    }
}

enum Received {
    All,
    /// So many bytes are here now; another try may bring the rest.
    Part(u64, Error),
    /// No further try will help.
    Nothing(Error),
}
