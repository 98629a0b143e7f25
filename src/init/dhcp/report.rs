//! What the child tells PID 1: one line of JSON for each change.

use std::fmt;
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

/// A change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Report {
    /// Won, or renewed.
    Lease(Lease),
    /// Withdrawn, or run out.
    Lost,
}

/// What a DHCP server has lent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lease {
    /// The interface's address.
    pub address: Ipv4Addr,
    /// Length of its network's prefix.
    pub prefix: u8,
    /// The way to everywhere else.
    pub router: Option<Ipv4Addr>,
    /// Name servers, the preferred first.
    pub dns: Vec<Ipv4Addr>,
    /// Time servers, the preferred first.
    pub time: Vec<Ipv4Addr>,
    /// For how long, from the moment it was asked for.
    pub seconds: u32,
}

/// A report that PID 1 won't act on.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    #[error("it isn't a report: {0}")]
    Malformed(#[from] serde_json::Error),
    #[error("{0} is no address of a host")]
    NotAHost(Ipv4Addr),
    #[error("a prefix of {0} bits")]
    Prefix(u8),
    #[error("{0} name or time servers")]
    TooManyServers(usize),
    #[error("a lease for {0} s")]
    TooShort(u32),
}

/// As many as resolvers look at; more time servers aren't needed either.
pub const MOST_SERVERS: usize = 3;
const SHORTEST: u32 = 10;

impl Report {
    /// The line that says it.
    pub fn to_line(&self) -> String {
        // Plain data: serialising it cannot fail.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Takes a line from the child, which may have been taken over by the network: nothing is
    /// applied that makes no sense.
    pub fn from_line(line: &str) -> Result<Report, Refused> {
        let report = serde_json::from_str(line)?;
        if let Report::Lease(lease) = &report {
            lease.check()?;
        }
        Ok(report)
    }
}

impl Lease {
    /// Does it make sense?
    pub fn check(&self) -> Result<(), Refused> {
        let servers = self.dns.len().max(self.time.len());
        let hosts = self.dns.iter().chain(&self.time).chain(&self.router).chain([&self.address]);
        match hosts.copied().find(|address| !is_host(*address)) {
            Some(address) => Err(Refused::NotAHost(address)),
            None if !(1..=32).contains(&self.prefix) => Err(Refused::Prefix(self.prefix)),
            None if servers > MOST_SERVERS => Err(Refused::TooManyServers(servers)),
            None if self.seconds < SHORTEST => Err(Refused::TooShort(self.seconds)),
            None => Ok(()),
        }
    }

    /// Is `address` in this lease's network?
    pub fn reaches(&self, address: Ipv4Addr) -> bool {
        let shift = 32u32.saturating_sub(self.prefix.into());
        let network = |address: Ipv4Addr| u64::from(address.to_bits()) >> shift;
        network(address) == network(self.address)
    }
}

impl fmt::Display for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)?;
        if let Some(router) = self.router {
            write!(f, " via {router}")?;
        }
        for server in &self.dns {
            write!(f, ", dns {server}")?;
        }
        for server in &self.time {
            write!(f, ", time {server}")?;
        }
        write!(f, ", for {} s", self.seconds)
    }
}

/// Could one machine in a network have this address?
pub fn is_host(address: Ipv4Addr) -> bool {
    let [first, ..] = address.octets();
    first != 0 && first != 127 && first < 224
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease() -> Lease {
        Lease {
            address: Ipv4Addr::new(10, 0, 2, 15),
            prefix: 24,
            router: Some(Ipv4Addr::new(10, 0, 2, 2)),
            dns: vec![Ipv4Addr::new(10, 0, 2, 3)],
            time: vec![Ipv4Addr::new(10, 0, 2, 4)],
            seconds: 86_400,
        }
    }

    #[test]
    fn a_report_crosses_as_one_line() {
        for (report, line) in [
            (Report::Lost, r#""lost""#),
            (
                Report::Lease(lease()),
                r#"{"lease":{"address":"10.0.2.15","prefix":24,"router":"10.0.2.2","dns":["10.0.2.3"],"time":["10.0.2.4"],"seconds":86400}}"#,
            ),
        ] {
            assert_eq!(report.to_line(), line);
            assert_eq!(Report::from_line(line).unwrap(), report);
        }
    }

    #[test]
    fn nonsense_is_refused() {
        type Spoil = fn(&mut Lease);
        let table: [(Spoil, &str); 7] = [
            (|l| l.address = Ipv4Addr::BROADCAST, "255.255.255.255 is no address of a host"),
            (|l| l.address = Ipv4Addr::LOCALHOST, "127.0.0.1 is no address of a host"),
            (|l| l.router = Some(Ipv4Addr::UNSPECIFIED), "0.0.0.0 is no address of a host"),
            (|l| l.dns = vec![Ipv4Addr::new(224, 0, 0, 1)], "224.0.0.1 is no address of a host"),
            (|l| l.prefix = 0, "a prefix of 0 bits"),
            (|l| l.dns = vec![Ipv4Addr::new(1, 1, 1, 1); 4], "4 name or time servers"),
            (|l| l.seconds = 1, "a lease for 1 s"),
        ];
        for (spoil, cause) in table {
            let mut lease = lease();
            spoil(&mut lease);
            let line = Report::Lease(lease).to_line();
            assert_eq!(Report::from_line(&line).unwrap_err().to_string(), cause);
        }
        for line in ["", "{}", "lost", r#"{"lease":{}}"#, r#"{"lost":1}"#] {
            assert!(Report::from_line(line).is_err(), "{line}");
        }
    }

    #[test]
    fn a_lease_reads_well() {
        let text = "10.0.2.15/24 via 10.0.2.2, dns 10.0.2.3, time 10.0.2.4, for 86400 s";
        assert_eq!(lease().to_string(), text);
    }

    #[test]
    fn a_lease_knows_its_network() {
        let mut lease = lease();
        let (near, far) = (Ipv4Addr::new(10, 0, 2, 200), Ipv4Addr::new(10, 0, 3, 1));
        assert!(lease.reaches(near) && !lease.reaches(far));
        lease.prefix = 32;
        assert!(lease.reaches(lease.address) && !lease.reaches(near));
    }
}
