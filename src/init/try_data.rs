//! Does the data keep what is written to it? Tried by a child, since a disk that hangs, hangs whoever
//! waits for it; with a user and a folder of its own, since it needs nothing else.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;

use appliance::boot::PROBE_USER;
use appliance::probe::{DATA, Line};
use appliance::service::{Access, Kind, Millis, Service};
use appliance::upgrade::Check;

use crate::volumes::make_folder_of;
use crate::{child, health};
use appliance::failure::{Failure, OrCannot as _};

/// Where it writes, on the data.
const FOLDER: &str = "/run/stele/data/probe";
/// The file's name.
const FILE: &str = "tried";
/// More than a file system keeps beside the file's name.
const LENGTH: usize = 64 * 1024;
/// The longest question.
const LONGEST: u64 = 16;

/// The child, which is handed the number of its question.
pub fn service(name: &str) -> Service {
    let service = child::service(name, &["try-data"], "stele-probe", PROBE_USER);
    let within = Millis(health::WITHIN.as_millis() as u64);
    let kind = Kind::Task { creates: None, done_within: within };
    Service { kind, grants: [(FOLDER.into(), Access::Write)].into(), ..service }
}

/// Makes its folder.
pub fn make_place() -> Result<(), Failure> {
    make_folder_of(Path::new(FOLDER), 0o700, PROBE_USER, PROBE_USER)
        .or_cannot(format_args!("make folder {FOLDER}"))
}

/// Runs to its end.
pub fn run() {
    match child::document::<u32>(LONGEST) {
        Ok(number) => {
            let why = write_and_read(Path::new(FOLDER)).err().map(|failure| failure.to_string());
            let check = Check { name: DATA.to_owned(), passes: why.is_none(), why };
            // Plain data: it can be written as JSON.
            println!("{}", serde_json::to_string(&Line { number, check }).unwrap_or_default());
        }
        Err(failure) => {
            eprintln!("{failure}");
            std::process::exit(1)
        }
    }
}

/// Should the power go in between, the file is there, and the next one takes its place.
fn write_and_read(folder: &Path) -> Result<(), Failure> {
    let path = folder.join(FILE);
    let bytes: Vec<u8> = (0..LENGTH).map(|at| at as u8).collect();
    let mut file = File::create(&path).or_cannot("make a file")?;
    file.write_all(&bytes).or_cannot("write to a file")?;
    file.sync_all().or_cannot("have a file kept")?;
    drop(file);
    let read = fs::read(&path).or_cannot("read a file")?;
    if read != bytes {
        return Err(Failure::new("read a file", "it isn't what was written"));
    }
    fs::remove_file(&path).or_cannot("remove a file")?;
    File::open(folder).and_then(|folder| folder.sync_all()).or_cannot("have a folder kept")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_keeps_is_left_as_it_was_and_another_is_told() {
        let folder = std::env::temp_dir().join(format!("stele-try-data-{}", std::process::id()));
        fs::create_dir(&folder).unwrap();
        // What a cut left.
        fs::write(folder.join(FILE), "half").unwrap();
        assert_eq!(write_and_read(&folder), Ok(()));
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
        fs::remove_dir(&folder).unwrap();
        let said = write_and_read(&folder).unwrap_err().to_string();
        assert!(said.starts_with("cannot make a file: "), "{said}");
    }
}
