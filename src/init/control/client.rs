//! `stele-init control REQUEST`: sends one packet, prints the reply, a value a line. For tests, and
//! for people who debug an image: it has no rights but its caller's.

use std::os::fd::AsRawFd as _;

use appliance::control::{CONTROL_SOCKET, LONGEST};
use nix::errno::Errno;
use nix::sys::socket::sockopt::{ReceiveTimeout, SendTimeout};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr, connect, recv, send, setsockopt, socket,
};
use nix::sys::time::TimeVal;
use serde_json::Value;

use appliance::failure::{Failure, OrCannot as _};

/// The longest wait for PID 1, in seconds.
const ANSWER_WITHIN: i64 = 10;

/// Runs to the end.
pub fn run(request: &str) {
    match ask(request.as_bytes()) {
        Ok(reply) => println!("{reply:#}"),
        Err(failure) => {
            eprintln!("{failure}");
            std::process::exit(1)
        }
    }
}

fn ask(request: &[u8]) -> Result<Value, Failure> {
    let what = format_args!("ask at {CONTROL_SOCKET}");
    let flags = SockFlag::SOCK_CLOEXEC;
    let socket =
        socket(AddressFamily::Unix, SockType::SeqPacket, flags, None).or_cannot("open a socket")?;
    let within = TimeVal::new(ANSWER_WITHIN, 0);
    setsockopt(&socket, ReceiveTimeout, &within).or_cannot(what)?;
    setsockopt(&socket, SendTimeout, &within).or_cannot(what)?;
    let address = UnixAddr::new(CONTROL_SOCKET).or_cannot(what)?;
    connect(socket.as_raw_fd(), &address).or_cannot(what)?;
    send(socket.as_raw_fd(), request, MsgFlags::MSG_NOSIGNAL).or_cannot(what)?;
    let mut reply = vec![0; LONGEST];
    let mut receive = || recv(socket.as_raw_fd(), &mut reply, MsgFlags::empty());
    // One that was let go with a word unread is told so first; the reply comes after.
    let length = match receive() {
        Err(Errno::ECONNRESET) => receive(),
        result => result,
    };
    let length = length.or_cannot(what)?;
    reply.truncate(length);
    serde_json::from_slice(&reply).or_cannot("read the reply")
}
