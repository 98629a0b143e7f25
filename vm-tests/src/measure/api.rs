//! How fast the Pod API answers: real programs on this host, asked by few clients that never pause.
//!
//! A bare server of hyper's, in a process of its own, answers in the same run: what this machine can do
//! at that moment. On a busy host compare with that, and CPU time a request.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;
use vm_tests::host::{PASSWORD, Pod};
use vm_tests::process::{cpu_time, resident_kib};
use vm_tests::server::VERSIONS;

use crate::{hello, median};

/// Clients, each with a connection of its own.
const CONNECTIONS: usize = 8;
/// Members, the admin among them.
const MEMBERS: usize = 40;
/// How long each measure takes.
const LASTS: Duration = Duration::from_secs(8);
/// Before each: connections are made, memory is taken.
const WARMS: Duration = Duration::from_secs(1);
const WITHIN: Duration = Duration::from_secs(10);

/// All of it.
#[derive(Debug, Serialize)]
pub struct Api {
    /// `GET /v1/members` with [`MEMBERS`] of them, through the front.
    pub members: Load,
    /// `GET /pod/version`, at the API's own socket.
    pub version: Load,
    /// The same, through the front.
    pub version_by_front: Load,
    /// A bare server of hyper's, at a socket like the API's.
    pub hello: Load,
    /// The resident sets after all that, in KiB.
    pub api_kib: u64,
    pub front_kib: u64,
    /// From the API's start to its first answer, in milliseconds.
    pub first_answer_ms: f64,
}

/// What came of asking the same, over and over.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Load {
    pub per_second: f64,
    /// Half of all answers were there in so many milliseconds.
    pub p50_ms: f64,
    /// 99 of 100 were.
    pub p99_ms: f64,
    /// What the servers' processes took of processors for each, in microseconds.
    pub cpu_us: f64,
}

/// Where to ask.
#[derive(Debug, Clone)]
enum Target {
    Tcp(std::net::SocketAddr),
    Unix(PathBuf),
}

trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

/// Measures it all, the API's start so many times.
pub fn measure(runs: usize) -> Result<Api> {
    let mut pod = Pod::start(VERSIONS[1], "");
    let token = pod.make_admin();
    for number in 1..MEMBERS {
        pod.make_account(&format!("member{number}"), PASSWORD, "prosody:member");
    }
    pod.make_member("last-one-known");
    let admin = format!("Authorization: Bearer {token}\r\n");
    let deleted = pod.delete("/v1/members/last-one-known@example.org", &token);
    ensure!(deleted.status == 204, "{deleted:?}");
    let (front, own) = (Target::Tcp(pod.address()), Target::Unix(pod.api_socket()));
    let (api_pid, front_pid) = (pod.api().pid(), pod.front.pid());
    let page = "/v1/members?page_number=1&page_size=40";
    let members = load(&front, &get(&format!("/api{page}"), &admin), &[front_pid, api_pid])?;
    let version = load(&own, &get("/pod/version", ""), &[api_pid])?;
    let by_front = load(&front, &get("/api/pod/version", ""), &[front_pid, api_pid])?;
    let hello = {
        let server = hello::Process::start()?;
        load(&Target::Unix(server.socket()), &get("/", ""), &[server.pid()])?
    };
    let kib = |pid| resident_kib(pid).context("the kernel tells no resident set");
    let (api_kib, front_kib) = (kib(api_pid)?, kib(front_pid)?);
    let starts: Result<Vec<f64>> = (0..runs).map(|_| first_answer(&mut pod, &own)).collect();
    Ok(Api {
        members,
        version,
        version_by_front: by_front,
        hello,
        api_kib,
        front_kib,
        first_answer_ms: median(starts?),
    })
}

fn get(path: &str, fields: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: pod\r\n{fields}\r\n").into_bytes()
}

/// From its start, in milliseconds.
fn first_answer(pod: &mut Pod, at: &Target) -> Result<f64> {
    let request = get("/version", "Connection: close\r\n");
    pod.api().kill();
    if let Target::Unix(socket) = at {
        let _ = std::fs::remove_file(socket);
    }
    let begun = Instant::now();
    pod.api().restart()?;
    while begun.elapsed() < WITHIN {
        if let Ok(mut stream) = at.connect() {
            ask(&mut *stream, &request, &mut vec![])?;
            return Ok(begun.elapsed().as_secs_f64() * 1e3);
        }
        thread::sleep(Duration::from_micros(200));
    }
    bail!("the API doesn't answer:\n{}", pod.api().log())
}

