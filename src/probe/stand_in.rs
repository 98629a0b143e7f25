//! Stand-ins for what is asked, which do it well, or badly in one place.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use appliance::probe::Login;
use rustls::crypto::ring::{default_provider, sign::any_supported_type};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::stanzas::{Element, Stanzas};

/// The address that a login gets.
pub const JID: &str = "stele-probe@example.org/a&b";
const OPEN: &str = "<?xml version='1.0'?><stream:stream xmlns='jabber:client' id='1'>";
/// A reply that doesn't come.
pub const SILENCE: &str = "(silence)";

/// A port that nobody listens on.
pub fn nobody() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

/// How to log in at whatever listens there.
pub fn login(port: u16) -> Login {
    let (domain, password) = ("example.org".parse(), String::from("secret").try_into());
    Login { port, domain: domain.unwrap(), password: password.unwrap() }
}

/// An element of a stream.
pub fn element(text: &str) -> Element {
    #[derive(Debug)]
    struct Text(io::Cursor<String>);
    impl Read for Text {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.0.read(buffer)
        }
    }
    impl Write for Text {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let text = Text(io::Cursor::new(format!("{OPEN}{text}")));
    Stanzas::open(text, "example.org").unwrap().next().unwrap()
}

fn listen(serve: impl Fn(TcpStream) -> io::Result<()> + Send + 'static) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    // A client that has heard enough leaves: what can't be said to it then is no matter.
    thread::spawn(move || listener.incoming().flatten().for_each(|it| drop(serve(it))));
    port
}

/// Replies to one request each, in turn.
pub fn http(replies: &[&str]) -> u16 {
    let replies: Vec<String> = replies.iter().map(ToString::to_string).collect();
    let next = std::sync::atomic::AtomicUsize::new(0);
    listen(move |mut stream| {
        until(&mut stream, "\r\n\r\n")?;
        match &replies[next.fetch_add(1, std::sync::atomic::Ordering::Relaxed)] {
            silence if silence == SILENCE => wait_for_the_end(&mut stream),
            reply => stream.write_all(reply.as_bytes()),
        }
    })
}

/// All that comes up to the end of this.
fn until(stream: &mut impl Read, what: &str) -> io::Result<String> {
    let (mut text, mut byte) = (vec![], [0]);
    while !text.ends_with(what.as_bytes()) {
        stream.read_exact(&mut byte)?;
        text.extend(byte);
    }
    Ok(String::from_utf8(text).unwrap())
}

fn wait_for_the_end(stream: &mut impl Read) -> io::Result<()> {
    io::copy(stream, &mut io::sink()).map(drop)
}

/// What the Server's stand-in does at a step.
#[derive(Debug, Clone)]
pub enum Act {
    /// As a Server does.
    Well,
    /// It says this.
    Say(&'static str),
    /// It says nothing, and stays.
    Hang,
    /// It goes.
    Close,
    /// It says this for ever.
    Flood(&'static str),
}

/// The steps, by what is waited for and what is said then.
const STEPS: [(&str, &str); 7] = [
    ("streams'>", "<stream:features><starttls/></stream:features>"),
    ("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>", "<proceed/>"),
    ("streams'>", "<features><mechanisms><mechanism>PLAIN</mechanism></mechanisms></features>"),
    ("</auth>", "<success/>"),
    ("streams'>", "<features><bind/><sm/></features>"),
    (
        "</iq>",
        "<iq type='result' id='bind'><bind><jid>stele-probe@example.org/a&amp;b</jid></bind></iq>",
    ),
    ("</message>", ""),
];
/// The step after which there is TLS.
const PROCEED: usize = 1;

/// A Server that does one step otherwise.
pub fn xmpp(step: usize, act: Act) -> u16 {
    let named = rcgen::generate_simple_self_signed(["example.org".into()]).unwrap();
    server(step, act, named.cert.der().clone(), &named.signing_key)
}

/// A Server with something else in the place of a certificate.
pub fn xmpp_without_certificate() -> u16 {
    let key = rcgen::KeyPair::generate().unwrap();
    server(0, Act::Well, CertificateDer::from(vec![0x30, 3, 2, 1, 1]), &key)
}

fn server(
    step: usize,
    act: Act,
    certificate: CertificateDer<'static>,
    key: &rcgen::KeyPair,
) -> u16 {
    let key = any_supported_type(&PrivateKeyDer::Pkcs8(key.serialize_der().into())).unwrap();
    let shown = Arc::new(SingleCertAndKey::from(CertifiedKey::new(vec![certificate], key)));
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(shown);
    let config = Arc::new(config);
    listen(move |mut stream| {
        let acts: Vec<Act> =
            (0..STEPS.len()).map(|own| if own == step { act.clone() } else { Act::Well }).collect();
        let (before, after) = acts.split_at(PROCEED + 1);
        for (number, act) in before.iter().enumerate() {
            take(&mut stream, number, act)?;
        }
        let connection = ServerConnection::new(config.clone()).unwrap();
        let mut stream = StreamOwned::new(connection, stream);
        for (number, act) in after.iter().enumerate() {
            take(&mut stream, number + PROCEED + 1, act)?;
        }
        wait_for_the_end(&mut stream)
    })
}

fn take(stream: &mut (impl Read + Write), number: usize, act: &Act) -> io::Result<()> {
    let (what, reply) = STEPS[number];
    let heard = until(stream, what)?;
    if what == "streams'>" {
        stream.write_all(OPEN.as_bytes())?;
    }
    let own = format!(" from='{}' to=", JID.replace('&', "&amp;"));
    match act {
        Act::Well if reply.is_empty() => {
            stream.write_all(heard.replace(" to=", &own).as_bytes())?
        }
        Act::Well => stream.write_all(reply.as_bytes())?,
        Act::Say(other) => stream.write_all(other.as_bytes())?,
        Act::Hang => wait_for_the_end(stream)?,
        Act::Close => return Err(io::ErrorKind::ConnectionAborted.into()),
        Act::Flood(text) => loop {
            stream.write_all(text.as_bytes())?;
        },
    }
    stream.flush()
}
