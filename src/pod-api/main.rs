//! The program `pod-api`: the Prose Pod API, on a unix socket behind the front.
//!
//! It listens at once and says `503` until it is in step with the Server. The secret that it shares
//! with the Server is rotated whatever else is wrong: the gate must not depend on a database.

mod arguments;
mod auth;
mod avatars;
mod body;
mod config;
#[cfg(test)]
mod contract;
mod duration;
mod enrich;
mod follow;
mod init;
mod invitation;
mod jid;
mod licence;
mod log;
mod mail;
mod member;
mod moment;
mod network;
mod openapi;
mod page;
mod picture;
mod pod;
mod problem;
mod projection;
mod publish;
mod reset;
mod rotation;
mod routes;
mod secret;
mod serve;
mod server;
mod settings;
mod sse;
mod store;
mod throttle;
mod token;
mod workspace;

use std::env;
use std::process::ExitCode;
use std::sync::Arc;

use tokio::runtime;
use tokio::signal::unix::{SignalKind, signal};

use crate::arguments::Arguments;
use crate::config::Config;
use crate::init::Init;
use crate::init::control::Control;
use crate::network::Outside;
use crate::pod::Pod;
use crate::serve::Listener;
use crate::server::Server;
use crate::server::http::Module;
use crate::store::Store;

fn main() -> ExitCode {
    let arguments =
        match Arguments::parse(env::args().skip(1), env::var_os("CREDENTIALS_DIRECTORY")) {
            Ok(arguments) => arguments,
            Err(error) => {
                log::error(error);
                return ExitCode::from(2);
            }
        };
    let runtime = runtime::Builder::new_current_thread().enable_all().build();
    let ended = runtime.map_err(|error| format!("cannot start: {error}"));
    match ended.and_then(|runtime| runtime.block_on(run(arguments))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::error(error);
            ExitCode::FAILURE
        }
    }
}

/// Until it is told to stop, or something is wrong that only people can mend.
async fn run(arguments: Arguments) -> Result<(), String> {
    let server: Arc<dyn Server> = Arc::new(Module::at(&arguments.server)?);
    let init: Arc<dyn Init> = Arc::new(Control::at(&arguments.control, &arguments.credentials));
    let stop = stop().map_err(|error| format!("cannot wait for signals: {error}"))?;
    let pod = match prepare(&arguments, init.clone()) {
        Ok(pod) => Arc::new(pod),
        Err(error) => {
            log::error(&error);
            tokio::select! {
                _ = follow::log_in(&server, &*init) => (),
                () = stop => (),
            }
            return Err("cannot serve: see above".into());
        }
    };
    let listener = Listener::bind(&arguments.listen).await;
    let listener =
        listener.map_err(|error| format!("cannot listen at {}: {error}", arguments.listen))?;
    log::info(format_args!("pod-api {} at {}", env!("CARGO_PKG_VERSION"), arguments.listen));
    tokio::select! {
        () = follow::follow(&pod, server) => (),
        () = serve::serve(listener, routes::router(pod.clone()), stop) => (),
    }
    Ok(())
}

/// What must be right before anything can be served.
fn prepare(arguments: &Arguments, init: Arc<dyn Init>) -> Result<Pod, String> {
    let own = env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let operators = config::operators_environment(&arguments.credentials);
    let environment = own.chain(operators.map_err(|error| error.to_string())?);
    let config = Config::load(&arguments.config, environment).map_err(|error| error.to_string())?;
    let (store, kept) = Store::open(&arguments.data).map_err(|error| error.to_string())?;
    let outside = Outside::real(&config.network_checks);
    Ok(Pod::new(config, store, kept, init, outside))
}

/// Somebody tells it to.
fn stop() -> std::io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => (),
            _ = interrupt.recv() => (),
        }
    })
}
