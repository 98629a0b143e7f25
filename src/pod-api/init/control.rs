//! The way to `stele-init`: its control socket, a connection a request, and the files that it left
//! in our credentials folder.

use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};

use appliance::control::{LONGEST, Refusal, Reply, Request, SettingsState, VERSION, Verb};
use appliance::secret::Secret;
use appliance::settings::Settings;
use nix::errno::Errno;
use nix::sys::socket::sockopt::{ReceiveTimeout, SendTimeout};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr, connect, recv, send, setsockopt, socket,
};
use nix::sys::time::TimeVal;
use tokio::task::spawn_blocking;

use super::{Answer, Credentials, Error, Init};

/// The longest wait for PID 1, in seconds.
const ANSWER_WITHIN: i64 = 10;
/// The most bytes that are read of a secret: more than one may have.
const LONGEST_SECRET: u64 = 4096;

/// PID 1's control socket, and our folder of credentials.
#[derive(Debug)]
pub struct Control {
    socket: PathBuf,
    credentials: PathBuf,
}

impl Control {
    /// Neither needs to be there yet.
    pub fn at(socket: &Path, credentials: &Path) -> Control {
        Control { socket: socket.to_owned(), credentials: credentials.to_owned() }
    }

    fn say(&self, what: &'static str, verb: Verb) -> Answer<'static> {
        let reply = self.ask(verb);
        Box::pin(async move {
            match reply.await? {
                Reply::Accepted => Ok(()),
                other => Err(unexpected(what, other)),
            }
        })
    }

    fn ask(&self, verb: Verb) -> Answer<'static, Reply> {
        let packet = Request { version: VERSION, verb }.to_packet();
        let path = self.socket.clone();
        Box::pin(async move {
            let cannot = format!("ask stele-init at {}", path.display());
            // PID 1 answers at once, but it is somebody else: nobody waits for it but this thread.
            let asked = spawn_blocking(move || ask(&path, &packet)).await;
            let reply = asked.map_err(|error| error.to_string()).and_then(|reply| reply);
            reply.map_err(|error| Error::Unreachable(cannot, error))
        })
    }

    fn credential(&self, name: &str) -> Result<Option<Secret>, Error> {
        let path = self.credentials.join(name);
        let unreadable = |error: &dyn std::fmt::Display| {
            Error::Unreachable(format!("read {}", path.display()), error.to_string())
        };
        let mut secret = String::new();
        match File::open(&path) {
            Ok(file) => {
                let read = file.take(LONGEST_SECRET).read_to_string(&mut secret);
                read.map_err(|error| unreadable(&error))?;
            }
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(unreadable(&error)),
        }
        if secret.is_empty() {
            return Ok(None);
        }
        Secret::try_from(secret).map(Some).map_err(|error| unreadable(&error))
    }
}

impl Init for Control {
    fn credentials(&self) -> Result<Credentials, Error> {
        Ok(Credentials {
            current: self.credential("current")?,
            pending: self.credential("pending")?,
            bootstrap: self.credential("bootstrap")?,
        })
    }

    fn rotation_pending<'a>(&'a self, secret: &'a Secret) -> Answer<'a> {
        self.say("the pending secret", Verb::RotationPending { secret: secret.clone() })
    }

    fn rotation_done(&self) -> Answer<'_> {
        self.say("the end of the rotation", Verb::RotationDone)
    }

    fn settings<'a>(&'a self, settings: &'a Settings) -> Answer<'a> {
        self.say("the settings", Verb::Settings(Box::new(settings.clone())))
    }

    fn settings_state(&self) -> Answer<'_, SettingsState> {
        Box::pin(async move {
            match self.ask(Verb::SettingsState).await? {
                Reply::SettingsState(state) => Ok(state),
                other => Err(unexpected("to tell what became of the settings", other)),
            }
        })
    }

    fn server_file(&self) -> Answer<'_, Option<String>> {
        const WHAT: &str = "to show the Server's configuration";
        Box::pin(async move {
            let mut whole = String::new();
            loop {
                let from = whole.len().try_into().unwrap_or(u32::MAX);
                match self.ask(Verb::ServerFile { from }).await? {
                    Reply::ServerFile { text, length } => {
                        whole += &text;
                        if whole.len() >= length as usize {
                            return Ok(Some(whole));
                        } else if text.is_empty() {
                            return Err(Error::Refused(WHAT, "a part of it is missing".into()));
                        }
                    }
                    Reply::Refused(Refusal::NoSettings) => return Ok(None),
                    other => return Err(unexpected(WHAT, other)),
                }
            }
        })
    }
}

fn unexpected(what: &'static str, reply: Reply) -> Error {
    match reply {
        Reply::Refused(refusal) => Error::Refused(what, format!("{refusal:?}")),
        _ => Error::Refused(what, "it answers another question".into()),
    }
}

/// Sends one packet, waits for one.
fn ask(path: &Path, packet: &[u8]) -> Result<Reply, String> {
    let reply = exchange(path, packet).map_err(|errno| errno.desc().to_owned())?;
    serde_json::from_slice(&reply).map_err(|error| format!("its reply: {error}"))
}

fn exchange(path: &Path, packet: &[u8]) -> nix::Result<Vec<u8>> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let socket = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)?;
    let within = TimeVal::new(ANSWER_WITHIN, 0);
    setsockopt(&socket, ReceiveTimeout, &within)?;
    setsockopt(&socket, SendTimeout, &within)?;
    connect(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
    send(socket.as_raw_fd(), packet, MsgFlags::MSG_NOSIGNAL)?;
    let mut reply = vec![0; LONGEST];
    let mut receive = || recv(socket.as_raw_fd(), &mut reply, MsgFlags::empty());
    // One that was let go with a word unread is told so first; the reply comes after.
    let length = match receive() {
        Err(Errno::ECONNRESET) => receive(),
        result => result,
    }?;
    reply.truncate(length);
    Ok(reply)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::secret;

    #[test]
    fn credentials_come_and_go() {
        let folder = tempfile::tempdir().unwrap();
        let init = Control::at(Path::new("/nonexistent"), folder.path());
        assert_eq!(init.credentials().unwrap(), Credentials::default());
        fs::write(folder.path().join("bootstrap"), "b").unwrap();
        fs::write(folder.path().join("pending"), "").unwrap();
        let bootstrap = Some(secret::of("b"));
        let expected = Credentials { bootstrap, ..Credentials::default() };
        assert_eq!(init.credentials().unwrap(), expected);
        for bad in [vec![b'a'; 4097], vec![0xff], b"two\n".to_vec()] {
            fs::write(folder.path().join("current"), bad).unwrap();
            assert!(init.credentials().unwrap_err().to_string().starts_with("cannot read "));
        }
    }
}
