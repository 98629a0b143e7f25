//! DNS, asked of the servers that are the authority for a name: others may remember what it was an
//! hour ago.
//!
//! ```text
//! name ── resolvers: whose zone? ──► its servers (remembered) ── the question ──► records
//!                                        └─ none answers: the resolvers are asked it
//! ```

use std::collections::HashMap;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use hickory_net::proto::op::{DnsRequestOptions, Query, ResponseCode};
use hickory_net::proto::rr::{Name, RData, Record, RecordType};
use hickory_net::runtime::TokioRuntimeProvider;
use hickory_net::tcp::TcpClientStream;
use hickory_net::udp::UdpClientStream;
use hickory_net::xfer::FirstAnswer as _;
use hickory_net::{DnsHandle, NetError};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::Answer;
use super::records::{Data, Kind};

/// Where every DNS server listens.
const PORT: u16 = 53;
const RESOLV_CONF: &str = "/etc/resolv.conf";
/// The most servers that are asked the same.
const MOST_SERVERS: usize = 4;
/// The most aliases from name to name.
const MOST_ALIASES: usize = 8;
/// The most names of which is remembered who answers for them.
const MOST_KNOWN: usize = 64;

/// What the world is told of names.
pub trait Dns: Send + Sync {
    /// All that a name says of a kind, at the end of its aliases. Nothing, if nobody answers.
    fn look_up<'a>(&'a self, name: &'a str, kind: Kind) -> Answer<'a, Vec<Data>>;
}

/// Asks the authorities.
#[derive(Debug)]
pub struct Authorities {
    resolv_conf: PathBuf,
    port: u16,
    patience: Duration,
    remembered_for: Duration,
    known: Mutex<HashMap<Name, (Instant, Vec<SocketAddr>)>>,
}

/// Who is asked decides whether they may ask others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whom {
    Resolver,
    Authority,
}

impl Authorities {
    /// `patience` is for one server to answer in.
    pub fn new(patience: Duration, remembered_for: Duration) -> Authorities {
        Authorities::at(RESOLV_CONF.into(), PORT, patience, remembered_for)
    }

    fn at(
        resolv_conf: PathBuf,
        port: u16,
        patience: Duration,
        remembered_for: Duration,
    ) -> Authorities {
        Authorities { resolv_conf, port, patience, remembered_for, known: Mutex::default() }
    }

    async fn find(&self, name: &str, kind: Kind) -> Option<Vec<Data>> {
        let mut name = Name::from_ascii(name).ok()?.to_lowercase();
        for _ in 0..MOST_ALIASES {
            let records = self.ask_authority(&name, record_type(kind)).await?;
            let end = end_of_aliases(&name, &records, kind);
            let found = data(&end, &records, kind);
            if !found.is_empty() || end == name {
                return Some(found);
            }
            name = end;
        }
        None
    }

    async fn ask_authority(&self, name: &Name, wanted: RecordType) -> Option<Vec<Record>> {
        let servers = self.servers_of(name).await;
        match self.ask_any(&servers, name, wanted, Whom::Authority).await {
            Some(records) => Some(records),
            // None that can be reached from here; a resolver may be elsewhere.
            None => self.ask_any(&self.resolvers(), name, wanted, Whom::Resolver).await,
        }
    }

    /// The servers of the zone that a name is in.
    async fn servers_of(&self, name: &Name) -> Vec<SocketAddr> {
        if let Some((when, servers)) = self.remembered().get(name)
            && when.elapsed() < self.remembered_for
        {
            return servers.clone();
        }
        let servers = self.find_servers(name).await.unwrap_or_default();
        if !servers.is_empty() {
            let mut known = self.remembered();
            if known.len() >= MOST_KNOWN {
                known.clear();
            }
            known.insert(name.clone(), (Instant::now(), servers.clone()));
        }
        servers
    }

    /// Nobody answers: then asking on for longer names doesn't help either.
    async fn find_servers(&self, name: &Name) -> Option<Vec<SocketAddr>> {
        let resolvers = self.resolvers();
        let mut zone = name.clone();
        while !zone.is_root() {
            let found = self.ask_any(&resolvers, &zone, RecordType::NS, Whom::Resolver).await?;
            let mut servers = vec![];
            for record in found.into_iter().filter(|record| record.name.to_lowercase() == zone) {
                if let RData::NS(server) = record.data {
                    servers.extend(self.addresses_of(&resolvers, &server.0).await);
                }
                if servers.len() >= MOST_SERVERS {
                    break;
                }
            }
            if !servers.is_empty() {
                return Some(servers);
            }
            zone = zone.base_name();
        }
        None
    }

