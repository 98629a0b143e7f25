//! A DNS server on loopback, which is resolver and authority in one: whoever asks it to ask others
//! gets what it remembers.

use std::sync::{Arc, Mutex};

use hickory_net::proto::op::{Message, MessageType, OpCode};
use hickory_net::proto::rr::rdata::{A, AAAA, CNAME, NS, SRV};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, UdpSocket};

use super::*;

struct FakeDns {
    port: u16,
    zone: Arc<Mutex<Zone>>,
}

#[derive(Default)]
struct Zone {
    remembered: Vec<Record>,
    fresh: Vec<Record>,
    /// What was asked, and whom it was taken for.
    asked: Vec<String>,
    /// Answers by UDP are cut short.
    is_long: bool,
    /// As an authority it is refused, or not there.
    is_refusing: bool,
}

fn name(text: &str) -> Name {
    Name::from_ascii(text).unwrap()
}

fn record(of: &str, data: RData) -> Record {
    Record::from_rdata(name(of), 60, data)
}

fn a(of: &str, last: u8) -> Record {
    record(of, RData::A(A::new(127, 0, 0, last)))
}

fn cname(of: &str, target: &str) -> Record {
    record(of, RData::CNAME(CNAME(name(target))))
}

/// One port for both. Another test may hold the TCP port of a free UDP port.
async fn sockets() -> (UdpSocket, TcpListener) {
    for _ in 0..100 {
        let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()).await {
            return (udp, tcp);
        }
    }
    panic!("cannot find a port that is free for both UDP and TCP");
}

impl FakeDns {
    async fn start(remembered: Vec<Record>, fresh: Vec<Record>) -> FakeDns {
        let (udp, tcp) = sockets().await;
        let port = udp.local_addr().unwrap().port();
        let zone = Arc::new(Mutex::new(Zone { remembered, fresh, ..Zone::default() }));
        let of_udp = zone.clone();
        tokio::spawn(async move {
            let mut packet = [0; 1500];
            while let Ok((length, from)) = udp.recv_from(&mut packet).await {
                let answer = of_udp.lock().unwrap().answer(&packet[..length], false);
                let _ = udp.send_to(&answer, from).await;
            }
        });
        let of_tcp = zone.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = tcp.accept().await {
                let length = stream.read_u16().await.unwrap();
                let mut packet = vec![0; length.into()];
                stream.read_exact(&mut packet).await.unwrap();
                let answer = of_tcp.lock().unwrap().answer(&packet, true);
                stream.write_u16(answer.len() as u16).await.unwrap();
                stream.write_all(&answer).await.unwrap();
            }
        });
        FakeDns { port, zone }
    }

    /// Somebody whose network names it as the resolver.
    fn asker(&self, folder: &tempfile::TempDir, remembered_for: Duration) -> Authorities {
        let file = folder.path().join("resolv.conf");
        fs::write(&file, "options timeout:2\nnameserver 127.0.0.1\n").unwrap();
        Authorities::at(file, self.port, Duration::from_millis(300), remembered_for)
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.zone.lock().unwrap().asked)
    }
}

impl Zone {
    fn answer(&mut self, packet: &[u8], is_tcp: bool) -> Vec<u8> {
        let asked = Message::from_vec(packet).unwrap();
        let query = asked.queries[0].clone();
        let is_resolver = asked.metadata.recursion_desired;
        let whom = if is_resolver { "resolver" } else { "authority" };
        self.asked.push(format!("{whom} {} {}", query.name(), query.query_type()));
        let mut answer = Message::new(asked.metadata.id, MessageType::Response, OpCode::Query);
        answer.metadata.recursion_desired = is_resolver;
        answer.metadata.authoritative = !is_resolver;
        answer.metadata.truncation = self.is_long && !is_tcp;
        let records = if is_resolver { &self.remembered } else { &self.fresh };
        let is_it = |it: &&Record| {
            let kinds = [query.query_type(), RecordType::CNAME];
            it.name == *query.name() && kinds.contains(&it.record_type())
        };
        let mut found: Vec<Record> = records.iter().filter(is_it).cloned().collect();
        if self.is_refusing && !is_resolver {
            answer.metadata.response_code = ResponseCode::Refused;
        } else if !answer.metadata.truncation {
            answer.answers.append(&mut found);
        }
        answer.add_query(query);
        answer.to_vec().unwrap()
    }
}

/// A zone whose only server is this one.
fn delegation() -> Vec<Record> {
    vec![
        record("example.org.", RData::NS(NS(name("ns.example.net.")))),
        a("ns.example.net.", 1),
        a("prose.example.org.", 66),
    ]
}

