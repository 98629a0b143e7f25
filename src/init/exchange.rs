//! What was laid out takes the place of what there is: all of it, or nothing, whenever the power goes.
//!
//! | step | cut after it, the next boot finds |
//! |---|---|
//! | the child laid everything out, and synced it | the old; what was laid out is cleared away |
//! | the marker is on the disk: the commit | the marker, and goes on before anybody starts |
//! | `volumes/X` is renamed to `backup/old/volumes/X` | no X but a new one: goes on |
//! | `backup/new/volumes/X` is renamed to `volumes/X` | no new X any more: that one is done |
//! | the same for each other; their folders are synced | nothing left to rename |
//! | the marker is removed | the new; the old is cleared away |
//!
//! A step that was taken shows: it isn't taken again. Before the marker nothing has been touched, and
//! after it everything is there that is needed to go on, so that nothing needs to be undone.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use appliance::boot::Volume;
use serde::{Deserialize, Serialize};

use crate::failure::{Failure, OrCannot as _};
use crate::keep;

/// The marker's name on the data.
const MARKER: &str = "exchange.json";
/// Where what takes a place is, and where what has lost it goes.
const NEW: &str = "backup/new";
const OLD: &str = "backup/old";
/// What is made of what is given up, or comes from elsewhere: it goes, and is made anew.
const DERIVED: &str = "settings.json";
/// More than that lies directly in no volume of an operator's.
const MOST: usize = 256;

/// What changes its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exchange {
    places: Vec<Exchanged>,
}

/// A place on the data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Exchanged {
    /// Relative to the data.
    path: PathBuf,
    /// Something takes it; else it stays empty.
    is_taken: bool,
}

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step<'a> {
    /// What is there goes.
    Leave(&'a Exchanged),
    /// What is new comes.
    Arrive(&'a Exchanged),
    /// That is on the disk.
    Sync,
    /// The marker goes.
    End,
}

impl Exchange {
    /// Of whatever was laid out: data volumes as a whole, operators' files one by one.
    pub fn of_what_was_laid_out(data: &Path, volumes: &[Volume]) -> Result<Exchange, Failure> {
        let mut places = vec![Exchanged { path: DERIVED.into(), is_taken: false }];
        for volume in volumes {
            let path = Path::new("volumes").join(volume.path.trim_start_matches('/'));
            let new = data.join(NEW).join(&path);
            if !new.is_dir() {
                continue;
            }
            if !volume.path.starts_with("/etc/") {
                places.push(Exchanged { path, is_taken: true });
                continue;
            }
            let what = format_args!("look at what was laid out for {}", volume.path);
            for entry in fs::read_dir(&new).or_cannot(what)?.take(MOST) {
                let path = path.join(entry.or_cannot(what)?.file_name());
                places.push(Exchanged { path, is_taken: true });
            }
        }
        Ok(Exchange { places })
    }

    /// Decides that it is done. What has lost its place before must have been cleared away.
    pub fn begin(&self, data: &Path) -> Result<(), Failure> {
        let what = "begin to exchange the data";
        let old = data.join(OLD);
        if exists(&old).or_cannot(what)? {
            return Err(Failure::new(what, format_args!("{} is there", old.display())));
        }
        let text = serde_json::to_vec(self).or_cannot(what)?;
        keep::replace(&data.join(MARKER), &text, 0o600, keep::ROOT).or_cannot(what)
    }

    /// Does it, from wherever it was left.
    pub fn carry_out(&self, data: &Path) -> Result<(), Failure> {
        self.steps().into_iter().try_for_each(|step| self.take(step, data))
    }

    /// Volumes that are others now.
    pub fn changes(&self, volume: &Volume) -> bool {
        let path = Path::new("volumes").join(volume.path.trim_start_matches('/'));
        self.places.iter().any(|place| place.path == path)
    }

    fn steps(&self) -> Vec<Step<'_>> {
        let each = self.places.iter().flat_map(|it| [Step::Leave(it), Step::Arrive(it)]);
        each.chain([Step::Sync, Step::End]).collect()
    }

    fn take(&self, step: Step, data: &Path) -> Result<(), Failure> {
        match step {
            Step::Leave(place) => place.leave(data),
            Step::Arrive(place) => place.arrive(data),
            Step::Sync => self.places.iter().try_for_each(|place| place.sync(data)),
            Step::End => {
                let removed = fs::remove_file(data.join(MARKER)).and_then(|()| sync(data));
                removed.or_cannot("end the exchange of the data")
            }
        }
    }
}

impl Exchanged {
    fn leave(&self, data: &Path) -> Result<(), Failure> {
        let (here, old) = (data.join(&self.path), data.join(OLD).join(&self.path));
        let what = format_args!("put {} aside", here.display());
        let has_arrived = self.is_taken && !exists(&self.newcomer(data)).or_cannot(what)?;
        if has_arrived || !exists(&here).or_cannot(what)? {
            return Ok(());
        }
        rename(&here, &old).or_cannot(what)
    }

    fn arrive(&self, data: &Path) -> Result<(), Failure> {
        let (here, new) = (data.join(&self.path), self.newcomer(data));
        let what = format_args!("put {} in its place", here.display());
        if !self.is_taken || !exists(&new).or_cannot(what)? {
            return Ok(());
        }
        rename(&new, &here).or_cannot(what)
    }

    fn sync(&self, data: &Path) -> Result<(), Failure> {
        let here = data.join(&self.path);
        let folder = here.parent().unwrap_or(data);
        sync(folder).or_cannot(format_args!("sync {}", folder.display()))
    }

