//! The child: a packet socket as standard input, reports on standard output, trouble on standard
//! error. It has no rights and needs none.

use std::convert::Infallible;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, recv};
use nix::unistd::gethostname;

use crate::clock;
use crate::dhcp::client::{Action, Client};
use crate::dhcp::message::Answer;
use crate::sys;
use appliance::failure::{Failure, OrCannot as _};

/// No DHCP message is longer on an ordinary network.
const LONGEST: usize = 2048;

/// Runs until it is stopped, or cannot go on.
pub fn run(interface: &str) {
    let Err(failure) = serve(interface);
    eprintln!("{failure}");
    std::process::exit(1)
}

fn serve(interface: &str) -> Result<Infallible, Failure> {
    let socket = sys::standard_input();
    // The child's jail has no /sys; its socket knows which interface it is bound to.
    let what = format_args!("use the hardware address of {interface}");
    let (index, mac) = sys::interface_of(&socket).or_cannot(what)?;
    let mac = mac.ok_or("it is none of Ethernet").or_cannot(what)?;
    let host = gethostname().ok().and_then(|host| host.into_string().ok()).unwrap_or_default();
    let mut client = Client::new(mac, host, random()?);
    loop {
        for action in next(&socket, &mut client)? {
            match action {
                Action::Send(query) => {
                    if let Err(errno) = sys::broadcast(&socket, index, &query.to_packet()) {
                        // The link may be down; the query is repeated anyway.
                        eprintln!("cannot send on {interface}: {errno}");
                    }
                }
                Action::Tell(report) => {
                    let mut output = io::stdout().lock();
                    writeln!(output, "{}", report.to_line()).or_cannot("report")?;
                    output.flush().or_cannot("report")?;
                }
            }
        }
    }
}

/// What is to be done after the next packet or deadline.
fn next(socket: &OwnedFd, client: &mut Client) -> Result<Vec<Action>, Failure> {
    let left = client.deadline().saturating_sub(clock::now());
    if left.is_zero() {
        return Ok(client.on_time(clock::now()));
    }
    let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
    match poll(&mut [PollFd::new(socket.as_fd(), PollFlags::POLLIN)], timeout) {
        Ok(0) | Err(Errno::EINTR) => return Ok(vec![]),
        result => result.or_cannot("wait for packets")?,
    };
    let mut packet = [0; LONGEST];
    let length = match recv(socket.as_raw_fd(), &mut packet, MsgFlags::empty()) {
        // An interface that goes down says so once; it may come up again.
        Err(Errno::EAGAIN | Errno::EINTR | Errno::ENETDOWN) => 0,
        result => result.or_cannot("receive a packet")?,
    };
    let answer = packet.get(..length).and_then(Answer::from_packet);
    Ok(answer.map_or(vec![], |answer| client.on_answer(clock::now(), &answer)))
}

fn random() -> Result<u32, Failure> {
    let mut bytes = [0; 4];
    let done = fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes));
    done.or_cannot("read /dev/urandom")?;
    Ok(u32::from_ne_bytes(bytes))
}