#[tokio::test]
async fn the_authority_is_asked_not_who_remembers() {
    let folder = tempfile::tempdir().unwrap();
    let service = "_xmpp-client._tcp.example.org.";
    let srv = SRV::new(0, 5, 5222, name("Prose.Example.org."));
    let fresh = vec![
        a("prose.example.org.", 7),
        a("prose.example.org.", 8),
        record("prose.example.org.", RData::AAAA(AAAA("2001:db8::7".parse().unwrap()))),
        record(service, RData::SRV(srv)),
        cname("admin.prose.example.org.", "prose.example.org."),
    ];
    let fake = FakeDns::start(delegation(), fresh).await;
    let dns = fake.asker(&folder, Duration::from_secs(60));
    let a = |last| Data::A { value: [127, 0, 0, last].into() };
    let target = || "prose.example.org.".to_owned();
    for (name, kind, expected) in [
        ("prose.example.org.", Kind::A, vec![a(7), a(8)]),
        ("Prose.Example.Org.", Kind::A, vec![a(7), a(8)]),
        (
            "prose.example.org.",
            Kind::Aaaa,
            vec![Data::Aaaa { value: "2001:db8::7".parse().unwrap() }],
        ),
        (
            service,
            Kind::Srv,
            vec![Data::Srv { priority: 0, weight: 5, port: 5222, target: target() }],
        ),
        ("admin.prose.example.org.", Kind::Cname, vec![Data::Cname { target: target() }]),
        ("admin.prose.example.org.", Kind::A, vec![a(7), a(8)]),
        ("prose.example.org.", Kind::Cname, vec![]),
        ("nothing.example.org.", Kind::A, vec![]),
        ("not a name..", Kind::A, vec![]),
    ] {
        assert_eq!(dns.look_up(name, kind).await, expected, "{name} {kind:?}");
    }
}

#[tokio::test]
async fn who_answers_for_a_name_is_remembered_for_a_while() {
    let folder = tempfile::tempdir().unwrap();
    let fake = FakeDns::start(delegation(), vec![a("prose.example.org.", 7)]).await;
    let walk = [
        "resolver prose.example.org. NS",
        "resolver example.org. NS",
        "resolver ns.example.net. A",
        "resolver ns.example.net. AAAA",
    ];
    let ask = "authority prose.example.org. A";
    for (remembered_for, again) in [(60, vec![ask]), (0, [&walk[..], &[ask]].concat())] {
        let dns = fake.asker(&folder, Duration::from_secs(remembered_for));
        dns.look_up("prose.example.org.", Kind::A).await;
        assert_eq!(fake.asked(), [&walk[..], &[ask]].concat());
        dns.look_up("prose.example.org.", Kind::A).await;
        assert_eq!(fake.asked(), again);
    }
}

#[tokio::test]
async fn a_long_answer_comes_by_tcp() {
    let folder = tempfile::tempdir().unwrap();
    let fake = FakeDns::start(delegation(), vec![a("prose.example.org.", 7)]).await;
    fake.zone.lock().unwrap().is_long = true;
    let dns = fake.asker(&folder, Duration::from_secs(60));
    let found = dns.look_up("prose.example.org.", Kind::A).await;
    assert_eq!(found, [Data::A { value: [127, 0, 0, 7].into() }]);
}

#[tokio::test]
async fn where_no_authority_answers_a_resolver_does() {
    let folder = tempfile::tempdir().unwrap();
    let fake = FakeDns::start(delegation(), vec![a("prose.example.org.", 7)]).await;
    fake.zone.lock().unwrap().is_refusing = true;
    let dns = fake.asker(&folder, Duration::from_secs(60));
    let found = dns.look_up("prose.example.org.", Kind::A).await;
    assert_eq!(found, [Data::A { value: [127, 0, 0, 66].into() }]);
}

#[tokio::test]
async fn a_server_that_is_not_there_holds_nobody_up() {
    let folder = tempfile::tempdir().unwrap();
    let mut remembered = delegation();
    // Nobody listens at these, or ever answers.
    remembered
        .splice(1..2, [a("ns.example.net.", 2), a("ns.example.net.", 3), a("ns.example.net.", 1)]);
    let fake = FakeDns::start(remembered, vec![a("prose.example.org.", 7)]).await;
    let _silent = UdpSocket::bind(("127.0.0.3", fake.port)).await.unwrap();
    let dns = fake.asker(&folder, Duration::from_secs(60));
    let before = Instant::now();
    let found = dns.look_up("prose.example.org.", Kind::A).await;
    assert_eq!(found, [Data::A { value: [127, 0, 0, 7].into() }]);
    assert!(before.elapsed() < dns.patience, "{:?}", before.elapsed());
}

#[tokio::test]
async fn aliases_go_round_only_so_often() {
    let folder = tempfile::tempdir().unwrap();
    let fresh =
        vec![cname("a.example.org.", "b.example.org."), cname("b.example.org.", "a.example.org.")];
    let fake = FakeDns::start(delegation(), fresh).await;
    let dns = fake.asker(&folder, Duration::from_secs(60));
    assert_eq!(dns.look_up("a.example.org.", Kind::A).await, []);
}

#[tokio::test]
async fn where_nobody_is_there_it_soon_gives_up() {
    let folder = tempfile::tempdir().unwrap();
    let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let fake = FakeDns { port: silent.local_addr().unwrap().port(), zone: Arc::default() };
    let dns = fake.asker(&folder, Duration::from_secs(60));
    let before = Instant::now();
    assert_eq!(dns.look_up("_xmpp-client._tcp.example.org.", Kind::Srv).await, []);
    assert!(before.elapsed() < Duration::from_secs(3), "{:?}", before.elapsed());
    fs::remove_file(folder.path().join("resolv.conf")).unwrap();
    assert_eq!(dns.look_up("prose.example.org.", Kind::A).await, []);
}
