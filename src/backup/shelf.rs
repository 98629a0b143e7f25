//! Finished backups: taking one in, saying something of it, giving it up. The label is there before
//! its backup is, and goes after it: what has both is a backup.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::Path;

use appliance::backup::{ENDING, Id, KEPT, Kind, Label, MOST, Trouble};
use nix::fcntl::OFlag;
use sha2::{Digest as _, Sha256};

use crate::checked;
use crate::clear::UNFINISHED;
use crate::place::{Place, absent_is_fine, sync_folder};
use crate::seal::MAGIC;
use crate::trouble::OrCannot as _;

/// The Pod API's group may read, nobody else.
pub const MODE: u32 = 0o640;
/// How much is read at once.
pub const PIECE: usize = 64 * 1024;

/// Is there a place free, and the name?
pub fn must_be_free(place: &Place, id: &Id) -> Result<(), Trouble> {
    if place.kept(id.as_ref()).exists() {
        return Err(Trouble::new(Kind::Invalid, format_args!("there is a backup {id} already")));
    }
    let what = "count the backups";
    let mut count = 0;
    for entry in fs::read_dir(place.volume(KEPT)).or_cannot(what)? {
        let name = entry.or_cannot(what)?.file_name();
        count += usize::from(name.to_string_lossy().ends_with(ENDING));
    }
    match count < MOST {
        true => Ok(()),
        false => Err(Trouble::new(
            Kind::NoRoom,
            format_args!("there are {count} backups, which is the most: delete one first"),
        )),
    }
}

/// Takes in what was uploaded. It isn't looked into: nobody has its key yet. Its owner may still
/// hold it open, so what it holds is believed only when it is restored, where every byte of it is
/// authenticated.
pub fn accept(
    place: &Place,
    id: &Id,
    description: Option<String>,
    date: u64,
) -> Result<(), Trouble> {
    let description = checked(description)?;
    must_be_free(place, id)?;
    let path = place.incoming(id.as_ref());
    let what = format_args!("take in {id}");
    let opened = File::options().read(true).custom_flags(OFlag::O_NOFOLLOW.bits()).open(&path);
    let mut file = opened.or_cannot(what)?;
    if !file.metadata().or_cannot(what)?.is_file() {
        return Err(Trouble::new(Kind::Invalid, "what was uploaded is no file"));
    }
    let (mut digest, mut piece, mut is_first) = (Sha256::new(), vec![0; PIECE], true);
    loop {
        let length = file.read(&mut piece).or_cannot(what)?;
        let piece = &piece[..length];
        if is_first && !piece.starts_with(MAGIC) {
            return Err(Trouble::new(Kind::Damaged, "what was uploaded isn't encrypted by age"));
        }
        is_first = false;
        if length == 0 {
            break;
        }
        digest.update(piece);
    }
    let group = fs::metadata(place.volume(KEPT)).or_cannot(what)?.gid();
    fchown(&file, Some(nix::unistd::geteuid().as_raw()), Some(group)).or_cannot(what)?;
    file.set_permissions(fs::Permissions::from_mode(MODE)).or_cannot(what)?;
    file.sync_all().or_cannot(what)?;
    let sha256 = crate::archive::hex(digest);
    put_label(place, id, &Label { description, created: date, recipient: None, sha256 })?;
    fs::rename(&path, place.kept(id.as_ref())).or_cannot(what)?;
    sync_folder(&place.volume(KEPT))
}

/// Says something else of one.
pub fn describe(place: &Place, id: &Id, description: Option<String>) -> Result<(), Trouble> {
    let description = checked(description)?;
    must_be_there(place, id)?;
    let what = format_args!("read the label of {id}");
    let text = fs::read(place.kept(Label::file_of(id))).or_cannot(what)?;
    let label = serde_json::from_slice::<Label>(&text).map_err(std::io::Error::from);
    let label = Label { description, ..label.or_cannot(what)? };
    put_label(place, id, &label)
}

/// Gives some up, all of which are there.
pub fn delete(place: &Place, ids: &[Id]) -> Result<(), Trouble> {
    ids.iter().try_for_each(|id| must_be_there(place, id))?;
    for id in ids {
        for name in [id.to_string(), Label::file_of(id)] {
            absent_is_fine(fs::remove_file(place.kept(&name)))
                .or_cannot(format_args!("delete {name}"))?;
        }
    }
    sync_folder(&place.volume(KEPT))
}

/// Is there one of this name?
pub fn must_be_there(place: &Place, id: &Id) -> Result<(), Trouble> {
    match place.kept(id.as_ref()).is_file() {
        true => Ok(()),
        false => Err(Trouble::new(Kind::NotFound, format_args!("there is no backup {id}"))),
    }
}

/// And if the power goes here? Until the rename, the old label is there, or none.
pub fn put_label(place: &Place, id: &Id, label: &Label) -> Result<(), Trouble> {
    let what = format_args!("label {id}");
    let name = Label::file_of(id);
    let unfinished = place.kept(format!("{name}{UNFINISHED}"));
    let text = serde_json::to_vec(label).map_err(std::io::Error::from).or_cannot(what)?;
    let mut file = create(&unfinished).or_cannot(what)?;
    file.write_all(&text).or_cannot(what)?;
    file.sync_all().or_cannot(what)?;
    show_to_group(&file)?;
    fs::rename(&unfinished, place.kept(&name)).or_cannot(what)?;
    sync_folder(&place.volume(KEPT))
}

/// A file that isn't finished, in the place of an older such one.
pub fn create(path: &Path) -> std::io::Result<File> {
    absent_is_fine(fs::remove_file(path))?;
    File::options().write(true).create_new(true).mode(MODE).open(path)
}

/// The folder hands its group on to files in it (its set-group-ID bit); the mode is ours to set,
/// whatever the mask.
pub fn show_to_group(file: &File) -> Result<(), Trouble> {
    file.set_permissions(fs::Permissions::from_mode(MODE)).or_cannot("let the Pod API read it")
}
