//! A front on real sockets, with a pod-api and a `stele-init` that do as a test says.

#![allow(dead_code, reason = "each test file uses what it needs")]

use std::io::{ErrorKind, IoSlice, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::{AsRawFd as _, RawFd};
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
    AddressFamily, Backlog, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, bind,
    listen as listen_at, recv, sendmsg, socket,
};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

/// Longer than anything here should take.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// What the fake `stele-init` answers.
pub const STATE: &str = r#"{"state":{"name":"prose-pod","version":"1.0.0","uptime":42,"phase":"running","services":[{"name":"prosody","state":"ready","restarts":0,"pid":7,"memory":1000}],"addresses":[],"clock":{"date":0,"is_synced":false},"memory":{"total":1,"free":1,"available":1,"cached":1,"init":1},"last_failure":null,"gate":{"open":true,"step":5,"why":null}}}"#;

/// What it says of slots.
pub const UPGRADES: &str = r#"{"upgrade":{"slots":[{"name":"a","running":true,"trust":"blessed","tries_left":null,"version":"1.0.0","root_hash":null},{"name":"b","running":false,"trust":"empty","tries_left":null,"version":null,"root_hash":null}],"counting":"unknown","task":null,"health":[],"trial_ends_in":null,"floor":null,"verdicts":[]}}"#;

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
        bundle: 16_000_000,
        bundle_within: millis(6000),
        piece_within: millis(2000),
        write_within: millis(3000),
        install_within: millis(1500),
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

    /// Has a `stele-init` that does this with each verb in the place of the usual one.
    pub fn with_init(self, answer: impl Fn(&str, UnixStream) + Send + 'static) -> House {
        let control = self.folder.path().join("control.sock");
        std::fs::remove_file(&control).unwrap();
        init_that(&control, answer);
        self
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

/// A `stele-init` at `path` that answers `reply` when asked for its state, how often it was; and
/// knows nothing of slots.
pub fn init(path: &Path, reply: Vec<u8>) -> Arc<AtomicUsize> {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    init_that(path, move |verb, stream| {
        let reply = match verb {
            r#""state""# => {
                count.fetch_add(1, Ordering::SeqCst);
                &reply[..]
            }
            r#""upgrade_state""# => UPGRADES.as_bytes(),
            other => panic!("nobody asks for {other}"),
        };
        answer(&stream, reply, None);
    });
    asked
}

/// A `stele-init` at `path` that does this with each verb, as JSON, and who asks.
pub fn init_that(path: &Path, answer: impl Fn(&str, UnixStream) + Send + 'static) {
    let flags = SockFlag::SOCK_CLOEXEC;
    let listener = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None).unwrap();
    bind(listener.as_raw_fd(), &UnixAddr::new(path).unwrap()).unwrap();
    listen_at(&listener, Backlog::new(8).unwrap()).unwrap();
    let listener = UnixListener::from(listener);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let stream = stream.unwrap();
            let mut packet = [0; 1000];
            let length = recv(stream.as_raw_fd(), &mut packet, MsgFlags::empty()).unwrap();
            let packet = String::from_utf8_lossy(&packet[..length]);
            let verb = packet.strip_prefix(r#"{"version":1,"verb":"#).unwrap();
            answer(verb.strip_suffix('}').unwrap(), stream);
        }
    });
}

/// Sends a packet, and a descriptor with it.
pub fn answer(stream: &UnixStream, packet: &[u8], descriptor: Option<&UnixStream>) {
    let numbers: Vec<RawFd> = descriptor.iter().map(|it| it.as_raw_fd()).collect();
    let rights = [ControlMessage::ScmRights(&numbers)];
    let rights = if numbers.is_empty() { &[][..] } else { &rights[..] };
    let parts = [IoSlice::new(packet)];
    let _ = sendmsg::<()>(stream.as_raw_fd(), &parts, rights, MsgFlags::MSG_NOSIGNAL, None);
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
