//! A connection to a port of loopback, bounded in time and in what comes from there: whatever is at
//! the other end, who reads here comes to an end.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use appliance::failure::{Failure, OrCannot as _};

/// The most bytes that are taken: all that is asked here is answered by a few kilobytes.
const MOST: usize = 128 * 1024;

/// The connection.
#[derive(Debug)]
pub struct Bounded {
    stream: TcpStream,
    within: Duration,
    until: Instant,
    left: usize,
}

impl Bounded {
    /// Connects; from now on everything together may take so long.
    pub fn connect(port: u16, within: Duration) -> Result<Bounded, Failure> {
        let until = Instant::now() + within;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let stream = TcpStream::connect_timeout(&address, within)
            .or_cannot(format_args!("connect to port {port}"))?;
        Ok(Bounded { stream, within, until, left: MOST })
    }

    fn time_left(&self) -> io::Result<Duration> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(self.late()) } else { Ok(left) }
    }

    fn late(&self) -> io::Error {
        let message = format!("it takes longer than {:.1} s", self.within.as_secs_f32());
        io::Error::new(ErrorKind::TimedOut, message)
    }

    /// A wait that is over is told as what it is.
    fn told(&self, error: io::Error) -> io::Error {
        if error.kind() == ErrorKind::WouldBlock { self.late() } else { error }
    }
}

impl Read for Bounded {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 {
            return Err(io::Error::other(format!("it says more than {MOST} bytes")));
        }
        self.stream.set_read_timeout(Some(self.time_left()?))?;
        let end = buffer.len().min(self.left);
        let room = buffer.get_mut(..end).unwrap_or_default();
        let count = self.stream.read(room).map_err(|error| self.told(error))?;
        self.left -= count;
        Ok(count)
    }
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(Some(self.time_left()?))?;
        self.stream.write(bytes).map_err(|error| self.told(error))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}
