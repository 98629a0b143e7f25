//! Asks `stele-init`: one packet there, one back, and at times a descriptor with it.

// Whose a descriptor is that came in a packet, only its number tells.
#![allow(unsafe_code)]

use std::io::{self, IoSliceMut};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::net;
use std::path::Path;

use appliance::control::{LONGEST, Request, VERSION, Verb};
use nix::cmsg_space;
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr, connect, recvmsg,
    send, socket,
};
use tokio::io::Interest;
use tokio::net::UnixStream;

/// The most descriptors that any packet can bring (`SCM_MAX_FD`): there is room for all of them, so
/// that none is left behind open.
const MOST_DESCRIPTORS: usize = 253;

/// What came back.
#[derive(Debug)]
struct Packet {
    bytes: Vec<u8>,
    descriptors: Vec<OwnedFd>,
}

/// The packet that answers `verb`, at most [`LONGEST`] bytes. Waits as long as it takes.
pub async fn ask(path: &Path, verb: Verb) -> io::Result<Vec<u8>> {
    Ok(exchange(path, verb).await?.bytes)
}

/// The same, and the stream that comes with it, if there is one. More than one descriptor, or one
/// of anything else than a stream, is an error.
pub async fn ask_for_stream(
    path: &Path,
    verb: Verb,
) -> io::Result<(Vec<u8>, Option<net::UnixStream>)> {
    let Packet { bytes, descriptors } = exchange(path, verb).await?;
    let mut descriptors = descriptors.into_iter();
    match (descriptors.next(), descriptors.next()) {
        (stream, None) => Ok((bytes, stream.map(stream_of).transpose()?)),
        _ => Err(io::Error::other("it hands over more than one descriptor")),
    }
}

async fn exchange(path: &Path, verb: Verb) -> io::Result<Packet> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket: OwnedFd = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)?;
    // Where too many knock at once, this fails: we ask again when somebody asks us.
    connect(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
    let packet = Request { version: VERSION, verb }.to_packet();
    send(socket.as_raw_fd(), &packet, MsgFlags::MSG_NOSIGNAL)?;
    // Of packets, though tokio knows only the other kind by name.
    let socket = UnixStream::from_std(net::UnixStream::from(socket))?;
    match read(&socket).await {
        // One that was let go with a word unread is told so first; the reply comes after.
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => read(&socket).await,
        packet => packet,
    }
}

async fn read(socket: &UnixStream) -> io::Result<Packet> {
    socket.async_io(Interest::READABLE, || receive(socket.as_raw_fd())).await
}

/// A packet, if there is one; its descriptors are closed on exec.
fn receive(socket: RawFd) -> io::Result<Packet> {
    let mut bytes = vec![0; LONGEST];
    let mut room = cmsg_space!([RawFd; MOST_DESCRIPTORS]);
    let mut parts = [IoSliceMut::new(&mut bytes)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC | MsgFlags::MSG_DONTWAIT;
    let message = recvmsg::<UnixAddr>(socket, &mut parts, Some(&mut room), flags)?;
    let mut descriptors = vec![];
    for part in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(numbers) = part {
            // SAFETY: the kernel has just opened them for us, and told nobody else.
            descriptors.extend(numbers.iter().map(|it| unsafe { OwnedFd::from_raw_fd(*it) }));
        }
    }
    let length = message.bytes;
    bytes.truncate(length);
    Ok(Packet { bytes, descriptors })
}

/// A descriptor as the stream that it must be.
fn stream_of(descriptor: OwnedFd) -> io::Result<net::UnixStream> {
    use nix::sys::socket::{getsockopt, sockopt};
    let kind = getsockopt(&descriptor, sockopt::SockType);
    let address = nix::sys::socket::getsockname::<UnixAddr>(descriptor.as_raw_fd());
    match (kind, address) {
        (Ok(SockType::Stream), Ok(_)) => {
            let stream = net::UnixStream::from(descriptor);
            stream.set_nonblocking(true)?;
            Ok(stream)
        }
        _ => Err(io::Error::other("the descriptor that it hands over is no stream")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd as _;

    use nix::fcntl::{FcntlArg, FdFlag, fcntl};
    use nix::sys::socket::{Backlog, ControlMessage, bind, listen, recv, sendmsg};

    /// What `ask_for_stream` makes of a reply that brings these.
    async fn asked(handed: &[&OwnedFd]) -> Result<Option<net::UnixStream>, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control.sock");
        let kind = SockType::SeqPacket;
        let listener = socket(AddressFamily::Unix, kind, SockFlag::SOCK_CLOEXEC, None).unwrap();
        bind(listener.as_raw_fd(), &UnixAddr::new(&path).unwrap()).unwrap();
        listen(&listener, Backlog::new(1).unwrap()).unwrap();
        let numbers: Vec<RawFd> = handed.iter().map(|it| it.as_raw_fd()).collect();
        let init = std::thread::spawn(move || {
            let (stream, _) = net::UnixListener::from(listener).accept().unwrap();
            recv(stream.as_raw_fd(), &mut [0; 1000], MsgFlags::empty()).unwrap();
            let parts = [io::IoSlice::new(b"\"accepted\"")];
            let rights = [ControlMessage::ScmRights(&numbers)];
            let rights = if numbers.is_empty() { &[][..] } else { &rights[..] };
            sendmsg::<()>(stream.as_raw_fd(), &parts, rights, MsgFlags::empty(), None).unwrap();
        });
        let asked = ask_for_stream(&path, Verb::State).await;
        init.join().unwrap();
        let (packet, stream) = asked.map_err(|error| error.to_string())?;
        assert_eq!(packet, b"\"accepted\"");
        Ok(stream)
    }

    #[tokio::test]
    async fn one_stream_is_taken_and_nothing_else() {
        let (end, other) = net::UnixStream::pair().unwrap();
        let (end, other) = (OwnedFd::from(end), OwnedFd::from(other));
        let file = OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
        let tcp = OwnedFd::from(std::net::TcpListener::bind("127.0.0.1:0").unwrap());
        assert!(asked(&[]).await.unwrap().is_none());
        let stream = asked(&[&end]).await.unwrap().unwrap();
        let flags = fcntl(stream.as_fd(), FcntlArg::F_GETFD).unwrap();
        assert!(FdFlag::from_bits_truncate(flags).contains(FdFlag::FD_CLOEXEC));
        let no_stream = "the descriptor that it hands over is no stream";
        let too_many = "it hands over more than one descriptor";
        let many = [&other; MOST_DESCRIPTORS];
        for (handed, why) in [
            (&[&file][..], no_stream),
            (&[&tcp], no_stream),
            (&[&end, &other], too_many),
            (&many, too_many),
        ] {
            assert_eq!(asked(handed).await.unwrap_err(), why);
        }
    }
}
