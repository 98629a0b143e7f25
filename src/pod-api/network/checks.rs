//! What can be checked of the Pod from here, each thing by itself, and what comes out.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use utoipa::ToSchema;

use super::records::{CLIENT_PORT, Data, Kind, Record, Role, SERVER_PORT};
use super::{Outside, Setup};
use crate::sse::Events;

/// For one attempt at one check: an answer of all has to come within 30 s.
const ATTEMPT_WITHIN: Duration = Duration::from_secs(10);
/// The most addresses that are connected to.
const MOST_ADDRESSES: usize = 8;
const HTTPS_PORT: u16 = 443;
const DNS_EVENT: &str = "dns-record-check-result";

/// What is checked together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// The records.
    Dns,
    /// Connecting to ports.
    Ports,
    /// Having addresses.
    Ip,
}

/// One thing to check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    id: &'static str,
    description: String,
    test: Test,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Test {
    Records(Vec<Record>),
    Port(Door),
    Address(Door, Kind),
}

/// A way in: whoever comes looks at the service first, if there is one, for host and port.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Door {
    service: Option<String>,
    host: String,
    port: u16,
}

/// How a check is going, or has gone. Of those for records, the worse ones are greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[allow(missing_docs)] // the words say it
pub enum Status {
    Queued,
    Checking,
    Valid,
    /// There is such a record, but it says something else.
    PartiallyValid,
    Invalid,
    Open,
    Closed,
    Success,
    Failure,
}

/// A check, and how it is going.
#[derive(Debug, Serialize, ToSchema)]
pub struct Finding {
    id: &'static str,
    event: &'static str,
    data: About,
}

#[derive(Debug, Serialize, ToSchema)]
struct About {
    description: String,
    status: Status,
}

impl Status {
    /// May it be better the next time?
    fn is_failure(self) -> bool {
        matches!(self, Status::Invalid | Status::Closed | Status::Failure)
    }
}

impl Setup {
    /// All checks of a group.
    pub fn checks(&self, group: Group) -> Vec<Check> {
        match group {
            Group::Dns => self.dns_checks(),
            Group::Ports => self.port_checks(),
            Group::Ip => self.ip_checks(),
        }
    }

    /// One for all records of a role: the Dashboard knows no more than one.
    fn dns_checks(&self) -> Vec<Check> {
        let mut checks: Vec<Check> = vec![];
        for record in self.steps().into_iter().flat_map(|step| step.records) {
            let (id, description) = named(&record);
            match checks.iter_mut().find(|check| check.id == id) {
                Some(Check { test: Test::Records(records), .. }) => records.push(record),
                _ => checks.push(Check { id, description, test: Test::Records(vec![record]) }),
            }
        }
        checks
    }

    fn port_checks(&self) -> Vec<Check> {
        let check = |id, description: &str, door| {
            let description = description.to_owned();
            Check { id, description, test: Test::Port(door) }
        };
        let mut checks =
            vec![check("TCP-c2s", "Client-to-server port at TCP 5222", self.clients())];
        if self.is_federated {
            let servers = self.servers();
            checks.push(check("TCP-s2s", "Server-to-server port at TCP 5269", servers));
        }
        let https = Door { service: None, host: self.host(), port: HTTPS_PORT };
        checks.push(check("TCP-HTTPS", "HTTP server port at TCP 443", https));
        checks
    }

    fn ip_checks(&self) -> Vec<Check> {
        let check = |id, from: &str, door: &Door, kind| {
            let version = if kind == Kind::A { "IPv4" } else { "IPv6" };
            let description = format!("{from}-to-server connectivity over {version}");
            Check { id, description, test: Test::Address(door.clone(), kind) }
        };
        let clients = self.clients();
        let mut checks = vec![
            check("IPv4-c2s", "Client", &clients, Kind::A),
            check("IPv6-c2s", "Client", &clients, Kind::Aaaa),
        ];
        if self.is_federated {
            let servers = self.servers();
            checks.push(check("IPv4-s2s", "Server", &servers, Kind::A));
            checks.push(check("IPv6-s2s", "Server", &servers, Kind::Aaaa));
        }
        checks
    }

    fn clients(&self) -> Door {
        Door { service: Some(self.client_service()), host: self.host(), port: CLIENT_PORT }
    }

    fn servers(&self) -> Door {
        Door { service: Some(self.server_service()), host: self.host(), port: SERVER_PORT }
    }
}

