//! Does a service serve? Asked again and again while it starts.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use appliance::service::Ready;

/// How long until the question is repeated.
pub const AGAIN_IN: Duration = Duration::from_millis(100);
/// On loopback the answer is there at once; only an overfull listener gives none.
const ANSWER_WITHIN: Duration = Duration::from_millis(5);

/// Looks once. [`Ready::Started`] is known from exec, [`Ready::Notify`] from the service itself.
pub fn is_ready(ready: &Ready) -> bool {
    match ready {
        Ready::Started | Ready::Notify => false,
        Ready::Tcp(port) => accepts(*port),
        Ready::File(path) => Path::new(path).exists(),
    }
}

fn accepts(port: u16) -> bool {
    let loopback = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    loopback.into_iter().any(|address| {
        TcpStream::connect_timeout(&SocketAddr::new(address, port), ANSWER_WITHIN).is_ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn a_port_is_ready_while_somebody_listens() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(is_ready(&Ready::Tcp(port)));
        drop(listener);
        assert!(!is_ready(&Ready::Tcp(port)));
    }
}
