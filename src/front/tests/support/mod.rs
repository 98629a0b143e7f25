//! A front on real sockets, with a pod-api and a `stele-init` that do as a test says.

#![allow(dead_code, reason = "each test file uses what it needs")]

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::AsRawFd as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use front::limits::Limits;
use front::listen;
use front::options::Options;
use front::server::{Front, serve};
use nix::sys::socket::{
    AddressFamily, Backlog, MsgFlags, SockFlag, SockType, UnixAddr, bind, listen as listen_at,
    recv, send, socket,
};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

/// Longer than anything here should take.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// What the fake `stele-init` answers.
pub const STATE: &str = r#"{"state":{"name":"prose-pod","version":"1.0.0","uptime":42,"phase":"running","services":[{"name":"prosody","state":"ready","restarts":0,"pid":7,"memory":1000}],"addresses":[],"clock":{"date":0,"is_synced":false},"memory":{"total":1,"free":1,"available":1,"cached":1,"init":1},"last_failure":null,"gate":{"open":true,"step":5,"why":null}}}"#;

/// A front that runs.
pub struct House {
    pub folder: TempDir,
    pub address: SocketAddr,
    pub front: Arc<Front>,
    /// How often the fake `stele-init` was asked.
    pub asked: Arc<AtomicUsize>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

/// Limits that tests needn't wait for.
pub fn short() -> Limits {
    let millis = Duration::from_millis;
    Limits {
        head_within: millis(600),
        body_within: millis(1500),
        body: 100_000,
        connect_within: millis(500),
        answer_within: millis(800),
        silence: millis(1500),
        take_within: millis(800),
        stop_within: millis(500),
        ..Limits::default()
    }
}

impl House {
    /// A front in an appliance with a folder for pod-api's socket, but nobody there yet.
    pub fn open(limits: Limits) -> House {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("pod-api")).unwrap();
        let options = Options {
            listen: vec![],
            pod_api: folder.path().join("pod-api/http.sock"),
            control: folder.path().join("control.sock"),
        };
        let asked = init(&options.control, STATE.as_bytes().to_vec());
        let front = Arc::new(Front::new(options, limits));
        let (stop, stopped) = oneshot::channel();
        let (sender, receiver) = mpsc::channel();
        let shared = front.clone();
        let thread = thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let listener = listen::open("127.0.0.1:0".parse().unwrap()).unwrap().unwrap();
                let listener = TcpListener::from_std(listener).unwrap();
                sender.send(listener.local_addr().unwrap()).unwrap();
                serve(shared, vec![listener], async move { drop(stopped.await) }).await;
            });
        });
        let address = receiver.recv().unwrap();
        House { folder, address, front, asked, stop: Some(stop), thread: Some(thread) }
    }

    /// Has `pod_api` answer each connection, in a thread of its own.
    pub fn with_pod_api(self, pod_api: impl Fn(UnixStream) + Send + Sync + 'static) -> House {
        let listener = UnixListener::bind(self.folder.path().join("pod-api/http.sock")).unwrap();
        let pod_api = Arc::new(pod_api);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, pod_api) = (stream.unwrap(), pod_api.clone());
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                thread::spawn(move || pod_api(stream));
            }
        });
        self
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// All that comes back for these bytes, until the front closes the connection.
    pub fn say(&self, request: impl AsRef<[u8]>) -> String {
        let mut stream = self.connect();
        // A refusal may come while there is still something to say.
        let _ = stream.write_all(request.as_ref());
        let mut reply = vec![];
        if let Err(error) = stream.read_to_end(&mut reply) {
            assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
        }
        String::from_utf8_lossy(&reply).into_owned()
    }

    /// The reply to a request that closes its connection; `more` are lines of its head.
    pub fn ask(&self, method: &str, target: &str, more: &str) -> String {
        self.say(format!(
            "{method} {target} HTTP/1.1\r\nHost: pod\r\nConnection: close\r\n{more}\r\n"
        ))
    }

    /// Asks it to stop; how long that took.
    pub fn stop(&mut self) -> Duration {
        let start = Instant::now();
        drop(self.stop.take());
        self.thread.take().unwrap().join().unwrap();
        start.elapsed()
    }

    /// Waits until so many connections are inside.
    pub fn wait_for_inside(&self, count: usize) {
        wait_until(&format!("{count} connections inside"), || self.front.inside() == count);
    }
}

pub fn wait_until(what: &str, holds: impl Fn() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "{what}: not so");
        thread::sleep(Duration::from_millis(5));
    }
}

/// A `stele-init` at `path` that answers every packet with `reply`; how often it did.
pub fn init(path: &Path, reply: Vec<u8>) -> Arc<AtomicUsize> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let listener = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None).unwrap();
    bind(listener.as_raw_fd(), &UnixAddr::new(path).unwrap()).unwrap();
    listen_at(&listener, Backlog::new(8).unwrap()).unwrap();
    let listener = UnixListener::from(listener);
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let stream = stream.unwrap();
            let mut packet = [0; 1000];
            let length = recv(stream.as_raw_fd(), &mut packet, MsgFlags::empty()).unwrap();
            assert_eq!(&packet[..length], br#"{"version":1,"verb":"state"}"#);
            count.fetch_add(1, Ordering::SeqCst);
            let _ = send(stream.as_raw_fd(), &reply, MsgFlags::MSG_NOSIGNAL);
        }
    });
    asked
}

/// The head of a request, as pod-api gets it; less if it breaks off.
pub fn read_head(stream: &mut UnixStream) -> String {
    let (mut head, mut byte) = (vec![], [0]);
    while !head.ends_with(b"\r\n\r\n") && matches!(stream.read(&mut byte), Ok(1)) {
        head.push(byte[0]);
    }
    String::from_utf8_lossy(&head).into_owned()
}

/// Reads up to and with `end`.
pub fn read_until(stream: &mut impl std::io::Read, end: &str) -> String {
    let mut text = vec![];
    let mut byte = [0];
    while !text.ends_with(end.as_bytes()) {
        match stream.read(&mut byte) {
            Ok(1) => text.push(byte[0]),
            other => {
                panic!("{end:?} doesn't come: {other:?} after {:?}", String::from_utf8_lossy(&text))
            }
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// Answers with a head and a body that says what it was asked: the raw bytes it got, once nothing
/// more comes for a moment.
pub fn echo(mut stream: UnixStream) {
    let mut text = read_head(&mut stream).into_bytes();
    stream.set_read_timeout(Some(Duration::from_millis(150))).unwrap();
    let mut more = vec![0; 64 * 1024];
    while let Ok(length) = stream.read(&mut more) {
        if length == 0 {
            break;
        }
        text.extend_from_slice(&more[..length]);
    }
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", text.len());
    let _ = stream.write_all(&[head.as_bytes(), &text].concat());
}

/// Answers with a fixed reply.
pub fn fixed(reply: &'static str) -> impl Fn(UnixStream) + Send + Sync {
    move |mut stream| {
        read_head(&mut stream);
        let _ = stream.write_all(reply.as_bytes());
        let _ = stream.shutdown(Shutdown::Write);
        let _ = stream.read(&mut [0]);
    }
}

/// A field of a reply.
pub fn field<'a>(reply: &'a str, name: &str) -> Option<&'a str> {
    let head = reply.split("\r\n\r\n").next()?;
    head.lines().find_map(|line| {
        let (found, value) = line.split_once(": ")?;
        found.eq_ignore_ascii_case(name).then_some(value)
    })
}

/// The body of a reply, its frame still on.
pub fn body(reply: &str) -> &str {
    reply.split_once("\r\n\r\n").map_or("", |(_, body)| body)
}
