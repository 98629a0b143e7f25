//! The first step of a restoration: all of a backup is decrypted, verified and laid out beside what
//! there is. Nothing that anybody uses is touched; what isn't verified to the last byte is deleted
//! again.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File};
use std::io::{self, BufReader, Read, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _, lchown};
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, SystemTime};

use appliance::backup::{Id, Key, Kind, Order, Progress, Report, Stats, Trouble};
use appliance::boot::Volume;
use nix::unistd::syncfs;
use tar::{Archive, EntryType};

use crate::archive::{self, Item, MANIFEST, Manifest, Sum, TRAILER, Trailer, WINDOW};
use crate::place::{Content, Place, content_of, make_anew, remove};
use crate::seal;
use crate::shelf::{self, PIECE};
use crate::snapshot::belongs;
use crate::trouble::{OrCannot as _, damaged};

/// So many bytes between two reports.
const REPORTED_EVERY: u64 = 4 << 20;
/// What a file takes on the disk besides its content, at most: a part of a block, an inode.
const OVERHEAD: u64 = 4096 + 512;

/// Where things are laid out.
const NEW: &str = "new";
/// Where what has lost its place waits to be cleared away: it must be gone before the next does.
const OLD: &str = "old";

/// Lays out a backup. If that fails, nothing is.
pub fn prepare(
    place: &Place,
    order: &Order,
    id: &Id,
    key: &Key,
    tell: &mut dyn FnMut(Report),
) -> Result<Stats, Trouble> {
    shelf::must_be_there(place, id)?;
    remove(&place.work(OLD))?;
    make_anew(&place.work(NEW))?;
    let staged = stage(place, order, id, key, tell).and_then(|stats| {
        let data = File::open(place.join("")).or_cannot("sync what was laid out")?;
        syncfs(&data).or_cannot("sync what was laid out")?;
        Ok(stats)
    });
    if staged.is_err() {
        remove(&place.work(NEW))?;
    }
    staged
}

/// Lays out volumes without anything in them, where data is.
pub fn lay_out_empty(place: &Place, volumes: &[Volume]) -> Result<(), Trouble> {
    remove(&place.work(OLD))?;
    make_anew(&place.work(NEW))?;
    for volume in volumes.iter().filter(|it| content_of(it) == Some(Content::Data)) {
        make_volume(place, volume)?;
    }
    let data = File::open(place.join("")).or_cannot("sync what was laid out")?;
    syncfs(&data).or_cannot("sync what was laid out")
}

/// A volume as it is at its first boot.
fn make_volume(place: &Place, volume: &Volume) -> Result<(), Trouble> {
    let path = place.work(NEW).join("volumes").join(volume.path.trim_start_matches('/'));
    let what = format_args!("lay out {}", volume.path);
    DirBuilder::new().recursive(true).mode(0o755).create(&path).or_cannot(what)?;
    lchown(&path, Some(volume.uid), Some(volume.gid)).or_cannot(what)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(volume.mode)).or_cannot(what)
}

fn stage(
    place: &Place,
    order: &Order,
    id: &Id,
    key: &Key,
    tell: &mut dyn FnMut(Report),
) -> Result<Stats, Trouble> {
    let what = format_args!("read {id}");
    let file = File::open(place.kept(id.as_ref())).or_cannot(what)?;
    let size = file.metadata().or_cannot(what)?.len();
    let plain = seal::open(key, BufReader::with_capacity(PIECE, file))?;
    let mut text = zstd::Decoder::new(plain).map_err(damaged)?;
    text.window_log_max(WINDOW).map_err(damaged)?;
    let mut tar = Archive::new(text);
    let mut entries = tar.entries().map_err(damaged)?;
    let mut first = entries.next().ok_or_else(|| damaged("it is empty"))?.map_err(damaged)?;
    if first.path_bytes() != MANIFEST.as_bytes() {
        return Err(damaged("it doesn't begin with its manifest"));
    }
    let text = archive::document(&mut first, MANIFEST)?;
    let manifest = archive::understood(&text)?;
    drop(first);
    must_fit(place, order, &manifest)?;
    let mut stage = Stage::new(place, order, Sum::of_manifest(&text));
    let mut trailer = None;
    let mut told = 0;
    for entry in entries {
        let mut entry = entry.map_err(damaged)?;
        if trailer.is_some() {
            return Err(damaged("something follows its end"));
        }
        if entry.path_bytes() == TRAILER.as_bytes() {
            let text = archive::document(&mut entry, TRAILER)?;
            trailer = Some(serde_json::from_slice::<Trailer>(&text).map_err(damaged)?);
            continue;
        }
        let item = item(&entry)?;
        stage.count(&item, &manifest)?;
        stage.put(&item, &mut entry)?;
        if stage.bytes >= told + REPORTED_EVERY {
            told = stage.bytes;
            tell(Report::Progress(Progress { done: told, total: manifest.bytes }));
        }
    }
    let trailer = trailer.ok_or_else(|| damaged("its end is missing"))?;
    // What is after tar's end mark: nothing but the proof that this is where it was ended.
    let rest = io::copy(&mut tar.into_inner(), &mut io::sink()).map_err(damaged)?;
    if rest > PIECE as u64 || (stage.entries, stage.bytes) != (manifest.entries, manifest.bytes) {
        return Err(damaged("it isn't what its manifest says"));
    }
    let bytes = stage.bytes;
    if stage.sum.hex() != trailer.sha256 {
        return Err(damaged("its digest is another"));
    }
    Ok(Stats { backup_size_bytes: size, extracted_bytes: bytes })
}

