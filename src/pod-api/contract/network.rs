//! What DNS must say, whether the world reaches the Pod, and where it is.

use std::net::SocketAddr;
use std::sync::Arc;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use super::client::Answer;
use super::gate::FakeInit;
use super::server::FakeServer;
use super::{PASSWORD, World, until};
use crate::network::MOST_ATTEMPTS;
use crate::network::records::Data;

const SERVICE: &str = "_xmpp-client._tcp.example.org.";
const HOST: &str = "prose.example.org.";
const ADMIN: &str = "admin.prose.example.org.";

/// With an admin, alice, and a member, bob.
async fn world(file: &str) -> World {
    let server = Arc::new(FakeServer::new("bootstrap-secret"));
    let init = FakeInit::new("bootstrap-secret", server.clone());
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("Prose.toml"), file).unwrap();
    let world = World::around(server, init, folder).await;
    world.in_step().await;
    for (name, role) in [("alice", "prosody:admin"), ("bob", "prosody:member")] {
        world.server.create(name, PASSWORD, role);
    }
    world.caught_up().await;
    world
}

fn srv(port: u16, target: &str) -> Data {
    Data::Srv { priority: 0, weight: 5, port, target: target.into() }
}

fn cname(target: &str) -> Data {
    Data::Cname { target: target.into() }
}

fn address(last: u8) -> Data {
    Data::A { value: [192, 0, 2, last].into() }
}

/// Everything as it should be.
fn set_up(world: &World) {
    world.outside.says(SERVICE, srv(5222, HOST));
    world.outside.says(ADMIN, cname(HOST));
    world.outside.says(HOST, address(1));
    world.outside.says(HOST, Data::Aaaa { value: "2001:db8::1".parse().unwrap() });
    let open = ["192.0.2.1:5222", "192.0.2.1:443"].map(|it| it.parse::<SocketAddr>().unwrap());
    world.outside.state().open.extend(open);
}

async fn events(world: &World, token: &str, path: &str) -> Answer {
    let bearer = format!("Bearer {token}");
    let headers = [("authorization", &*bearer), ("accept", "text/event-stream")];
    world.client.ask("GET", path, &headers, None).await
}

