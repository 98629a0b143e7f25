//! A tree of files, one after the other, a folder's beginning before what is in it and its end after.

use std::fs::{self, Metadata, ReadDir};
use std::path::{Path, PathBuf};

use appliance::failure::{Failure, OrCannot as _};

/// What is met. Paths are relative to where the walk looks.
#[derive(Debug)]
pub enum Found {
    /// A folder begins.
    Folder(PathBuf, Metadata),
    /// It is over.
    End(PathBuf, Metadata),
    /// Anything else; links aren't followed.
    Other(PathBuf, Metadata),
}

/// One walk. It holds a descriptor for each folder that it is in, and nothing of what it has passed.
#[derive(Debug)]
pub struct Walk {
    within: PathBuf,
    /// Where it begins, until it has.
    start: Option<PathBuf>,
    folders: Vec<(PathBuf, Metadata, ReadDir)>,
}

impl Walk {
    /// Through `start` and all that is in it; that and all paths are relative to `within`.
    pub fn new(within: &Path, start: impl Into<PathBuf>) -> Walk {
        Walk { within: within.to_owned(), start: Some(start.into()), folders: vec![] }
    }

    fn meet(&mut self, path: PathBuf) -> Result<Found, Failure> {
        let here = self.within.join(&path);
        let found = fs::symlink_metadata(&here);
        let found = found.or_cannot(format_args!("look at {}", here.display()))?;
        if !found.is_dir() {
            return Ok(Found::Other(path, found));
        }
        let entries = fs::read_dir(&here);
        let entries = entries.or_cannot(format_args!("read folder {}", here.display()))?;
        self.folders.push((path.clone(), found.clone(), entries));
        Ok(Found::Folder(path, found))
    }

    fn proceed(&mut self) -> Result<Option<Found>, Failure> {
        if let Some(start) = self.start.take() {
            return self.meet(start).map(Some);
        }
        let Some((path, _, entries)) = self.folders.last_mut() else { return Ok(None) };
        if let Some(entry) = entries.next() {
            let entry = entry.or_cannot(format_args!("read folder {}", path.display()))?;
            let path = path.join(entry.file_name());
            return self.meet(path).map(Some);
        }
        Ok(self.folders.pop().map(|(path, found, _)| Found::End(path, found)))
    }
}

impl Iterator for Walk {
    type Item = Result<Found, Failure>;

    fn next(&mut self) -> Option<Result<Found, Failure>> {
        self.proceed().transpose()
    }
}
