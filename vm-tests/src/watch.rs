//! What a VM has shown so far, and the one way to wait for more.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::console::Line;
use crate::peer::Heard;
use crate::qmp::Event;

/// How many lines of the console a message shows.
const LAST_LINES: usize = 20;

/// Filled by the threads that read from a VM; asked by the story.
#[derive(Debug)]
pub struct Watch {
    seen: Mutex<Seen>,
    news: Condvar,
}

/// Everything that came from a VM.
#[derive(Debug, Default)]
pub struct Seen {
    /// The console.
    pub lines: Vec<Line>,
    /// What QEMU told.
    pub events: Vec<Event>,
    /// QEMU's answers, by the number of the question.
    pub replies: BTreeMap<u64, Value>,
    /// What it asked its neighbour, if it has one of the harness's.
    pub heard: Vec<Heard>,
    /// When its first frame came there, since QEMU's start.
    pub first_frame: Option<Duration>,
    /// The first line that no machine may show.
    pub trouble: Option<String>,
    /// Why the harness killed it.
    pub killed: Option<String>,
    /// Sources that are still open: at none, nothing more will come.
    sources: usize,
}

/// What was awaited did not come.
#[derive(Debug)]
pub struct Missed {
    what: String,
    cause: String,
    last: Vec<String>,
}

impl Watch {
    /// Nothing has been seen; so many threads will report.
    pub fn new(sources: usize) -> Watch {
        let seen = Seen { sources, ..Seen::default() };
        Watch { seen: Mutex::new(seen), news: Condvar::new() }
    }

    /// Waits until `look` finds `what`; at most for as long as `within`, and no longer than it can
    /// still come.
    pub fn wait<T>(
        &self,
        what: &str,
        within: Duration,
        mut look: impl FnMut(&Seen) -> Option<T>,
    ) -> Result<T, Missed> {
        let deadline = Instant::now() + within;
        let mut seen = self.seen();
        loop {
            if let Some(found) = look(&seen) {
                return Ok(found);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if let Some(cause) = seen.hopeless().or_else(|| timed_out(left, within)) {
                return Err(Missed { what: what.to_owned(), cause, last: seen.last_lines() });
            }
            let woken = self.news.wait_timeout(seen, left);
            seen = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Tries until `attempt` succeeds, for what can't announce itself: anew when there is news of
    /// any kind, and after `again` at the latest.
    pub fn retry<T, E: fmt::Display>(
        &self,
        what: &str,
        within: Duration,
        again: Duration,
        mut attempt: impl FnMut() -> Result<T, E>,
    ) -> Result<T, Missed> {
        let deadline = Instant::now() + within;
        loop {
            let failed = match attempt() {
                Ok(found) => return Ok(found),
                Err(failed) => failed,
            };
            let seen = self.seen();
            let left = deadline.saturating_duration_since(Instant::now());
            if let Some(cause) = seen.hopeless().or_else(|| timed_out(left, within)) {
                let what = format!("{what} (last try: {failed})");
                return Err(Missed { what, cause, last: seen.last_lines() });
            }
            drop(self.news.wait_timeout(seen, left.min(again)));
        }
    }

    /// What has been seen; nothing is added meanwhile.
    pub fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds something, and wakes who waits.
    pub fn tell(&self, add: impl FnOnce(&mut Seen)) {
        add(&mut self.seen());
        self.news.notify_all();
    }

    /// A source has come to its end.
    pub fn close(&self) {
        self.tell(|seen| seen.sources = seen.sources.saturating_sub(1));
    }
}

impl Seen {
    /// Why what isn't there will never come.
    fn hopeless(&self) -> Option<String> {
        if let Some(trouble) = &self.trouble {
            return Some(format!("the console shows `{trouble}`"));
        }
        if self.sources > 0 {
            return None;
        }
        if let Some(killed) = &self.killed {
            return Some(killed.clone());
        }
        let shutdown = self.events.iter().rev().find_map(Event::shutdown_reason);
        Some(match shutdown {
            Some(reason) => format!("the machine ended: {reason}"),
            None => "QEMU ended without a word".to_owned(),
        })
    }

    fn last_lines(&self) -> Vec<String> {
        let from = self.lines.len().saturating_sub(LAST_LINES);
        self.lines[from..].iter().map(ToString::to_string).collect()
    }
}

fn timed_out(left: Duration, within: Duration) -> Option<String> {
    left.is_zero().then(|| format!("it did not come within {within:?}"))
}

impl fmt::Display for Missed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot see {}: {}\nlast lines of the console:", self.what, self.cause)?;
        self.last.iter().try_for_each(|line| write!(f, "\n  {line}"))
    }
}

impl std::error::Error for Missed {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::thread;

    const LONG: Duration = Duration::from_secs(20);

    fn line(text: &str) -> Line {
        Line { number: 0, at: Duration::ZERO, cpu: Duration::ZERO, text: text.to_owned() }
    }

    fn look_for(text: &'static str) -> impl FnMut(&Seen) -> Option<()> {
        move |seen| seen.lines.iter().any(|line| line.text == text).then_some(())
    }

    #[test]
    fn what_comes_later_ends_the_wait() {
        let watch = Arc::new(Watch::new(1));
        let teller = Arc::clone(&watch);
        let told = thread::spawn(move || teller.tell(|seen| seen.lines.push(line("ready"))));
        watch.wait("`ready`", LONG, look_for("ready")).unwrap();
        told.join().unwrap();
    }

    #[test]
    fn a_try_that_fails_is_repeated_until_it_cannot_succeed() {
        let watch = Watch::new(1);
        let again = Duration::from_millis(1);
        let mut left = 3;
        let done = watch.retry("success", LONG, again, || {
            left -= 1;
            if left == 0 { Ok(7) } else { Err("not yet") }
        });
        assert_eq!(done.unwrap(), 7);
        watch.close();
        let missed = watch.retry("success", LONG, again, || Err::<(), _>("never")).unwrap_err();
        let expected = "cannot see success (last try: never): QEMU ended without a word\n";
        assert!(missed.to_string().starts_with(expected), "{missed}");
    }

    #[test]
    fn a_wait_in_vain_names_what_was_awaited_and_why_it_cannot_come() {
        let at_once = Duration::ZERO;
        type Row<'a> = (&'a str, Duration, fn(&mut Seen));
        let table: [Row; 4] = [
            ("it did not come within 0ns", at_once, |_| {}),
            ("the console shows `Oops`", LONG, |seen| seen.trouble = Some("Oops".into())),
            ("QEMU ended without a word", LONG, |seen| seen.sources = 0),
            ("too old", LONG, |seen| {
                seen.killed = Some("too old".into());
                seen.sources = 0;
            }),
        ];
        for (cause, within, happened) in table {
            let watch = Watch::new(1);
            watch.tell(|seen| seen.lines.push(line("the last one")));
            watch.tell(happened);
            let missed = watch.wait("`ready`", within, look_for("ready")).unwrap_err().to_string();
            assert!(missed.starts_with(&format!("cannot see `ready`: {cause}\n")), "{missed}");
            assert!(missed.ends_with("the last one"), "{missed}");
        }
    }
}
