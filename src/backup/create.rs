//! Writing a backup: a snapshot, then tar → zstd → age → a file that gets its name when all of it is
//! on the disk.

use std::fs::{self, File};
use std::io::{self, Read, Write};

use appliance::backup::{Id, KEPT, Kind, Label, Lock, Order, Progress, Report, Stats, Trouble};
use sha2::{Digest as _, Sha256};

use crate::archive::{FORMAT, Item, LEVEL, MANIFEST, Manifest, Sum, TRAILER, Trailer};
use crate::archive::{hex, put_document};
use crate::clear::{UNFINISHED, forget_unfinished};
use crate::place::{Place, remove, sync_folder};
use crate::shelf::{self, PIECE};
use crate::snapshot::Snapshot;
use crate::trouble::OrCannot as _;
use crate::{checked, seal};

/// So many bytes between two reports.
const REPORTED_EVERY: u64 = 4 << 20;
/// What a backup may take besides its files' bytes: for each of them, and whatever there is.
const OVERHEAD: (u64, u64) = (1024, 64 * 1024);

/// Writes one. Services are frozen until it tells [`Report::Taken`].
pub fn create(
    place: &Place,
    order: &Order,
    id: &Id,
    description: Option<String>,
    lock: &Lock,
    tell: &mut dyn FnMut(Report),
) -> Result<Stats, Trouble> {
    let description = checked(description)?;
    shelf::must_be_free(place, id)?;
    let taken = Snapshot::take(place, &order.volumes);
    let written = taken.and_then(|snapshot| {
        tell(Report::Taken);
        forget_unfinished(place)?;
        let (each, once) = OVERHEAD;
        place.must_have_room(snapshot.bytes + snapshot.entries * each + once)?;
        write(place, order, id, description, lock, &snapshot, tell)
    });
    let forgotten = Snapshot::forget(place);
    if written.is_err() {
        remove(&place.kept(format!("{id}{UNFINISHED}")))?;
        remove_label(place, id)?;
    }
    let stats = written?;
    forgotten?;
    Ok(stats)
}

fn remove_label(place: &Place, id: &Id) -> Result<(), Trouble> {
    remove(&place.kept(Label::file_of(id)))
}

/// And if the power goes here? Until the last rename there is no backup of that name: the unfinished
/// file is forgotten with the next job.
fn write(
    place: &Place,
    order: &Order,
    id: &Id,
    description: Option<String>,
    lock: &Lock,
    snapshot: &Snapshot,
    tell: &mut dyn FnMut(Report),
) -> Result<Stats, Trouble> {
    let what = format_args!("write {id}");
    let unfinished = place.kept(format!("{id}{UNFINISHED}"));
    let file = shelf::create(&unfinished).or_cannot(what)?;
    shelf::show_to_group(&file)?;
    let sealed = seal::seal(lock, Hashed { file, digest: Sha256::new(), length: 0 })?;
    let compressed = zstd::Encoder::new(sealed, LEVEL).or_cannot(what)?;
    let mut tar = tar::Builder::new(compressed);
    put_all(&mut tar, order, snapshot, tell)?;
    let sealed = tar.into_inner().and_then(zstd::Encoder::finish).or_cannot(what)?;
    let Hashed { file, digest, length } = sealed.finish().or_cannot(what)?;
    file.sync_all().or_cannot(what)?;
    let recipient = match lock {
        Lock::Recipient(address) => Some(address.clone()),
        Lock::Passphrase(_) => None,
    };
    let label = Label { description, created: order.origin.date, recipient, sha256: hex(digest) };
    shelf::put_label(place, id, &label)?;
    fs::rename(&unfinished, place.kept(id.as_ref())).or_cannot(what)?;
    sync_folder(&place.volume(KEPT))?;
    Ok(Stats { backup_size_bytes: length, extracted_bytes: snapshot.bytes })
}

fn put_all(
    tar: &mut tar::Builder<impl Write>,
    order: &Order,
    snapshot: &Snapshot,
    tell: &mut dyn FnMut(Report),
) -> Result<(), Trouble> {
    let origin = &order.origin;
    let manifest = Manifest {
        format: FORMAT,
        appliance: origin.name.clone(),
        version: origin.version.clone(),
        created: origin.date,
        domain: origin.domain.clone(),
        entries: snapshot.entries,
        bytes: snapshot.bytes,
    };
    let text = serde_json::to_vec(&manifest).map_err(io::Error::from).or_cannot("write it")?;
    put_document(tar, MANIFEST, &text, origin.date)?;
    let mut sum = Sum::of_manifest(&text);
    let (mut done, mut told) = (0, 0);
    snapshot.each(|item, file| {
        sum.item(&item);
        let mut content = Content { file, left: item.size, sum: &mut sum };
        let written = tar.append_data(&mut item.header(), &item.path, &mut content);
        written.or_cannot(format_args!("back up {}", item.path))?;
        must_be_whole(&content, &item)?;
        done += item.size;
        if done >= told + REPORTED_EVERY {
            told = done;
            tell(Report::Progress(Progress { done, total: snapshot.bytes }));
        }
        Ok(())
    })?;
    let trailer = Trailer { sha256: sum.hex() };
    let text = serde_json::to_vec(&trailer).map_err(io::Error::from).or_cannot("write it")?;
    put_document(tar, TRAILER, &text, origin.date)
}

/// Nobody cuts a file short that may only be replaced or appended to.
fn must_be_whole(content: &Content, item: &Item) -> Result<(), Trouble> {
    match content.left {
        0 => Ok(()),
        left => Err(Trouble::new(
            Kind::Failed,
            format_args!("cannot back up {}: it has become {left} bytes shorter", item.path),
        )),
    }
}

/// A file as long as it was, and not a byte more.
struct Content<'a> {
    file: Option<File>,
    left: u64,
    sum: &'a mut Sum,
}

impl Read for Content<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(file) = &mut self.file else { return Ok(0) };
        let most = buffer.len().min(PIECE);
        let length = file.take(self.left).read(&mut buffer[..most])?;
        self.left -= length as u64;
        self.sum.content(&buffer[..length]);
        Ok(length)
    }
}

/// Knows what has been written.
struct Hashed {
    file: File,
    digest: Sha256,
    length: u64,
}

impl Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = self.file.write(bytes)?;
        self.digest.update(&bytes[..length]);
        self.length += length as u64;
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
