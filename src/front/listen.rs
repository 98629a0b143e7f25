//! The sockets that clients come to.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsRawFd as _;

use nix::errno::Errno;
use nix::sys::socket::sockopt::{Ipv6V6Only, RcvBuf, ReuseAddr, SndBuf};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, listen, setsockopt, socket,
};

use crate::limits::KERNEL_BUFFER;

/// How many may wait to be let in.
const BACKLOG: i32 = 128;

/// A socket that listens at `address`, never blocks, and if it is of IPv6 is of that alone.
/// `None`: this kernel has no such addresses.
pub fn open(address: SocketAddr) -> io::Result<Option<TcpListener>> {
    let family = match address.is_ipv6() {
        true => AddressFamily::Inet6,
        false => AddressFamily::Inet,
    };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = match socket(family, SockType::Stream, flags, None) {
        Err(Errno::EAFNOSUPPORT) => return Ok(None),
        socket => socket?,
    };
    // Else nobody could listen for a minute after a restart.
    setsockopt(&socket, ReuseAddr, &true)?;
    // Connections have what the listener has.
    setsockopt(&socket, RcvBuf, &KERNEL_BUFFER)?;
    setsockopt(&socket, SndBuf, &KERNEL_BUFFER)?;
    if address.is_ipv6() {
        // IPv4 has a socket of its own: who comes is then never seen by two kinds of address.
        setsockopt(&socket, Ipv6V6Only, &true)?;
    }
    match bind(socket.as_raw_fd(), &SockaddrStorage::from(address)) {
        // IPv6 is there, and switched off.
        Err(Errno::EADDRNOTAVAIL) if address.is_ipv6() && address.ip().is_unspecified() => {
            return Ok(None);
        }
        bound => bound?,
    }
    listen(&socket, Backlog::new(BACKLOG)?)?;
    Ok(Some(socket.into()))
}
