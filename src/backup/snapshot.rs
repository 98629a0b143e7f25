//! Getting hold of files as they are at one moment, though their owners go on writing soon.
//!
//! While the services are frozen, each file of the Server's gets a second name in a folder of ours
//! (a hard link): no byte is copied. The Server replaces files as a whole, then the second name keeps
//! the old one, or appends to them, then the length that is noted here says how much was there. Files
//! that are changed in place (databases), and those of others, of whom that isn't known, are copied;
//! they are small.
//!
//! What a frozen service was about to write is missing, as after a power cut; databases recover from
//! that by their journal, which is taken with them.

use std::fs::{self, File, Metadata};
use std::io::{self, BufRead as _, BufReader, BufWriter, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use appliance::backup::{Kind, Trouble};
use appliance::boot::Volume;

use crate::archive::Item;
use crate::place::{Content, Place, content_of, make_anew, remove};
use crate::trouble::OrCannot as _;

/// Whose files are replaced as a whole or appended to.
const LINKED: &str = "/var/lib/prosody";
/// A database that is changed in place, or its journal.
const DATABASE: &str = ".sqlite";
/// What a database makes anew from its journal.
const SHARED_MEMORY: &str = "-shm";
/// Programs aren't data: whoever may restore a backup mustn't thereby say what the Server runs.
const PROGRAMS: &str = "custom_plugins";
const PROGRAM: &str = ".lua";

/// Files as they were.
#[derive(Debug)]
pub struct Snapshot {
    farm: PathBuf,
    index: PathBuf,
    /// How many folders and files.
    pub entries: u64,
    /// Bytes of all files.
    pub bytes: u64,
}

/// May this be in a backup: what lies directly in a volume under this name?
pub fn belongs(content: Content, name: &str) -> bool {
    match content {
        Content::Data => name != PROGRAMS,
        Content::Configuration => !name.contains(PROGRAM),
    }
}

impl Snapshot {
    /// Takes it. Nobody must write meanwhile.
    pub fn take(place: &Place, volumes: &[Volume]) -> Result<Snapshot, Trouble> {
        let (farm, index) = (place.work("farm"), place.work("index"));
        make_anew(&farm)?;
        let what = "write the index of a backup";
        let mut lines = BufWriter::new(File::create(&index).or_cannot(what)?);
        let mut this = Snapshot { farm, index, entries: 0, bytes: 0 };
        for volume in volumes {
            let Some(content) = content_of(volume) else { continue };
            let root = place.volume(&volume.path);
            let is_linked = volume.path == LINKED;
            let mut folders = vec![root.clone()];
            while let Some(folder) = folders.pop() {
                let found = fs::symlink_metadata(&folder);
                let found = found.or_cannot(format_args!("look at {}", folder.display()))?;
                let item = item(place, &folder, &found, true)?;
                this.note(&mut lines, &item).or_cannot(what)?;
                for path in entries(&folder)? {
                    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
                    if folder == root && !belongs(content, name) {
                        continue;
                    }
                    let found = fs::symlink_metadata(&path);
                    let found = found.or_cannot(format_args!("look at {}", path.display()))?;
                    if found.is_dir() {
                        folders.push(path);
                    } else if found.is_file() && !name.ends_with(SHARED_MEMORY) {
                        let is_linked = is_linked && !name.contains(DATABASE);
                        this.hold(&path, is_linked)?;
                        let item = self::item(place, &path, &found, false)?;
                        this.note(&mut lines, &item).or_cannot(what)?;
                        this.bytes += item.size;
                    }
                }
            }
        }
        lines.flush().or_cannot(what)?;
        Ok(this)
    }

    /// Gives the next file a name of ours.
    fn hold(&self, path: &Path, is_linked: bool) -> Result<(), Trouble> {
        let name = self.name(self.entries);
        let held = match is_linked {
            true => fs::hard_link(path, &name),
            false => fs::copy(path, &name).map(drop),
        };
        held.or_cannot(format_args!("get hold of {}", path.display()))
    }

    fn note(&mut self, lines: &mut impl io::Write, item: &Item) -> io::Result<()> {
        serde_json::to_writer(&mut *lines, item)?;
        lines.write_all(b"\n")?;
        self.entries += 1;
        Ok(())
    }

    fn name(&self, number: u64) -> PathBuf {
        self.farm.join(number.to_string())
    }

    /// Hands each over, in order, with its content if it is a file.
    pub fn each(
        &self,
        mut take: impl FnMut(Item, Option<File>) -> Result<(), Trouble>,
    ) -> Result<(), Trouble> {
        let what = "read the index of a backup";
        let lines = BufReader::new(File::open(&self.index).or_cannot(what)?).lines();
        for (number, line) in (0..).zip(lines) {
            let line = line.or_cannot(what)?;
            let item: Item =
                serde_json::from_str(&line).map_err(io::Error::from).or_cannot(what)?;
            let file = match item.is_folder {
                true => None,
                false => {
                    let opened = File::open(self.name(number));
                    Some(opened.or_cannot(format_args!("read {}", item.path))?)
                }
            };
            take(item, file)?;
        }
        Ok(())
    }

    /// Lets go of everything.
    pub fn forget(place: &Place) -> Result<(), Trouble> {
        remove(&place.work("farm"))?;
        remove(&place.work("index"))
    }
}

/// In an order that doesn't depend on the disk.
fn entries(folder: &Path) -> Result<Vec<PathBuf>, Trouble> {
    let what = format_args!("read folder {}", folder.display());
    let all = fs::read_dir(folder).or_cannot(what)?;
    let mut all: Vec<PathBuf> = all
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<io::Result<_>>()
        .or_cannot(what)?;
    all.sort();
    Ok(all)
}

fn item(place: &Place, path: &Path, found: &Metadata, is_folder: bool) -> Result<Item, Trouble> {
    let inside = path.strip_prefix(place.join("")).ok().and_then(Path::to_str);
    let inside = inside.ok_or_else(|| {
        Trouble::new(
            Kind::Failed,
            format_args!("cannot back up {}: its name isn't UTF-8", path.display()),
        )
    })?;
    Ok(Item {
        path: inside.to_owned(),
        is_folder,
        mode: found.mode() & 0o777,
        uid: found.uid(),
        gid: found.gid(),
        modified: u64::try_from(found.mtime()).unwrap_or_default(),
        size: if is_folder { 0 } else { found.len() },
    })
}