/// By what the Dashboard knows the check of a record.
fn named(record: &Record) -> (&'static str, String) {
    let (id, description) = match record.role {
        Role::Ipv4 => return ("IPv4", format!("IPv4 record for {}", record.hostname)),
        Role::Ipv6 => return ("IPv6", format!("IPv6 record for {}", record.hostname)),
        Role::Clients => ("SRV-c2s", "SRV record for client-to-server connections"),
        Role::Servers => ("SRV-s2s", "SRV record for server-to-server connections"),
        Role::WebApp => ("CNAME-web-app", "CNAME record for Prose’s Web app"),
        Role::Dashboard => ("CNAME-dashboard", "CNAME record for Prose’s Dashboard"),
    };
    (id, description.to_owned())
}

impl Check {
    /// Each of them once, at the same time; in their order.
    pub async fn all_once(checks: Vec<Check>, outside: &Arc<Outside>) -> Vec<Finding> {
        let mut running = JoinSet::new();
        for (place, check) in checks.into_iter().enumerate() {
            let outside = outside.clone();
            running.spawn(async move {
                let status = check.attempt(&outside).await;
                (place, check.finding(status))
            });
        }
        let mut findings = running.join_all().await;
        findings.sort_by_key(|(place, _)| *place);
        findings.into_iter().map(|(_, finding)| finding).collect()
    }

    /// Were there any of DNS, and did none of them fail?
    pub fn has_dns_passed(findings: &[Finding]) -> bool {
        let mut dns = findings.iter().filter(|it| it.event == DNS_EVENT).peekable();
        dns.peek().is_some() && !dns.any(|it| it.data.status.is_failure())
    }

    /// All of them until none fails any more, or for so long; `interval` is before the next attempt.
    /// When none of DNS does, `dns_passed` comes.
    pub async fn all_until_good(
        checks: Vec<Check>,
        outside: &Arc<Outside>,
        interval: Duration,
        limit: Duration,
        events: Events,
        dns_passed: impl Future<Output = ()>,
    ) {
        let (mut dns, mut others) = (JoinSet::new(), JoinSet::new());
        for check in checks {
            let (outside, events) = (outside.clone(), events.clone());
            let is_dns = matches!(check.test, Test::Records(_));
            let running = if is_dns { &mut dns } else { &mut others };
            running.spawn(async move { check.until_good(&outside, interval, &events).await });
        }
        let dns = async {
            if !dns.is_empty() {
                dns.join_all().await;
                dns_passed.await;
            }
        };
        // What still runs then ends with its set.
        let _ = timeout(limit, async { tokio::join!(dns, others.join_all()) }).await;
    }

    async fn until_good(&self, outside: &Outside, interval: Duration, events: &Events) {
        self.tell(Status::Queued, events).await;
        loop {
            self.tell(Status::Checking, events).await;
            let status = self.attempt(outside).await;
            self.tell(status, events).await;
            if !status.is_failure() {
                return;
            }
            sleep(interval).await;
        }
    }

    async fn tell(&self, status: Status, events: &Events) {
        let Finding { id, event, data } = self.finding(status);
        events.send(event, id, &data).await;
    }

    fn finding(&self, status: Status) -> Finding {
        let event = match self.test {
            Test::Records(_) => DNS_EVENT,
            Test::Port(_) => "port-reachability-check-result",
            Test::Address(..) => "ip-connectivity-check-result",
        };
        Finding {
            id: self.id,
            event,
            data: About { description: self.description.clone(), status },
        }
    }

    /// Once. Too long, or too many at a time, is a failure.
    async fn attempt(&self, outside: &Outside) -> Status {
        let attempt = async {
            let _place = outside.attempts.acquire().await;
            match &self.test {
                Test::Records(records) => worst(records, outside).await,
                Test::Port(door) if door.is_open(outside).await => Status::Open,
                Test::Port(_) => Status::Closed,
                Test::Address(door, kind) if door.has_address(outside, *kind).await => {
                    Status::Success
                }
                Test::Address(..) => Status::Failure,
            }
        };
        timeout(ATTEMPT_WITHIN, attempt).await.unwrap_or(match self.test {
            Test::Records(_) => Status::Invalid,
            Test::Port(_) => Status::Closed,
            Test::Address(..) => Status::Failure,
        })
    }
}

async fn worst(records: &[Record], outside: &Outside) -> Status {
    let mut worst = Status::Valid;
    for record in records {
        let found = outside.dns.look_up(&record.hostname, record.data.kind()).await;
        worst = worst.max(compare(&record.data, &found));
    }
    worst
}

fn compare(expected: &Data, found: &[Data]) -> Status {
    let is_alike = |it: &Data| match (it, expected) {
        (Data::Srv { port, .. }, Data::Srv { port: expected, .. }) => port == expected,
        _ => it.kind() == expected.kind(),
    };
    if found.contains(expected) {
        Status::Valid
    } else if found.iter().any(is_alike) {
        Status::PartiallyValid
    } else {
        Status::Invalid
    }
}

