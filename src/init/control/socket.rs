//! The doing of [`crate::control`]: a listening socket and a few connections, none of which PID 1
//! ever waits for.
//!
//! A caller that may use no verb is told so and let go at once, so that it takes nobody's place.
//! One that is silent for [`SILENT_FOR`], or doesn't take its reply, is let go as well.

use std::collections::BTreeMap;
use std::fs;
use std::io::{ErrorKind, IoSlice};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::Duration;

use appliance::control::{LONGEST, Refusal, Reply, Request};
use nix::errno::Errno;
use nix::sys::socket::sockopt::PeerCredentials;
use nix::sys::socket::{
    AddressFamily, Backlog, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, bind,
    getsockopt, listen, recv, sendmsg, socket,
};

use crate::clock::Moment;
use crate::control::Caller;
use appliance::failure::{Failure, OrCannot as _};

/// How long a caller may think.
const SILENT_FOR: Duration = Duration::from_secs(2);
/// The most connections at a time.
const MOST: usize = 8;
/// After the kernel refused a connection (no memory, no descriptor), none is looked for so long.
const REST: Duration = Duration::from_secs(1);

/// Names a connection; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key(u64);

/// The socket and who is connected.
#[derive(Debug)]
pub struct Door {
    /// Of packets, though std knows only the other kind by name: accepting is the same.
    listener: UnixListener,
    connections: BTreeMap<Key, Connection>,
    next: u64,
    rests_until: Moment,
}

#[derive(Debug)]
struct Connection {
    socket: OwnedFd,
    caller: Caller,
    deadline: Moment,
}

impl Door {
    /// Opens it at `path`.
    pub fn open(path: &Path) -> Result<Door, Failure> {
        let what = format_args!("listen at {}", path.display());
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).or_cannot(what)?;
        }
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let listener =
            socket(AddressFamily::Unix, SockType::SeqPacket, flags, None).or_cannot(what)?;
        bind(listener.as_raw_fd(), &UnixAddr::new(path).or_cannot(what)?).or_cannot(what)?;
        // Anybody may knock: who it is decides, not a file's mode.
        fs::set_permissions(path, fs::Permissions::from_mode(0o666)).or_cannot(what)?;
        listen(&listener, Backlog::new(MOST as i32).or_cannot(what)?).or_cannot(what)?;
        let listener = UnixListener::from(listener);
        Ok(Door { listener, connections: BTreeMap::new(), next: 0, rests_until: Moment::ZERO })
    }

    /// What to wait for, if there is a place free.
    pub fn listener(&self, now: Moment) -> Option<BorrowedFd<'_>> {
        let is_open = self.connections.len() < MOST && now >= self.rests_until;
        is_open.then(|| self.listener.as_fd())
    }

    /// The connections to wait for.
    pub fn connections(&self) -> impl Iterator<Item = (Key, BorrowedFd<'_>)> {
        self.connections.iter().map(|(key, connection)| (*key, connection.socket.as_fd()))
    }

    /// When [`Door::on_time`] is due.
    pub fn deadline(&self, now: Moment) -> Option<Moment> {
        let silences = self.connections.values().map(|connection| connection.deadline);
        silences.chain((self.rests_until > now).then_some(self.rests_until)).min()
    }

    /// Lets in whoever knocks and may; `who` knows a caller by its user. Returns users that may
    /// not.
    pub fn admit(&mut self, now: Moment, who: impl Fn(u32) -> Caller) -> Vec<u32> {
        let mut strangers = vec![];
        // A bound of its own: strangers take no place, but they take time.
        for _ in 0..MOST {
            if self.connections.len() >= MOST {
                break;
            }
            let socket = match self.listener.accept() {
                Ok((socket, _)) => OwnedFd::from(socket),
                Err(error) => {
                    let is_odd = error.kind() != ErrorKind::WouldBlock;
                    self.rests_until = if is_odd { now + REST } else { self.rests_until };
                    break;
                }
            };
            let Ok(user) = getsockopt(&socket, PeerCredentials).map(|peer| peer.uid()) else {
                continue;
            };
            let caller = who(user);
            if caller.is_known() {
                let connection = Connection { socket, caller, deadline: now + SILENT_FOR };
                self.connections.insert(Key(self.next), connection);
                self.next += 1;
            } else {
                // What it said already is taken, or the kernel would tell it of that instead.
                let _ = recv(socket.as_raw_fd(), &mut [0], MsgFlags::MSG_DONTWAIT);
                let _ = say(&socket, &Reply::Refused(Refusal::Forbidden), None);
                strangers.push(user);
            }
        }
        strangers
    }

    /// Reads a request, if there is one: who asks, and what.
    pub fn read(&mut self, key: Key) -> Option<(Caller, Result<Request, Refusal>)> {
        let connection = self.connections.get(&key)?;
        let mut packet = vec![0; LONGEST];
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_TRUNC;
        let request = match recv(connection.socket.as_raw_fd(), &mut packet, flags) {
            Err(Errno::EAGAIN | Errno::EINTR) => return None,
            Ok(0) | Err(_) => {
                self.connections.remove(&key);
                return None;
            }
            Ok(length) => match packet.get(..length) {
                Some(packet) => Request::from_packet(packet),
                None => Err(Refusal::TooLong),
            },
        };
        Some((connection.caller.clone(), request))
    }

    /// Answers, with a descriptor besides if there is one. A refusal ends the connection; so does a
    /// caller who doesn't take the reply.
    pub fn reply(&mut self, key: Key, reply: &Reply, gift: Option<&OwnedFd>, now: Moment) {
        let Some(connection) = self.connections.get_mut(&key) else { return };
        connection.deadline = now + SILENT_FOR;
        let is_refused = matches!(reply, Reply::Refused(_));
        if say(&connection.socket, reply, gift).is_err() || is_refused {
            self.connections.remove(&key);
        }
    }

    /// Lets the silent go.
    pub fn on_time(&mut self, now: Moment) {
        self.connections.retain(|_, connection| connection.deadline > now);
    }
}

fn say(socket: &OwnedFd, reply: &Reply, gift: Option<&OwnedFd>) -> nix::Result<usize> {
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    let (packet, gift) = (reply.to_packet(), gift.map(|gift| [gift.as_raw_fd()]));
    let gifts: Vec<ControlMessage> = gift.iter().map(|it| ControlMessage::ScmRights(it)).collect();
    sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(&packet)], &gifts, flags, None)
}

#[cfg(test)]
mod tests;
