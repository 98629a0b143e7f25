//! The records that the domain's owner must make, step by step: a function of the configuration,
//! nothing else.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use serde::Serialize;
use utoipa::ToSchema;

use super::Setup;

/// How long an address may be kept by others, in seconds: it may change.
const ADDRESS_TTL: u32 = 600;
/// And a service.
const SERVICE_TTL: u32 = 3600;
/// Where clients come in.
pub const CLIENT_PORT: u16 = 5222;
/// Where other servers do.
pub const SERVER_PORT: u16 = 5269;

/// Some records, and what they are for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Step {
    /// Ends a sentence that begins with "to".
    pub purpose: &'static str,
    /// All of a kind, or addresses of either.
    pub records: Vec<Record>,
}

/// One record, as it stands in a zone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Record {
    /// Which check looks for it.
    #[serde(skip)]
    pub role: Role,
    /// Absolute, with its dot.
    pub hostname: String,
    ttl: u32,
    /// What it says.
    #[serde(flatten)]
    pub data: Data,
    string_repr: String,
}

/// What a record is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Says where the Pod is.
    Ipv4,
    /// As well.
    Ipv6,
    /// Leads clients to it.
    Clients,
    /// Leads other servers to it.
    Servers,
    /// Leads browsers to the app.
    WebApp,
    /// Leads browsers to the Dashboard.
    Dashboard,
}

/// What a record says. Names are absolute, with a dot.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, ToSchema)]
#[serde(tag = "type", rename_all = "UPPERCASE")]
#[allow(missing_docs)] // the words of DNS
pub enum Data {
    A {
        #[schema(value_type = String)]
        value: Ipv4Addr,
    },
    Aaaa {
        #[schema(value_type = String)]
        value: Ipv6Addr,
    },
    Cname {
        target: String,
    },
    Srv {
        priority: u16,
        weight: u16,
        port: u16,
        target: String,
    },
}

/// A kind of [`Data`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // the words of DNS
pub enum Kind {
    A,
    Aaaa,
    Cname,
    Srv,
}

impl Data {
    /// Its kind.
    pub fn kind(&self) -> Kind {
        match self {
            Data::A { .. } => Kind::A,
            Data::Aaaa { .. } => Kind::Aaaa,
            Data::Cname { .. } => Kind::Cname,
            Data::Srv { .. } => Kind::Srv,
        }
    }
}

/// As in a zone file, with its type.
impl fmt::Display for Data {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Data::A { value } => write!(f, "A {value}"),
            Data::Aaaa { value } => write!(f, "AAAA {value}"),
            Data::Cname { target } => write!(f, "CNAME {target}"),
            Data::Srv { priority, weight, port, target } => {
                write!(f, "SRV {priority} {weight} {port} {target}")
            }
        }
    }
}

impl Record {
    fn new(role: Role, hostname: String, ttl: u32, data: Data) -> Record {
        let string_repr = format!("{hostname} {ttl} IN {data}");
        Record { role, hostname, ttl, data, string_repr }
    }
}

impl Setup {
    /// What the world calls the Pod; with its dot, as all names here.
    pub fn host(&self) -> String {
        format!("{}.", self.address.host(&self.domain))
    }

    /// A name below the Server's domain.
    fn name(&self, labels: &str) -> String {
        format!("{}.", self.domain.below(labels))
    }

    /// Where DNS says who serves the Server's clients.
    pub fn client_service(&self) -> String {
        self.name("_xmpp-client._tcp")
    }

    /// And other servers.
    pub fn server_service(&self) -> String {
        self.name("_xmpp-server._tcp")
    }

    /// What there is to do, in this order.
    pub fn steps(&self) -> Vec<Step> {
        let client = self.service(Role::Clients, self.client_service(), CLIENT_PORT);
        let mut steps = vec![
            Step { purpose: "specify your server IP address", records: self.addresses() },
            Step { purpose: "let users connect to your server", records: vec![client] },
            Step {
                purpose: "let users connect to the Prose Web app and Dashboard",
                records: self.aliases(),
            },
        ];
        if self.is_federated {
            let names = [self.server_service(), self.name("_xmpp-server._tcp.groups")];
            let records = names.map(|name| self.service(Role::Servers, name, SERVER_PORT)).into();
            steps.push(Step { purpose: "let other servers connect to your server", records });
        }
        steps.retain(|step| !step.records.is_empty());
        steps
    }

    /// None where the Pod has a name of its own: whoever gave it takes care of it.
    fn addresses(&self) -> Vec<Record> {
        let record = |role, data| Record::new(role, self.host(), ADDRESS_TTL, data);
        if self.address.domain.is_some() {
            return vec![];
        }
        let ipv4 = self.address.ipv4.map(|value| record(Role::Ipv4, Data::A { value }));
        let ipv6 = self.address.ipv6.map(|value| record(Role::Ipv6, Data::Aaaa { value }));
        ipv4.into_iter().chain(ipv6).collect()
    }