/// A stream of all checks that goes on.
async fn open(world: &World, token: &str) -> UnixStream {
    let mut stream = UnixStream::connect(world.folder.path().join("http.sock")).await.unwrap();
    let head = format!(
        "GET /v1/network/checks HTTP/1.1\r\nHost: pod\r\nAuthorization: Bearer {token}\r\n\
         Accept: text/event-stream\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream
}

/// Each event's name, id and data; how a stream is cut into chunks doesn't matter.
fn told(answer: &Answer) -> Vec<(String, String, Value)> {
    let lines = |name: &str| -> Vec<String> {
        let lines = answer.body.lines().filter_map(|line| line.strip_prefix(name));
        lines.map(str::to_owned).collect()
    };
    let (names, ids, data) = (lines("event: "), lines("id: "), lines("data: "));
    assert!(names.len() == ids.len() && names.len() == data.len(), "{}", answer.body);
    let rows = names.into_iter().zip(ids).zip(data);
    rows.map(|((name, id), data)| (name, id, serde_json::from_str(&data).unwrap())).collect()
}

/// The statuses of one id, in their order.
fn statuses(answer: &Answer, id: &str) -> Vec<String> {
    let of_id = told(answer).into_iter().filter(|(_, of, _)| of == id);
    of_id.map(|(_, _, data)| data["status"].as_str().unwrap_or_default().to_owned()).collect()
}

fn rows(answer: &Answer) -> Vec<String> {
    let row = |row: &Value| {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        format!("{} {}", text(&row["id"]), text(&row["data"]["status"]))
    };
    answer.json().as_array().unwrap().iter().map(row).collect()
}

#[tokio::test]
async fn only_admins_see_the_network_and_the_configuration() {
    let world = world("").await;
    let bob = world.token("bob").await;
    for path in [
        "/v1/network/dns/records",
        "/v1/network/checks",
        "/v1/network/checks/dns",
        "/v1/network/checks/ip",
        "/v1/network/checks/ports",
        "/v1/network/checks?interval=odd",
        "/v1/pod/config",
        "/v1/pod/config/address",
        "/v1/dashboard/config",
        "/v1/dashboard/config/url",
    ] {
        let answer = world.ask_as(&bob, "GET", path).await;
        assert_eq!((answer.status, answer.error().as_str()), (403, "forbidden"), "{path}");
        let answer = world.ask("GET", path).await;
        assert_eq!((answer.status, answer.error().as_str()), (401, "unauthorized"), "{path}");
        let answer = events(&world, &bob, path).await;
        assert_eq!((answer.status, answer.error().as_str()), (403, "forbidden"), "{path}");
    }
}

#[tokio::test]
async fn where_the_pod_is_follows_from_the_configuration() {
    let both = "[pod.address]\ndomain = \"Chat.Acme.net\"\nipv4 = \"192.0.2.1\"\n\
                [dashboard]\nurl = \"https://dash.acme.net/\"\n";
    let addresses = "dashboard_url = \"http://localhost:3030\"\n\
                     [pod.address]\nipv4 = \"192.0.2.1\"\nipv6 = \"2001:db8::1\"\n";
    for (file, address, url) in [
        (
            "",
            json!({ "domain": "prose.example.org", "ipv4": null, "ipv6": null }),
            "https://admin.prose.example.org",
        ),
        (
            both,
            json!({ "domain": "chat.acme.net", "ipv4": "192.0.2.1", "ipv6": null }),
            "https://dash.acme.net",
        ),
        (
            addresses,
            json!({ "domain": null, "ipv4": "192.0.2.1", "ipv6": "2001:db8::1" }),
            "http://localhost:3030",
        ),
    ] {
        let world = world(file).await;
        let alice = world.token("alice").await;
        for (path, expected) in [
            ("/v1/pod/config", json!({ "address": address })),
            ("/v1/pod/config/address", address),
            ("/v1/dashboard/config", json!({ "url": url })),
            ("/v1/dashboard/config/url", json!(url)),
        ] {
            let answer = world.ask_as(&alice, "GET", path).await;
            assert_eq!((answer.status, answer.json()), (200, expected), "{path} {file}");
        }
    }
}

#[tokio::test]
async fn records_come_in_steps() {
    let file =
        "[pod.address]\nipv4 = \"203.0.113.7\"\n[server.defaults]\nfederation_enabled = true\n";
    for (file, expected) in [("", vec![1, 1]), (file, vec![1, 1, 1, 2])] {
        let world = world(file).await;
        let alice = world.token("alice").await;
        let answer = world.ask_as(&alice, "GET", "/v1/network/dns/records").await;
        let answer = answer.json();
        let steps = answer["steps"].as_array().unwrap();
        let lengths = steps.iter().map(|step| step["records"].as_array().unwrap().len());
        assert_eq!(lengths.collect::<Vec<_>>(), expected, "{answer}");
        let first = &steps[steps.len() - expected.len()]["purpose"];
        assert!(first.as_str().unwrap().starts_with(char::is_lowercase), "{first}");
    }
}

#[tokio::test]
async fn checks_as_json_run_once() {
    let world = world("").await;
    let alice = world.token("alice").await;
    let bad = world.ask_as(&alice, "GET", "/v1/network/checks").await;
    let none = [
        "SRV-c2s INVALID",
        "CNAME-dashboard INVALID",
        "TCP-c2s CLOSED",
        "TCP-HTTPS CLOSED",
        "IPv4-c2s FAILURE",
        "IPv6-c2s FAILURE",
    ];
    assert_eq!((bad.status, rows(&bad)), (200, none.map(str::to_owned).to_vec()));
    set_up(&world);
    for (path, expected) in [
        ("/v1/network/checks/dns", vec!["SRV-c2s VALID", "CNAME-dashboard VALID"]),
        ("/v1/network/checks/ports", vec!["TCP-c2s OPEN", "TCP-HTTPS OPEN"]),
        ("/v1/network/checks/ip", vec!["IPv4-c2s SUCCESS", "IPv6-c2s SUCCESS"]),
    ] {
        let answer = world.ask_as(&alice, "GET", path).await;
        assert_eq!(rows(&answer), expected, "{path}");
    }
    let first = world.ask_as(&alice, "GET", "/v1/network/checks").await.json();
    let expected = json!({ "id": "SRV-c2s", "event": "dns-record-check-result", "data": {
        "description": "SRV record for client-to-server connections", "status": "VALID" } });
    assert_eq!(first[0], expected);
    assert_eq!(first[2]["event"], "port-reachability-check-result");
    assert_eq!(first[4]["event"], "ip-connectivity-check-result");
}

#[tokio::test]
async fn the_records_of_both_servers_are_one_check_the_worse_one() {
    let world = world("[server.defaults]\nfederation_enabled = true\n").await;
    let alice = world.token("alice").await;
    set_up(&world);
    let names = ["_xmpp-server._tcp.example.org.", "_xmpp-server._tcp.groups.example.org."];
    for (target, expected) in
        [(None, "INVALID"), (Some("other.net."), "PARTIALLY_VALID"), (Some(HOST), "VALID")]
    {
        world.outside.state().zone.retain(|name, _| !names.contains(&&**name));
        world.outside.says(names[0], srv(5269, HOST));
        if let Some(target) = target {
            world.outside.says(names[1], srv(5269, target));
        }
        let answer = world.ask_as(&alice, "GET", "/v1/network/checks/dns").await;
        assert_eq!(rows(&answer).last().unwrap(), &format!("SRV-s2s {expected}"));
    }
    let all = world.ask_as(&alice, "GET", "/v1/network/checks").await;
    let rows = rows(&all);
    let ids: Vec<&str> = rows.iter().filter_map(|row| row.split(' ').next()).collect();
    let expected = [
        "SRV-c2s",
        "CNAME-dashboard",
        "SRV-s2s",
        "TCP-c2s",
        "TCP-s2s",
        "TCP-HTTPS",
        "IPv4-c2s",
        "IPv6-c2s",
        "IPv4-s2s",
        "IPv6-s2s",
    ];
    assert_eq!(ids, expected);
}

#[tokio::test]
async fn a_port_is_that_of_the_service_or_else_of_the_host() {
    let world = world("").await;
    let alice = world.token("alice").await;
    world.outside.says(HOST, address(1));
    world.outside.says("other.net.", address(2));
    for (zone, open, expected) in [
        (vec![], "192.0.2.1:5222", "OPEN"),
        (vec![], "192.0.2.2:5222", "CLOSED"),
        (vec![srv(5000, "other.net.")], "192.0.2.2:5000", "OPEN"),
        (vec![srv(5000, "other.net.")], "192.0.2.2:5222", "CLOSED"),
        (vec![srv(5000, "other.net.")], "192.0.2.1:5222", "OPEN"),
        (vec![srv(0, ".")], "192.0.2.1:5222", "OPEN"),
    ] {
        world.outside.state().zone.insert(SERVICE.into(), zone.clone());
        world.outside.state().open = [open.parse().unwrap()].into();
        let answer = world.ask_as(&alice, "GET", "/v1/network/checks/ports").await;
        assert_eq!(rows(&answer)[0], format!("TCP-c2s {expected}"), "{zone:?} {open}");
    }
}

#[tokio::test]
async fn an_interval_is_a_second_to_a_minute() {
    let world = world("").await;
    let alice = world.token("alice").await;
    set_up(&world);
    for (interval, status) in [
        ("PT1S", 200),
        ("PT1M", 200),
        ("PT61S", 400),
        ("P1D", 400),
        ("PT0S", 400),
        ("PT0.5S", 400),
        ("5", 400),
        ("", 400),
    ] {
        let path = format!("/v1/network/checks?interval={interval}");
        for answer in
            [events(&world, &alice, &path).await, world.ask_as(&alice, "GET", &path).await]
        {
            assert_eq!(answer.status, status, "{interval}");
            if status == 400 {
                assert_eq!(answer.error(), "bad_request");
            }
        }
    }
}

#[tokio::test]
async fn a_stream_tells_of_each_check_and_ends() {
    let world = world("").await;
    let alice = world.token("alice").await;
    set_up(&world);
    world.outside.state().zone.insert(SERVICE.into(), vec![srv(5222, "other.net.")]);
    let answer = events(&world, &alice, "/v1/network/checks").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), Some("text/event-stream"));
    assert_eq!(answer.header("x-accel-buffering"), Some("no"));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    for (id, last) in [
        // That will do: it isn't tried again.
        ("SRV-c2s", "PARTIALLY_VALID"),
        ("CNAME-dashboard", "VALID"),
        ("TCP-c2s", "OPEN"),
        ("TCP-HTTPS", "OPEN"),
        ("IPv4-c2s", "SUCCESS"),
        ("IPv6-c2s", "SUCCESS"),
    ] {
        assert_eq!(statuses(&answer, id), ["QUEUED", "CHECKING", last], "{id}");
    }
    let told = told(&answer);
    assert_eq!(told.len(), 6 * 3 + 1);
    assert_eq!(told.last().unwrap(), &("end".into(), "end".into(), json!({})));
    assert!(answer.body.contains(": End of stream\n"));
}

