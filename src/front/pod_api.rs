//! The way to pod-api: a connection to its unix socket for each request, never used twice, so that
//! no reply is ever taken for another's.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::time::{sleep, timeout};

use crate::body::{Link, Upload};
use crate::limits::{BUFFER, LONGEST_HEAD, Limits, MOST_FIELDS};
use crate::problem::Problem;

/// Where it is, and whether it could be reached last time.
#[derive(Debug)]
pub struct PodApi {
    socket: PathBuf,
    is_lost: AtomicBool,
}

impl PodApi {
    /// The one that listens at `socket`.
    pub fn new(socket: PathBuf) -> PodApi {
        PodApi { socket, is_lost: AtomicBool::new(false) }
    }

    /// Does the appliance have one? If so, `stele-init` shows us its folder, be there a socket or not.
    pub fn is_there(&self) -> bool {
        self.socket.parent().is_some_and(|folder| folder.is_dir())
    }

    /// Its reply to a request, and the link that it comes by.
    pub async fn exchange(
        &self,
        request: Request<Upload>,
        limits: &Limits,
    ) -> Result<(Response<Incoming>, Link), Problem> {
        let course = request.body().course();
        let (mut sender, link) = self.connect(limits).await?;
        let patience = async {
            match timeout(limits.body_within, course.ended()).await {
                Ok(()) => {
                    sleep(limits.answer_within).await;
                    Problem::Silent
                }
                Err(_) => Problem::SlowBody,
            }
        };
        tokio::select! {
            reply = sender.send_request(request) => match reply {
                Ok(reply) if reply.status().is_informational() => Err(Problem::Broken),
                Ok(reply) => Ok((reply, link)),
                Err(error) => Err(course.trouble().unwrap_or_else(|| {
                    eprintln!("pod-api gives no reply: {error}");
                    Problem::Broken
                })),
            },
            problem = patience => Err(problem),
        }
    }

    async fn connect(&self, limits: &Limits) -> Result<(SendRequest<Upload>, Link), Problem> {
        let stream = match timeout(limits.connect_within, UnixStream::connect(&self.socket)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) if error.kind() == ErrorKind::NotFound && !self.is_there() => {
                return Err(Problem::NoApi);
            }
            Ok(Err(error)) => return Err(self.lost(&error.to_string())),
            Err(_) => return Err(self.lost("it takes no connection")),
        };
        if self.is_lost.swap(false, Ordering::Relaxed) {
            eprintln!("pod-api can be reached again");
        }
        let handshake = http1::Builder::new()
            .max_headers(MOST_FIELDS)
            .max_header_size(LONGEST_HEAD)
            .max_buf_size(BUFFER)
            .handshake(TokioIo::new(stream));
        let (sender, connection) = handshake.await.map_err(|_| Problem::Broken)?;
        // What goes wrong there, the reply or its body tells.
        let task = tokio::spawn(async move { drop(connection.await) });
        Ok((sender, Link(task.abort_handle())))
    }

    /// Says so once, not with every request.
    fn lost(&self, why: &str) -> Problem {
        if !self.is_lost.swap(true, Ordering::Relaxed) {
            eprintln!("cannot reach pod-api at {}: {why}", self.socket.display());
        }
        Problem::Down
    }
}
