//! `stele upgrade`: gives a Pod that runs a bundle, and waits until one of its two systems runs for
//! good.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use anyhow::{Context, Error, Result};

use crate::pod::client::{self, Pod};
use crate::pod::state::Slot;
use crate::pod::switch::{self, Back, Outcome, switch};
use crate::progress::Progress;

/// The code of an upgrade after which the old system is back.
const BACK: u8 = 3;

/// A bundle on its way.
struct Sent<'a> {
    file: File,
    progress: &'a Progress,
}

impl Read for Sent<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.file.read(buffer)?;
        self.progress.advance(length as u64);
        Ok(length)
    }
}

/// Has the bundle at `path` installed, and tried.
pub fn upgrade(
    path: &Path,
    reach: &client::Options,
    options: &switch::Options,
    progress: &Progress,
) -> Result<Outcome> {
    let unreadable = || format!("cannot read {}", path.display());
    let file = File::open(path).with_context(unreadable)?;
    let length = file.metadata().with_context(unreadable)?.len();
    let pod = Pod::reach(reach)?;
    let target = other_slot(&pod)?;
    progress.start("sending", length);
    let sent = pod.send_bundle(&mut Sent { file, progress }, length);
    progress.finish();
    let system = sent
        .map_err(|error| with_task(&pod, error))
        .with_context(|| format!("cannot install {} at {}", path.display(), pod.address()))?;
    switch(&pod, &target, system, options, progress)
}

/// The slot of a Pod that doesn't run.
pub fn other_slot(pod: &Pod) -> Result<Slot> {
    let state = pod.state().with_context(|| format!("cannot ask {} how it is", pod.address()))?;
    let other = state.other().cloned();
    other.with_context(|| format!("cannot upgrade {}: it has no two slots", pod.address()))
}

/// Where the answer was lost, what the Pod says of it otherwise. It isn't sent again: the first may
/// still be at work.
fn with_task(pod: &Pod, error: client::Error) -> Error {
    let is_lost = matches!(error, client::Error::Lost(_));
    let task = pod.state().ok().filter(|_| is_lost).and_then(|state| state.task());
    match task {
        Some(task) => {
            Error::from(error).context(format!("the answer was lost\nhint: it says: {task}"))
        }
        None => error.into(),
    }
}

/// The code that the program ends with.
pub fn exit_code(error: &Error) -> u8 {
    if error.is::<Back>() { BACK } else { 1 }
}
