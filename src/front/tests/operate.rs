//! What an admin does with the appliance: upgrades above all.

mod support;

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use support::{House, UPGRADES, answer, body, field, read_head, read_until, short};

const ZEROS: &str = "0000000000000000000000000000000000000000000000000000000000000000";
const UPGRADE: &str = "/api/v1/appliance/upgrade";
const INSTALL: &str = r#"{"upgrade":{"install":"#;

/// A pod-api that knows one admin and one member.
fn pod_api(mut stream: UnixStream) {
    let head = read_head(&mut stream).to_lowercase();
    let asks = "get /v1/server/config/message-archive-enabled http/1.1\r\n";
    let (status, text) = match head.lines().find_map(|it| it.strip_prefix("authorization: ")) {
        _ if !head.starts_with(asks) => ("404 Not Found", "{}"),
        Some("bearer admin") => ("200 OK", "true"),
        Some("bearer member") => ("403 Forbidden", r#"{"error":"forbidden","message":"no"}"#),
        _ => ("401 Unauthorized", r#"{"error":"unauthorized","message":"no"}"#),
    };
    let length = text.len();
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nWWW-Authenticate: x\r\n");
    let _ = stream.write_all(format!("{head}\r\n{text}").as_bytes());
}

/// A house whose `stele-init` hands each bundle to `installer`; the verbs it was told.
fn house(
    installer: impl Fn(UnixStream) + Send + Sync + 'static,
) -> (House, Arc<Mutex<Vec<String>>>) {
    let (verbs, installer) = (Arc::new(Mutex::new(vec![])), Arc::new(installer));
    let seen = verbs.clone();
    let init = move |verb: &str, stream: UnixStream| {
        if verb == r#""upgrade_state""# {
            return answer(&stream, UPGRADES.as_bytes(), None);
        }
        seen.lock().unwrap().push(verb.to_owned());
        if !verb.starts_with(INSTALL) {
            return answer(&stream, br#""accepted""#, None);
        }
        let (ours, theirs) = UnixStream::pair().unwrap();
        answer(&stream, br#""accepted""#, Some(&theirs));
        let installer = installer.clone();
        thread::spawn(move || installer(ours));
    };
    (House::open(short()).with_init(init).with_pod_api(pod_api), verbs)
}

fn armed() -> String {
    format!(r#"{{"armed":{{"version":"2.0.0","root_hash":"{ZEROS}"}}}}"#)
}

/// Takes all, then says that it is armed.
fn arm(mut stream: UnixStream) {
    let mut bundle = vec![];
    stream.read_to_end(&mut bundle).unwrap();
    let begun = format!(
        r#"{{"begun":{{"version":"2.0.0","root_hash":"{ZEROS}","total":{}}}}}"#,
        bundle.len()
    );
    let _ = write!(stream, "{begun}\n{{\"progress\":{{\"done\":1}}}}\n{}\n", armed());
}

fn head(more: &str) -> String {
    format!("PUT {UPGRADE} HTTP/1.1\r\nHost: pod\r\nAuthorization: Bearer admin\r\n{more}\r\n")
}

fn whole(bundle: &[u8]) -> Vec<u8> {
    let more = format!("Connection: close\r\nContent-Length: {}\r\n", bundle.len());
    [head(&more).as_bytes(), bundle].concat()
}

fn rest(stream: &mut TcpStream) -> String {
    let mut reply = vec![];
    let _ = stream.read_to_end(&mut reply);
    String::from_utf8_lossy(&reply).into_owned()
}

#[test]
fn a_bundle_arrives_whole_however_it_is_framed() {
    let (sender, receiver) = mpsc::channel();
    let sender = Mutex::new(sender);
    let (house, verbs) = house(move |mut stream| {
        let mut bundle = vec![];
        stream.read_to_end(&mut bundle).unwrap();
        sender.lock().unwrap().send(bundle).unwrap();
        let _ = writeln!(stream, "{}", armed());
    });
    let bundle: Vec<u8> = (0..3_000_000u32).map(|it| (it / 7) as u8).collect();
    let chunks = bundle
        .chunks(70_000)
        .flat_map(|it| [format!("{:x}\r\n", it.len()).as_bytes(), it, b"\r\n"].concat());
    let chunked: Vec<u8> = head("Connection: close\r\nTransfer-Encoding: chunked\r\n")
        .into_bytes()
        .into_iter()
        .chain(chunks)
        .chain(*b"0\r\n\r\n")
        .collect();
    for request in [whole(&bundle), chunked] {
        let reply = house.say(request);
        assert!(reply.starts_with("HTTP/1.1 200 OK\r\n"), "{reply}");
        assert_eq!(body(&reply), armed());
        assert_eq!(field(&reply, "content-type"), Some("application/json"));
        assert!(receiver.recv().unwrap() == bundle);
    }
    let announced = ["3000000", "null"].map(|it| format!(r#"{INSTALL}{{"announced":{it}}}}}}}"#));
    assert_eq!(*verbs.lock().unwrap(), announced);
}

#[test]
fn each_refusal_has_its_status() {
    let codes = [
        ("not_a_bundle", 400),
        ("format", 400),
        ("no_keys", 409),
        ("unknown_key", 422),
        ("signature", 422),
        ("manifest", 400),
        ("product", 422),
        ("architecture", 422),
        ("running", 409),
        ("downgrade", 409),
        ("known_bad", 409),
        ("size", 413),
        ("space", 507),
        ("unblessed", 409),
        ("busy", 409),
        ("truncated", 400),
        ("oversized", 413),
        ("chunk", 422),
        ("read_back", 500),
        ("disk", 500),
        ("no_counting", 409),
    ];
    for (code, status) in codes {
        let refused = format!(r#"{{"code":"{code}","message":"5 is more than 4"}}"#);
        let said = refused.clone();
        let (late, _) = house(move |mut stream| {
            let _ = stream.read(&mut [0; 9]);
            let _ = writeln!(stream, r#"{{"failed":{said}}}"#);
        });
        let early = House::open(short()).with_pod_api(pod_api).with_init(move |_, stream| {
            answer(&stream, format!(r#"{{"refused":{{"upgrade":{refused}}}}}"#).as_bytes(), None);
        });
        for house in [late, early] {
            let reply = house.say(whole(b"a bundle"));
            assert!(reply.starts_with(&format!("HTTP/1.1 {status} ")), "{code}: {reply}");
            let told = format!(r#"{{"error":"{code}","message":"5 is more than 4"}}"#);
            assert_eq!(body(&reply), told);
            assert_eq!(field(&reply, "connection"), Some("close"));
        }
    }
}

/// Whoever reads while it sends is told at once; whoever sends all of it first, after that.
#[test]
fn a_refusal_reaches_who_still_sends() {
    let (house, _) = house(|mut stream| {
        let _ = stream.read(&mut [0; 9]);
        let _ = writeln!(stream, r#"{{"failed":{{"code":"signature","message":"no"}}}}"#);
    });
    let mut stream = house.connect();
    stream.write_all(head("Content-Length: 3000000\r\n").as_bytes()).unwrap();
    stream.write_all(&[0; 100_000]).unwrap();
    assert!(read_until(&mut stream, "\r\n\r\n").starts_with("HTTP/1.1 422 "));
    let mut stream = house.connect();
    stream.write_all(head("Content-Length: 3000000\r\n").as_bytes()).unwrap();
    (0..30).for_each(|_| stream.write_all(&[0; 100_000]).unwrap());
    thread::sleep(Duration::from_millis(200));
    assert!(rest(&mut stream).starts_with("HTTP/1.1 422 "));
}

#[test]
fn a_client_that_breaks_off_is_gone_for_the_installer_too() {
    let (sender, receiver) = mpsc::channel();
    let sender = Mutex::new(sender);
    let (house, _) = house(move |mut stream| {
        let mut bundle = vec![];
        let ended = stream.read_to_end(&mut bundle);
        sender.lock().unwrap().send((bundle.len(), ended.is_ok(), Instant::now())).unwrap();
    });
    for framing in ["Content-Length: 1000000\r\n", "Transfer-Encoding: chunked\r\n"] {
        let mut stream = house.connect();
        let sent = if framing.contains("chunked") { "f4240\r\n" } else { "" };
        stream.write_all((head(framing) + sent).as_bytes()).unwrap();
        stream.write_all(&[1; 50_000]).unwrap();
        thread::sleep(Duration::from_millis(200));
        let left = Instant::now();
        drop(stream);
        let (length, is_orderly, when) = receiver.recv_timeout(support::PATIENCE).unwrap();
        assert_eq!((length, is_orderly), (50_000, true), "{framing}");
        assert!(when - left < Duration::from_secs(1), "{framing}: {:?}", when - left);
    }
    house.wait_for_inside(0);
}

#[test]
fn a_client_that_does_not_wait_for_the_answer_is_gone_too() {
    let (sender, receiver) = mpsc::channel();
    let sender = Mutex::new(sender);
    let (house, verbs) = house(move |mut stream| {
        stream.read_to_end(&mut vec![]).unwrap();
        while writeln!(stream, r#"{{"progress":{{"done":1}}}}"#).is_ok() {
            thread::sleep(Duration::from_millis(20));
        }
        sender.lock().unwrap().send(Instant::now()).unwrap();
    });
    let mut stream = house.connect();
    stream.write_all(&whole(b"bundle")).unwrap();
    support::wait_until("it is taken", || !verbs.lock().unwrap().is_empty());
    let left = Instant::now();
    drop(stream);
    let when = receiver.recv_timeout(support::PATIENCE).unwrap();
    assert!(when - left < Duration::from_secs(1), "{:?}", when - left);
}

#[test]
fn a_client_that_is_slow_is_let_go() {
    let (sender, receiver) = mpsc::channel();
    let sender = Mutex::new(sender);
    let (house, _) = house(move |mut stream| {
        let mut bundle = vec![];
        let _ = stream.read_to_end(&mut bundle);
        sender.lock().unwrap().send(bundle.len()).unwrap();
    });
    let mut stream = house.connect();
    stream.write_all((head("Content-Length: 1000\r\n") + "some").as_bytes()).unwrap();
    let start = Instant::now();
    let reply = read_until(&mut stream, "\r\n\r\n");
    assert!(reply.starts_with("HTTP/1.1 408 "), "{reply}");
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    assert_eq!(receiver.recv_timeout(support::PATIENCE).unwrap(), 4);
}

#[test]
fn an_installer_that_ends_without_a_word_is_told_of() {
    let dies = |said: &'static str| {
        move |mut stream: UnixStream| {
            let _ = stream.read(&mut [0; 9]);
            let _ = stream.write_all(said.as_bytes());
        }
    };
    let long: &'static str = "x".repeat(10_000).leak();
    for said in ["", "{\"progress\":{\"done\":1}}\n", "nonsense\n", "{\"armed\"", long] {
        let reply = house(dies(said)).0.say(whole(&vec![0; 1_000_000]));
        assert!(reply.starts_with("HTTP/1.1 500 "), "{said}: {reply}");
        assert!(body(&reply).contains("internal_server_error"), "{reply}");
    }
    let (house, _) = house(|mut stream| {
        let _ = stream.read_to_end(&mut vec![]);
        thread::sleep(Duration::from_secs(3));
    });
    assert!(house.say(whole(b"bundle")).starts_with("HTTP/1.1 504 "));
}

/// What isn't taken at the one end isn't taken at the other.
#[test]
fn nothing_is_kept_in_between() {
    let (release, released) = mpsc::channel::<()>();
    let released = Mutex::new(released);
    let (house, _) = house(move |stream| {
        let _ = released.lock().unwrap().recv();
        arm(stream);
    });
    let mut stream = house.connect();
    stream.write_all(head("Connection: close\r\nContent-Length: 15900000\r\n").as_bytes()).unwrap();
    stream.set_nonblocking(true).unwrap();
    let (start, mut sent) = (Instant::now(), 0);
    while start.elapsed() < Duration::from_millis(1500) && sent < 15_900_000 {
        match stream.write(&vec![0; (15_900_000 - sent).min(50_000)]) {
            Ok(length) => sent += length,
            Err(_) => thread::sleep(Duration::from_millis(5)),
        }
    }
    // Sockets hold some, of both kinds: this kernel's at most 4 MiB and a little.
    assert!(sent < 10_000_000, "{sent}");
    stream.set_nonblocking(false).unwrap();
    release.send(()).unwrap();
    stream.write_all(&vec![0; 15_900_000 - sent]).unwrap();
    assert!(rest(&mut stream).ends_with(&armed()));
}

#[test]
fn a_bundle_that_no_slot_holds_is_refused() {
    let (house, verbs) = house(arm);
    let mut stream = house.connect();
    let asking = "Expect: 100-continue\r\nContent-Length: 16000001\r\n";
    stream.write_all(head(asking).as_bytes()).unwrap();
    assert!(read_until(&mut stream, "\r\n").starts_with("HTTP/1.1 413 "));
    assert_eq!(*verbs.lock().unwrap(), [""; 0]);
    let mut stream = house.connect();
    stream.write_all(head("Transfer-Encoding: chunked\r\n").as_bytes()).unwrap();
    let piece = [b"186a0\r\n".as_slice(), &[b'x'; 100_000], b"\r\n"].concat();
    (0..161).for_each(|_| stream.write_all(&piece).unwrap());
    let reply = read_until(&mut stream, "\r\n");
    assert!(reply.starts_with("HTTP/1.1 413 "), "{reply}");
    let reply = house.say(head("Connection: close\r\nContent-Length: 0\r\n"));
    assert!(reply.starts_with("HTTP/1.1 400 "), "{reply}");
}

#[test]
fn one_bundle_is_taken_at_a_time() {
    let (house, verbs) = house(arm);
    let mut first = house.connect();
    first
        .write_all((head("Content-Length: 8\r\nConnection: close\r\n") + "bund").as_bytes())
        .unwrap();
    support::wait_until("the first is on its way", || verbs.lock().unwrap().len() == 1);
    let second = house.say(whole(b"bundle"));
    assert!(
        second.starts_with("HTTP/1.1 409 ") && second.contains(r#""error":"busy""#),
        "{second}"
    );
    first.write_all(b"lely").unwrap();
    assert!(rest(&mut first).ends_with(&armed()));
    assert!(house.say(whole(b"bundle")).ends_with(&armed()));
}

#[test]
fn only_an_admin_may() {
    let all = [
        ("PUT", UPGRADE),
        ("GET", "/api/v1/appliance/last-failure"),
        ("POST", "/api/v1/appliance/rollback"),
        ("POST", "/api/v1/appliance/reboot"),
        ("POST", "/api/v1/appliance/power-off"),
    ];
    let (house, verbs) = house(arm);
    let bearer = |who: &str| format!("Authorization: Bearer {who}\r\n");
    for (method, path) in all {
        for (shown, status, words) in [
            ("".to_owned(), 401, r#"{"error":"unauthorized","message":"no"}"#),
            (bearer("nobody"), 401, r#"{"error":"unauthorized","message":"no"}"#),
            (bearer("member"), 403, r#"{"error":"forbidden","message":"no"}"#),
            (bearer("member") + &bearer("admin"), 403, r#"{"error":"forbidden","message":"no"}"#),
        ] {
            let mut stream = house.connect();
            let asks = format!(
                "{method} {path} HTTP/1.1\r\nHost: pod\r\nConnection: close\r\n{shown}\
                 Expect: 100-continue\r\nContent-Length: 6\r\n\r\n"
            );
            stream.write_all(asks.as_bytes()).unwrap();
            let reply = rest(&mut stream);
            assert!(reply.starts_with(&format!("HTTP/1.1 {status} ")), "{path}: {reply}");
            assert_eq!(body(&reply), words);
            assert_eq!(field(&reply, "www-authenticate"), Some("x"));
        }
    }
    let socket = house.folder.path().join("pod-api/http.sock");
    std::fs::remove_file(&socket).unwrap();
    for (method, path) in all {
        let reply = house.ask(method, path, &bearer("admin"));
        assert!(reply.starts_with("HTTP/1.1 503 "), "{path}: {reply}");
    }
    std::fs::remove_dir_all(house.folder.path().join("pod-api")).unwrap();
    for (method, path) in all {
        let reply = house.ask(method, path, &bearer("admin"));
        assert!(reply.starts_with("HTTP/1.1 404 "), "{path}: {reply}");
        assert_eq!(body(&reply), r#"{"error":"not_found","message":"this appliance has no API"}"#);
    }
    assert_eq!(*verbs.lock().unwrap(), [""; 0]);
}

/// Whatever pod-api says that is neither yes nor no, nobody gets in by it.
#[test]
fn a_pod_api_that_is_odd_admits_nobody() {
    for (said, status) in [
        ("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", 502),
        ("HTTP/1.1 204 No Content\r\n\r\n", 502),
        ("HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n", 502),
        ("HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 2\r\n\r\n{}", 503),
        ("nonsense\r\n\r\n", 502),
        ("", 502),
    ] {
        let house = House::open(short()).with_pod_api(support::fixed(said));
        let reply = house.ask("POST", "/api/v1/appliance/reboot", "Authorization: Bearer x\r\n");
        assert!(reply.starts_with(&format!("HTTP/1.1 {status} ")), "{said}: {reply}");
    }
}

#[test]
fn orders_reach_init() {
    let (house, verbs) = house(arm);
    let admin = "Authorization: Bearer admin\r\n";
    for order in ["rollback", "reboot", "power-off"] {
        let reply = house.ask("POST", &format!("/api/v1/appliance/{order}"), admin);
        assert!(reply.starts_with("HTTP/1.1 202 Accepted\r\n"), "{reply}");
        assert_eq!((body(&reply), field(&reply, "cache-control")), ("", Some("no-store")));
    }
    let expected = [r#"{"upgrade":"rollback"}"#, r#""reboot""#, r#""power_off""#];
    assert_eq!(*verbs.lock().unwrap(), expected);
    for (said, status, word) in [
        (r#"{"refused":{"upgrade":{"code":"unblessed","message":"m"}}}"#, 409, "unblessed"),
        (r#"{"refused":"ending"}"#, 503, "service_unavailable"),
        (r#"{"refused":"forbidden"}"#, 503, "service_unavailable"),
        ("nonsense", 503, "service_unavailable"),
    ] {
        let house = House::open(short())
            .with_pod_api(pod_api)
            .with_init(move |_, stream| answer(&stream, said.as_bytes(), None));
        let reply = house.ask("POST", "/api/v1/appliance/rollback", admin);
        assert!(reply.starts_with(&format!("HTTP/1.1 {status} ")), "{said}: {reply}");
        assert!(body(&reply).contains(&format!(r#""error":"{word}""#)), "{reply}");
    }
}

#[test]
fn an_init_that_hands_nothing_over_is_told_of() {
    let house = House::open(short())
        .with_pod_api(pod_api)
        .with_init(|_, stream| answer(&stream, br#""accepted""#, None));
    assert!(house.say(whole(b"bundle")).starts_with("HTTP/1.1 503 "));
}

#[test]
fn the_last_failure_is_told_with_its_console() {
    let path = "/api/v1/appliance/last-failure";
    let admin = "Authorization: Bearer admin\r\n";
    let (none, _) = house(arm);
    let reply = none.ask("GET", path, admin);
    assert!(reply.starts_with("HTTP/1.1 404 "), "{reply}");
    assert_eq!(body(&reply), r#"{"error":"not_found","message":"no upgrade has failed here"}"#);
    let verdict = format!(
        r#"{{"version":"2.0.0","root_hash":"{ZEROS}","when":5,"phase":"degraded","check":"xmpp","reason":"no answer","console_tail":["a","b"]}}"#
    );
    let state = UPGRADES.replace(r#""verdicts":[]"#, &format!(r#""verdicts":[{verdict}]"#));
    let house = House::open(short())
        .with_pod_api(pod_api)
        .with_init(move |_, stream| answer(&stream, state.as_bytes(), None));
    assert_eq!(body(&house.ask("GET", path, admin)), verdict);
    assert_eq!(body(&house.ask("HEAD", path, admin)), "");
}

/// A client that ends its sending side has gone, here as elsewhere.
#[test]
fn a_half_closed_client_is_gone() {
    let (house, _) = house(arm);
    let mut stream = house.connect();
    stream.write_all((head("Content-Length: 10\r\n") + "half").as_bytes()).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    assert!(!rest(&mut stream).contains("200 OK"));
    house.wait_for_inside(0);
}