    fn newcomer(&self, data: &Path) -> PathBuf {
        data.join(NEW).join(&self.path)
    }
}

/// What the power cut short, if it did, is finished: before volumes are mounted.
pub fn finish(data: &Path) -> Result<bool, Failure> {
    let path = data.join(MARKER);
    let what = format_args!("understand {}", path.display());
    let text = match fs::read(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        text => text.or_cannot(format_args!("read {}", path.display()))?,
    };
    let exchange: Exchange = serde_json::from_slice(&text).or_cannot(what)?;
    exchange.carry_out(data)?;
    Ok(true)
}

/// Is there anything to be cleared away?
pub fn has_left_something(data: &Path) -> bool {
    fs::read_dir(data.join("backup")).is_ok_and(|mut entries| entries.next().is_some())
}

fn exists(path: &Path) -> io::Result<bool> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        found => found.map(|_| true),
    }
}

fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to.parent().unwrap_or(Path::new("/")))?;
    fs::rename(from, to)
}

fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    const PATHS: [&str; 4] =
        ["/etc/prose", "/var/lib/prose-pod-api", "/var/lib/prosody", "/var/lib/prose-backups"];

    fn volumes() -> Vec<Volume> {
        PATHS.map(|path| Volume { path: path.into(), mode: 0o750, uid: 0, gid: 0 }).into()
    }

    struct World(tempfile::TempDir);

    impl World {
        fn new() -> World {
            let world = World(tempfile::tempdir().unwrap());
            for (path, text) in [
                ("settings.json", "old"),
                ("machine-id", "own"),
                ("volumes/etc/prose/env", "operator's"),
                ("volumes/var/lib/prose-pod-api/pod.sqlite", "old"),
                ("volumes/var/lib/prosody/a/b", "old"),
                ("volumes/var/lib/prose-backups/x", "kept"),
                ("backup/new/volumes/etc/prose/prose.toml", "new"),
                ("backup/new/volumes/var/lib/prosody/a/c", "new"),
                ("backup/new/volumes/var/lib/prose-pod-api/pod.sqlite", "new"),
            ] {
                let path = world.path().join(path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
            }
            world
        }

        fn path(&self) -> &Path {
            self.0.path()
        }

        fn exchange(&self) -> Exchange {
            Exchange::of_what_was_laid_out(self.path(), &volumes()).unwrap()
        }

        /// What services find, and what is kept for the next boot.
        fn seen(&self) -> BTreeMap<String, String> {
            let (mut seen, mut folders) = (BTreeMap::new(), vec![self.path().to_owned()]);
            while let Some(folder) = folders.pop() {
                for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
                    let name = path.strip_prefix(self.path()).unwrap().to_str().unwrap().to_owned();
                    match path.is_dir() {
                        true if name == "backup" => {}
                        true => folders.push(path),
                        false => drop(seen.insert(name, fs::read_to_string(path).unwrap())),
                    }
                }
            }
            seen
        }
    }

    fn old() -> BTreeMap<String, String> {
        World::new().seen()
    }

    fn new() -> BTreeMap<String, String> {
        [
            ("machine-id", "own"),
            ("volumes/etc/prose/env", "operator's"),
            ("volumes/etc/prose/prose.toml", "new"),
            ("volumes/var/lib/prose-pod-api/pod.sqlite", "new"),
            ("volumes/var/lib/prosody/a/c", "new"),
            ("volumes/var/lib/prose-backups/x", "kept"),
        ]
        .map(|(path, text)| (path.to_owned(), text.to_owned()))
        .into()
    }

    #[test]
    fn the_power_may_go_at_any_step() {
        let count = World::new().exchange().steps().len();
        assert_eq!(count, 10);
        for cut in 0..=count {
            let world = World::new();
            let exchange = world.exchange();
            // Before the marker there is nothing to finish.
            assert_eq!(finish(world.path()), Ok(false));
            assert_eq!(world.seen(), old());
            exchange.begin(world.path()).unwrap();
            for step in exchange.steps().into_iter().take(cut) {
                exchange.take(step, world.path()).unwrap();
            }
            // And it may go again, while that is finished.
            for again in 0..=count {
                for step in exchange.steps().into_iter().take(again.min(count - 2)) {
                    exchange.take(step, world.path()).unwrap();
                }
            }
            assert_eq!(finish(world.path()), Ok(cut < count), "cut after {cut}");
            assert_eq!(world.seen(), new(), "cut after {cut}");
            assert_eq!(finish(world.path()), Ok(false));
            let aside = world.path().join("backup/old/volumes/var/lib/prosody/a/b");
            assert_eq!(fs::read_to_string(aside).unwrap(), "old");
            assert!(has_left_something(world.path()));
        }
    }

    #[test]
    fn what_was_put_aside_is_never_put_aside_twice() {
        let world = World::new();
        fs::create_dir_all(world.path().join(OLD)).unwrap();
        let refused = world.exchange().begin(world.path()).unwrap_err();
        assert!(refused.to_string().starts_with("cannot begin to exchange the data: "));
        assert_eq!(world.seen(), old());
    }

    #[test]
    fn a_marker_that_is_none_stops_the_boot() {
        let world = World::new();
        for text in ["", "{}", r#"{"places":[{"path":"x"}]}"#] {
            fs::write(world.path().join(MARKER), text).unwrap();
            assert!(finish(world.path()).is_err(), "{text}");
        }
    }
}