    async fn addresses_of(&self, resolvers: &[SocketAddr], server: &Name) -> Vec<SocketAddr> {
        let mut addresses = vec![];
        for wanted in [RecordType::A, RecordType::AAAA] {
            let found = self.ask_any(resolvers, server, wanted, Whom::Resolver).await;
            let ips = found.into_iter().flatten().filter_map(|record| match record.data {
                RData::A(a) => Some(IpAddr::from(a.0)),
                RData::AAAA(aaaa) => Some(IpAddr::from(aaaa.0)),
                _ => None,
            });
            addresses.extend(ips.map(|ip| SocketAddr::new(ip, self.port)));
        }
        addresses
    }

    /// Those that the network named, as of now: they change with it.
    fn resolvers(&self) -> Vec<SocketAddr> {
        let text = fs::read(&self.resolv_conf).unwrap_or_default();
        let (config, _) = resolv_conf::Config::parse_with_errors(&text);
        let ips = config.nameservers.into_iter().map(IpAddr::from);
        ips.map(|ip| SocketAddr::new(ip, self.port)).collect()
    }

    /// The first answer of any of them, asked at the same time: one that isn't there holds nobody
    /// up. Nothing is in it if there is no such name.
    async fn ask_any(
        &self,
        servers: &[SocketAddr],
        name: &Name,
        wanted: RecordType,
        whom: Whom,
    ) -> Option<Vec<Record>> {
        let mut asked = JoinSet::new();
        for server in servers.iter().take(MOST_SERVERS).copied() {
            let (query, patience) = (Query::query(name.clone(), wanted), self.patience);
            asked.spawn(async move { timeout(patience, ask(server, query, whom, patience)).await });
        }
        while let Some(answer) = asked.join_next().await {
            if let Ok(Ok(Ok(Some(records)))) = answer {
                return Some(records);
            }
        }
        None
    }

    fn remembered(&self) -> std::sync::MutexGuard<'_, HashMap<Name, (Instant, Vec<SocketAddr>)>> {
        // Nothing that holds it is left half done by a panic.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Dns for Authorities {
    fn look_up<'a>(&'a self, name: &'a str, kind: Kind) -> Answer<'a, Vec<Data>> {
        Box::pin(async move { self.find(name, kind).await.unwrap_or_default() })
    }
}

/// An answer of one server, if it is one that counts.
async fn ask(
    server: SocketAddr,
    query: Query,
    whom: Whom,
    patience: Duration,
) -> Result<Option<Vec<Record>>, NetError> {
    let mut options = DnsRequestOptions::default();
    options.recursion_desired = whom == Whom::Resolver;
    let runtime = TokioRuntimeProvider::new();
    let udp = UdpClientStream::builder(server, runtime.clone());
    let udp = udp.with_timeout(Some(patience)).exchange();
    let mut answer = udp.lookup(query.clone(), options).first_answer().await?;
    if answer.metadata.truncation {
        let tcp = TcpClientStream::exchange(server, None, patience, None, runtime).await?;
        answer = tcp.lookup(query, options).first_answer().await?;
    }
    let is_answer = match answer.metadata.response_code {
        ResponseCode::NoError => whom == Whom::Resolver || answer.metadata.authoritative,
        code => code == ResponseCode::NXDomain,
    };
    Ok(is_answer.then(|| answer.answers.clone()))
}

/// Where the aliases in an answer lead to; who asks for an alias isn't led away from it.
fn end_of_aliases(name: &Name, records: &[Record], kind: Kind) -> Name {
    let mut end = name.clone();
    for _ in records.iter().filter(|_| kind != Kind::Cname) {
        let next = records.iter().find_map(|record| match &record.data {
            RData::CNAME(target) if record.name.to_lowercase() == end => Some(&target.0),
            _ => None,
        });
        match next {
            Some(next) => end = next.to_lowercase(),
            None => break,
        }
    }
    end
}

fn data(name: &Name, records: &[Record], kind: Kind) -> Vec<Data> {
    let of_name = records.iter().filter(|record| record.name.to_lowercase() == *name);
    of_name.filter_map(|record| read(&record.data)).filter(|it| it.kind() == kind).collect()
}

fn read(data: &RData) -> Option<Data> {
    let text = |name: &Name| {
        let mut name = name.to_lowercase();
        name.set_fqdn(true);
        name.to_ascii()
    };
    match data {
        RData::A(it) => Some(Data::A { value: it.0 }),
        RData::AAAA(it) => Some(Data::Aaaa { value: it.0 }),
        RData::CNAME(it) => Some(Data::Cname { target: text(&it.0) }),
        RData::SRV(it) => Some(Data::Srv {
            priority: it.priority,
            weight: it.weight,
            port: it.port,
            target: text(&it.target),
        }),
        _ => None,
    }
}

fn record_type(kind: Kind) -> RecordType {
    match kind {
        Kind::A => RecordType::A,
        Kind::Aaaa => RecordType::AAAA,
        Kind::Cname => RecordType::CNAME,
        Kind::Srv => RecordType::SRV,
    }
}

#[cfg(test)]
mod tests;
