//! Against a server on loopback that speaks SMTP as far as a letter needs it, and notes what it hears.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

use super::*;

const PASSWORD: &str = "hunter2 hunter2";
/// The same in `AUTH PLAIN`: NUL, name, NUL, password.
const IN_BASE64: &str = "AHByb3NlAGh1bnRlcjIgaHVudGVyMg==";

/// How the server behaves.
#[derive(Debug, Clone, Copy, Default)]
struct Script {
    /// It offers STARTTLS.
    encrypts: bool,
    /// It wants to know who sends.
    authenticates: bool,
    /// What it says to a command that begins so, in place of the usual.
    but: Option<(&'static str, &'static str)>,
    /// It never says anything.
    is_silent: bool,
}

/// What it heard.
#[derive(Debug, Default)]
struct Heard {
    in_clear: Vec<String>,
    encrypted: Vec<String>,
    letters: Vec<String>,
}

/// An SMTP server, and the bundle that holds its authority.
struct Server {
    heard: Arc<Mutex<Heard>>,
    port: u16,
    folder: TempDir,
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Server {
    /// Whose certificate is of this name.
    async fn start(script: Script, name: &str) -> Server {
        let folder = tempfile::tempdir().unwrap();
        let acceptor = certified(name, &folder.path().join("authorities.pem"));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let heard = Arc::new(Mutex::new(Heard::default()));
        let hears = heard.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // How a conversation ends is the client's affair.
                let _ = converse(Box::new(stream), script, &acceptor, &hears).await;
            }
        });
        Server { heard, port, folder }
    }

    fn mail(&self, encryption: Encryption) -> Mail {
        Mail {
            host: "localhost".into(),
            port: self.port,
            credentials: Some(("prose".into(), secret::of(PASSWORD))),
            encryption,
            our_address: "prose@acme.example".parse().unwrap(),
            our_name: "Prose Pod API".into(),
            our_host: "prose.acme.example".into(),
        }
    }

    fn authorities(&self) -> PathBuf {
        self.folder.path().join("authorities.pem")
    }

    async fn take(&self, encryption: Encryption, letter: Letter) -> Result<(), String> {
        let smtp = Smtp { authorities: self.authorities(), within: Duration::from_millis(1500) };
        let sent = smtp.send(&self.mail(encryption), letter).await;
        sent.map_err(|error| error.to_string())
    }
}

/// Puts a new authority's certificate at `authorities`; the server's is of it.
fn certified(name: &str, authorities: &Path) -> TlsAcceptor {
    let (key, mut ours) = (KeyPair::generate().unwrap(), CertificateParams::default());
    ours.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    std::fs::write(authorities, ours.self_signed(&key).unwrap().pem()).unwrap();
    let authority = Issuer::new(ours, key);
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec![name.to_owned()]).unwrap();
    let certificate = certificate.signed_by(&key, &authority).unwrap();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key);
    TlsAcceptor::from(Arc::new(config.unwrap()))
}

