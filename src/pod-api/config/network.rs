//! What the operator wrote of the Pod's place in the world: `[pod.address]`, `[dashboard]`,
//! `[api.network_checks]`.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use appliance::settings::Domain;
use axum::http::Uri;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::duration::Span;

/// Where the Pod is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Address {
    /// A name that leads to it already.
    pub domain: Option<Domain>,
    /// Its addresses, which DNS is to be told where it has no name.
    pub ipv4: Option<Ipv4Addr>,
    pub ipv6: Option<Ipv6Addr>,
}

/// `https://admin.prose.example.org`: no path, no query, no slash.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct DashboardUrl(String);

/// Why some text is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("it is not a URL like https://admin.prose.example.org, without a path")]
pub struct BadUrl;

/// How checks of the network go about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checks {
    /// What still fails after so long goes on failing.
    pub timeout: Duration,
    /// Between an attempt that failed and the next.
    pub retry_interval: Duration,
    /// For one DNS server to answer in.
    pub retry_timeout: Duration,
    /// How long it is remembered who answers for a name.
    pub dns_cache_ttl: Duration,
}

/// The file's own form of it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct ChecksTable {
    timeout: Option<Span>,
    retry_interval: Option<Span>,
    retry_timeout: Option<Span>,
    dns_cache_ttl: Option<Span>,
}

impl Address {
    /// What the world calls the Pod.
    pub fn host(&self, domain: &Domain) -> String {
        self.domain.as_ref().map_or_else(|| domain.below("prose"), Domain::to_string)
    }

    /// With the name that it has by default, unless it has only addresses.
    pub fn shown(&self, domain: &Domain) -> ShownAddress {
        let has_addresses = self.ipv4.is_some() || self.ipv6.is_some();
        let has_name = self.domain.is_some() || !has_addresses;
        ShownAddress {
            domain: has_name.then(|| self.host(domain)),
            ipv4: self.ipv4,
            ipv6: self.ipv6,
        }
    }
}

/// An [`Address`] for the world.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = Address)]
pub struct ShownAddress {
    domain: Option<String>,
    #[schema(value_type = Option<String>)]
    ipv4: Option<Ipv4Addr>,
    #[schema(value_type = Option<String>)]
    ipv6: Option<Ipv6Addr>,
}

impl DashboardUrl {
    /// Where it is if nobody says: below the Pod's name.
    pub fn default(address: &Address, domain: &Domain) -> DashboardUrl {
        DashboardUrl(format!("https://admin.{}", address.host(domain)))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for DashboardUrl {
    type Error = BadUrl;

    fn try_from(text: String) -> Result<DashboardUrl, BadUrl> {
        let uri: Uri = text.parse().map_err(|_| BadUrl)?;
        let scheme = uri.scheme_str().filter(|it| ["http", "https"].contains(it));
        let is_bare = uri.path() == "/" && uri.query().is_none() && !text.contains('#');
        match (scheme, uri.authority()) {
            (Some(scheme), Some(authority)) if is_bare && !authority.as_str().contains('@') => {
                Ok(DashboardUrl(format!("{scheme}://{authority}")))
            }
            _ => Err(BadUrl),
        }
    }
}

impl ChecksTable {
    /// With all that it doesn't say; `older` is `default_retry_interval`.
    pub fn complete(&self, older: Option<Span>) -> Checks {
        let or = |span: Option<Span>, seconds| span.map_or(Duration::from_secs(seconds), |it| it.0);
        Checks {
            timeout: or(self.timeout, 5 * 60),
            retry_interval: or(self.retry_interval.or(older), 5),
            retry_timeout: or(self.retry_timeout, 1),
            dns_cache_ttl: or(self.dns_cache_ttl, 5 * 60),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn load(variables: &[(&str, &str)]) -> Result<Config, String> {
        let variables =
            variables.iter().map(|(name, it)| (format!("PROSE_{name}"), it.to_string()));
        Config::load(&[], variables, None).map_err(|error| error.to_string())
    }

    #[test]
    fn checks_have_their_times() {
        let times = |variables: &[(&str, &str)]| {
            let checks = load(variables).unwrap().network_checks;
            [checks.timeout, checks.retry_interval, checks.retry_timeout, checks.dns_cache_ttl]
                .map(|time| time.as_secs())
        };
        let older = ("DEFAULT_RETRY_INTERVAL", "PT7S");
        for (variables, expected) in [
            (vec![], [300, 5, 1, 300]),
            (vec![older], [300, 7, 1, 300]),
            (vec![older, ("API__NETWORK_CHECKS__RETRY_INTERVAL", "PT9S")], [300, 9, 1, 300]),
            (vec![("API__NETWORK_CHECKS__TIMEOUT", "PT1M")], [60, 5, 1, 300]),
            (vec![("API__NETWORK_CHECKS__RETRY_TIMEOUT", "PT2S")], [300, 5, 2, 300]),
            (vec![("API__NETWORK_CHECKS__DNS_CACHE_TTL", "PT1S")], [300, 5, 1, 1]),
        ] {
            assert_eq!(times(&variables), expected, "{variables:?}");
        }
    }

    #[test]
    fn what_is_wrong_is_refused() {
        for (name, value, said) in [
            ("POD__ADDRESS__DOMAIN", "192.0.2.1", "is not a domain"),
            ("POD__ADDRESS__IPV4", "2001:db8::1", "IPv4"),
            ("POD__ADDRESS__IPV6", "192.0.2.1", "IPv6"),
            ("DASHBOARD__URL", "https://a.example/b", "a URL like"),
            ("DASHBOARD_URL", "a.example", "a URL like"),
            ("API__NETWORK_CHECKS__TIMEOUT", "5m", "a duration like"),
        ] {
            let error = load(&[(name, value)]).unwrap_err();
            assert!(error.contains(said), "{name}: {error}");
        }
    }

    #[test]
    fn a_dashboard_is_at_the_root_of_a_host() {
        for (text, expected) in [
            ("https://admin.prose.example.org", Some("https://admin.prose.example.org")),
            ("https://admin.prose.example.org/", Some("https://admin.prose.example.org")),
            ("http://localhost:3030", Some("http://localhost:3030")),
            ("https://a.example/b", None),
            ("https://a.example/?b", None),
            ("https://a.example/#b", None),
            ("https://a:b@a.example", None),
            ("ftp://a.example", None),
            ("a.example", None),
            ("/a", None),
            ("", None),
        ] {
            let url = DashboardUrl::try_from(text.to_owned()).ok();
            assert_eq!(url.as_ref().map(DashboardUrl::as_str), expected, "{text}");
        }
    }
}