#[tokio::test]
async fn what_fails_is_tried_again_until_it_is_right() {
    let world = world("").await;
    let alice = world.token("alice").await;
    set_up(&world);
    let right = world.outside.state().zone.remove(ADMIN).unwrap();
    let mend = async {
        until("it has failed", || world.outside.state().asked.contains_key(ADMIN)).await;
        world.outside.state().zone.insert(ADMIN.into(), right);
    };
    let path = "/v1/network/checks/dns?interval=PT1S";
    let (answer, ()) = tokio::join!(events(&world, &alice, path), mend);
    let expected = ["QUEUED", "CHECKING", "INVALID", "CHECKING", "VALID"];
    assert_eq!(statuses(&answer, "CNAME-dashboard"), expected);
    assert_eq!(statuses(&answer, "SRV-c2s"), ["QUEUED", "CHECKING", "VALID"]);
    assert_eq!(told(&answer).last().unwrap().0, "end");
}

#[tokio::test]
async fn what_goes_on_failing_is_given_up() {
    let file = "[api.network_checks]\ntimeout = \"PT3S\"\nretry_interval = \"PT1S\"\n";
    let world = world(file).await;
    let alice = world.token("alice").await;
    let answer = events(&world, &alice, "/v1/network/checks/ip").await;
    let statuses = statuses(&answer, "IPv4-c2s");
    assert!(statuses.len() > 3 && statuses.last().unwrap() != "SUCCESS", "{statuses:?}");
    assert_eq!(told(&answer).last().unwrap().0, "end");
}

