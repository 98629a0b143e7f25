//! The least of an XMPP client: it logs in without TLS, and sends and reads text.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::base64;

const WITHIN: Duration = Duration::from_secs(20);

/// A session.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    /// What has come and wasn't awaited yet.
    text: String,
}

impl Client {
    /// Opens a stream to a domain.
    pub fn open(server: SocketAddr, domain: &str) -> Result<Client> {
        let stream = TcpStream::connect_timeout(&server, WITHIN).context("cannot connect")?;
        stream.set_read_timeout(Some(WITHIN))?;
        let mut client = Client { stream, text: String::new() };
        client.begin(domain)?;
        Ok(client)
    }

    /// Logs in and binds a resource.
    pub fn login(
        server: SocketAddr,
        domain: &str,
        user: &str,
        password: &str,
        resource: &str,
    ) -> Result<Client> {
        let mut client = Client::open(server, domain)?;
        client.wait_for("</stream:features>")?;
        let plain = base64(format!("\0{user}\0{password}").as_bytes());
        let auth = "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>";
        client.send(&format!("{auth}{plain}</auth>"))?;
        client.wait_for("<success").context("cannot log in")?;
        client.begin(domain)?;
        client.wait_for("</stream:features>")?;
        let bind = "<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>";
        client.send(&format!(
            "<iq type='set' id='b'>{bind}<resource>{resource}</resource></bind></iq>"
        ))?;
        client.wait_for("</jid>").context("cannot bind")?;
        Ok(client)
    }

    fn begin(&mut self, domain: &str) -> Result<()> {
        self.text.clear();
        self.send(&format!(
            "<?xml version='1.0'?><stream:stream to='{domain}' version='1.0' \
             xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>"
        ))
    }

    /// Sends text as it is.
    pub fn send(&mut self, text: &str) -> Result<()> {
        self.stream.write_all(text.as_bytes()).context("cannot send")
    }

    /// Reads until this comes; returns what came, up to its end.
    pub fn wait_for(&mut self, what: &str) -> Result<String> {
        let deadline = Instant::now() + WITHIN;
        let mut buffer = [0; 4096];
        loop {
            if let Some(at) = self.text.find(what) {
                let rest = self.text.split_off(at + what.len());
                return Ok(std::mem::replace(&mut self.text, rest));
            }
            let count = self.stream.read(&mut buffer).unwrap_or(0);
            if count == 0 || Instant::now() > deadline {
                bail!("`{what}` didn't come, but: {}", self.text);
            }
            self.text.push_str(&String::from_utf8_lossy(&buffer[..count]));
        }
    }
}