/// Refuses what is about another domain, and what there is no room for, before anything is written.
fn must_fit(place: &Place, order: &Order, manifest: &Manifest) -> Result<(), Trouble> {
    if let (Some(its), Some(ours)) = (&manifest.domain, &order.origin.domain)
        && its != ours
        && has_configuration(place, &order.volumes)?
    {
        return Err(Trouble::new(
            Kind::Foreign,
            format_args!(
                "it is of the domain {its}, and this Pod is configured for {ours}: nobody of \
                 {its} could log in"
            ),
        ));
    }
    place.must_have_room(manifest.bytes.saturating_add(manifest.entries.saturating_mul(OVERHEAD)))
}

/// Has the operator configured anything? Then it stays.
fn has_configuration(place: &Place, volumes: &[Volume]) -> Result<bool, Trouble> {
    for volume in volumes.iter().filter(|it| content_of(it) == Some(Content::Configuration)) {
        let path = place.volume(&volume.path);
        let all = fs::read_dir(&path).or_cannot(format_args!("read folder {}", path.display()))?;
        for entry in all {
            let entry = entry.or_cannot(format_args!("read folder {}", path.display()))?;
            let name = entry.file_name();
            let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
            if is_file && name.to_str().is_some_and(|it| belongs(Content::Configuration, it)) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

fn item(entry: &tar::Entry<impl Read>) -> Result<Item, Trouble> {
    let header = entry.header();
    let is_folder = match header.entry_type() {
        EntryType::Directory => true,
        EntryType::Regular => false,
        _ => return Err(damaged("it has something that is neither a file nor a folder")),
    };
    let number = |number: io::Result<u64>| -> Result<u32, Trouble> {
        u32::try_from(number.map_err(damaged)?).map_err(damaged)
    };
    let path = entry.path_bytes().into_owned();
    // tar marks a folder by a slash, which was not in its name.
    let path = String::from_utf8(path).map_err(damaged)?.trim_end_matches('/').to_owned();
    Ok(Item {
        path,
        is_folder,
        mode: header.mode().map_err(damaged)?,
        uid: number(header.uid())?,
        gid: number(header.gid())?,
        modified: header.mtime().map_err(damaged)?,
        size: header.size().map_err(damaged)?,
    })
}

/// What is being laid out.
struct Stage<'a> {
    place: &'a Place,
    volumes: &'a [Volume],
    users: BTreeSet<u32>,
    groups: BTreeSet<u32>,
    sum: Sum,
    entries: u64,
    bytes: u64,
}

impl Stage<'_> {
    fn new<'a>(place: &'a Place, order: &'a Order, sum: Sum) -> Stage<'a> {
        let volumes = &order.volumes;
        let users = volumes.iter().map(|volume| volume.uid).chain([0]).collect();
        let groups = volumes.iter().map(|volume| volume.gid).chain([0]).collect();
        Stage { place, volumes, users, groups, sum, entries: 0, bytes: 0 }
    }

    /// There are no more of them, and no more in them, than room was found for.
    fn count(&mut self, item: &Item, manifest: &Manifest) -> Result<(), Trouble> {
        self.entries += 1;
        self.bytes = self.bytes.saturating_add(item.size);
        let is_promised = self.entries <= manifest.entries && self.bytes <= manifest.bytes;
        is_promised.then_some(()).ok_or_else(|| damaged("it has more than its manifest says"))
    }

    /// One more, which is authentic as far as its key is; but whoever has that may be no friend.
    fn put(&mut self, item: &Item, content: &mut impl Read) -> Result<(), Trouble> {
        self.sum.item(item);
        let to = self.place_of(item)?;
        if !self.users.contains(&item.uid) || !self.groups.contains(&item.gid) {
            return Err(Trouble::new(
                Kind::Foreign,
                format_args!("{} belongs to a user that this appliance hasn't", item.path),
            ));
        }
        match (&to, item.is_folder) {
            (Some(to), true) => make_folder(to, item),
            (Some(to), false) => {
                let what = format_args!("lay out {}", item.path);
                let made = File::options().write(true).create_new(true).mode(0o600).open(to);
                let mut file = made.or_cannot(what)?;
                self.copy(content, item, Some(&mut file))?;
                lchown(to, Some(item.uid), Some(item.gid)).or_cannot(what)?;
                file.set_permissions(fs::Permissions::from_mode(item.mode & 0o777))
                    .or_cannot(what)?;
                let modified =
                    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(item.modified));
                let modified = modified.ok_or_else(|| damaged("a date in it can't be one"))?;
                file.set_modified(modified).or_cannot(what)
            }
            (None, _) => self.copy(content, item, None),
        }
    }

    /// Where it is laid out; `None`: it isn't, since the operator's own is there.
    fn place_of(&self, item: &Item) -> Result<Option<PathBuf>, Trouble> {
        let refused = |why: &str| Trouble::new(Kind::Foreign, format_args!("{}: {why}", item.path));
        let path = Path::new(&item.path);
        if !path.components().all(|part| matches!(part, Component::Normal(_))) {
            return Err(refused("it leads elsewhere"));
        }
        let in_volume = |volume: &&Volume| {
            path.strip_prefix("volumes").is_ok_and(|rest| rest.starts_with(inside(volume)))
        };
        let volume = self.volumes.iter().find(in_volume);
        let volume = volume.ok_or_else(|| refused("this appliance has no such volume"))?;
        let content = content_of(volume).ok_or_else(|| refused("it is no part of a backup"))?;
        let new = self.place.work(NEW).join(path);
        let rest =
            path.strip_prefix("volumes").ok().and_then(|it| it.strip_prefix(inside(volume)).ok());
        let Some(Component::Normal(name)) = rest.and_then(|rest| rest.components().next()) else {
            // The volume itself: it is as this appliance has it, not as the other had.
            make_volume(self.place, volume)?;
            return Ok(None);
        };
        if !name.to_str().is_some_and(|name| belongs(content, name)) {
            return Err(refused("programs are no part of a backup"));
        }
        let there = self.place.volume(&volume.path).join(name);
        let stays = content == Content::Configuration && is_something(&there);
        Ok((!stays).then_some(new))
    }

    fn copy(
        &mut self,
        content: &mut impl Read,
        item: &Item,
        mut to: Option<&mut File>,
    ) -> Result<(), Trouble> {
        let mut piece = vec![0; PIECE];
        let mut left = item.size;
        loop {
            let length = content.read(&mut piece).map_err(damaged)?;
            let piece = &piece[..length];
            if length == 0 {
                break;
            }
            left = left.checked_sub(length as u64).ok_or_else(|| damaged("a file is longer"))?;
            self.sum.content(piece);
            if let Some(file) = &mut to {
                file.write_all(piece).or_cannot(format_args!("lay out {}", item.path))?;
            }
        }
        (left == 0).then_some(()).ok_or_else(|| damaged("a file breaks off"))
    }
}

fn inside(volume: &Volume) -> &str {
    volume.path.trim_start_matches('/')
}

fn make_folder(to: &Path, item: &Item) -> Result<(), Trouble> {
    let what = format_args!("lay out {}", item.path);
    fs::create_dir(to).or_cannot(what)?;
    lchown(to, Some(item.uid), Some(item.gid)).or_cannot(what)?;
    fs::set_permissions(to, fs::Permissions::from_mode(item.mode & 0o777)).or_cannot(what)
}

/// A file, or a folder with something in it.
fn is_something(path: &Path) -> bool {
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => {
            fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_some())
        }
        Ok(_) => true,
        Err(_) => false,
    }
}
