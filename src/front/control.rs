//! Asks `stele-init`: one packet there, one back.

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::net;
use std::path::Path;

use appliance::control::{LONGEST, Request, VERSION, Verb};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr, connect, send, socket,
};
use tokio::net::UnixStream;

/// The packet that answers `verb`, at most [`LONGEST`] bytes. Waits as long as it takes.
pub async fn ask(path: &Path, verb: Verb) -> io::Result<Vec<u8>> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket: OwnedFd = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)?;
    // Where too many knock at once, this fails: we ask again when somebody asks us.
    connect(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
    let packet = Request { version: VERSION, verb }.to_packet();
    send(socket.as_raw_fd(), &packet, MsgFlags::MSG_NOSIGNAL)?;
    // Of packets, though tokio knows only the other kind by name: a read takes one.
    let socket = UnixStream::from_std(net::UnixStream::from(socket))?;
    let mut reply = vec![0; LONGEST];
    let length = match read(&socket, &mut reply).await {
        // One that was let go with a word unread is told so first; the reply comes after.
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
            read(&socket, &mut reply).await?
        }
        length => length?,
    };
    reply.truncate(length);
    Ok(reply)
}

async fn read(socket: &UnixStream, packet: &mut [u8]) -> io::Result<usize> {
    loop {
        socket.readable().await?;
        match socket.try_read(packet) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            result => return result,
        }
    }
}
