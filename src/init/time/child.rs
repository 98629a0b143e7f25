//! The child: a UDP socket to one server as standard input, reports on standard output, trouble on
//! standard error. It has no rights and needs none.

use std::convert::Infallible;
use std::fs;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::UdpSocket;
use std::os::fd::AsFd as _;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::clock;
use crate::sys;
use crate::time::client::{Action, Client};
use crate::time::message;
use appliance::failure::{Failure, OrCannot as _};

/// More than a message of any kind; what is longer is cut, and no answer then.
const LONGEST: usize = 512;

/// Runs until it is stopped, or cannot go on.
pub fn run(floor: &str) {
    let Err(failure) = serve(floor);
    eprintln!("{failure}");
    std::process::exit(1)
}

fn serve(floor: &str) -> Result<Infallible, Failure> {
    let socket = UdpSocket::from(sys::standard_input());
    let floor = floor.parse().or_cannot(format_args!("understand the date {floor}"))?;
    let mut client = Client::new(floor);
    loop {
        for action in next(&socket, &mut client)? {
            match action {
                // A network that is down is a server that is silent.
                Action::Send(nonce) => drop(socket.send(&message::query(nonce))),
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
fn next(socket: &UdpSocket, client: &mut Client) -> Result<Vec<Action>, Failure> {
    let left = client.deadline().saturating_sub(clock::now());
    if left.is_zero() {
        let nonce = random()?;
        return Ok(client.on_time(clock::now(), clock::date(), nonce));
    }
    let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
    match poll(&mut [PollFd::new(socket.as_fd(), PollFlags::POLLIN)], timeout) {
        Ok(0) | Err(Errno::EINTR) => return Ok(vec![]),
        result => result.or_cannot("wait for packets")?,
    };
    let now = clock::now();
    let mut packet = [0; LONGEST];
    match socket.recv(&mut packet) {
        Ok(length) => {
            Ok(packet.get(..length).map_or(vec![], |packet| client.on_packet(now, packet)))
        }
        // A router says that nobody is there: silence, too.
        Err(error) if error.kind() != ErrorKind::InvalidInput => Ok(vec![]),
        Err(error) => Err(Failure::new("receive a packet", error)),
    }
}

fn random() -> Result<u64, Failure> {
    let mut bytes = [0; 8];
    let done = fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes));
    done.or_cannot("read /dev/urandom")?;
    Ok(u64::from_ne_bytes(bytes))
}
