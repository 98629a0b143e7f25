//! The program `stele-install`: verifies a bundle that comes as a stream and writes it beside the
//! system that runs, as a short-lived child of `stele-init`, which may do nothing else than that.
//!
//! | descriptor | what it is |
//! |---|---|
//! | 0 | a socket: the bundle comes from it until its end, and [`Line`]s go to who sends it |
//! | 1 | where [`Line`]s go to PID 1 |
//! | 3 | the ESP |
//! | 4 | the slot that doesn't run |
//! | 5 | the [`Order`], a file |
//!
//! | module | what it knows |
//! |---|---|
//! | [`judge`] | whether a bundle may be installed |
//! | [`install`] | in which order what is written |
//! | [`tree`] | the hash tree of what was written |
//! | [`device`], [`stream`], [`tell`] | disks, where bundles come from, who listens |

mod descriptors;
mod device;
mod install;
mod judge;
#[cfg(test)]
mod proof;
mod stream;
mod tell;
mod tree;

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::AsFd as _;
use std::process::ExitCode;

use appliance::upgrade::{Code, Line, Order, Refused};

use crate::device::Disk;
use crate::install::{Disks, install};
use crate::judge::refused;
use crate::stream::{Patience, Stream};

/// The longest order, in bytes.
const LONGEST: u64 = 256 * 1024;

fn main() -> ExitCode {
    let (input, output) = (io::stdin(), io::stdout());
    let listeners = [output.as_fd(), input.as_fd()];
    let mut tell = |line: &Line| tell::tell(&listeners, line);
    let mut source = Stream { file: input.as_fd(), patience: Patience::REAL };
    match carry_out(&mut source, &mut tell) {
        Ok(()) => ExitCode::SUCCESS,
        Err(refused) => {
            eprintln!("{}", refused.message);
            tell(&Line::Failed(refused));
            ExitCode::FAILURE
        }
    }
}

fn carry_out(source: &mut Stream<'_>, tell: &mut dyn FnMut(&Line)) -> Result<(), Refused> {
    let cannot = |what, error| refused(Code::Disk, format_args!("cannot {what}: {error}"));
    let order = descriptors::take(5).and_then(order);
    let order = order.map_err(|error| cannot("understand the order", error))?;
    let disk = |number| descriptors::take(number).and_then(Disk::new);
    let mut esp = disk(3).map_err(|error| cannot("use the ESP", error))?;
    let mut slot = disk(4).map_err(|error| cannot("use the slot", error))?;
    install(&order, Disks { esp: &mut esp, slot: &mut slot }, source, tell)
}

fn order(file: File) -> io::Result<Order> {
    let mut text = vec![];
    file.take(LONGEST).read_to_end(&mut text)?;
    Ok(serde_json::from_slice(&text)?)
}
