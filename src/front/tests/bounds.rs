//! What one client, or many, can't take from the others.

mod support;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use front::limits::Limits;
use support::{House, body, echo, field, fixed, read_head, short, wait_until};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";

/// Reads until the other side ends; how long that took.
fn time_to_end(stream: &mut TcpStream) -> (Duration, String) {
    let (start, mut reply) = (Instant::now(), vec![]);
    let _ = stream.read_to_end(&mut reply);
    (start.elapsed(), String::from_utf8_lossy(&reply).into_owned())
}

#[test]
fn who_never_ends_a_head_is_let_go() {
    let house = House::open(short()).with_pod_api(fixed(OK));
    for beginning in ["", "GET", "GET /api/x HTTP/1.1\r\nHost: pod\r\nX: "] {
        let mut stream = house.connect();
        let mut dripper = stream.try_clone().unwrap();
        stream.write_all(beginning.as_bytes()).unwrap();
        // A byte now and then buys no time.
        let drip = std::thread::spawn(move || {
            while dripper.write_all(b"x").is_ok() {
                std::thread::sleep(Duration::from_millis(50));
            }
        });
        let (took, reply) = time_to_end(&mut stream);
        assert!(took < Duration::from_secs(3), "{beginning:?}: {took:?}");
        assert!(!reply.contains("200 OK"), "{reply}");
        drip.join().unwrap();
    }
    house.wait_for_inside(0);
}

#[test]
fn who_is_silent_between_requests_is_let_go() {
    let house = House::open(short()).with_pod_api(fixed(OK));
    let mut stream = house.connect();
    stream.write_all(b"GET /api/x HTTP/1.1\r\nHost: pod\r\n\r\n").unwrap();
    let (took, reply) = time_to_end(&mut stream);
    assert!(reply.ends_with("{}"), "{reply}");
    assert!(took > Duration::from_millis(400) && took < Duration::from_secs(3), "{took:?}");
}

#[test]
fn who_never_ends_a_body_is_let_go() {
    let house = House::open(short()).with_pod_api(echo_all);
    let mut stream = house.connect();
    stream.write_all(b"PUT /api/x HTTP/1.1\r\nHost: pod\r\nContent-Length: 1000\r\n\r\n").unwrap();
    let mut dripper = stream.try_clone().unwrap();
    std::thread::spawn(move || {
        while dripper.write_all(b"x").is_ok() {
            std::thread::sleep(Duration::from_millis(100));
        }
    });
    let (took, reply) = time_to_end(&mut stream);
    assert!(reply.starts_with("HTTP/1.1 408 Request Timeout\r\n"), "{reply}");
    assert!(took < Duration::from_secs(4), "{took:?}");
}

/// Takes all that comes, and answers at its end.
fn echo_all(mut stream: std::os::unix::net::UnixStream) {
    let mut text = vec![];
    let _ = stream.read_to_end(&mut text);
}

#[test]
fn who_does_not_take_a_reply_is_let_go() {
    let house = House::open(short()).with_pod_api(|mut stream| {
        read_head(&mut stream);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        let piece = [b"1000\r\n".as_slice(), &[b'x'; 4096], b"\r\n"].concat();
        while stream.write_all(&piece).is_ok() {}
    });
    let mut stream = house.connect();
    stream.write_all(b"GET /api/endless HTTP/1.1\r\nHost: pod\r\n\r\n").unwrap();
    house.wait_for_inside(1);
    // Nothing is read, and yet the place is given back.
    house.wait_for_inside(0);
}

#[test]
fn a_body_that_is_too_long_is_refused() {
    let house = House::open(short()).with_pod_api(echo);
    let declared = "PUT /api/x HTTP/1.1\r\nHost: pod\r\nContent-Length: 100001\r\n\r\n";
    let reply = house.say([declared.as_bytes(), &vec![b'x'; 100_001]].concat());
    assert!(reply.starts_with("HTTP/1.1 413 Payload Too Large\r\n"), "{reply}");
    assert_eq!(body(&reply), r#"{"error":"unknown","message":"the request's body is too long"}"#);
    assert_eq!(field(&reply, "connection"), Some("close"));
    // Not declared, it is only seen on the way.
    let mut stream = house.connect();
    stream
        .write_all(b"PUT /api/x HTTP/1.1\r\nHost: pod\r\nTransfer-Encoding: chunked\r\n\r\n")
        .unwrap();
    let piece = [b"1000\r\n".as_slice(), &[b'x'; 4096], b"\r\n"].concat();
    (0..25).for_each(|_| drop(stream.write_all(&piece)));
    let (_, reply) = time_to_end(&mut stream);
    assert!(reply.starts_with("HTTP/1.1 413 "), "{reply}");
    // As long as allowed, it goes through.
    let most =
        "PUT /api/x HTTP/1.1\r\nHost: pod\r\nConnection: close\r\nContent-Length: 100000\r\n\r\n";
    let reply = house.say([most.as_bytes(), &vec![b'x'; 100_000]].concat());
    assert!(reply.starts_with("HTTP/1.1 200 ") && reply.len() > 100_000, "{}", reply.len());
}

#[test]
fn a_head_that_is_too_long_is_refused() {
    let house = House::open(short()).with_pod_api(fixed(OK));
    let head =
        |more: &str| format!("GET /api/x HTTP/1.1\r\nHost: pod\r\nConnection: close\r\n{more}\r\n");
    let many: String = (0..100).map(|number| format!("X-{number}: 1\r\n")).collect();
    let long_target =
        format!("GET /api/{} HTTP/1.1\r\nHost: pod\r\nConnection: close\r\n\r\n", "x".repeat(5000));
    for (request, status) in [
        (head(&format!("X: {}\r\n", "x".repeat(8000))), "200"),
        (head(&format!("X: {}\r\n", "x".repeat(17_000))), "431"),
        (head(&format!("X: {}\r\n", "x".repeat(200_000))), "431"),
        (head(&many), "431"),
        (long_target, "414"),
        (format!("{} / HTTP/1.1\r\n\r\n", "X".repeat(200_000)), "4"),
    ] {
        let reply = house.say(&request);
        assert!(reply.starts_with(&format!("HTTP/1.1 {status}")), "{status}: {reply}");
    }
    let long: &'static str =
        format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(100_000)).leak();
    let house = House::open(short()).with_pod_api(fixed(long));
    assert!(house.ask("GET", "/api/x", "").starts_with("HTTP/1.1 502 "));
}

