//! Which fields of a head go through, each way. Pure.
//!
//! Fields that speak of one connection (RFC 9110, 7.6.1) end here. What tells where a request comes
//! from is written anew: nobody outside may say so.

use std::net::IpAddr;

use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Uri, Version};

use crate::problem::Problem;

/// Fields of one connection, said or not. `Expect` is answered here.
const OF_ONE_HOP: [&str; 11] = [
    "connection",
    "expect",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
];
/// Fields that claim where a request comes from; so does all that starts with `x-forwarded`.
const ORIGINS: [&str; 6] =
    ["forwarded", "x-real-ip", "x-client-ip", "client-ip", "true-client-ip", "x-original-url"];
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const PERMISSIONS: HeaderName = HeaderName::from_static("permissions-policy");
/// The longest name of a host with its port.
const LONGEST_HOST: usize = 261;

const NO_FEATURE: HeaderValue = HeaderValue::from_static(
    "accelerometer=(), camera=(), geolocation=(), gyroscope=(), magnetometer=(), microphone=(), \
     payment=(), usb=()",
);
const DATA_POLICY: HeaderValue =
    HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'");
const PAGE_POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; \
     frame-ancestors 'none'",
);

/// What a reply carries, and so what a browser may do with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// Nothing but show it.
    Data,
    /// It is a page, with our style sheet.
    Page,
}

/// Refuses a request that doesn't name one host.
pub fn check(version: Version, target: &Uri, fields: &HeaderMap) -> Result<(), Problem> {
    let mut hosts = fields.get_all(header::HOST).iter();
    let (host, second) = (hosts.next(), hosts.next());
    if second.is_some() {
        return Err(Problem::Request("it names two hosts"));
    }
    if host.is_none() && version == Version::HTTP_11 {
        return Err(Problem::Request("it names no host"));
    }
    let authority = target.authority().map(|authority| authority.as_str().as_bytes());
    for host in host.map(HeaderValue::as_bytes).into_iter().chain(authority) {
        let good = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~:[]".contains(byte);
        if host.is_empty() || host.len() > LONGEST_HOST || !host.iter().all(good) {
            return Err(Problem::Request("what it names is no host"));
        }
    }
    Ok(())
}

/// The fields of a request that passed [`check`], for pod-api. Its length is said by who sends it.
pub fn to_pod_api(target: &Uri, mut fields: HeaderMap, peer: IpAddr) -> HeaderMap {
    take_hop_fields(&mut fields);
    fields.remove(header::CONTENT_LENGTH);
    let claims: Vec<HeaderName> =
        fields.keys().filter(|name| claims_origin(name.as_str())).cloned().collect();
    for name in &claims {
        fields.remove(name);
    }
    // In absolute form it is the target that counts (RFC 9112, 3.2.2).
    let authority = target.authority().map(|authority| HeaderValue::from_str(authority.as_str()));
    if let Some(Ok(host)) = authority {
        fields.insert(header::HOST, host);
    }
    if !fields.contains_key(header::HOST) {
        fields.insert(header::HOST, HeaderValue::from_static("localhost"));
    }
    if let Ok(address) = HeaderValue::from_str(&peer.to_canonical().to_string()) {
        fields.insert(FORWARDED_FOR, address);
    }
    fields.insert(FORWARDED_PROTO, HeaderValue::from_static("http"));
    fields
}

/// The fields of pod-api's reply, for the client. `to_head`: it answers a HEAD, whose length can't
/// be seen.
pub fn to_client(mut fields: HeaderMap, to_head: bool) -> HeaderMap {
    take_hop_fields(&mut fields);
    if !to_head {
        fields.remove(header::CONTENT_LENGTH);
    }
    // Whatever it says about itself, it isn't kept.
    fields.remove(header::EXPIRES);
    fields.remove(header::PRAGMA);
    fields.remove(header::SERVER);
    secure(&mut fields, Policy::Data);
    fields
}

/// Says what a browser may do with a reply, and that nobody keeps it.
pub fn secure(fields: &mut HeaderMap, policy: Policy) {
    let content = match policy {
        Policy::Data => DATA_POLICY,
        Policy::Page => PAGE_POLICY,
    };
    for (name, value) in [
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (header::CONTENT_SECURITY_POLICY, content),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        (PERMISSIONS, NO_FEATURE),
    ] {
        fields.insert(name, value);
    }
}

/// Fields of one connection, and those that `Connection` names.
fn take_hop_fields(fields: &mut HeaderMap) {
    let named: Vec<HeaderName> = fields
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| HeaderName::from_bytes(name.trim().as_bytes()).ok())
        .collect();
    for name in named.iter().map(HeaderName::as_str).chain(OF_ONE_HOP) {
        fields.remove(name);
    }
}

