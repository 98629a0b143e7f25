//! Many at once, and nothing left of them.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use vm_tests::host::{ADMIN, PASSWORD, Pod, each, jid, wait_for};
use vm_tests::process::resident_kib;

#[test]
fn fifty_log_in_at_once() {
    each(|pod| {
        pod.make_admin();
        let bob = pod.make_member("bob");
        assert_eq!(pod.get("/v1/members", &bob).status, 200);
        let tokens: Vec<(usize, String)> = thread::scope(|scope| {
            let log_in = |number: usize| {
                let pod = &pod;
                scope.spawn(move || {
                    let name = if number.is_multiple_of(2) { ADMIN } else { "bob" };
                    let answer = pod.try_log_in(&jid(name), PASSWORD);
                    assert_eq!(answer.status, 200, "{answer:?}");
                    (number, answer.body["token"].as_str().unwrap().to_owned())
                })
            };
            let threads: Vec<_> = (0..50).map(log_in).collect();
            threads.into_iter().map(|it| it.join().unwrap()).collect()
        });
        // Each is its own, and of whom it was given to.
        let different: std::collections::BTreeSet<&str> =
            tokens.iter().map(|(_, token)| token.as_str()).collect();
        assert_eq!(different.len(), 50);
        for (number, token) in &tokens {
            let status = if number.is_multiple_of(2) { 200 } else { 403 };
            assert_eq!(pod.get("/v1/pod/config", token).status, status, "{number}");
        }
    });
}

/// What a process holds: descriptors, threads, and its resident set in KiB.
fn held(pid: u32) -> (usize, usize, u64) {
    let count = |folder: &str| fs::read_dir(format!("/proc/{pid}/{folder}")).unwrap().count();
    (count("fd"), count("task"), resident_kib(pid).unwrap())
}

/// Opens so many streams of checks, each begun, and drops them.
fn streams(pod: &Pod, token: &str, count: usize) {
    let open = |_| {
        let mut stream = TcpStream::connect(pod.address()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        write!(
            stream,
            "GET /api/v1/network/checks HTTP/1.1\r\nHost: pod\r\nAccept: text/event-stream\r\n\
             Authorization: Bearer {token}\r\n\r\n"
        )
        .unwrap();
        let mut first = [0; 12];
        stream.read_exact(&mut first).unwrap();
        (stream, String::from_utf8_lossy(&first).into_owned())
    };
    let streams: Vec<(TcpStream, String)> = (0..count).map(open).collect();
    for (_, first) in &streams {
        assert_eq!(first, "HTTP/1.1 200", "a stream was refused");
    }
}

#[test]
fn of_two_hundred_streams_nothing_is_left() {
    /// At a time: fewer than the front takes from loopback.
    const AT_A_TIME: usize = 50;
    each(|pod| {
        let admin = pod.make_admin();
        // The first ones make room that is kept: buffers, threads that wait for more.
        streams(&pod, &admin, AT_A_TIME);
        let rest = || {
            thread::sleep(Duration::from_millis(200));
            [held(pod.front.pid()), held(pod.api().pid())]
        };
        let descriptors = |held: [(usize, usize, u64); 2]| held.map(|(fds, ..)| fds);
        let quiet = wait_for("quiet", || {
            let (one, other) = (rest(), rest());
            (descriptors(one) == descriptors(other)).then_some(other)
        });
        for _ in 0..200 / AT_A_TIME {
            streams(&pod, &admin, AT_A_TIME);
        }
        let after = wait_for("quiet again", || {
            let now = rest();
            let is_quiet = now.iter().zip(&quiet).all(|(now, quiet)| now.0 <= quiet.0);
            is_quiet.then_some(now)
        });
        for (name, before, after) in
            [("front", quiet[0], after[0]), ("pod-api", quiet[1], after[1])]
        {
            assert!(after.1 <= before.1 + 1, "{name} has threads: {before:?} {after:?}");
            assert!(after.2 <= before.2 + 1024, "{name} has memory: {before:?} {after:?}");
        }
        assert_eq!(pod.get("/v1/members", &admin).status, 200);
    });
}