#[test]
fn places_are_bounded_and_come_back() {
    let limits = Limits { per_address: 5, head_within: Duration::from_secs(10), ..short() };
    let house = House::open(limits).with_pod_api(fixed(OK));
    let mut inside: Vec<TcpStream> = (0..5).map(|_| house.connect()).collect();
    house.wait_for_inside(5);
    for _ in 0..20 {
        let (_, reply) = time_to_end(&mut house.connect());
        assert!(reply.is_empty() || reply.starts_with("HTTP/1.1 503 "), "{reply}");
    }
    inside.pop();
    house.wait_for_inside(4);
    assert!(house.ask("GET", "/api/x", "").ends_with("{}"));
    // Those inside are served all along.
    let last = inside.last_mut().unwrap();
    last.write_all(b"GET /api/x HTTP/1.1\r\nHost: pod\r\nConnection: close\r\n\r\n").unwrap();
    assert!(time_to_end(last).1.ends_with("{}"));
}

/// A thousand connections that come and go leave nothing behind.
#[test]
fn connections_leave_nothing_behind() {
    let house = House::open(short()).with_pod_api(fixed(OK));
    let open_files = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    house.ask("GET", "/api/x", "");
    house.wait_for_inside(0);
    let before = open_files();
    for number in 0..1000 {
        let mut stream = house.connect();
        match number % 3 {
            0 => drop(stream.write_all(b"GET /api/x HTTP/1.1\r\nHost: pod\r\n\r\n")),
            1 => drop(stream.write_all(b"GET /api/x HT")),
            _ => {}
        }
    }
    // Some may still be waiting to be let in.
    wait_until("there is room", || house.ask("GET", "/api/x", "").ends_with("{}"));
    house.wait_for_inside(0);
    // Other tests of this program open some of their own.
    assert!(open_files() < before + 200, "{} after {before}", open_files());
}

#[test]
fn it_stops_within_its_bound() {
    // Nobody there, somebody idle, a stream that doesn't end.
    for case in 0..3 {
        let mut house = House::open(short()).with_pod_api(|mut stream| {
            read_head(&mut stream);
            let _ = stream
                .write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n");
            let _ = stream.read(&mut [0]);
        });
        let mut stream = house.connect();
        house.wait_for_inside(1);
        match case {
            0 => drop(stream.shutdown(std::net::Shutdown::Both)),
            1 => {}
            _ => {
                stream.write_all(b"GET /api/events HTTP/1.1\r\nHost: pod\r\n\r\n").unwrap();
                support::read_until(&mut stream, "x\r\n");
            }
        }
        let took = house.stop();
        let most = if case < 2 { 400 } else { 900 };
        assert!(took < Duration::from_millis(most), "case {case}: {took:?}");
        assert!(time_to_end(&mut stream).0 < Duration::from_secs(1));
    }
}

/// What is asked for when the front is told to stop is still answered.
#[test]
fn a_reply_under_way_is_finished() {
    let mut house = House::open(short()).with_pod_api(|mut stream| {
        read_head(&mut stream);
        std::thread::sleep(Duration::from_millis(250));
        let _ = stream.write_all(OK.as_bytes());
    });
    let mut stream = house.connect();
    stream.write_all(b"GET /api/x HTTP/1.1\r\nHost: pod\r\n\r\n").unwrap();
    house.wait_for_inside(1);
    std::thread::sleep(Duration::from_millis(100));
    house.stop();
    let (_, reply) = time_to_end(&mut stream);
    assert!(reply.ends_with("{}"), "{reply}");
    assert_eq!(field(&reply, "connection"), Some("close"));
}
