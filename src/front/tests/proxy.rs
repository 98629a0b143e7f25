//! The way to pod-api and back.

mod support;

use std::io::{Read as _, Write as _};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use support::{
    House, PATIENCE, body, echo, field, fixed, read_head, read_until, short, wait_until,
};

/// The fields of every reply, be it ours or pod-api's.
const SAFE: [(&str, &str); 6] = [
    ("cache-control", "no-store"),
    ("content-security-policy", "default-src 'none'; frame-ancestors 'none'"),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "no-referrer"),
    ("permissions-policy", "camera=()"),
];

#[test]
fn a_request_reaches_pod_api_without_the_prefix_and_the_hops() {
    let house = House::open(short()).with_pod_api(echo);
    let reply = house.ask(
        "GET",
        "/api/v1/members?q=%2e%2e//&x[]=1",
        "Authorization: Bearer t\r\nConnection: X-Inside\r\nX-Inside: 1\r\nTE: trailers\r\n\
         Upgrade: websocket\r\nX-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Host: evil\r\nForwarded: for=6\r\n\
         X-Real-IP: 6.6.6.6\r\nAccept: text/event-stream\r\n",
    );
    assert!(reply.starts_with("HTTP/1.1 200 OK\r\n"), "{reply}");
    let seen = body(&reply).to_lowercase();
    assert!(seen.starts_with("get /v1/members?q=%2e%2e//&x[]=1 http/1.1\r\n"), "{seen}");
    for line in [
        "host: pod",
        "authorization: bearer t",
        "accept: text/event-stream",
        "x-forwarded-for: 127.0.0.1",
    ] {
        assert!(seen.contains(&format!("\r\n{line}\r\n")), "{line}: {seen}");
    }
    for gone in
        ["6.6.6.6", "evil", "x-inside", "upgrade", "\r\nte:", "forwarded: for", "connection"]
    {
        assert!(!seen.contains(gone), "{gone}: {seen}");
    }
}

#[test]
fn a_reply_comes_back_with_what_a_browser_must_know() {
    let reply = "HTTP/1.1 409 Conflict\r\nContent-Type: application/json\r\nContent-Length: 13\r\n\
        Cache-Control: max-age=3600\r\nExpires: Thu, 01 Jan 2099 00:00:00 GMT\r\nConnection: X-Inside\r\n\
        X-Inside: 1\r\nServer: x\r\nLocation: /v1/x\r\nPagination-Item-Count: 3\r\n\r\n{\"error\":\"x\"}";
    let house = House::open(short()).with_pod_api(fixed(reply));
    let reply = house.ask("GET", "/api/x", "");
    assert!(reply.starts_with("HTTP/1.1 409 Conflict\r\n"), "{reply}");
    assert_eq!(body(&reply), "{\"error\":\"x\"}");
    for (name, value) in SAFE {
        assert!(field(&reply, name).is_some_and(|v| v.contains(value)), "{name}: {reply}");
    }
    assert_eq!(field(&reply, "location"), Some("/v1/x"));
    assert_eq!(field(&reply, "pagination-item-count"), Some("3"));
    assert_eq!(field(&reply, "content-length"), Some("13"));
    for gone in ["expires", "x-inside", "server"] {
        assert_eq!(field(&reply, gone), None, "{reply}");
    }
}

#[test]
fn a_head_keeps_the_length_of_what_it_leaves_out() {
    let reply = "HTTP/1.1 200 OK\r\nContent-Length: 1234\r\nPagination-Item-Count: 3\r\n\r\n";
    let house = House::open(short()).with_pod_api(fixed(reply));
    let reply = house.ask("HEAD", "/api/v1/members", "");
    assert_eq!((field(&reply, "content-length"), body(&reply)), (Some("1234"), ""), "{reply}");
    assert_eq!(field(&reply, "pagination-item-count"), Some("3"));
}

