//! Where the bundle comes from: bytes that may stop coming.

use std::fmt;
use std::io;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::read;

/// For how long who sends may say nothing, and for how long a chunk may take.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// Between two bytes.
    pub silence: Duration,
    /// For all that is asked for at once.
    pub whole: Duration,
}

impl Patience {
    /// A line that carries 2 KiB a second is slow; a slower one is none.
    pub const REAL: Patience =
        Patience { silence: Duration::from_secs(60), whole: Duration::from_secs(600) };
}

/// Why no more bytes came.
#[derive(Debug)]
pub enum Cut {
    /// The other side has ended the stream.
    Ended,
    /// It hasn't, but said nothing, or too little, for so long.
    Stalled(Duration),
    /// It broke.
    Broken(io::Error),
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cut::Ended => f.write_str("it ended"),
            Cut::Stalled(wait) => write!(f, "not enough of it came within {} s", wait.as_secs()),
            Cut::Broken(error) => write!(f, "it broke: {error}"),
        }
    }
}

/// Bytes that come.
pub trait Source {
    /// Fills `bytes`.
    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), Cut>;
    /// Has it ended? If not, there is a byte more.
    fn has_ended(&mut self) -> Result<bool, Cut> {
        match self.fill(&mut [0]) {
            Ok(()) => Ok(false),
            Err(Cut::Ended) => Ok(true),
            Err(cut) => Err(cut),
        }
    }
}

/// An open file from which they come.
#[derive(Debug)]
pub struct Stream<'a> {
    /// It.
    pub file: BorrowedFd<'a>,
    /// Its bounds.
    pub patience: Patience,
}

impl Stream<'_> {
    /// Waits for bytes; if none come, the bound that is told is over.
    fn wait(&self, wait: Duration, bound: Duration) -> Result<(), Cut> {
        let timeout = PollTimeout::try_from(wait).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(self.file, PollFlags::POLLIN)], timeout) {
            Ok(0) => Err(Cut::Stalled(bound)),
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(error) => Err(Cut::Broken(error.into())),
        }
    }
}

impl Source for Stream<'_> {
    fn fill(&mut self, mut bytes: &mut [u8]) -> Result<(), Cut> {
        let begun = Instant::now();
        while !bytes.is_empty() {
            let left = self.patience.whole.saturating_sub(begun.elapsed());
            if left.is_zero() {
                return Err(Cut::Stalled(self.patience.whole));
            }
            match left < self.patience.silence {
                true => self.wait(left, self.patience.whole)?,
                false => self.wait(self.patience.silence, self.patience.silence)?,
            }
            match read(self.file, bytes) {
                Ok(0) => return Err(Cut::Ended),
                Ok(count) => bytes = &mut bytes[count..],
                Err(Errno::EINTR | Errno::EAGAIN) => {}
                Err(error) => return Err(Cut::Broken(error.into())),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::fd::AsFd as _;
    use std::os::unix::net::UnixStream;
    use std::thread;

    use super::*;

    const SHORT: Duration = Duration::from_millis(50);

    const LONG: Duration = Duration::from_secs(60);

    fn stream(file: &UnixStream, silence: Duration, whole: Duration) -> Stream<'_> {
        Stream { file: file.as_fd(), patience: Patience { silence, whole } }
    }

    #[test]
    fn what_comes_is_read_and_what_does_not_come_is_not_waited_for() {
        let (mut there, here) = UnixStream::pair().unwrap();
        there.write_all(b"1234").unwrap();
        let mut bytes = [0; 4];
        let mut stream = stream(&here, SHORT, LONG);
        stream.fill(&mut bytes).unwrap();
        assert_eq!(&bytes, b"1234");
        assert!(matches!(stream.fill(&mut bytes), Err(Cut::Stalled(SHORT))));
        there.write_all(b"5").unwrap();
        assert!(!stream.has_ended().unwrap());
        drop(there);
        assert!(stream.has_ended().unwrap());
    }

    #[test]
    fn who_sends_a_byte_now_and_then_is_not_waited_for_either() {
        let (mut there, here) = UnixStream::pair().unwrap();
        let drip = thread::spawn(move || {
            while there.write_all(b"1").is_ok() {
                thread::sleep(SHORT / 5);
            }
        });
        let cut = stream(&here, LONG, 6 * SHORT).fill(&mut [0; 100_000]);
        assert!(matches!(cut, Err(Cut::Stalled(bound)) if bound == 6 * SHORT));
        drop(here);
        drip.join().unwrap();
    }
}
