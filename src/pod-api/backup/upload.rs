//! A backup on its way in: into a file that `stele-init` takes over when all of it is there. What
//! breaks off is deleted, and the disk is never filled. No thread waits for a client.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use appliance::backup::{ENDING, Id, RESERVE};
use axum::body::Body;
use http_body_util::BodyExt as _;
use nix::sys::statvfs::fstatvfs;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::log;
use crate::problem::Problem;

/// A client that sends nothing for so long has gone.
const SILENT_FOR: Duration = Duration::from_secs(30);
/// So many bytes are collected before they are written.
const PIECE: usize = 256 * 1024;

/// What was uploaded, for as long as this is held; then it is deleted, unless it was taken over.
#[derive(Debug)]
pub struct Uploaded(PathBuf);

impl Drop for Uploaded {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Deletes what an earlier run left.
pub fn clear(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().ends_with(ENDING) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Takes all of a body.
pub async fn receive(folder: &Path, id: &Id, mut body: Body) -> Result<Uploaded, Problem> {
    let path = folder.join(id.as_ref());
    let mut file = File::create_new(&path).map_err(failed)?;
    let uploaded = Uploaded(path);
    let mut piece = Vec::with_capacity(PIECE);
    loop {
        let frame = timeout(SILENT_FOR, body.frame()).await.map_err(|_| Problem::too_slow())?;
        let is_last = frame.is_none();
        if let Some(frame) = frame {
            let frame = frame
                .map_err(|error| Problem::malformed(format!("The body broke off: {error}.")))?;
            piece.extend_from_slice(frame.data_ref().map_or(&[], |data| data));
        }
        if piece.len() >= PIECE || is_last {
            (file, piece) = write(file, piece).await?;
        }
        if is_last {
            return Ok(uploaded);
        }
    }
}

/// Returns what was borrowed, the latter empty.
async fn write(mut file: File, mut piece: Vec<u8>) -> Result<(File, Vec<u8>), Problem> {
    let written = spawn_blocking(move || {
        must_have_room(&file, piece.len() as u64)?;
        file.write_all(&piece).map_err(failed)?;
        piece.clear();
        Ok((file, piece))
    });
    written.await.map_err(|_| Problem::internal())?
}

fn must_have_room(file: &File, bytes: u64) -> Result<(), Problem> {
    let found = fstatvfs(file).map_err(|errno| failed(errno.into()))?;
    let free = found.blocks_available() as u64 * found.fragment_size() as u64;
    match free < RESERVE.saturating_add(bytes) {
        false => Ok(()),
        true => Err(Problem::insufficient_storage(format_args!(
            "{free} bytes are free, and {RESERVE} are left to the services"
        ))),
    }
}

fn failed(error: io::Error) -> Problem {
    match error.kind() {
        io::ErrorKind::StorageFull => Problem::insufficient_storage("the disk is full"),
        io::ErrorKind::AlreadyExists => Problem::backup_in_progress(),
        _ => {
            log::error(format_args!("cannot take an upload: {error}"));
            Problem::internal()
        }
    }
}