impl Door {
    /// Host and port of all that it may lead to, the service's first.
    async fn targets(&self, outside: &Outside) -> Vec<(String, u16)> {
        let mut targets = vec![];
        if let Some(service) = &self.service {
            for data in outside.dns.look_up(service, Kind::Srv).await {
                // A dot alone says that there is no such service.
                if let Data::Srv { target, port, .. } = data
                    && target != "."
                {
                    targets.push((target, port));
                }
            }
        }
        let plain = (self.host.clone(), self.port);
        if !targets.contains(&plain) {
            targets.push(plain);
        }
        targets
    }

    async fn has_address(&self, outside: &Outside, kind: Kind) -> bool {
        for (host, _) in self.targets(outside).await {
            if !outside.dns.look_up(&host, kind).await.is_empty() {
                return true;
            }
        }
        false
    }

    /// One after the other: mostly the first is.
    async fn is_open(&self, outside: &Outside) -> bool {
        let mut tried: HashSet<SocketAddr> = HashSet::new();
        for (host, port) in self.targets(outside).await {
            for kind in [Kind::A, Kind::Aaaa] {
                let found = outside.dns.look_up(&host, kind).await;
                for ip in found.iter().filter_map(address) {
                    let at = SocketAddr::new(ip, port);
                    let is_new = tried.len() < MOST_ADDRESSES && tried.insert(at);
                    if is_new && outside.ports.is_open(at).await {
                        return true;
                    }
                }
            }
        }
        false
    }
}

fn address(data: &Data) -> Option<IpAddr> {
    match data {
        Data::A { value } => Some((*value).into()),
        Data::Aaaa { value } => Some((*value).into()),
        Data::Cname { .. } | Data::Srv { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::network::Address;

    #[test]
    fn which_checks_there_are_follows_from_the_configuration() {
        let ids = |ipv4: Option<&str>, domain: Option<&str>, is_federated| {
            let address = Address {
                domain: domain.map(|it| it.parse().unwrap()),
                ipv4: ipv4.map(|it| it.parse().unwrap()),
                ipv6: None,
            };
            let setup = Setup { domain: "example.org".parse().unwrap(), address, is_federated };
            let checks = [Group::Dns, Group::Ports, Group::Ip].map(|group| setup.checks(group));
            let ids: Vec<&str> = checks.iter().flatten().map(|check| check.id).collect();
            ids.join(" ")
        };
        let rest = "TCP-c2s TCP-HTTPS IPv4-c2s IPv6-c2s";
        let with_servers = "SRV-s2s TCP-c2s TCP-s2s TCP-HTTPS IPv4-c2s IPv6-c2s IPv4-s2s IPv6-s2s";
        for (ipv4, domain, is_federated, expected) in [
            (None, None, false, format!("SRV-c2s CNAME-dashboard {rest}")),
            (Some("192.0.2.1"), None, false, format!("IPv4 SRV-c2s CNAME-dashboard {rest}")),
            (None, None, true, format!("SRV-c2s CNAME-dashboard {with_servers}")),
            (
                Some("192.0.2.1"),
                Some("chat.acme.net"),
                true,
                format!("SRV-c2s CNAME-web-app CNAME-dashboard {with_servers}"),
            ),
        ] {
            assert_eq!(ids(ipv4, domain, is_federated), expected);
        }
    }

    #[test]
    fn a_record_is_right_or_nearly_or_not() {
        let srv = |priority, port, target: &str| Data::Srv {
            priority,
            weight: 5,
            port,
            target: target.into(),
        };
        let a = |ip: &str| Data::A { value: ip.parse().unwrap() };
        let cname = |target: &str| Data::Cname { target: target.into() };
        let expected = srv(0, 5222, "a.");
        for (expected, found, status) in [
            (&expected, vec![srv(9, 1, "b."), srv(0, 5222, "a.")], Status::Valid),
            (&expected, vec![srv(0, 5222, "b.")], Status::PartiallyValid),
            (&expected, vec![srv(1, 5222, "a.")], Status::PartiallyValid),
            (&expected, vec![srv(0, 5223, "a.")], Status::Invalid),
            (&expected, vec![], Status::Invalid),
            (&a("192.0.2.1"), vec![a("192.0.2.1")], Status::Valid),
            (&a("192.0.2.1"), vec![a("192.0.2.2")], Status::PartiallyValid),
            (&cname("a."), vec![cname("b.")], Status::PartiallyValid),
        ] {
            assert_eq!(compare(expected, &found), status, "{expected} {found:?}");
        }
    }
}
