//! Takes over what the operator has put on the seed partition, at any boot.
//!
//! A file moves: copied onto its volume, for good; then, and only when all copies are, removed from
//! the partition, where its content is overwritten first. And if the power goes here? While
//! copying: everything is still on the partition and is copied again. While removing: what is whole
//! is copied again, to the same effect; what has zeros in it is not text any more, so it isn't
//! copied, and goes on being removed. (A secret may still be in a flash memory's spare blocks; the
//! operator's way to avoid that is not to write it there unencrypted.)

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, chown};
use std::path::{Path, PathBuf};

use appliance::boot::Import;
use appliance::seed::{Choice, Found, Kind, LONGEST, MOST_FILES, PARTITION, choose, is_text};
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::data::{self, Data};
use crate::keep;
use crate::log::{error, notice, warning};
use appliance::failure::{Failure, OrCannot as _};

const AT: &str = "/run/stele/seed";
const OPTIONS: &str = "codepage=437,iocharset=ascii,utf8=1,umask=0077";

/// Imports what there is. What cannot be is told; the appliance starts with what it has.
pub fn import(data: &Data, imports: &[Import]) {
    if imports.is_empty() {
        return;
    }
    match data.device(PARTITION) {
        Ok(Some(device)) => {
            if let Err(failure) = import_from(&device, imports) {
                error!("{failure}");
            }
        }
        Ok(None) => {}
        Err(failure) => error!("{failure}"),
    }
}

fn import_from(device: &Path, imports: &[Import]) -> Result<(), Failure> {
    let what = format_args!("mount the seed partition {}", device.display());
    fs::create_dir_all(AT).or_cannot(what)?;
    mount(Some(device), AT, Some("vfat"), data::BARE | MsFlags::MS_RDONLY, Some(OPTIONS))
        .or_cannot(what)?;
    let done = take_over(imports);
    if let Err(errno) = umount2(AT, MntFlags::UMOUNT_NOFOLLOW) {
        warning!("cannot unmount the seed partition: {errno}");
    }
    done
}

fn take_over(imports: &[Import]) -> Result<(), Failure> {
    let mut gone = vec![];
    for found in list(imports).or_cannot("read the seed partition")? {
        let path = &found.path;
        match choose(&found, imports) {
            Choice::Pass => {}
            Choice::Leave(why) => notice!("seed: {path} left alone: {why}"),
            Choice::Take(import, to) => match copy(path, &to, import) {
                Ok(Some(())) => {
                    notice!("seed: {path} taken over to {to}");
                    gone.push(found.path);
                }
                Ok(None) if fs::symlink_metadata(&to).is_ok() => gone.push(found.path),
                Ok(None) => notice!("seed: {path} left alone: it is no text"),
                Err(failure) => error!("{failure}"),
            },
        }
    }
    match gone.is_empty() {
        true => Ok(()),
        false => remove(&gone),
    }
}

/// What lies at the top, and in the folders that are wanted.
fn list(imports: &[Import]) -> io::Result<Vec<Found>> {
    let mut all = list_folder(Path::new(AT), "")?;
    let folders: Vec<String> = all
        .iter()
        .filter(|found| found.kind == Kind::Folder)
        .filter(|found| matches!(choose(found, imports), Choice::Pass))
        .filter(|found| !found.path.starts_with('.'))
        .map(|found| found.path.clone())
        .collect();
    for folder in folders {
        all.extend(list_folder(&Path::new(AT).join(&folder), &format!("{folder}/"))?);
    }
    Ok(all)
}

fn list_folder(folder: &Path, prefix: &str) -> io::Result<Vec<Found>> {
    let mut all = vec![];
    for entry in fs::read_dir(folder)?.take(MOST_FILES) {
        let entry = entry?;
        let metadata = entry.metadata()?;
        let kind = if metadata.is_dir() { Kind::Folder } else { Kind::File(metadata.len()) };
        let path = format!("{prefix}{}", entry.file_name().to_string_lossy());
        all.push(Found { path, kind });
    }
    all.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(all)
}

/// `None`: it is no text.
fn copy(path: &str, to: &str, import: &Import) -> Result<Option<()>, Failure> {
    let what = format_args!("take over {path} to {to}");
    let mut bytes = vec![];
    let file = File::open(Path::new(AT).join(path)).or_cannot(what)?;
    file.take(LONGEST).read_to_end(&mut bytes).or_cannot(what)?;
    if !is_text(&bytes) {
        return Ok(None);
    }
    let to = PathBuf::from(to);
    if let Some(folder) = to.parent() {
        make_folder_for(folder, import).or_cannot(what)?;
    }
    keep::replace(&to, &bytes, import.mode, (import.uid, import.gid)).or_cannot(what)?;
    Ok(Some(()))
}

/// Who may read the file may look into its folder. One that is there stays as it is; it must not
/// be a link.
fn make_folder_for(folder: &Path, import: &Import) -> io::Result<()> {
    match fs::symlink_metadata(folder) {
        Ok(there) if there.is_dir() => Ok(()),
        Ok(_) => Err(io::ErrorKind::NotADirectory.into()),
        Err(_) => {
            let mode = import.mode | (import.mode & 0o444) >> 2;
            DirBuilder::new().mode(mode).create(folder)?;
            chown(folder, Some(import.uid), Some(import.gid))?;
            File::open(folder.parent().unwrap_or(folder))?.sync_all()
        }
    }
}

fn remove(paths: &[String]) -> Result<(), Failure> {
    let what = "clear the seed partition";
    remount(MsFlags::empty()).or_cannot(what)?;
    for path in paths {
        blank_and_unlink(&Path::new(AT).join(path))
            .or_cannot(format_args!("remove {path} from the seed partition"))?;
    }
    // Also writes out what is left.
    remount(MsFlags::MS_RDONLY).or_cannot(what)?;
    notice!("seed: {} files removed from the seed partition", paths.len());
    Ok(())
}

fn remount(flags: MsFlags) -> nix::Result<()> {
    let none = None::<&str>;
    mount(none, AT, none, MsFlags::MS_REMOUNT | data::BARE | flags, Some(OPTIONS))
}

fn blank_and_unlink(path: &Path) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).open(path)?;
    let length = file.metadata()?.len().min(LONGEST);
    file.write_all(&vec![0; usize::try_from(length).unwrap_or_default()])?;
    file.sync_all()?;
    fs::remove_file(path)
}