#[tokio::test]
async fn the_work_ends_when_the_client_goes_away() {
    let world = world("").await;
    let alice = world.token("alice").await;
    world.outside.state().is_silent = true;
    let mut stream = open(&world, &alice).await;
    let mut first = [0; 64];
    stream.read_exact(&mut first).await.unwrap();
    until("all checks wait", || world.outside.state().waiting == 6).await;
    drop(stream);
    until("none does", || world.outside.state().waiting == 0).await;
}

#[tokio::test]
async fn two_hundred_streams_leave_nothing_behind() {
    let world = world("").await;
    let alice = world.token("alice").await;
    world.outside.state().is_silent = true;
    let mut streams = vec![];
    for _ in 0..200 {
        streams.push(open(&world, &alice).await);
    }
    // As many as one may have, and no more attempts than there are places for.
    until("they are served", || world.outside.state().waiting == MOST_ATTEMPTS).await;
    drop(streams);
    until("none is left", || world.outside.state().waiting == 0).await;
    assert_eq!(world.ask("GET", "/version").await.status, 200);
    until("all work has ended", || Arc::strong_count(&world.pod.outside) == 1).await;
}

#[tokio::test]
async fn a_silent_world_holds_json_up_for_less_than_30_s() {
    let world = world("").await;
    let alice = world.token("alice").await;
    world.outside.state().is_silent = true;
    let before = std::time::Instant::now();
    let answer = world.ask_as(&alice, "GET", "/v1/network/checks").await;
    assert_eq!((answer.status, answer.json().as_array().unwrap().len()), (200, 6));
    assert!(before.elapsed().as_secs() < 25);
    assert_eq!(world.outside.state().waiting, 0);
}

