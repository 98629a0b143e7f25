//! Server-sent events: an answer that comes bit by bit, for as long as there is somebody who reads.
//!
//! ```text
//! work ── Events::send ──► Stream (a body) ──► client
//!   ▲                         │
//!   └──── ends with it ───────┘
//! ```

mod places;

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderName};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use hyper::body::Frame;
use serde::Serialize;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Interval, interval};

use crate::log;

pub use places::{Places, bounded};

/// A proxy hangs up on who is silent for 30 s.
const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(15);
const KEEP_ALIVE: &[u8] = b": keep-alive\n\n";
/// Has data, since browsers drop an event that has none.
const END: &[u8] = b": End of stream\nevent: end\nid: end\ndata: {}\n\n";
/// So many events may wait for a slow client; then the work waits too.
const MOST_WAITING: usize = 16;

/// Where events are sent to; clones send to the same client.
#[derive(Debug, Clone)]
pub struct Events(mpsc::Sender<Bytes>);

/// The body of the answer. It owns the work: dropped, since the client has gone, it ends it.
struct Stream {
    events: mpsc::Receiver<Bytes>,
    _work: JoinSet<()>,
    keep_alive: Interval,
    has_ended: bool,
}

/// Does the client want events? Then it doesn't want anything else.
pub fn is_wanted(headers: &HeaderMap) -> bool {
    let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok());
    accept.is_some_and(|it| it.trim_start().starts_with("text/event-stream"))
}

/// Answers with what `work` sends; then, when it and whoever got a clone has finished, with the end.
pub fn answer<F>(work: impl FnOnce(Events) -> F) -> Response
where
    F: Future<Output = ()> + Send + 'static,
{
    // The second: nginx is not to collect events.
    let headers =
        [(CONTENT_TYPE, "text/event-stream"), (HeaderName::from_static("x-accel-buffering"), "no")];
    (headers, body(work, KEEP_ALIVE_EVERY)).into_response()
}

fn body<F>(work: impl FnOnce(Events) -> F, keep_alive_every: Duration) -> Body
where
    F: Future<Output = ()> + Send + 'static,
{
    let (sender, events) = mpsc::channel(MOST_WAITING);
    let mut tasks = JoinSet::new();
    tasks.spawn(work(Events(sender)));
    let keep_alive = interval(keep_alive_every);
    Body::new(Stream { events, _work: tasks, keep_alive, has_ended: false })
}

impl Events {
    /// Sends one. Nobody reads any more? Then the work is about to end anyway.
    pub async fn send(&self, event: &str, id: &str, data: &impl Serialize) {
        match serde_json::to_string(data) {
            // JSON on one line has no line break, and neither has an id: it is one of ours.
            Ok(data) => {
                let text = format!("event: {event}\nid: {id}\ndata: {data}\n\n");
                let _ = self.0.send(text.into()).await;
            }
            Err(error) => log::error(format_args!("cannot write event {event}: {error}")),
        }
    }
}

impl hyper::body::Body for Stream {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let data = match self.events.poll_recv(context) {
            Poll::Ready(Some(event)) => event,
            Poll::Ready(None) if self.has_ended => return Poll::Ready(None),
            Poll::Ready(None) => {
                self.has_ended = true;
                Bytes::from_static(END)
            }
            Poll::Pending => {
                std::task::ready!(self.keep_alive.poll_tick(context));
                Bytes::from_static(KEEP_ALIVE)
            }
        };
        Poll::Ready(Some(Ok(Frame::data(data))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;
    use http_body_util::BodyExt as _;
    use serde_json::json;
    use tokio::sync::oneshot;
    use tokio::time::sleep;

    #[test]
    fn events_are_for_who_asks_for_them_first() {
        for (accept, expected) in [
            ("text/event-stream", true),
            ("text/event-stream, */*", true),
            ("application/json", false),
            ("*/*", false),
            ("application/json, text/event-stream", false),
            ("", false),
        ] {
            let headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(accept))]);
            assert_eq!(is_wanted(&headers), expected, "{accept}");
        }
        assert!(!is_wanted(&HeaderMap::new()));
    }

    #[tokio::test]
    async fn every_clone_is_waited_for_and_the_end_comes_once() {
        let response = answer(|events| async move {
            events.send("one", "a@b", &json!({ "text": "a\nb" })).await;
            let late = events.clone();
            tokio::spawn(async move { late.send("two", "c", &json!(2)).await });
        });
        assert_eq!(response.headers()[CONTENT_TYPE], "text/event-stream");
        assert_eq!(response.headers()["x-accel-buffering"], "no");
        let text = response.into_body().collect().await.unwrap().to_bytes();
        let text = std::str::from_utf8(&text).unwrap().replace(": keep-alive\n\n", "");
        let expected = "event: one\nid: a@b\ndata: {\"text\":\"a\\nb\"}\n\n\
            event: two\nid: c\ndata: 2\n\n\
            : End of stream\nevent: end\nid: end\ndata: {}\n\n";
        assert_eq!(text, expected);
    }

    #[tokio::test]
    async fn silence_is_broken_at_once_and_again() {
        let work = |events: Events| async move {
            sleep(Duration::from_millis(100)).await;
            events.send("late", "a", &json!(1)).await;
        };
        let mut body = body(work, Duration::from_millis(10));
        let mut frames = vec![];
        while let Some(frame) = body.frame().await {
            frames.push(frame.unwrap().into_data().unwrap());
        }
        let late = frames.iter().position(|it| it.starts_with(b"event: late\n")).unwrap();
        assert!(late > 2 && frames[..late].iter().all(|it| it == KEEP_ALIVE), "{frames:?}");
        assert_eq!(frames.last().unwrap(), END);
    }

    #[tokio::test]
    async fn the_work_ends_when_nobody_reads() {
        let (alive, ended) = oneshot::channel::<()>();
        let body = answer(|events| async move {
            let _alive = alive;
            loop {
                events.send("more", "a", &json!(1)).await;
                sleep(Duration::from_millis(1)).await;
            }
        })
        .into_body();
        drop(body);
        assert!(ended.await.is_err());
    }
}
