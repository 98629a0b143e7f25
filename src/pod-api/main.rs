//! The program `pod-api`: the Prose Pod API, on a unix socket behind the front.
//!
//! It listens at once and says `503` until it is in step with the Server. The secret that it shares
//! with the Server is rotated whatever else is wrong: the gate must not depend on a database.

mod app;
mod arguments;
mod auth;
mod avatars;
mod backup;
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
mod onboarding;
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
mod unread;
mod workspace;

use std::env;
use std::future::pending;
use std::process::ExitCode;
use std::sync::Arc;

use appliance::settings::Domain;
use tokio::runtime;
use tokio::signal::unix::{SignalKind, signal};

use crate::app::{App, Desk, Load};
use crate::arguments::Arguments;
use crate::config::Config;
use crate::init::Init;
use crate::init::control::Control;
use crate::network::Outside;
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
    let mut hang_up = signal(SignalKind::hangup())
        .map_err(|error| format!("cannot wait for signals: {error}"))?;
    let (store, kept) = match Store::open(&arguments.data) {
        Ok(opened) => opened,
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
    let desk = Desk::new();
    let load: Load = Box::new(move |chosen| configuration(&arguments, chosen));
    let outside = |config: &Config| Outside::real(&config.network_checks);
    let app = App { server, init, store, load, outside, desk: desk.clone() };
    let reload = async {
        while hang_up.recv().await.is_some() {
            desk.reload();
        }
        pending().await
    };
    tokio::select! {
        never = app.run(kept) => match never {},
        () = reload => (),
        () = serve::serve(listener, desk.router(), stop) => (),
    }
    Ok(())
}

/// What the operator wrote: at the newer place, which `stele-init` hands over, since we don't see
/// it; at the older one; and in the environment. The later wins.
fn configuration(arguments: &Arguments, chosen: Option<&Domain>) -> Result<Config, config::Error> {
    let own = env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let operators = config::operators_environment(&arguments.credentials)?;
    let newer = arguments.credentials.join("prose.toml");
    Config::load(&[&newer, &arguments.config], own.chain(operators), chosen)
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