    fn service(&self, role: Role, name: String, port: u16) -> Record {
        let data = Data::Srv { priority: 0, weight: 5, port, target: self.host() };
        Record::new(role, name, SERVICE_TTL, data)
    }

    fn aliases(&self) -> Vec<Record> {
        let names = [(Role::WebApp, "prose"), (Role::Dashboard, "admin.prose")];
        let names = names.map(|(role, labels)| (role, self.name(labels)));
        // Nothing is an alias of itself.
        let others = names.into_iter().filter(|(_, name)| *name != self.host());
        let alias = |(role, name)| {
            Record::new(role, name, ADDRESS_TTL, Data::Cname { target: self.host() })
        };
        others.map(alias).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::network::Address;
    use serde_json::json;

    fn setup(domain: Option<&str>, v4: Option<&str>, v6: Option<&str>, fed: bool) -> Setup {
        Setup {
            domain: "example.org".parse().unwrap(),
            address: Address {
                domain: domain.map(|it| it.parse().unwrap()),
                ipv4: v4.map(|it| it.parse().unwrap()),
                ipv6: v6.map(|it| it.parse().unwrap()),
            },
            is_federated: fed,
        }
    }

    #[test]
    fn records_follow_from_the_configuration() {
        const V4: &str = "prose.example.org. 600 IN A 203.0.113.7";
        const V6: &str = "prose.example.org. 600 IN AAAA 2001:db8::7";
        const C2S: &str = "_xmpp-client._tcp.example.org. 3600 IN SRV 0 5 5222 prose.example.org.";
        const ADMIN: &str = "admin.prose.example.org. 600 IN CNAME prose.example.org.";
        const S2S: &str = "_xmpp-server._tcp.example.org. 3600 IN SRV 0 5 5269 prose.example.org.";
        const GROUPS: &str =
            "_xmpp-server._tcp.groups.example.org. 3600 IN SRV 0 5 5269 prose.example.org.";
        let (v4, v6) = (Some("203.0.113.7"), Some("2001:db8::7"));
        let elsewhere = "_xmpp-client._tcp.example.org. 3600 IN SRV 0 5 5222 chat.acme.net.\n\
            prose.example.org. 600 IN CNAME chat.acme.net., \
            admin.prose.example.org. 600 IN CNAME chat.acme.net.";
        for (setup, expected) in [
            (setup(None, None, None, false), format!("{C2S}\n{ADMIN}")),
            (setup(None, None, None, true), format!("{C2S}\n{ADMIN}\n{S2S}, {GROUPS}")),
            (setup(None, v4, None, false), format!("{V4}\n{C2S}\n{ADMIN}")),
            (setup(None, None, v6, false), format!("{V6}\n{C2S}\n{ADMIN}")),
            (setup(None, v4, v6, true), format!("{V4}, {V6}\n{C2S}\n{ADMIN}\n{S2S}, {GROUPS}")),
            (setup(Some("prose.example.org"), v4, v6, false), format!("{C2S}\n{ADMIN}")),
            (setup(Some("chat.acme.net"), v4, None, false), elsewhere.to_owned()),
        ] {
            let line = |step: Step| {
                let records: Vec<String> =
                    step.records.into_iter().map(|record| record.string_repr).collect();
                records.join(", ")
            };
            let lines: Vec<String> = setup.steps().into_iter().map(line).collect();
            assert_eq!(lines.join("\n"), expected, "{setup:?}");
        }
    }

    #[test]
    fn each_kind_has_the_keys_that_the_dashboard_reads() {
        let steps = setup(None, Some("203.0.113.7"), Some("2001:db8::7"), false).steps();
        let expected = json!([
            { "purpose": "specify your server IP address", "records": [
                { "type": "A", "hostname": "prose.example.org.", "ttl": 600,
                    "value": "203.0.113.7",
                    "string_repr": "prose.example.org. 600 IN A 203.0.113.7" },
                { "type": "AAAA", "hostname": "prose.example.org.", "ttl": 600,
                    "value": "2001:db8::7",
                    "string_repr": "prose.example.org. 600 IN AAAA 2001:db8::7" } ] },
            { "purpose": "let users connect to your server", "records": [
                { "type": "SRV", "hostname": "_xmpp-client._tcp.example.org.", "ttl": 3600,
                    "priority": 0, "weight": 5, "port": 5222, "target": "prose.example.org.",
                    "string_repr":
                    "_xmpp-client._tcp.example.org. 3600 IN SRV 0 5 5222 prose.example.org." } ] },
            { "purpose": "let users connect to the Prose Web app and Dashboard", "records": [
                { "type": "CNAME", "hostname": "admin.prose.example.org.", "ttl": 600,
                    "target": "prose.example.org.", "string_repr":
                    "admin.prose.example.org. 600 IN CNAME prose.example.org." } ] },
        ]);
        assert_eq!(serde_json::to_value(steps).unwrap(), expected);
    }
}
