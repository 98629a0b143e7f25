//! What can be connected to, as far as can be told from here: through some routers a Pod doesn't
//! reach its own public address, though others do.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;

use super::Answer;

/// For a connection to be made in.
const CONNECT_WITHIN: Duration = Duration::from_secs(3);

/// Ports out there.
pub trait Ports: Send + Sync {
    /// Does somebody listen?
    fn is_open(&self, at: SocketAddr) -> Answer<'_, bool>;
}

/// Connects by TCP.
#[derive(Debug)]
pub struct Tcp;

impl Ports for Tcp {
    fn is_open(&self, at: SocketAddr) -> Answer<'_, bool> {
        Box::pin(async move {
            matches!(timeout(CONNECT_WITHIN, TcpStream::connect(at)).await, Ok(Ok(_)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn a_port_is_open_while_somebody_listens() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        assert!(Tcp.is_open(at).await);
        drop(listener);
        assert!(!Tcp.is_open(at).await);
    }
}