async fn converse(
    stream: Box<dyn Stream>,
    script: Script,
    acceptor: &TlsAcceptor,
    heard: &Mutex<Heard>,
) -> std::io::Result<()> {
    if script.is_silent {
        return std::future::pending().await;
    }
    let mut stream = BufReader::new(stream);
    let mut is_encrypted = false;
    stream.write_all(b"220 mail.acme.example ESMTP\r\n").await?;
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        let line = line.trim_end().to_owned();
        let verb = line.split([' ', ':']).next().unwrap_or("").to_owned();
        {
            let mut heard = heard.lock().unwrap();
            if is_encrypted { heard.encrypted.push(line) } else { heard.in_clear.push(line) }
        }
        let usual = match verb.as_str() {
            "EHLO" => {
                let starttls =
                    if script.encrypts && !is_encrypted { "250-STARTTLS\r\n" } else { "" };
                let auth = if script.authenticates { "250-AUTH PLAIN LOGIN\r\n" } else { "" };
                format!("250-mail.acme.example\r\n{starttls}{auth}250 8BITMIME")
            }
            "STARTTLS" => "220 go ahead".into(),
            "AUTH" => "235 welcome".into(),
            "DATA" => "354 go ahead".into(),
            "QUIT" => "221 bye".into(),
            _ => "250 fine".into(),
        };
        let but = script.but.filter(|(of, _)| *of == verb).map(|(_, says)| says.to_owned());
        let says = but.unwrap_or(usual);
        stream.write_all(format!("{says}\r\n").as_bytes()).await?;
        stream.flush().await?;
        if verb == "STARTTLS" && says.starts_with("220") {
            let encrypted: Box<dyn Stream> = Box::new(acceptor.accept(stream.into_inner()).await?);
            stream = BufReader::new(encrypted);
            is_encrypted = true;
        } else if says.starts_with("354") {
            let mut letter = String::new();
            while !letter.ends_with("\r\n.\r\n") {
                stream.read_line(&mut letter).await?;
            }
            heard.lock().unwrap().letters.push(letter);
            stream.write_all(b"250 taken\r\n").await?;
            stream.flush().await?;
        }
    }
}

fn letter(subject: &str) -> Letter {
    Letter {
        to: "bob@corp.example".parse().unwrap(),
        subject: subject.into(),
        text: "Hello,\n.\nhttps://admin.prose.acme.example/start/recover/x\n".into(),
        html: "<p>Hello, \u{fc}</p>\n".into(),
    }
}

#[tokio::test]
async fn a_letter_goes_encrypted_and_so_do_credentials() {
    let script = Script { encrypts: true, authenticates: true, ..Script::default() };
    let server = Server::start(script, "localhost").await;
    server.take(Encryption::Always, letter("You are invited")).await.unwrap();
    let heard = server.heard.lock().unwrap();
    assert_eq!(heard.in_clear, ["EHLO prose.acme.example", "STARTTLS"]);
    let expected = [
        "EHLO prose.acme.example",
        &format!("AUTH PLAIN {IN_BASE64}"),
        "MAIL FROM:<prose@acme.example>",
        "RCPT TO:<bob@corp.example>",
        "DATA",
    ];
    assert_eq!(heard.encrypted[..5], expected);
    let letter = &heard.letters[0];
    for part in [
        "From: \"Prose Pod API\" <prose@acme.example>\r\n",
        "To: bob@corp.example\r\n",
        "Subject: You are invited\r\n",
        "Content-Type: multipart/alternative;",
        "Content-Type: text/plain; charset=utf-8\r\n",
        "Content-Type: text/html; charset=utf-8\r\n",
        "https://admin.prose.acme.example/start/recover/x",
        "@prose.acme.example>\r\n",
    ] {
        assert!(letter.contains(part), "{part}: {letter}");
    }
}

#[tokio::test]
async fn what_is_not_safe_is_not_done() {
    let open = Script { authenticates: true, ..Script::default() };
    let encrypts = Script { encrypts: true, ..open };
    let but = |verb, says| Script { but: Some((verb, says)), ..encrypts };
    for (script, name, said) in [
        (open, "localhost", "STARTTLS"),
        (encrypts, "mail.elsewhere.example", "not valid for name"),
        (but("STARTTLS", "454 not now"), "localhost", "454"),
        (but("AUTH", "535 5.7.8 wrong\r"), "localhost", "535"),
        (but("MAIL", "451 busy"), "localhost", "451"),
        (but("RCPT", "550 5.1.1 nobody of that name"), "localhost", "nobody of that name"),
        (but("DATA", "554 no"), "localhost", "554"),
        (but("EHLO", "nonsense"), "localhost", "cannot send an e-mail through localhost:"),
        (Script { is_silent: true, ..open }, "localhost", "it took longer than"),
    ] {
        let server = Server::start(script, name).await;
        let error = server.take(Encryption::Always, letter("x")).await.unwrap_err();
        assert!(error.contains(said), "{script:?} {name}: {error}");
        assert!(error.starts_with("cannot send an e-mail through localhost:"), "{error}");
        assert!(!error.contains("hunter2") && !error.contains(IN_BASE64), "{error}");
        assert!(!error.contains(char::is_control), "{error:?}");
        let heard = server.heard.lock().unwrap();
        assert!(heard.letters.is_empty(), "{script:?}");
        let is_harmless =
            |line: &String| line.starts_with("EHLO") || ["STARTTLS", "QUIT"].contains(&&**line);
        assert!(heard.in_clear.iter().all(is_harmless), "{script:?}: {:?}", heard.in_clear);
    }
}

