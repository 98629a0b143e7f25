//! What is left of a request's body when its answer is there: it is taken, up to a bound. Who is cut
//! off while sending may not get to read the answer.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::header::EXPECT;
use axum::middleware::Next;
use axum::response::Response;
use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::timeout;

/// The most that is taken, in bytes: what the front lets through, but for backups.
const MOST: usize = 2 * 1024 * 1024;
/// Nobody who dawdles is waited for.
const WITHIN: Duration = Duration::from_secs(2);

/// A body of which somebody else may get what is left.
struct Shared(Arc<Mutex<Body>>);

/// To be put around all routes.
pub async fn taken(request: Request, next: Next) -> Response {
    // Who asks first sends nothing unless it is read.
    if request.body().is_end_stream() || request.headers().contains_key(EXPECT) {
        return next.run(request).await;
    }
    let (head, body) = request.into_parts();
    let shared = Arc::new(Mutex::new(body));
    let request = Request::from_parts(head, Body::new(Shared(shared.clone())));
    let response = next.run(request).await;
    // Whoever still reads it goes on.
    if let Some(left) = Arc::into_inner(shared) {
        let left = left.into_inner().unwrap_or_else(PoisonError::into_inner);
        let _ = timeout(WITHIN, discard(left)).await;
    }
    response
}

async fn discard(mut body: Body) {
    let mut taken = 0;
    while let Some(Ok(frame)) = body.frame().await {
        taken += frame.data_ref().map_or(0, Bytes::len);
        if taken > MOST {
            return;
        }
    }
}

impl HttpBody for Shared {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let mut body = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Pin::new(&mut *body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::Router;
    use axum::middleware::from_fn;
    use axum::routing::put;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::UnixStream;

    /// Who sends all of a body before they read gets the answer, and may ask again.
    #[tokio::test]
    async fn who_is_refused_early_gets_the_answer_after_all_was_sent() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("http.sock");
        let listener = crate::serve::Listener::bind(path.to_str().unwrap()).await.unwrap();
        let routes = Router::new().route("/", put(async || "no")).layer(from_fn(taken));
        tokio::spawn(crate::serve::serve(listener, routes, std::future::pending()));
        let mut stream = UnixStream::connect(&path).await.unwrap();
        for (length, is_kept) in [(1024 * 1024, true), (0, true), (MOST + 1024 * 1024, false)] {
            let head = format!("PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n");
            stream.write_all(head.as_bytes()).await.unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
            let sent = stream.write_all(&vec![b'x'; length]).await;
            assert_eq!(sent.is_ok(), is_kept, "{length}");
            let mut answer = [0; 12];
            stream.read_exact(&mut answer).await.unwrap();
            assert_eq!(&answer, b"HTTP/1.1 200", "{length}");
            let mut rest = [0; 256];
            if is_kept {
                assert_ne!(stream.read(&mut rest).await.unwrap(), 0);
            }
        }
    }
}
