//! Does the Server answer an XMPP stream? Asked from outside, as a client would.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::vm::Vm;
use crate::watch::Missed;

/// How long one try may take. QEMU accepts connections for a guest that doesn't listen, or has no
/// network yet: then nothing comes, and asking anew is the only way on.
const TRY: Duration = Duration::from_secs(3);
/// How long until a try that was cut off at once is repeated.
const AGAIN: Duration = Duration::from_millis(50);
/// What the answer ends with.
const END: &str = "</stream:features>";

/// What the Server answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamReply {
    /// Its stream header and features.
    pub text: String,
    /// When it was there, since QEMU's start.
    pub at: Duration,
    /// CPU time that QEMU had taken by then.
    pub cpu: Duration,
}

impl Vm {
    /// Asks for a stream to `domain` until the Server answers.
    #[track_caller]
    pub fn stream_reply(&self, domain: &str, within: Duration) -> StreamReply {
        let reply = self.try_stream_reply(domain, within);
        reply.unwrap_or_else(|missed| panic!("{missed}"))
    }

    /// The same, for who goes on without an answer.
    pub fn try_stream_reply(&self, domain: &str, within: Duration) -> Result<StreamReply, Missed> {
        // Only from then on: a connection made earlier would hang in QEMU.
        for up in ["stele-init: service prosody: ready", "stele-init: network: ready"] {
            self.watch().wait(&format!("`{up}` on the console"), within, |seen| {
                seen.lines.iter().any(|line| line.text.contains(up)).then_some(())
            })?;
        }
        let what = format!("a stream reply from {domain}");
        let text = self.watch().retry(&what, within, AGAIN, || ask(self.xmpp(), domain))?;
        let (at, cpu) = self.age();
        Ok(StreamReply { text, at, cpu })
    }
}

/// One try: opens a stream and returns what comes, up to the end of the features.
pub fn ask(server: SocketAddr, domain: &str) -> io::Result<String> {
    let deadline = Instant::now() + TRY;
    let mut stream = TcpStream::connect_timeout(&server, TRY)?;
    let header = format!(
        "<?xml version='1.0'?><stream:stream to='{domain}' version='1.0' xmlns='jabber:client' \
         xmlns:stream='http://etherx.jabber.org/streams'>"
    );
    stream.write_all(header.as_bytes())?;
    let mut reply = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        stream.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
        let length = stream.read(&mut buffer)?;
        reply.extend(&buffer[..length]);
        let text = String::from_utf8_lossy(&reply);
        if text.contains("<stream:stream") && text.contains(END) {
            return Ok(text.into_owned());
        }
        if length == 0 {
            let said = format!("the connection was closed after `{text}`");
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, said));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::thread;

    fn served(answer: &'static [u8]) -> io::Result<String> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = thread::spawn(move || {
            let (mut client, _) = listener.accept().unwrap();
            let mut asked = [0; 1024];
            let length = client.read(&mut asked).unwrap();
            assert!(asked[..length].starts_with(b"<?xml"));
            client.write_all(answer).unwrap();
        });
        let reply = ask(address, "prose.local");
        server.join().unwrap();
        reply
    }

    #[test]
    fn only_a_whole_answer_is_one() {
        let answer = b"<?xml version='1.0'?><stream:stream id='x'><stream:features>\
                       <starttls/></stream:features>";
        assert!(served(answer).unwrap().contains("starttls"));
        for torn in [&answer[..40], &answer[21..23], b"", b"HTTP/1.1 400 Bad Request\r\n\r\n"] {
            assert!(served(torn).is_err(), "{torn:?}");
        }
    }

    #[test]
    fn nobody_there_is_an_error() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        assert!(ask(address, "prose.local").is_err());
    }
}
