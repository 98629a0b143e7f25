//! The network page. Nothing here leaves the host: the API knows no name server but one of loopback
//! that isn't there.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use vm_tests::host::{Pod, each};

use crate::members::events;

fn purposes(pod: &Pod, admin: &str) -> Vec<String> {
    let records = pod.get("/v1/network/dns/records", admin);
    assert_eq!(records.status, 200, "{records:?}");
    let steps = records.body["steps"].as_array().unwrap().iter();
    steps.map(|step| step["purpose"].as_str().unwrap().to_owned()).collect()
}

fn ids(checks: &Value) -> Vec<&str> {
    checks.as_array().unwrap().iter().map(|check| check["id"].as_str().unwrap()).collect()
}

#[test]
fn c21_without_federation_there_is_nothing_for_other_servers() {
    each(|pod| {
        let admin = pod.make_admin();
        let is_for_servers = |id: &&str| id.ends_with("s2s");
        let mut seen = vec![];
        for enabled in [false, true, false] {
            let path = "/v1/server/config/federation-enabled";
            assert_eq!(pod.put(path, &admin, json!(enabled)).status, 200);
            let purposes = purposes(&pod, &admin);
            let step = purposes.iter().any(|it| it == "let other servers connect to your server");
            let checks = pod.get("/v1/network/checks", &admin);
            assert_eq!(checks.status, 200);
            seen.push((step, ids(&checks.body).iter().any(is_for_servers)));
            assert!(!ids(&checks.body).is_empty());
        }
        assert_eq!(seen, [(false, false), (true, true), (false, false)]);
    });
}

#[test]
fn the_dashboard_shows_the_records() {
    each(|pod| {
        let admin = pod.make_admin();
        let steps = pod.get("/v1/network/dns/records", &admin).body;
        let lines: Vec<&str> = steps["steps"]
            .as_array()
            .unwrap()
            .iter()
            .flat_map(|step| step["records"].as_array().unwrap())
            .map(|record| record["string_repr"].as_str().unwrap())
            .collect();
        let expected = "_xmpp-client._tcp.example.org. 3600 IN SRV 0 5 5222 prose.example.org.";
        assert!(lines.contains(&expected), "{lines:?}");
        let config = pod.get("/v1/pod/config", &admin).body;
        let address = json!({"domain": "prose.example.org", "ipv4": null, "ipv6": null});
        assert_eq!(config["address"], address);
        assert_eq!(pod.get("/v1/pod/config/address", &admin).body, address);
        let url = json!("https://admin.prose.example.org");
        assert_eq!(pod.get("/v1/dashboard/config", &admin).body, json!({"url": url}));
        assert_eq!(pod.get("/v1/dashboard/config/url", &admin).body, url);
    });
}

#[test]
fn c22_a_stream_of_checks_begins_at_once() {
    use std::io::{Read, Write};
    each(|pod| {
        let admin = pod.make_admin();
        let mut stream = std::net::TcpStream::connect(pod.address()).unwrap();
        let begun = Instant::now();
        write!(
            stream,
            "GET /api/v1/network/checks HTTP/1.1\r\nHost: pod\r\nAccept: text/event-stream\r\n\
             Authorization: Bearer {admin}\r\n\r\n"
        )
        .unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let (mut text, mut first) = (String::new(), None);
        let mut buffer = [0; 4096];
        while !text.contains("\"INVALID\"") {
            let length = stream.read(&mut buffer).unwrap();
            assert!(length > 0, "it ends: {text}");
            first.get_or_insert_with(|| begun.elapsed());
            text.push_str(&String::from_utf8_lossy(&buffer[..length]));
        }
        assert!(first.unwrap() < Duration::from_secs(1), "{first:?}");
        let head = text.to_lowercase();
        assert!(head.starts_with("http/1.1 200"), "{head}");
        for field in ["content-type: text/event-stream", "x-accel-buffering: no"] {
            assert!(head.contains(field), "{field}: {head}");
        }
        assert!(text.contains("\"QUEUED\"") && text.contains("\"CHECKING\""), "{text}");
    });
}

#[test]
fn c23_checks_as_json_are_soon_done_without_dns() {
    each(|pod| {
        let admin = pod.make_admin();
        for (path, some) in [
            ("/v1/network/checks", "SRV-c2s"),
            ("/v1/network/checks/dns", "CNAME-dashboard"),
            ("/v1/network/checks/ip", "IPv4-c2s"),
            ("/v1/network/checks/ports", "TCP-HTTPS"),
        ] {
            let begun = Instant::now();
            let checks = pod.get(path, &admin);
            assert!(begun.elapsed() < Duration::from_secs(25), "{path}: {:?}", begun.elapsed());
            assert_eq!(checks.status, 200);
            assert!(ids(&checks.body).contains(&some), "{path}: {}", checks.body);
            for check in checks.body.as_array().unwrap() {
                let status = check["data"]["status"].as_str().unwrap();
                assert!(["INVALID", "CLOSED", "FAILURE"].contains(&status), "{check}");
            }
        }
        for interval in ["PT0S", "PT61S", "5", "P1D", ""] {
            let answer = pod.events(&format!("/v1/network/checks?interval={interval}"), &admin);
            assert_eq!((answer.status, answer.error()), (400, "bad_request"), "{interval}");
        }
    });
}

#[test]
fn an_empty_stream_has_its_end() {
    each(|pod| {
        let admin = pod.make_admin();
        let stream = pod.events("/v1/enrich-members", &admin);
        assert_eq!(events(&stream), [("end".into(), "end".into(), json!({}))]);
    });
}
