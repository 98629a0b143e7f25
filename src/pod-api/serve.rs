//! Serves HTTP/1.1 at a unix socket (or, on a developer's machine, at a TCP address): so many
//! connections, none of which may dawdle over its head or have a long one.

use std::fs;
use std::future::Future;
use std::io::{self, ErrorKind};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};

use crate::log;

/// The most connections at a time: the front's. Others wait.
const MOST: u32 = 128;
/// A head must have come by then; also how long a connection may be idle.
const HEAD_WITHIN: Duration = Duration::from_secs(30);
/// The most bytes of a head: forty JIDs fit into its first line.
const LONGEST_HEAD: usize = 32 * 1024;
/// After being told to stop, requests that are being answered may go on for so long.
const STOP_WITHIN: Duration = Duration::from_secs(5);

/// Where connections come from.
#[derive(Debug)]
pub enum Listener {
    /// The front's.
    Unix(UnixListener),
    /// A developer's.
    Tcp(TcpListener),
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Listener {
    /// At a path (`/run/pod-api/http.sock`), where an old socket gives way; or at an address.
    pub async fn bind(at: &str) -> io::Result<Listener> {
        if !at.starts_with('/') {
            return TcpListener::bind(at).await.map(Listener::Tcp);
        }
        match fs::remove_file(at) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => (),
        }
        let listener = UnixListener::bind(at)?;
        // Who sees the folder may connect: that is the layers' to grant.
        fs::set_permissions(Path::new(at), fs::Permissions::from_mode(0o666))?;
        Ok(Listener::Unix(listener))
    }

    async fn accept(&self) -> io::Result<Box<dyn Stream>> {
        match self {
            Listener::Unix(listener) => listener.accept().await.map(|(it, _)| Box::new(it) as _),
            Listener::Tcp(listener) => listener.accept().await.map(|(it, _)| Box::new(it) as _),
        }
    }
}

/// Serves until `stop`, then finishes what was begun.
pub async fn serve(listener: Listener, router: Router, stop: impl Future<Output = ()>) {
    let places = Arc::new(Semaphore::new(MOST as usize));
    let (stopping, stopped) = watch::channel(());
    let accept = async {
        // Never closed, so there is always a place, sooner or later.
        while let Ok(place) = places.clone().acquire_owned().await {
            match listener.accept().await {
                Ok(stream) => {
                    let answered = answer(stream, router.clone(), stopped.clone());
                    tokio::spawn(async move {
                        answered.await;
                        drop(place);
                    });
                }
                Err(error) => {
                    log::warn(format_args!("cannot accept a connection: {error}"));
                    sleep(Duration::from_millis(100)).await;
                }
            }
        }
    };
    tokio::select! {
        () = accept => (),
        () = stop => (),
    }
    drop(stopping);
    if timeout(STOP_WITHIN, places.acquire_many(MOST)).await.is_err() {
        log::warn("stopped before every request was answered");
    }
}

async fn answer(stream: Box<dyn Stream>, router: Router, mut stopped: watch::Receiver<()>) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WITHIN)
        .max_buf_size(LONGEST_HEAD)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    tokio::pin!(connection);
    // How a connection ends is its client's affair.
    tokio::select! {
        _ = &mut connection => return,
        _ = stopped.changed() => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn another_user_may_connect_and_an_old_socket_gives_way() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("http.sock");
        for start in ["the first", "one whose predecessor was killed"] {
            let listener = Listener::bind(path.to_str().unwrap()).await.unwrap();
            let mode = fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o666, "{start}");
            let (client, served) =
                tokio::join!(tokio::net::UnixStream::connect(&path), listener.accept());
            assert!(client.is_ok() && served.is_ok(), "{start}");
            assert!(path.exists(), "{start}: a killed one leaves its socket");
        }
    }
}
