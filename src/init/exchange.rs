//! What lies ready takes the place of what there is: all of it, or nothing, whenever the power goes.
//! NEW is where it lies, OLD where what has lost its place goes: `backup/new` and `backup/old` for
//! what a child laid out of a backup; [`crate::aside`] has others.
//!
//! | step | cut after it, the next boot finds |
//! |---|---|
//! | everything lies ready, and is synced | the old; what lies ready is cleared away |
//! | the marker is on the disk: the commit | the marker, and goes on before anybody starts |
//! | `X` is renamed to `OLD/X` | no X but a new one: goes on |
//! | `NEW/X` is renamed to `X` | no new X any more: that one is done |
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

use crate::keep;
use appliance::failure::{Failure, OrCannot as _};

/// The marker's name on the data.
const MARKER: &str = "exchange.json";
/// Where what was laid out of a backup is, and where what it takes the place of goes.
const LAID_OUT: &str = "backup/new";
const GIVEN_UP: &str = "backup/old";
/// What is made of what is given up, or comes from elsewhere: it goes, and is made anew.
const DERIVED: &str = "settings.json";
/// More than that lies directly in no volume of an operator's.
const MOST: usize = 256;

/// What changes its place. A version to come may add to it, and this one must still finish it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exchange {
    places: Vec<Exchanged>,
    /// Where what takes a place is, relative to the data.
    new: PathBuf,
    /// Where what has lost its place goes, relative to the data.
    old: PathBuf,
}

/// A place on the data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
    /// Of these: paths relative to the data, and whether `new` has something to take their places.
    pub fn of(places: impl IntoIterator<Item = (PathBuf, bool)>, new: &str, old: &str) -> Exchange {
        let places = places.into_iter().map(|(path, is_taken)| Exchanged { path, is_taken });
        Exchange { places: places.collect(), new: new.into(), old: old.into() }
    }

    /// Of whatever was laid out: data volumes as a whole, operators' files one by one.
    pub fn of_what_was_laid_out(data: &Path, volumes: &[Volume]) -> Result<Exchange, Failure> {
        let mut places = vec![(PathBuf::from(DERIVED), false)];
        for volume in volumes {
            let path = Path::new("volumes").join(volume.path.trim_start_matches('/'));
            let new = data.join(LAID_OUT).join(&path);
            if !new.is_dir() {
                continue;
            }
            if !volume.path.starts_with("/etc/") {
                places.push((path, true));
                continue;
            }
            let what = format_args!("look at what was laid out for {}", volume.path);
            for entry in fs::read_dir(&new).or_cannot(what)?.take(MOST) {
                places.push((path.join(entry.or_cannot(what)?.file_name()), true));
            }
        }
        Ok(Exchange::of(places, LAID_OUT, GIVEN_UP))
    }

    /// Decides that it is done. What has lost its place before must have been cleared away.
    pub fn begin(&self, data: &Path) -> Result<(), Failure> {
        let what = "begin to exchange the data";
        let old = data.join(&self.old);
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

    /// What comes into its place.
    pub fn taken(&self) -> impl Iterator<Item = &Path> {
        self.places.iter().filter(|place| place.is_taken).map(|place| &*place.path)
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
            Step::Leave(place) => self.leave(place, data),
            Step::Arrive(place) => self.arrive(place, data),
            Step::Sync => self.places.iter().try_for_each(|place| place.sync(data)),
            Step::End => {
                let removed = fs::remove_file(data.join(MARKER)).and_then(|()| sync(data));
                removed.or_cannot("end the exchange of the data")
            }
        }
    }

    fn leave(&self, place: &Exchanged, data: &Path) -> Result<(), Failure> {
        let (here, old) = (data.join(&place.path), data.join(&self.old).join(&place.path));
        let what = format_args!("put {} aside", here.display());
        let new = data.join(&self.new).join(&place.path);
        let has_arrived = place.is_taken && !exists(&new).or_cannot(what)?;
        if has_arrived || !exists(&here).or_cannot(what)? {
            return Ok(());
        }
        rename(&here, &old).or_cannot(what)
    }

    fn arrive(&self, place: &Exchanged, data: &Path) -> Result<(), Failure> {
        let (here, new) = (data.join(&place.path), data.join(&self.new).join(&place.path));
        let what = format_args!("put {} in its place", here.display());
        if !place.is_taken || !exists(&new).or_cannot(what)? {
            return Ok(());
        }
        rename(&new, &here).or_cannot(what)
    }
}

impl Exchanged {
    fn sync(&self, data: &Path) -> Result<(), Failure> {
        let here = data.join(&self.path);
        let folder = here.parent().unwrap_or(data);
        sync(folder).or_cannot(format_args!("sync {}", folder.display()))
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

/// Is there anything at all of this name?
pub fn exists(path: &Path) -> io::Result<bool> {
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
        let volume = |path: &str| Volume {
            path: path.into(),
            mode: 0o750,
            uid: 0,
            gid: 0,
            immutable: vec![],
        };
        PATHS.map(volume).into()
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
        fs::create_dir_all(world.path().join(GIVEN_UP)).unwrap();
        let refused = world.exchange().begin(world.path()).unwrap_err();
        assert!(refused.to_string().starts_with("cannot begin to exchange the data: "));
        assert_eq!(world.seen(), old());
    }

    #[test]
    fn a_marker_of_a_version_to_come_is_understood() {
        let world = World::new();
        world.exchange().begin(world.path()).unwrap();
        let marker = world.path().join(MARKER);
        let text = fs::read_to_string(&marker).unwrap().replace('{', r#"{"more":[1],"#);
        fs::write(&marker, text).unwrap();
        assert_eq!(finish(world.path()), Ok(true));
        assert_eq!(world.seen(), new());
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