/// Asks as fast as it is answered; `pids` are those that answer.
fn load(target: &Target, request: &[u8], pids: &[u32]) -> Result<Load> {
    let run = |lasts| -> Result<(Vec<Duration>, Duration)> {
        let begun = Instant::now();
        let took: Result<Vec<Vec<Duration>>> = thread::scope(|scope| {
            let one = |_| scope.spawn(move || ask_until(target, request, begun + lasts));
            let clients: Vec<_> = (0..CONNECTIONS).map(one).collect();
            let ended = clients.into_iter().map(|it| it.join());
            ended.map(|it| it.unwrap_or_else(|_| bail!("a client failed"))).collect()
        });
        Ok((took?.concat(), begun.elapsed()))
    };
    run(WARMS)?;
    let cpu = || pids.iter().filter_map(|pid| cpu_time(*pid)).sum::<Duration>();
    let before = cpu();
    let (mut took, lasted) = run(LASTS)?;
    let cpu = cpu().saturating_sub(before);
    ensure!(!took.is_empty(), "nothing was answered");
    took.sort_unstable();
    let at = |part: f64| took[((took.len() - 1) as f64 * part) as usize].as_secs_f64() * 1e3;
    Ok(Load {
        per_second: took.len() as f64 / lasted.as_secs_f64(),
        p50_ms: at(0.5),
        p99_ms: at(0.99),
        cpu_us: cpu.as_secs_f64() * 1e6 / took.len() as f64,
    })
}

fn ask_until(target: &Target, request: &[u8], end: Instant) -> Result<Vec<Duration>> {
    let mut stream = target.connect()?;
    let (mut took, mut buffer) = (vec![], vec![]);
    while Instant::now() < end {
        let begun = Instant::now();
        ask(&mut *stream, request, &mut buffer)?;
        took.push(begun.elapsed());
    }
    Ok(took)
}

impl Target {
    fn connect(&self) -> Result<Box<dyn Stream>> {
        match self {
            Target::Tcp(address) => {
                let stream = TcpStream::connect_timeout(address, WITHIN)?;
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(WITHIN))?;
                Ok(Box::new(stream))
            }
            Target::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_read_timeout(Some(WITHIN))?;
                Ok(Box::new(stream))
            }
        }
    }
}

/// One request and the whole of its answer, which must be a good one.
fn ask(stream: &mut dyn Stream, request: &[u8], buffer: &mut Vec<u8>) -> Result<()> {
    stream.write_all(request).context("cannot ask")?;
    buffer.clear();
    let whole = loop {
        if let Some(whole) = length_of(buffer)? {
            break whole;
        }
        read_more(stream, buffer)?;
    };
    while buffer.len() < whole {
        read_more(stream, buffer)?;
    }
    ensure!(buffer.starts_with(b"HTTP/1.1 20"), "{}", String::from_utf8_lossy(buffer));
    Ok(())
}

fn read_more(stream: &mut dyn Stream, buffer: &mut Vec<u8>) -> Result<()> {
    let had = buffer.len();
    buffer.resize(had + 16 * 1024, 0);
    let more = stream.read(&mut buffer[had..]).context("no answer")?;
    buffer.truncate(had + more);
    ensure!(more > 0, "the answer breaks off");
    Ok(())
}

/// How long the answer is that begins so, once its head is there.
fn length_of(answer: &[u8]) -> Result<Option<usize>> {
    let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(None) };
    let head = std::str::from_utf8(&answer[..end]).context("an odd head")?;
    let mut fields = head.lines().filter_map(|line| line.split_once(':'));
    let length = fields.find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let (_, length) = length.context("an answer without a length")?;
    Ok(Some(end + 4 + length.trim().parse::<usize>().context("an odd length")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_of_an_answer_is_known_by_its_head() {
        for (answer, length) in [
            ("", None),
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n", None),
            ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n", Some(43)),
            ("HTTP/1.1 200 OK\r\nA: b\r\nContent-Length:0\r\n\r\nmore", Some(43)),
        ] {
            let found = length_of(answer.as_bytes()).unwrap();
            assert_eq!(found, length, "{answer:?}");
        }
        for answer in ["HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n"] {
            assert!(length_of(answer.as_bytes()).is_err(), "{answer:?}");
        }
    }
}
