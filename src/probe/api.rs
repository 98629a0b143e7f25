//! Asks the API as a browser does: by HTTP, through the front.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::time::{Duration, Instant};

use serde::de::IgnoredAny;

use crate::bounded::Bounded;
use appliance::failure::{Failure, OrCannot as _};

/// What is asked: the first of pod-api, the second of the front itself, which asks PID 1.
const PATHS: [&str; 2] = ["/api/pod/version", "/api/v1/appliance"];
/// The most fields of a reply's head.
const MOST_FIELDS: usize = 64;

/// Does it answer, each time with what a program can read?
pub fn check(port: u16, within: Duration) -> Result<(), Failure> {
    let until = Instant::now() + within;
    PATHS.into_iter().try_for_each(|path| {
        get(port, path, until.saturating_duration_since(Instant::now()))
            .or_cannot(format_args!("get {path}"))
    })
}

fn get(port: u16, path: &str, within: Duration) -> Result<(), Failure> {
    let mut connection = Bounded::connect(port, within)?;
    // Of the older version: what comes is then one piece, up to its end.
    let request = format!("GET {path} HTTP/1.0\r\nHost: localhost:{port}\r\n\r\n");
    connection.write_all(request.as_bytes()).or_cannot("ask")?;
    let mut reply = vec![];
    connection.read_to_end(&mut reply).or_cannot("read the reply")?;
    is_json(&reply)
}

fn is_json(reply: &[u8]) -> Result<(), Failure> {
    let what = "understand the reply";
    let mut fields = [httparse::EMPTY_HEADER; MOST_FIELDS];
    let mut head = httparse::Response::new(&mut fields);
    let end = match head.parse(reply).or_cannot(what)? {
        httparse::Status::Complete(end) => end,
        httparse::Status::Partial => return Err(Failure::new(what, "it breaks off")),
    };
    if head.code != Some(200) {
        let status = head.code.unwrap_or_default();
        return Err(Failure::new(what, format_args!("its status is {status}")));
    }
    let body = reply.get(end..).unwrap_or_default();
    serde_json::from_slice::<BTreeMap<String, IgnoredAny>>(body).map(drop).or_cannot(what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stand_in;

    const GOOD: &str = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{\"a\":[1]}";
    const WITHIN: Duration = Duration::from_millis(500);

    #[test]
    fn an_api_passes_if_it_answers_json_each_time() {
        let port = stand_in::http(&[GOOD, GOOD]);
        check(port, Duration::from_secs(20)).unwrap();
    }

    #[test]
    fn each_way_not_to_answer_is_told() {
        let flood = format!("{GOOD}{}", " ".repeat(1 << 20));
        for (replies, why) in [
            (&["HTTP/1.1 503 Service Unavailable\r\n\r\n{}"][..], "its status is 503"),
            (&[GOOD, "HTTP/1.1 404 Not Found\r\n\r\n{}"], "cannot get /api/v1/appliance: "),
            (&["HTTP/1.1 200 OK\r\n\r\n{\"a\":"], "EOF while parsing"),
            (&["HTTP/1.1 200 OK\r\n\r\n<html>"], "expected value"),
            (&["HTTP/1.1 200 OK\r\n\r\n[]"], "expected a map"),
            (&["HTTP/1.1 200 OK\r\nA: b\r\n"], "it breaks off"),
            (&["<stream:stream>"], "invalid"),
            (&[""], "it breaks off"),
            (&[&flood], "it says more than"),
            (&[stand_in::SILENCE], "it takes longer than 0.5 s"),
        ] {
            let said = check(stand_in::http(replies), WITHIN).unwrap_err().to_string();
            assert!(said.starts_with("cannot get /api/") && said.contains(why), "{why}: {said}");
        }
    }
}
