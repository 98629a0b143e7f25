//! The program: one thread, until SIGTERM.

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;

use front::limits::Limits;
use front::listen;
use front::options::{Options, USAGE};
use front::server::{Front, serve};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(error) => {
            eprintln!("{error}\nhint: {USAGE}");
            return ExitCode::from(2);
        }
    };
    match run(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn run(options: Options) -> Result<(), String> {
    let cannot_stop = |error| format!("cannot wait for signals: {error}");
    let mut terminate = signal(SignalKind::terminate()).map_err(cannot_stop)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(cannot_stop)?;
    let mut listeners = vec![];
    for address in &options.listen {
        listeners.extend(open(*address).map_err(|e| format!("cannot listen at {address}: {e}"))?);
    }
    if listeners.is_empty() {
        return Err("cannot listen: this kernel has none of the addresses".into());
    }
    let front = Arc::new(Front::new(options, Limits::default()));
    serve(front, listeners, async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
    .await;
    Ok(())
}

fn open(address: SocketAddr) -> std::io::Result<Option<TcpListener>> {
    let Some(listener) = listen::open(address)? else {
        println!("does not listen at {address}: this kernel has no such addresses");
        return Ok(None);
    };
    let listener = TcpListener::from_std(listener)?;
    println!("listens at {}", listener.local_addr()?);
    Ok(Some(listener))
}