#[tokio::test]
async fn the_onboarding_remembers_that_dns_was_right_once() {
    let world =
        world("[api.network_checks]\nretry_interval = \"PT1S\"\ntimeout = \"PT1S\"\n").await;
    let (alice, bob) = (world.token("alice").await, world.token("bob").await);
    let steps = async |world: &World| world.ask_as(&bob, "GET", "/v1/onboarding-steps").await.body;
    let shown = |dns: bool| {
        format!("{{\"all_dns_checks_passed_once\":{dns},\"at_least_one_invitation_sent\":false}}")
    };
    assert_eq!(world.ask("GET", "/v1/onboarding-steps").await.error(), "unauthorized");
    // One is wrong, and others are right: in a list as in events.
    set_up(&world);
    world.outside.state().zone.remove(SERVICE);
    for path in ["/v1/network/checks", "/v1/network/checks/dns"] {
        assert_eq!(world.ask_as(&alice, "GET", path).await.status, 200);
        assert_eq!(
            statuses(&events(&world, &alice, path).await, "SRV-c2s").last().unwrap(),
            "INVALID"
        );
    }
    // None is wrong, but none was of DNS.
    world.outside.says(SERVICE, srv(5223, "other.example.org."));
    for path in ["/v1/network/checks/ip", "/v1/network/checks/ports"] {
        assert_eq!(world.ask_as(&alice, "GET", path).await.status, 200);
        events(&world, &alice, path).await;
    }
    assert_eq!(steps(&world).await, shown(false));
    // Not quite right isn't wrong; and what else fails is no matter.
    world.outside.state().zone.remove(SERVICE);
    world.outside.says(SERVICE, srv(5222, "other.example.org."));
    world.outside.state().open.clear();
    let answer = events(&world, &alice, "/v1/network/checks").await;
    assert_eq!(statuses(&answer, "SRV-c2s").last().unwrap(), "PARTIALLY_VALID");
    assert_eq!(steps(&world).await, shown(true));
    // From now on, whatever comes.
    world.outside.state().zone.clear();
    assert_eq!(world.ask_as(&alice, "GET", "/v1/network/checks").await.status, 200);
    assert_eq!(steps(&world).await, shown(true));
    let world = world.restart().await;
    world.in_step().await;
    assert_eq!(steps(&world).await, shown(true));
}

#[tokio::test]
async fn dns_that_is_right_already_is_seen_at_start() {
    for (is_right, path) in [(true, None), (false, Some("/v1/network/checks/dns"))] {
        let world = world("").await;
        if is_right {
            set_up(&world);
        }
        crate::onboarding::probe(&world.pod).await;
        assert_eq!(world.pod.onboarding().all_dns_checks_passed_once, is_right);
        if let Some(path) = path {
            set_up(&world);
            let alice = world.token("alice").await;
            assert_eq!(world.ask_as(&alice, "GET", path).await.status, 200);
            assert!(world.pod.onboarding().all_dns_checks_passed_once);
        }
    }
}

#[tokio::test]
async fn streams_are_bounded_and_one_that_ends_makes_room() {
    let world = world("").await;
    let (alice, bob) = (world.token("alice").await, world.token("bob").await);
    world.outside.state().is_silent = true;
    let mut streams = vec![];
    for _ in 0..8 {
        let mut stream = open(&world, &alice).await;
        let mut first = [0; 15];
        stream.read_exact(&mut first).await.unwrap();
        assert_eq!(&first, b"HTTP/1.1 200 OK");
        streams.push(stream);
    }
    let more = events(&world, &alice, "/v1/network/checks").await;
    assert_eq!((more.status, more.error().as_str()), (429, "too_many_requests"));
    assert_eq!(more.header("retry-after"), Some("5"));
    // Who wants no events, and who is another, needn't wait.
    assert_eq!(world.ask_as(&alice, "GET", "/v1/members").await.status, 200);
    assert_eq!(events(&world, &bob, "/v1/enrich-members?jids=").await.status, 200);
    assert_eq!(events(&world, "odd", "/v1/network/checks").await.status, 401);
    streams.pop();
    // It is seen to have gone a moment later.
    for _ in 0..1000 {
        let mut again = open(&world, &alice).await;
        let mut first = [0; 15];
        again.read_exact(&mut first).await.unwrap();
        if &first == b"HTTP/1.1 200 OK" {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    panic!("there is never room again");
}
