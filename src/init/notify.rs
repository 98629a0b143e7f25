//! The proof of readiness that a service gives by itself: `READY=1` to the socket that
//! `NOTIFY_SOCKET` names, as sd_notify(3) has it.
//!
//! Each service has a socket of its own in a directory that only its jail shows, so whoever can
//! write to it is of the service.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::os::unix::net::UnixDatagram;

use appliance::service::{Kind, Ready, Service};

use appliance::failure::{Failure, OrCannot as _};

/// Where its jail shows the socket.
pub const SOCKET: &str = "/run/notify/socket";
/// The longest message that is listened to.
const LONGEST: usize = 4096;
/// More messages than a socket holds.
const QUEUE: usize = 1024;
/// So many messages are read at a time.
const AT_A_TIME: usize = 32;

/// The end that PID 1 reads from.
#[derive(Debug)]
pub struct Notices(UnixDatagram);

/// The directory, outside of the jail, that holds the service's socket; `None`: it doesn't notify.
pub fn folder_of(service: &Service) -> Option<String> {
    let notifies = matches!(service.kind, Kind::Daemon { ready: Ready::Notify, .. });
    notifies.then(|| format!("/run/stele/notify/{}", service.name))
}

impl Notices {
    /// For this service, if it notifies.
    pub fn of(service: &Service) -> Result<Option<Notices>, Failure> {
        let what = format_args!("make the notify socket of {}", service.name);
        folder_of(service).map(|folder| Notices::at(&folder)).transpose().or_cannot(what)
    }

    fn at(folder: &str) -> io::Result<Notices> {
        DirBuilder::new().recursive(true).mode(0o755).create(folder)?;
        let path = format!("{folder}/socket");
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let socket = UnixDatagram::bind(&path)?;
        socket.set_nonblocking(true)?;
        fs::set_permissions(&path, Permissions::from_mode(0o666))?;
        Ok(Notices(socket))
    }

    /// Reads what was said: is it ready? Descriptors that come along are closed by the kernel.
    pub fn say_ready(&self) -> bool {
        let mut message = [0; LONGEST];
        let mut is_ready = false;
        for _ in 0..AT_A_TIME {
            let Ok(length) = self.0.recv(&mut message) else { break };
            is_ready |= says_ready(message.get(..length).unwrap_or_default());
        }
        is_ready
    }

    /// Forgets what an earlier process said.
    pub fn forget(&self) {
        // A socket holds fewer; who is still sending must not keep PID 1 here.
        let _ = (0..QUEUE).find(|_| self.0.recv(&mut [0; 1]).is_err());
    }
}

impl AsFd for Notices {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Variables are lines; only one of them matters here.
fn says_ready(message: &[u8]) -> bool {
    message.split(|&byte| byte == b'\n').any(|line| line == b"READY=1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_line_that_says_ready_counts() {
        for (message, expected) in [
            (&b"READY=1"[..], true),
            (b"STATUS=up\nREADY=1\n", true),
            (b"READY=0", false),
            (b"READY=11", false),
            (b"STATUS=READY=1", false),
            (b"", false),
            (b"\xff\0\n", false),
        ] {
            assert_eq!(says_ready(message), expected, "{message:?}");
        }
    }

    #[test]
    fn a_socket_says_what_was_sent_and_forgets() {
        let folder = std::env::temp_dir().join(format!("stele-notify-{}", std::process::id()));
        let notices = Notices::at(folder.to_str().unwrap()).unwrap();
        let sender = UnixDatagram::unbound().unwrap();
        let send = || sender.send_to(b"READY=1", folder.join("socket")).unwrap();
        assert!(!notices.say_ready());
        send();
        assert!(notices.say_ready());
        send();
        notices.forget();
        assert!(!notices.say_ready());
        fs::remove_dir_all(folder).unwrap();
    }
}
