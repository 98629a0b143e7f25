//! What the front itself answers: the page, the appliance's state, refusals. And the program.

mod support;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use support::{House, PATIENCE, STATE, body, field, fixed, init, short};

const VERSIONS: &str = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 61\r\n\r\n\
    {\"api\":{\"version\":\"1.2.3\"},\"server\":{\"version\":\"13.0.2-9.9\"}}";
const STATUS: &str = "{\"name\":\"prose-pod\",\"version\":\"1.0.0\",\"uptime\":42,\"phase\":\"running\",\
    \"gate\":{\"open\":true,\"step\":null,\"why\":null},\
    \"services\":[{\"name\":\"prosody\",\"state\":\"ready\"}],\
    \"slots\":[{\"name\":\"a\",\"running\":true,\"trust\":\"blessed\",\"tries_left\":null,\
    \"version\":\"1.0.0\",\"root_hash\":null},{\"name\":\"b\",\"running\":false,\"trust\":\"empty\",\
    \"tries_left\":null,\"version\":null,\"root_hash\":null}],\"counting\":\"unknown\",\"upgrade\":null,\
    \"health\":[],\"trial_ends_in\":null}";

#[test]
fn the_page_tells_how_the_appliance_is() {
    let house = House::open(short()).with_pod_api(fixed(VERSIONS));
    let page = house.ask("GET", "/", "");
    assert!(page.starts_with("HTTP/1.1 200 OK\r\n"), "{page}");
    for part in [
        "prose-pod",
        "All services are running",
        "<dd>1.2.3</dd>",
        "<dd>13.0.2-9.9</dd>",
        "prosody",
    ] {
        assert!(body(&page).contains(part), "{part}: {page}");
    }
    let policy = field(&page, "content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none'; style-src 'self';"), "{policy}");
    assert!(!policy.contains("unsafe") && policy.contains("frame-ancestors 'none'"), "{policy}");
    assert_eq!(field(&page, "x-content-type-options"), Some("nosniff"));
    let style = house.ask("GET", "/style.css", "");
    assert_eq!(field(&style, "content-type"), Some("text/css; charset=utf-8"));
    let head = house.ask("HEAD", "/", "");
    assert_eq!(body(&head), "");
    assert_eq!(field(&head, "content-length"), field(&page, "content-length"));
}

#[test]
fn programs_are_told_how_the_appliance_is() {
    let house = House::open(short());
    let reply = house.ask("GET", "/api/v1/appliance", "");
    assert_eq!(field(&reply, "content-type"), Some("application/json"));
    assert_eq!(field(&reply, "cache-control"), Some("no-store"));
    assert_eq!(body(&reply), STATUS);
}

#[test]
fn a_flood_does_not_reach_init() {
    let house = House::open(short());
    let start = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..10 {
            scope.spawn(|| {
                for _ in 0..20 {
                    assert_eq!(body(&house.ask("GET", "/api/v1/appliance", "")), STATUS);
                    // Nor do those who don't wait for the answer.
                    let hasty = "GET / HTTP/1.1\r\nHost: pod\r\n\r\n";
                    drop(house.connect().write_all(hasty.as_bytes()));
                }
            });
        }
    });
    let most = start.elapsed().as_secs() as usize + 2;
    let asked = house.asked.load(Ordering::SeqCst);
    assert!(asked <= most, "{asked} times in {:?}", start.elapsed());
}

