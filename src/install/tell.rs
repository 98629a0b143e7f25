//! What becomes of a bundle, told to PID 1 and to who sends it; nobody who doesn't listen is waited
//! for long.

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use appliance::upgrade::Line;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::write;

/// How long a listener may take who is told something that isn't said again.
const PATIENCE: Duration = Duration::from_secs(5);

/// Tells each of `listeners`. Progress is left out for who isn't ready to hear of it.
pub fn tell(listeners: &[BorrowedFd<'_>], line: &Line) {
    // Plain data: it can be written as JSON.
    let text = serde_json::to_string(line).unwrap_or_default() + "\n";
    let patience = match line {
        Line::Progress { .. } => Duration::ZERO,
        Line::Begun { .. } | Line::Armed { .. } | Line::Failed(_) => PATIENCE,
    };
    for listener in listeners {
        say(*listener, text.as_bytes(), patience);
    }
}

/// A pipe or socket that is ready takes 4096 bytes, more than any line has, without blocking.
fn say(listener: BorrowedFd<'_>, mut text: &[u8], patience: Duration) {
    let begun = Instant::now();
    while !text.is_empty() {
        let left = patience.saturating_sub(begun.elapsed());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(listener, PollFlags::POLLOUT)], timeout) {
            Err(Errno::EINTR) => continue,
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        match write(listener, text) {
            Ok(count) => text = &text[count..],
            Err(Errno::EINTR | Errno::EAGAIN) if !left.is_zero() => {}
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader};
    use std::os::fd::AsFd as _;
    use std::os::unix::net::UnixStream;

    use appliance::upgrade::{Code, Refused};

    use super::*;

    #[test]
    fn nobody_who_does_not_listen_holds_an_installation_up() {
        let (here, there) = UnixStream::pair().unwrap();
        let (pipe_out, pipe_in) = std::io::pipe().unwrap();
        let begun = Instant::now();
        for done in 0..10_000 {
            tell(&[here.as_fd(), pipe_in.as_fd()], &Line::Progress { done });
        }
        assert!(begun.elapsed() < PATIENCE);
        drop((here, pipe_in));
        let line = |text: String| serde_json::from_str::<Line>(&text).is_ok();
        assert!(BufReader::new(there).lines().all(|text| line(text.unwrap())));
        assert!(BufReader::new(pipe_out).lines().all(|text| line(text.unwrap())));
    }

    #[test]
    fn who_is_gone_is_not_told_and_no_line_is_too_long() {
        let (here, there) = UnixStream::pair().unwrap();
        drop(there);
        let refused = Refused { code: Code::Disk, message: "é".repeat(1000) };
        let line = Line::Failed(refused);
        assert!(serde_json::to_string(&line).unwrap().len() < 4096);
        tell(&[here.as_fd()], &line);
    }
}