#[test]
fn replies_without_a_body_stay_without() {
    for status in ["204 No Content", "205 Reset Content", "304 Not Modified"] {
        let reply: &'static str = format!("HTTP/1.1 {status}\r\n\r\n").leak();
        let house = House::open(short()).with_pod_api(fixed(reply));
        let reply = house.ask("DELETE", "/api/x", "");
        assert!(reply.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{reply}");
        assert!(matches!(body(&reply), "" | "0\r\n\r\n"), "{reply}");
    }
}

#[test]
fn bodies_go_both_ways() {
    let house = House::open(short()).with_pod_api(echo);
    let put = "PUT /api/x HTTP/1.1\r\nHost: pod\r\nConnection: close\r\n";
    let reply = house.say(format!("{put}Content-Length: 5\r\n\r\nhello"));
    assert!(body(&reply).contains("content-length: 5\r\n"), "{reply}");
    assert!(reply.ends_with("\r\n\r\nhello"), "{reply}");
    let chunks = "3;x=y\r\nhel\r\n2\r\nlo\r\n0\r\nX-Trailer: 1\r\n\r\n";
    let reply =
        house.say(format!("{put}Transfer-Encoding: chunked\r\nTrailer: X-Trailer\r\n\r\n{chunks}"));
    let seen = body(&reply).to_lowercase();
    assert!(seen.contains("transfer-encoding: chunked\r\n"), "{reply}");
    assert!(!seen.contains("trailer") && !seen.contains("x=y"), "{reply}");
    let text: String =
        seen.split("\r\n\r\n").nth(1).unwrap().split("\r\n").skip(1).step_by(2).collect();
    assert_eq!(text, "hello", "{reply}");
}

#[test]
fn a_body_is_asked_for_only_if_it_is_wanted() {
    let house = House::open(short()).with_pod_api(echo);
    for (length, expected) in [(5, "HTTP/1.1 100 Continue\r\n"), (100_001, "HTTP/1.1 413 ")] {
        let mut stream = house.connect();
        let head = "PUT /api/x HTTP/1.1\r\nHost: pod\r\nExpect: 100-continue\r\n";
        write!(stream, "{head}Content-Length: {length}\r\n\r\n").unwrap();
        let reply = read_until(&mut stream, "\r\n");
        assert!(reply.starts_with(expected), "{reply}");
    }
}

/// Pieces arrive one by one, each before the next is sent; both sides stay open in between.
#[test]
fn events_are_not_held_back() {
    let (sender, receiver) = std::sync::mpsc::channel::<()>();
    let receiver = Mutex::new(receiver);
    let house = House::open(short()).with_pod_api(move |mut stream| {
        read_head(&mut stream);
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
        stream.write_all(head.as_bytes()).unwrap();
        for number in 0..5 {
            let event = format!("event: e\ndata: {number}\n\n");
            write!(stream, "{:x}\r\n{event}\r\n", event.len()).unwrap();
            receiver.lock().unwrap().recv_timeout(PATIENCE).unwrap();
        }
        stream.write_all(b"0\r\n\r\n").unwrap();
    });
    let mut stream = house.connect();
    stream
        .write_all(b"GET /api/events HTTP/1.1\r\nHost: pod\r\nConnection: close\r\n\r\n")
        .unwrap();
    let head = read_until(&mut stream, "\r\n\r\n");
    assert!(head.contains("text/event-stream"), "{head}");
    for number in 0..5 {
        let event = read_until(&mut stream, "\n\n");
        assert!(event.ends_with(&format!("data: {number}\n\n")), "{event}");
        sender.send(()).unwrap();
    }
    assert!(read_until(&mut stream, "0\r\n\r\n").ends_with("0\r\n\r\n"));
}

#[test]
fn a_client_that_leaves_is_not_worked_for() {
    let (gone, is_gone) = std::sync::mpsc::channel();
    let gone = Mutex::new(gone);
    let house = House::open(short()).with_pod_api(move |mut stream| {
        read_head(&mut stream);
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n")
            .unwrap();
        let start = Instant::now();
        assert_eq!(stream.read(&mut [0]).unwrap_or(0), 0);
        gone.lock().unwrap().send(start.elapsed()).unwrap();
    });
    let mut stream = house.connect();
    stream.write_all(b"GET /api/events HTTP/1.1\r\nHost: pod\r\n\r\n").unwrap();
    read_until(&mut stream, "x\r\n");
    drop(stream);
    assert!(is_gone.recv_timeout(PATIENCE).unwrap() < Duration::from_secs(1));
    house.wait_for_inside(0);
}

/// A reply that breaks off never looks whole.
#[test]
fn a_pod_api_that_dies_midway_is_noticed() {
    for (reply, is_cut) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello", "hello"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", "5\r\nhello\r\n"),
    ] {
        let house = House::open(short()).with_pod_api(fixed(reply));
        let reply = house.ask("GET", "/api/x", "");
        assert!(reply.starts_with("HTTP/1.1 200") && reply.ends_with(is_cut), "{reply}");
        assert!(!reply.ends_with("0\r\n\r\n"), "{reply}");
    }
    for nothing in [
        "",
        "HTTP/1.1 200 OK\r\nContent-",
        "no http\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    ] {
        let house = House::open(short()).with_pod_api(fixed(nothing));
        let reply = house.ask("GET", "/api/x", "");
        assert!(reply.starts_with("HTTP/1.1 502 Bad Gateway\r\n"), "{nothing:?}: {reply}");
        assert_eq!(body(&reply), r#"{"error":"bad_gateway","message":"the API broke off"}"#);
    }
}