fn claims_origin(name: &str) -> bool {
    name.starts_with("x-forwarded") || ORIGINS.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(text: &[(&str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&str, &str)| {
            (
                HeaderName::from_bytes(name.as_bytes()).unwrap(),
                HeaderValue::from_str(value).unwrap(),
            )
        };
        let mut fields = HeaderMap::new();
        for (name, value) in text.iter().map(pair) {
            fields.append(name, value);
        }
        fields
    }

    fn written(fields: &HeaderMap) -> Vec<String> {
        let line = |(name, value): (&HeaderName, &HeaderValue)| {
            format!("{name}: {}", value.to_str().unwrap())
        };
        let mut lines: Vec<String> = fields.iter().map(line).collect();
        lines.sort();
        lines
    }

    #[test]
    fn a_request_names_one_host() {
        let one = |host: &str| fields(&[("host", host)]);
        let uri = |text: &str| text.parse::<Uri>().unwrap();
        for (version, target, fields, good) in [
            (Version::HTTP_11, "/", one("chat.example:3030"), true),
            (Version::HTTP_11, "/", one("[::1]:3030"), true),
            (Version::HTTP_10, "/", fields(&[]), true),
            (Version::HTTP_11, "http://a/", one("b"), true),
            (Version::HTTP_11, "/", fields(&[]), false),
            (Version::HTTP_11, "/", one(""), false),
            (Version::HTTP_11, "/", one("a b"), false),
            (Version::HTTP_11, "/", one("a/b"), false),
            (Version::HTTP_11, "/", one("user@a"), false),
            (Version::HTTP_11, "http://user:word@a/", one("a"), false),
            (Version::HTTP_11, "/", one(&"a".repeat(300)), false),
            (Version::HTTP_11, "/", fields(&[("host", "a"), ("host", "a")]), false),
        ] {
            let result = check(version, &uri(target), &fields);
            assert_eq!(result.is_ok(), good, "{target} {fields:?}");
        }
    }

    #[test]
    fn pod_api_gets_what_is_meant_for_it() {
        let given = fields(&[
            ("host", "chat.example"),
            ("authorization", "Bearer x"),
            ("content-type", "application/json"),
            ("content-length", "9"),
            ("connection", "close, X-Secret , ,:, authorization-hint"),
            ("connection", "Keep-Alive"),
            ("x-secret", "1"),
            ("authorization-hint", "1"),
            ("keep-alive", "timeout=5"),
            ("proxy-authorization", "Basic x"),
            ("te", "trailers"),
            ("trailer", "x"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "websocket"),
            ("expect", "100-continue"),
            ("forwarded", "for=1.2.3.4"),
            ("x-forwarded-for", "1.2.3.4"),
            ("x-forwarded-for", "5.6.7.8"),
            ("x-forwarded-host", "evil.example"),
            ("x-forwarded-prefix", "/x"),
            ("x-real-ip", "1.2.3.4"),
        ]);
        let mapped: IpAddr = "::ffff:10.0.2.2".parse().unwrap();
        let passed = to_pod_api(&"/api/x".parse().unwrap(), given, mapped);
        assert_eq!(
            written(&passed),
            [
                "authorization: Bearer x",
                "content-type: application/json",
                "host: chat.example",
                "x-forwarded-for: 10.0.2.2",
                "x-forwarded-proto: http",
            ]
        );
        let nobody = "2001:db8::1".parse().unwrap();
        let hidden = fields(&[("host", "b"), ("connection", "x-forwarded-for, host")]);
        let passed = to_pod_api(&"http://a:1/".parse().unwrap(), hidden, nobody);
        let expected = ["host: a:1", "x-forwarded-for: 2001:db8::1", "x-forwarded-proto: http"];
        assert_eq!(written(&passed), expected);
    }

    #[test]
    fn a_reply_is_never_kept() {
        let given = fields(&[
            ("content-type", "application/json"),
            ("content-length", "9"),
            ("cache-control", "max-age=3600"),
            ("expires", "Thu, 01 Jan 2099 00:00:00 GMT"),
            ("content-security-policy", "default-src *"),
            ("connection", "x-inside"),
            ("x-inside", "1"),
            ("location", "/v1/members/a@b"),
            ("server", "Hidden/1.0"),
        ]);
        let passed = to_client(given.clone(), false);
        let lines = written(&passed).join("\n");
        for line in
            ["cache-control: no-store", "location: /v1/members/a@b", "referrer-policy: no-referrer"]
        {
            assert!(lines.contains(line), "{lines}");
        }
        assert_eq!(passed[header::CONTENT_SECURITY_POLICY], DATA_POLICY);
        for name in ["content-length", "connection", "x-inside", "expires", "server"] {
            assert!(!passed.contains_key(name), "{name}");
        }
        assert_eq!(to_client(given, true)[header::CONTENT_LENGTH], "9");
    }
}
