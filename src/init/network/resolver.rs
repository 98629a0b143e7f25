//! What resolvers read: who has which name, and whom to ask for the others.

use std::fmt::Write as _;
use std::fs;

use crate::dhcp::report::{Lease, MOST_SERVERS};
use crate::mounts::make_folder;
use appliance::failure::{Failure, OrCannot as _};

/// Services see this folder, not the files in it: those are replaced, and a mounted file would stay
/// the old one.
pub const FOLDER: &str = "/run/net";
const RESOLV_CONF: &str = "/run/net/resolv.conf";
const HOSTS: &str = "/run/net/hosts";

/// Writes the files that `/etc/resolv.conf` and `/etc/hosts` are links to. Both must exist before
/// any service starts: there are resolvers that crash without.
pub fn write(host: &str) -> Result<(), Failure> {
    make_folder(FOLDER)?;
    replace(RESOLV_CONF, &resolv_conf([]))?;
    replace(HOSTS, &hosts(host))
}

/// Names the name servers of these leases.
pub fn write_servers<'a>(leases: impl IntoIterator<Item = &'a Lease>) -> Result<(), Failure> {
    replace(RESOLV_CONF, &resolv_conf(leases))
}

fn hosts(host: &str) -> String {
    format!("127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n127.0.1.1 {host}\n")
}

fn resolv_conf<'a>(leases: impl IntoIterator<Item = &'a Lease>) -> String {
    let mut text =
        "# By stele-init, from what DHCP said.\noptions timeout:2 attempts:2\n".to_owned();
    for server in leases.into_iter().flat_map(|lease| &lease.dns).take(MOST_SERVERS) {
        let _ = writeln!(text, "nameserver {server}");
    }
    text
}

/// Gives a file its new content at once: a reader sees the old or the new.
fn replace(path: &str, content: &str) -> Result<(), Failure> {
    let new = format!("{path}.new");
    fs::write(&new, content)
        .and_then(|()| fs::rename(&new, path))
        .or_cannot(format_args!("write {path}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolv_conf_names_the_servers_of_all_leases() {
        let lease = |dns: &[[u8; 4]]| Lease {
            address: [10, 0, 2, 15].into(),
            prefix: 24,
            router: Some([10, 0, 2, 2].into()),
            dns: dns.iter().map(|&server| server.into()).collect(),
            time: vec![],
            seconds: 60,
        };
        let leases = [lease(&[[1, 1, 1, 1], [2, 2, 2, 2]]), lease(&[[3, 3, 3, 3], [4, 4, 4, 4]])];
        let text = resolv_conf(&leases);
        let servers: Vec<&str> = text.lines().skip(2).collect();
        assert_eq!(servers, ["nameserver 1.1.1.1", "nameserver 2.2.2.2", "nameserver 3.3.3.3"]);
    }
}