#[test]
fn a_pod_api_that_is_not_there_is_told_apart() {
    let mut house = House::open(short());
    let down = house.ask("GET", "/api/pod/version", "");
    assert!(down.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{down}");
    assert_eq!(field(&down, "retry-after"), Some("1"));
    assert_eq!(field(&down, "content-type"), Some("application/json"));
    assert_eq!(
        body(&down),
        r#"{"error":"service_unavailable","message":"the API isn't running just now"}"#
    );
    house = house.with_pod_api(fixed("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"));
    assert!(house.ask("GET", "/api/pod/version", "").ends_with("{}"));
    std::fs::remove_dir_all(house.folder.path().join("pod-api")).unwrap();
    let absent = house.ask("GET", "/api/pod/version", "");
    assert!(absent.starts_with("HTTP/1.1 404 Not Found\r\n"), "{absent}");
    assert_eq!(body(&absent), r#"{"error":"not_found","message":"this appliance has no API"}"#);
    for (name, value) in SAFE {
        assert!(field(&absent, name).is_some_and(|v| v.contains(value)), "{name}: {absent}");
    }
}

#[test]
fn a_pod_api_that_is_too_slow_is_not_waited_for() {
    let house = House::open(short()).with_pod_api(|mut stream| {
        let head = read_head(&mut stream);
        if head.contains("/midway") {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello").unwrap();
        }
        // Until the front lets go.
        assert_eq!(stream.read(&mut [0]).unwrap_or(0), 0);
    });
    let start = Instant::now();
    let reply = house.ask("GET", "/api/x", "");
    assert!(reply.starts_with("HTTP/1.1 504 Gateway Timeout\r\n"), "{reply}");
    assert_eq!(body(&reply), r#"{"error":"gateway_timeout","message":"the API took too long"}"#);
    assert!(house.ask("GET", "/api/midway", "").ends_with("hello"));
    assert!(start.elapsed() < Duration::from_secs(6));
}

/// Whatever a body is framed as, what comes after it is the next request and no part of this one.
#[test]
fn a_body_has_one_length() {
    let seen = Arc::new(Mutex::new(vec![]));
    let log = seen.clone();
    let house = House::open(short()).with_pod_api(move |mut stream| {
        let head = read_head(&mut stream).to_lowercase();
        log.lock().unwrap().push(head.lines().next().unwrap().to_owned());
        let reads_both = head.contains("content-length") && head.contains("transfer-encoding");
        assert!(!reads_both, "{head}");
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    });
    let hidden = "GET /api/hidden HTTP/1.1\r\nHost: pod\r\n\r\n";
    let both = ["Content-Length: 5", "Transfer-Encoding: chunked"];
    for fields in [both, [both[1], both[0]]] {
        let head =
            format!("POST /api/seen HTTP/1.1\r\nHost: pod\r\n{}\r\n\r\n", fields.join("\r\n"));
        // By length the body would be `0\r\n\r\n`, and so it is by chunks; then the connection ends.
        let reply = house.say(format!("{head}0\r\n\r\n{hidden}"));
        assert_eq!(reply.matches("HTTP/1.1 ").count(), 1, "{fields:?}: {reply}");
        assert!(reply.starts_with("HTTP/1.1 200") || reply.starts_with("HTTP/1.1 400"), "{reply}");
    }
    for fields in [
        "Content-Length: 5\r\nContent-Length: 6",
        "Content-Length: 5, 6",
        "Content-Length: +5",
        "Content-Length: 0x5",
        "Content-Length: -1",
        "Content-Length:",
        "Content-Length: 99999999999999999999",
        "Transfer-Encoding: gzip",
        "Transfer-Encoding: chunked, gzip",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding:\x0bchunked",
        "Transfer-Encoding : chunked",
        "X-Folded: a\r\n b",
        "X-Folded: a\r\n\tTransfer-Encoding: chunked",
        "X-Nul: a\0b",
        "X-Bare: a\rTransfer-Encoding: chunked",
        "X Space: 1",
        ": 1",
        "NoColon",
    ] {
        let reply = house
            .say(format!("POST /api/bad HTTP/1.1\r\nHost: pod\r\n{fields}\r\n\r\nhello{hidden}"));
        assert!(reply.starts_with("HTTP/1.1 400 "), "{fields:?}: {reply}");
        assert_eq!(reply.matches("HTTP/1.1 ").count(), 1, "{fields:?}: {reply}");
    }
    let seen = seen.lock().unwrap().join("\n");
    assert!(!seen.contains("bad") && !seen.contains("hidden"), "{seen}");
}

#[test]
fn bad_chunks_end_the_connection() {
    let whole = Arc::new(AtomicUsize::new(0));
    let count = whole.clone();
    let house = House::open(short()).with_pod_api(move |mut stream| {
        let mut text = vec![];
        let _ = stream.read_to_end(&mut text);
        count.fetch_add(usize::from(text.ends_with(b"0\r\n\r\n")), Ordering::SeqCst);
    });
    for chunks in [
        "z\r\n",
        "-1\r\n",
        "5\r\nhelloXX",
        "ffffffffffffffffff\r\n",
        "5\nhello\r\n0\r\n\r\n",
        "\r\n",
        "5 5\r\nhello\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
    ] {
        let head = "POST /api/x HTTP/1.1\r\nHost: pod\r\nTransfer-Encoding: chunked\r\n\r\n";
        let mut stream = house.connect();
        stream.write_all(format!("{head}{chunks}").as_bytes()).unwrap();
        let mut reply = String::new();
        let _ = stream.read_to_string(&mut reply);
        assert!(reply.is_empty() || reply.starts_with("HTTP/1.1 4"), "{chunks:?}: {reply}");
    }
    house.wait_for_inside(0);
    assert_eq!(whole.load(Ordering::SeqCst), 0);
}

#[test]
fn requests_follow_one_another_on_a_connection() {
    let house = House::open(short()).with_pod_api(echo);
    let mut stream = house.connect();
    let ask = |path: &str| format!("GET /api{path} HTTP/1.1\r\nHost: pod\r\n\r\n");
    stream.write_all((ask("/a") + &ask("/b")).as_bytes()).unwrap();
    stream.write_all(b"GET /api/../c HTTP/1.1\r\nHost: pod\r\n\r\n").unwrap();
    stream.write_all(b"GET /api/d HTTP/1.1\r\nHost: pod\r\nConnection: close\r\n\r\n").unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).unwrap();
    let order = ["GET /a ", "GET /b ", "HTTP/1.1 400", "GET /d "].map(|part| reply.find(part));
    assert!(order.iter().all(Option::is_some) && order.is_sorted(), "{order:?}: {reply}");
    wait_until("nobody is inside", || house.front.inside() == 0);
}