#[test]
fn an_init_that_is_silent_is_no_reason_to_be() {
    let house = House::open(short());
    let control = house.folder.path().join("control.sock");
    for answer in [None, Some(r#"{"refused":"forbidden"}"#), Some("nonsense")] {
        std::fs::remove_file(&control).unwrap();
        if let Some(answer) = answer {
            init(&control, answer.as_bytes().to_vec());
        } else {
            std::fs::write(&control, "").unwrap();
        }
        let reply = house.ask("GET", "/api/v1/appliance", "");
        assert!(reply.starts_with("HTTP/1.1 503 "), "{reply}");
        assert!(body(&reply).contains("\"service_unavailable\""), "{reply}");
        assert!(body(&house.ask("GET", "/", "")).contains("doesn’t say how it is"));
        std::thread::sleep(Duration::from_millis(1100));
    }
}

#[test]
fn refusals_suit_who_asks() {
    let house = House::open(short()).with_pod_api(fixed(VERSIONS));
    let api = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";
    for (method, target, status, kind, allow) in [
        ("GET", "/nothing", "404 ", "text/html; charset=utf-8", None),
        ("GET", "/api", "404 ", "application/json", None),
        ("GET", "/api/../x", "400 ", "application/json", None),
        ("GET", "//", "400 ", "text/html; charset=utf-8", None),
        ("POST", "/", "405 ", "text/html; charset=utf-8", Some("GET, HEAD")),
        ("DELETE", "/api/v1/appliance", "405 ", "application/json", Some("GET, HEAD")),
        ("TRACE", "/api/x", "405 ", "application/json", Some(api)),
        ("BREW", "/api/x", "405 ", "application/json", Some(api)),
    ] {
        let reply = house.ask(method, target, "");
        assert!(reply.starts_with(&format!("HTTP/1.1 {status}")), "{method} {target}: {reply}");
        assert_eq!(field(&reply, "content-type"), Some(kind), "{method} {target}: {reply}");
        assert_eq!(field(&reply, "allow"), allow, "{method} {target}: {reply}");
        assert_eq!(field(&reply, "cache-control"), Some("no-store"));
        assert_eq!(field(&reply, "x-frame-options"), Some("DENY"));
    }
    for (request, status) in [
        ("GET / HTTP/1.1\r\nConnection: close\r\n\r\n", "400 "),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\nConnection: close\r\n\r\n", "400 "),
        ("GET / HTTP/1.1\r\nHost: a/b\r\nConnection: close\r\n\r\n", "400 "),
        ("GET / HTTP/1.0\r\n\r\n", "200 "),
        ("GET http://pod/ HTTP/1.1\r\nHost: pod\r\nConnection: close\r\n\r\n", "200 "),
        ("CONNECT pod:443 HTTP/1.1\r\nHost: pod\r\nConnection: close\r\n\r\n", "405 "),
        ("OPTIONS * HTTP/1.1\r\nHost: pod\r\nConnection: close\r\n\r\n", "400 "),
        ("GET / HTTP/2.0\r\nHost: pod\r\n\r\n", ""),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", ""),
        ("\x16\x03\x01\x02\x00\x01\x00", "400 "),
    ] {
        let reply = house.say(request);
        let expected = format!("HTTP/1.1 {status}");
        let good = reply.starts_with(&expected) || status.is_empty() && !reply.contains("200 OK");
        let good = good || reply.starts_with("HTTP/1.0 200") && status == "200 ";
        assert!(good, "{request:?}: {reply}");
    }
}

/// Requests with a few bytes changed: each gets some answer or an end, and the front stays.
#[test]
fn nothing_upsets_it() {
    let house = House::open(short()).with_pod_api(fixed(VERSIONS));
    let seeds = [
        "GET /api/pod/version HTTP/1.1\r\nHost: pod\r\nConnection: close\r\n\r\n",
        "PUT /api/x HTTP/1.1\r\nHost: pod\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello",
        "POST /api/x HTTP/1.1\r\nHost: pod\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "GET /api/%2e%2e/x?y HTTP/1.1\r\nHost: pod\r\nX-Forwarded-For: 1\r\nConnection: close\r\n\r\n",
    ];
    let mut random = fastrand::Rng::with_seed(1);
    let mut draw = |below: usize| random.usize(..below);
    for round in 0..400 {
        let mut request = seeds[draw(seeds.len())].as_bytes().to_vec();
        for _ in 0..=draw(4) {
            let at = draw(request.len());
            match draw(4) {
                0 => request[at] = draw(256) as u8,
                1 => request.insert(at, b"\r\n:; %/."[draw(8)]),
                2 if request.len() > 1 => drop(request.remove(at)),
                _ => request.extend_from_within(at..),
            }
        }
        let mut stream = house.connect();
        let _ = stream.write_all(&request);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut reply = vec![];
        let _ = stream.read_to_end(&mut reply);
        let text = String::from_utf8_lossy(&reply);
        assert!(text.is_empty() || text.starts_with("HTTP/1."), "round {round}: {text}");
    }
    house.wait_for_inside(0);
    assert!(house.ask("GET", "/api/pod/version", "").ends_with("}"));
}

/// The program, as the layer starts it.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(arguments: &[&str]) -> Program {
    let mut command = Command::new(env!("CARGO_BIN_EXE_front"));
    command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
    Program(command.spawn().unwrap())
}

#[test]
fn the_program_listens_serves_and_ends() {
    let folder = tempfile::tempdir().unwrap();
    let control = folder.path().join("control.sock");
    init(&control, STATE.as_bytes().to_vec());
    let control = control.to_str().unwrap();
    let listen = ["--listen", "127.0.0.1:0", "--listen", "[::1]:0"];
    let others = ["--control", control, "--pod-api", "/nowhere/at/all.sock"];
    let mut program = start(&[&listen[..], &others[..]].concat());
    let mut lines = BufReader::new(program.0.stdout.take().unwrap()).lines();
    for family in ["127.0.0.1:", "[::1]:"] {
        let line = lines.next().unwrap().unwrap();
        let Some(address) = line.strip_prefix("listens at ") else {
            assert!(line.contains("no such addresses") && family == "[::1]:", "{line}");
            continue;
        };
        assert!(address.starts_with(family), "{line}");
        let mut stream = TcpStream::connect(address.parse::<SocketAddr>().unwrap()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(b"GET /api/v1/appliance HTTP/1.0\r\n\r\n").unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).unwrap();
        assert_eq!(body(&reply), STATUS);
    }
    let start = Instant::now();
    kill(Pid::from_raw(program.0.id() as i32), Signal::SIGTERM).unwrap();
    assert!(program.0.wait().unwrap().success());
    assert!(start.elapsed() < Duration::from_secs(2));
}

#[test]
fn the_program_says_what_it_cannot_do() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    for (arguments, code, words) in [
        (
            ["--listen", "3030"],
            2,
            "cannot listen at 3030: it is not like 0.0.0.0:3030\nhint: usage: ",
        ),
        (["--port", "3030"], 2, "cannot use --port: it is no option\nhint: usage: "),
        (["--listen", &taken], 1, "cannot listen at 127.0.0.1:"),
    ] {
        let mut program = start(&arguments);
        let mut said = String::new();
        program.0.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert_eq!(program.0.wait().unwrap().code(), Some(code), "{said}");
        assert!(said.starts_with(words), "{said}");
    }
}
