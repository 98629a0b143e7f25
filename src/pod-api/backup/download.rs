//! A file on its way to a client, piece by piece, as fast as that takes it. No thread waits for a
//! client: one is needed only while the disk is.

use std::fs::File;
use std::io::{self, Read as _};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::body::Body;
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use tokio::task::{JoinHandle, spawn_blocking};

/// Bytes that are read at once.
const PIECE: u64 = 128 * 1024;

/// What is left of it.
struct Stream {
    reading: JoinHandle<io::Result<(File, Bytes)>>,
    left: u64,
}

/// So many bytes of a file.
pub fn body(file: File, length: u64) -> Body {
    Body::new(Stream { reading: read(file, length), left: length })
}

fn read(mut file: File, left: u64) -> JoinHandle<io::Result<(File, Bytes)>> {
    spawn_blocking(move || {
        let mut piece = vec![0; PIECE.min(left) as usize];
        file.read_exact(&mut piece)?;
        Ok((file, piece.into()))
    })
}

impl hyper::body::Body for Stream {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let done = ready!(Pin::new(&mut self.reading).poll(context));
        let (file, piece) = done.map_err(io::Error::other).flatten()?;
        self.left = self.left.saturating_sub(piece.len() as u64);
        self.reading = read(file, self.left);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
