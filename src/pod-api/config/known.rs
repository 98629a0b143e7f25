//! Which keys a file may have. Others are told of, since they may be slips of the pen; but a file may
//! be read by several programs, so that they are no error.

use toml::{Table, Value};

/// All of the contract, of either era, and ours. What ends in `*` is whatever is below.
const KNOWN: [&str; 54] = [
    "address",
    "api.address",
    "api.databases.*",
    "api.invitations.invitation_ttl",
    "api.member_enriching.cache_ttl",
    "api.network_checks.dns_cache_ttl",
    "api.network_checks.retry_interval",
    "api.network_checks.retry_timeout",
    "api.network_checks.timeout",
    "api.port",
    "auth.invitation_ttl",
    "auth.min_password_length",
    "auth.oauth2_registration_key",
    "auth.password_reset_token_ttl",
    "auth.token_ttl",
    "backups.*",
    "bootstrap.*",
    "branding.api_app_name",
    "branding.company_name",
    "branding.page_title",
    "dashboard.url",
    "dashboard_url",
    "databases.*",
    "debug_use_at_your_own_risk.*",
    "default_response_timeout",
    "default_retry_interval",
    "licensing.user_limit",
    "log.*",
    "notifiers.email.*",
    "notifiers.workspace_invitation_channel",
    "notify.email.*",
    "notify.workspace_invitation_channel",
    "pod.address.domain",
    "pod.address.ipv4",
    "pod.address.ipv6",
    "policies.*",
    "port",
    "prosody.*",
    "prosody_ext.additional_modules_enabled",
    "prosody_ext.config_file_path",
    "proxy.*",
    "public_contacts.*",
    "server.defaults.*",
    "server.domain",
    "server.http_port",
    "server.local_hostname",
    "server.local_hostname_admin",
    "server.log_level",
    "server.oauth2_access_token_ttl",
    "server.oauth2_registration_key",
    "server_api.*",
    "service_accounts.*",
    "teams.*",
    "vendor_analytics.*",
];

/// Those of a file that nobody knows.
pub fn unknown(table: &Table) -> Vec<String> {
    let mut found = vec![];
    look("", table, &mut found);
    found
}

fn look(above: &str, table: &Table, found: &mut Vec<String>) {
    for (key, value) in table {
        let path = if above.is_empty() { key.clone() } else { format!("{above}.{key}") };
        let below = format!("{path}.");
        let is_on_the_way = KNOWN.iter().any(|known| known.starts_with(&below));
        match value {
            _ if KNOWN.iter().any(|known| is_it(known, &path)) => (),
            Value::Table(table) if is_on_the_way => look(&path, table, found),
            _ => found.push(path),
        }
    }
}

fn is_it(known: &str, path: &str) -> bool {
    match known.strip_suffix(".*") {
        Some(whole) => path == whole,
        None => known == path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_of_the_pen_are_found() {
        for (text, expected) in [
            ("", vec![]),
            ("[server]\ndomain = \"a\"\n[server.defaults]\nx = 1\n", vec![]),
            ("[notify.email]\npod_address = \"a\"\n[log.x]\ny = 1\n", vec![]),
            ("[server]\ndomian = \"a\"\n", vec!["server.domian"]),
            ("[pod]\naddress = { domain = \"a\", ip = \"b\" }\n", vec!["pod.address.ip"]),
            ("domain = \"a\"\n[sever]\ndomain = \"a\"\n", vec!["domain", "sever"]),
            (
                "[prosody_ext]\nallow_raw_overrides = true\n",
                vec!["prosody_ext.allow_raw_overrides"],
            ),
        ] {
            assert_eq!(unknown(&text.parse().unwrap()), expected, "{text}");
        }
    }
}
