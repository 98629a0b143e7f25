//! What bodies are made of: text of our own, or pod-api's reply as it comes; and what of a client's
//! body goes to pod-api.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::body::{Body as _, Bytes, Frame, Incoming, SizeHint};
use thiserror::Error;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::{Instant, Sleep, sleep, timeout};

use crate::problem::Problem;

/// Why a body ends before its end; the connection is closed then.
#[derive(Debug, Error)]
pub enum Broken {
    /// Its other side broke off.
    #[error("cannot read the body: {0}")]
    Off(#[from] hyper::Error),
    /// Nothing came for too long.
    #[error("cannot read the body: nothing comes")]
    Silent,
    /// It is longer than allowed.
    #[error("cannot pass the body on: it is too long")]
    TooLong,
}

/// The body of a reply.
#[derive(Debug)]
pub enum Body {
    /// Text of our own.
    Text(Option<Bytes>),
    /// What pod-api says.
    Stream(Stream),
}

/// What pod-api says, piece by piece.
#[derive(Debug)]
pub struct Stream {
    incoming: Incoming,
    silence: Duration,
    alarm: Pin<Box<Sleep>>,
    _link: Link,
}

/// The task that speaks with pod-api: it ends with whoever waits for it.
#[derive(Debug)]
pub struct Link(pub AbortHandle);

impl Drop for Link {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Body {
    /// All of a text.
    pub fn text(text: impl Into<Bytes>) -> Body {
        Body::Text(Some(text.into()))
    }

    /// What comes from pod-api, no two pieces further apart than `silence`.
    pub fn stream(incoming: Incoming, silence: Duration, link: Link) -> Body {
        let alarm = Box::pin(sleep(silence));
        Body::Stream(Stream { incoming, silence, alarm, _link: link })
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match self.get_mut() {
            Body::Text(text) => Poll::Ready(text.take().map(|text| Ok(Frame::data(text)))),
            Body::Stream(stream) => stream.poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Body::Text(text) => text.is_none(),
            Body::Stream(stream) => stream.incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Body::Text(text) => SizeHint::with_exact(text.as_ref().map_or(0, length)),
            Body::Stream(stream) => stream.incoming.size_hint(),
        }
    }
}

impl Stream {
    fn poll_frame(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match Pin::new(&mut self.incoming).poll_frame(context) {
            Poll::Ready(frame) => {
                self.alarm.as_mut().reset(Instant::now() + self.silence);
                Poll::Ready(without_trailers(frame))
            }
            Poll::Pending => {
                ready!(self.alarm.as_mut().poll(context));
                Poll::Ready(Some(Err(Broken::Silent)))
            }
        }
    }
}

/// The body of a request on its way to pod-api.
#[derive(Debug)]
pub struct Upload {
    /// Absent where there is none.
    incoming: Option<Incoming>,
    left: u64,
    course: Arc<Course>,
}

/// How the way of an [`Upload`] went: told to those who wait for pod-api's answer.
#[derive(Debug, Default)]
pub struct Course {
    trouble: AtomicU8,
    ended: Notify,
}

const TOO_LONG: u8 = 1;
const BROKEN_OFF: u8 = 2;

impl Course {
    /// It has reached its end, or nobody takes any more of it.
    pub async fn ended(&self) {
        self.ended.notified().await;
    }

    /// What was wrong with it, if anything was.
    pub fn trouble(&self) -> Option<Problem> {
        match self.trouble.load(Ordering::Relaxed) {
            TOO_LONG => Some(Problem::LongBody),
            BROKEN_OFF => Some(Problem::Request("its body breaks off")),
            _ => None,
        }
    }
}

impl Upload {
    /// At most so many bytes of it.
    pub fn new(incoming: Incoming, most: u64) -> Upload {
        let incoming = (!incoming.is_end_stream()).then_some(incoming);
        let course = Arc::new(Course::default());
        if incoming.is_none() {
            course.ended.notify_one();
        }
        Upload { incoming, left: most, course }
    }

    /// None at all.
    pub fn none() -> Upload {
        let course = Arc::new(Course::default());
        course.ended.notify_one();
        Upload { incoming: None, left: 0, course }
    }

    /// How it goes.
    pub fn course(&self) -> Arc<Course> {
        self.course.clone()
    }

    fn fail(&self, trouble: u8, why: Broken) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        self.course.trouble.store(trouble, Ordering::Relaxed);
        Poll::Ready(Some(Err(why)))
    }
}

impl hyper::body::Body for Upload {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let this = self.get_mut();
        let Some(incoming) = &mut this.incoming else { return Poll::Ready(None) };
        let frame = ready!(Pin::new(&mut *incoming).poll_frame(context));
        let is_last = incoming.is_end_stream();
        match without_trailers(frame) {
            None => {
                this.course.ended.notify_one();
                Poll::Ready(None)
            }
            Some(Ok(frame)) => match this.left.checked_sub(frame.data_ref().map_or(0, length)) {
                Some(left) => {
                    this.left = left;
                    if is_last {
                        this.course.ended.notify_one();
                    }
                    Poll::Ready(Some(Ok(frame)))
                }
                None => this.fail(TOO_LONG, Broken::TooLong),
            },
            Some(Err(why)) => this.fail(BROKEN_OFF, why),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.as_ref().is_none_or(Incoming::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.as_ref().map_or(SizeHint::with_exact(0), Incoming::size_hint)
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        self.course.ended.notify_one();
    }
}

/// The next piece of a body.
pub async fn next(body: &mut Incoming) -> Option<Result<Bytes, Broken>> {
    let frame = poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await;
    // What is left after that is data, or an error.
    without_trailers(frame).map(|frame| Ok(frame?.into_data().unwrap_or_default()))
}

/// Takes what a client still sends of a body that is refused, but at most so much for so long: one
/// that is cut off while it sends doesn't get to read why.
pub async fn discard(mut body: Incoming, most: u64, within: Duration) {
    let all = async {
        let mut taken = 0;
        while let Some(Ok(piece)) = next(&mut body).await {
            taken += length(&piece);
            if taken > most {
                return;
            }
        }
    };
    let _ = timeout(within, all).await;
}

/// Trailers are the last thing in a body, and nobody here has use for them.
fn without_trailers(
    frame: Option<Result<Frame<Bytes>, hyper::Error>>,
) -> Option<Result<Frame<Bytes>, Broken>> {
    match frame? {
        Ok(frame) if frame.is_data() => Some(Ok(frame)),
        Ok(_) => None,
        Err(why) => Some(Err(why.into())),
    }
}

fn length(bytes: &Bytes) -> u64 {
    bytes.len() as u64
}
