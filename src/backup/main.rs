//! The program `stele-backup`: writes and reads backups, as a short-lived child of `stele-init`,
//! in a jail that shows nothing but the data, without a network.
//!
//! Apart from PID 1's own program, which holds no cipher and no compressor, and which every initrd
//! carries. It reads one order from its standard input, and tells how it goes, a line each.
//!
//! | module | what it knows |
//! |---|---|
//! | [`place`] | where everything lies |
//! | [`snapshot`] | how to get hold of files that others write to |
//! | [`archive`] | what a backup consists of |
//! | [`seal`] | how it is encrypted |
//! | [`create`], [`prepare`], [`shelf`], [`clear`] | what can be ordered |

mod archive;
mod clear;
mod create;
mod place;
mod prepare;
mod seal;
mod shelf;
mod snapshot;
#[cfg(test)]
mod tests;
mod trouble;

use std::io::{self, Read as _};
use std::process::ExitCode;

use appliance::backup::{Job, Kind, Line, Order, Report, Stats, Trouble};

use crate::place::Place;

/// The longest order.
const LONGEST: u64 = 256 * 1024;

fn main() -> ExitCode {
    let mut text = vec![];
    let read = io::stdin().take(LONGEST).read_to_end(&mut text).map_err(|error| error.to_string());
    let order = read
        .and_then(|_| serde_json::from_slice::<Order>(&text).map_err(|error| error.to_string()));
    match order {
        Ok(order) => {
            carry_out(&Place::real(), &order, &mut |report| say(order.number, report));
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("cannot understand the order: {error}");
            ExitCode::FAILURE
        }
    }
}

fn say(number: u32, report: Report) {
    // Plain data: it can be written as JSON.
    println!("{}", serde_json::to_string(&Line { number, report }).unwrap_or_default());
}

/// Does what is ordered; what came of it is told last.
fn carry_out(place: &Place, order: &Order, tell: &mut dyn FnMut(Report)) {
    let outcome = match &order.job {
        Job::Create { id, description, lock } => {
            create::create(place, order, id, description.clone(), lock, tell)
        }
        Job::Accept { id, description } => {
            shelf::accept(place, id, description.clone(), order.origin.date).map(none)
        }
        Job::Describe { id, description } => {
            shelf::describe(place, id, description.clone()).map(none)
        }
        Job::Delete { ids } => shelf::delete(place, ids).map(none),
        Job::Prepare { id, key } => prepare::prepare(place, order, id, key, tell),
        Job::Erase => prepare::lay_out_empty(place, &order.volumes).map(none),
        Job::Clear => clear::clear(place).map(none),
    };
    match outcome {
        Ok(stats) => tell(Report::Done(stats)),
        Err(trouble) => {
            if trouble.kind == Kind::Failed {
                eprintln!("{trouble}");
            }
            tell(Report::Failed(trouble));
        }
    }
}

fn none((): ()) -> Stats {
    Stats::default()
}

/// Has a person written too much, or something that no page should show?
fn checked(description: Option<String>) -> Result<Option<String>, Trouble> {
    let is_fine = |text: &String| {
        let length = text.chars().count();
        (1..=appliance::backup::LONGEST_DESCRIPTION).contains(&length)
            && !text.chars().any(char::is_control)
    };
    match description {
        Some(text) if !is_fine(&text) => Err(Trouble::new(
            Kind::Invalid,
            "a description has 1 to 256 characters, none of them a control character",
        )),
        description => Ok(description),
    }
}