#[tokio::test]
async fn a_certificate_of_an_unknown_authority_is_refused() {
    let script = Script { encrypts: true, ..Script::default() };
    let server = Server::start(script, "localhost").await;
    certified("localhost", &server.authorities());
    for encryption in [Encryption::Always, Encryption::IfOffered] {
        let error = server.take(encryption, letter("x")).await.unwrap_err();
        assert!(error.contains("UnknownIssuer") || error.contains("BadSignature"), "{error}");
    }
    for (bundle, said) in [("", "UnknownIssuer"), ("-----BEGIN CERTIFICATE-----", "authorities")] {
        std::fs::write(server.authorities(), bundle).unwrap();
        let error = server.take(Encryption::Always, letter("x")).await.unwrap_err();
        assert!(error.contains(said), "{bundle}: {error}");
    }
    std::fs::remove_file(server.authorities()).unwrap();
    let error = server.take(Encryption::Always, letter("x")).await.unwrap_err();
    assert!(error.contains("cannot read authorities "), "{error}");
    assert!(server.heard.lock().unwrap().letters.is_empty());
}

#[tokio::test]
async fn where_the_operator_allows_it_a_letter_goes_as_the_server_can() {
    for encrypts in [true, false] {
        let script = Script { encrypts, ..Script::default() };
        let server = Server::start(script, "localhost").await;
        let mail = Mail { credentials: None, ..server.mail(Encryption::IfOffered) };
        let smtp = Smtp::trusting(server.authorities());
        smtp.send(&mail, letter("x")).await.unwrap();
        let heard = server.heard.lock().unwrap();
        assert_eq!((heard.letters.len(), heard.encrypted.is_empty()), (1, !encrypts));
        assert!(!heard.in_clear.iter().chain(&heard.encrypted).any(|it| it.starts_with("AUTH")));
    }
}

#[tokio::test]
async fn nobody_is_there() {
    let server = Server::start(Script::default(), "localhost").await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let mail = Mail { port, ..server.mail(Encryption::Always) };
    let error = Smtp::trusting(server.authorities()).send(&mail, letter("x")).await.unwrap_err();
    assert_eq!(error.server, format!("localhost:{port}"));
}

#[test]
fn no_name_adds_a_header() {
    let odd = "Acme\r\nBcc: eve@evil.example\r\n\r\nX \u{fc}";
    for name in [odd, &odd.repeat(50), "", "=?utf-8?q?=0d=0aBcc:_x?=", "a\"\\\u{7f}\0", "\u{1f600}"]
    {
        let mail = Mail {
            host: "localhost".into(),
            port: 1,
            credentials: None,
            encryption: Encryption::Always,
            our_address: "prose@acme.example".parse().unwrap(),
            our_name: name.into(),
            our_host: "prose.acme.example".into(),
        };
        let message = message(&mail, letter(name)).unwrap();
        let text = String::from_utf8(message.formatted()).unwrap();
        let (head, _) = text.split_once("\r\n\r\n").unwrap();
        let names = head.split("\r\n").filter(|line| !line.starts_with([' ', '\t']));
        let names: BTreeSet<&str> = names.map(|line| line.split(':').next().unwrap()).collect();
        let expected =
            ["Content-Type", "Date", "From", "MIME-Version", "Message-ID", "Subject", "To"];
        assert_eq!(names, BTreeSet::from(expected), "{head}");
    }
}
