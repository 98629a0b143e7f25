//! Lets clients in, answers them, and ends: the loops.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::TcpUserTimeout;
use serde::Serialize;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, mpsc, watch};
use tokio::time::{sleep, timeout};

use crate::appliance::{Appliance, State};
use crate::body::Body;
use crate::door::Door;
use crate::limits::{BUFFER, LONGEST_HEAD, Limits, MOST_FIELDS};
use crate::look::Look;
use crate::operate::Desk;
use crate::options::Options;
use crate::patient::Patient;
use crate::pod_api::PodApi;
use crate::problem::Problem;
use crate::route::{Route, audience, route};
use crate::upgrades::Upgrades;
use crate::{headers, page, proxy, reply, upgrades};

/// After the kernel refused a connection (no memory, no descriptor), none is looked for so long.
const REST: Duration = Duration::from_millis(200);
/// What one who finds no place is told, if there is room for it.
const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nConnection: close\r\n\
    Cache-Control: no-store\r\nContent-Length: 0\r\n\r\n";

/// What all connections share.
#[derive(Debug)]
pub struct Front {
    options: Options,
    limits: Limits,
    door: Door,
    appliance: Appliance,
    upgrades: Upgrades,
    uploading: Mutex<()>,
    pod_api: Arc<PodApi>,
    look: Look,
}

/// What anybody is told of the machine. Without a word on upgrades, there is none here either.
#[derive(Serialize)]
struct Told<'a> {
    #[serde(flatten)]
    state: &'a State,
    #[serde(flatten)]
    upgrades: Option<upgrades::Told>,
}

impl Front {
    /// A front with nobody inside.
    pub fn new(options: Options, limits: Limits) -> Front {
        let door = Door::new(limits.connections, limits.per_address);
        let appliance = Appliance::new(&limits);
        let upgrades = Upgrades::new(&limits);
        let pod_api = Arc::new(PodApi::new(options.pod_api.clone()));
        let (uploading, look) = (Mutex::new(()), Look::new());
        Front { options, limits, door, appliance, upgrades, uploading, pod_api, look }
    }

    /// How many connections there are.
    pub fn inside(&self) -> usize {
        self.door.inside()
    }

    async fn answer(&self, request: Request<Incoming>, peer: IpAddr) -> Response<Body> {
        let audience = audience(request.uri());
        let reply = self.try_answer(request, peer).await;
        reply.unwrap_or_else(|problem| reply::problem(&problem, audience))
    }

    async fn try_answer(
        &self,
        request: Request<Incoming>,
        peer: IpAddr,
    ) -> Result<Response<Body>, Problem> {
        let (options, limits) = (&self.options, &self.limits);
        headers::check(request.version(), request.uri(), request.headers())?;
        match route(request.method(), request.uri())? {
            Route::Api(target) => {
                proxy::forward(&self.pod_api, request, &target, peer, limits).await
            }
            Route::Appliance => {
                let (state, upgrades) = tokio::join!(
                    self.appliance.state(&options.control, limits),
                    self.upgrades.state(&options.control, limits),
                );
                let state = state.ok_or(Problem::NoState)?;
                let upgrades = upgrades.as_deref().map(upgrades::told);
                let text = serde_json::to_string(&Told { state: &state, upgrades });
                Ok(reply::json(text.map_err(|_| Problem::NoState)?))
            }
            Route::Operation(operation) => {
                let desk = Desk {
                    pod_api: &self.pod_api,
                    control: &options.control,
                    upgrades: &self.upgrades,
                    uploading: &self.uploading,
                    limits,
                };
                desk.operate(operation, request).await
            }
            Route::Page => {
                let (state, pod) = tokio::join!(
                    self.appliance.state(&options.control, limits),
                    self.look.pod(self.pod_api.clone(), limits.clone()),
                );
                Ok(reply::html(page::status(state.as_deref(), &pod)))
            }
            Route::Style => Ok(reply::style()),
        }
    }
}

/// Serves clients of `listeners` until `stop` is done, then lets replies under way end for at most
/// [`Limits::stop_within`].
pub async fn serve(front: Arc<Front>, listeners: Vec<TcpListener>, stop: impl Future<Output = ()>) {
    let (stopping, stopped) = watch::channel(false);
    // Held by everything that runs: when all are gone, nothing does.
    let (running, mut ended) = mpsc::channel::<Infallible>(1);
    for listener in listeners {
        tokio::spawn(admit(front.clone(), listener, stopped.clone(), running.clone()));
    }
    drop((running, stopped));
    stop.await;
    let _ = stopping.send(true);
    let _ = timeout(front.limits.stop_within, ended.recv()).await;
}

async fn admit(
    front: Arc<Front>,
    listener: TcpListener,
    stopped: watch::Receiver<bool>,
    running: mpsc::Sender<Infallible>,
) {
    let mut stop = stopped.clone();
    loop {
        let accepted = tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer): (TcpStream, SocketAddr) = match accepted {
            Ok(accepted) => accepted,
            Err(_) => {
                sleep(REST).await;
                continue;
            }
        };
        match front.door.enter(peer.ip()) {
            Some(place) => {
                let connection = converse(front.clone(), stream, peer.ip(), stopped.clone());
                let running = running.clone();
                tokio::spawn(async move {
                    connection.await;
                    drop((place, running));
                });
            }
            None => drop(stream.try_write(FULL)),
        }
    }
}

/// One connection, from its first request to its end.
async fn converse(
    front: Arc<Front>,
    stream: TcpStream,
    peer: IpAddr,
    mut stopped: watch::Receiver<bool>,
) {
    // An event of a few bytes is not to wait for more.
    let _ = stream.set_nodelay(true);
    let limits = front.limits.clone();
    // A machine that is gone takes nothing either, and doesn't say so.
    let patience = u32::try_from(limits.take_within.as_millis()).unwrap_or(u32::MAX);
    let _ = setsockopt(&stream, TcpUserTimeout, &patience);
    let stream = TokioIo::new(Patient::new(stream, limits.take_within));
    let service = service_fn(|request| {
        let front = front.clone();
        async move { Ok::<_, Infallible>(front.answer(request, peer).await) }
    });
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(limits.head_within)
            .max_headers(MOST_FIELDS)
            .max_header_size(LONGEST_HEAD)
            .max_buf_size(BUFFER)
            .serve_connection(stream, service)
    );
    // What goes wrong here is the client's own affair.
    tokio::select! {
        _ = connection.as_mut() => return,
        _ = stopped.wait_for(|stop| *stop) => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}
