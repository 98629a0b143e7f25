//! The least that a server of hyper's does: what others are compared with. It is a process of its own,
//! this very program, called in a way that only it knows.

use std::convert::Infallible;
use std::env;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tempfile::TempDir;
use tokio::net::UnixListener;

/// The first argument of one that is only this.
pub const WORD: &str = "hello-at";
const WITHIN: Duration = Duration::from_secs(10);

/// It runs until this is dropped.
pub struct Process {
    child: Child,
    folder: TempDir,
}

impl Process {
    /// Starts one, which answers.
    pub fn start() -> Result<Process> {
        let folder = tempfile::tempdir().context("cannot make a folder")?;
        let own = env::current_exe().context("cannot find this program")?;
        let mut command = Command::new(own);
        command.arg(WORD).arg(socket_in(folder.path())).stdin(Stdio::null());
        let child = command.spawn().context("cannot start a bare server")?;
        let process = Process { child, folder };
        let begun = Instant::now();
        while UnixStream::connect(process.socket()).is_err() {
            if begun.elapsed() > WITHIN {
                bail!("the bare server doesn't listen");
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(process)
    }

    /// Where it listens.
    pub fn socket(&self) -> PathBuf {
        socket_in(self.folder.path())
    }

    /// Its process's number.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn socket_in(folder: &Path) -> PathBuf {
    folder.join("http")
}

/// Answers at this path, for ever, on one thread, as pod-api does.
pub fn serve(path: &Path) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = UnixListener::bind(path)?;
        loop {
            let (stream, _) = listener.accept().await?;
            let answer = |_: Request<_>| async {
                Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"hello"))))
            };
            let connection =
                http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(answer));
            // How a connection ends is its client's affair.
            tokio::spawn(async move { drop(connection.await) });
        }
    })
}
