//! How many streams of events there may be, of all and of each member, and for how long: each holds a
//! connection, of which the front has but so many.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use hyper::body::Frame;
use tokio::time::{Sleep, sleep};

use super::is_wanted;
use crate::auth;
use crate::pod::{Owner, Pod};
use crate::problem::Problem;

/// The most at a time.
const MOST: usize = 32;
/// The most of one member.
const MOST_OF_ONE: usize = 8;
/// None is longer; what goes on for so long is asked for again.
const LONGEST: Duration = Duration::from_secs(60 * 60);

/// Those that are taken, by member.
#[derive(Debug, Clone, Default)]
pub struct Places(Arc<Mutex<HashMap<String, usize>>>);

/// One of them, until it is dropped.
#[derive(Debug)]
struct Place {
    places: Places,
    of: String,
}

/// An answer that takes a place.
struct Held {
    body: Body,
    _place: Place,
    end: Pin<Box<Sleep>>,
}

impl Places {
    fn take(&self, of: String) -> Result<Place, Problem> {
        self.with(|taken| {
            let own = taken.get(&of).copied().unwrap_or(0);
            if own >= MOST_OF_ONE || taken.values().sum::<usize>() >= MOST {
                return Err(Problem::too_many_streams());
            }
            taken.insert(of.clone(), own + 1);
            Ok(Place { places: self.clone(), of })
        })
    }

    fn with<T>(&self, look: impl FnOnce(&mut HashMap<String, usize>) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.with(|taken| match taken.get_mut(&self.of) {
            Some(own @ 2..) => *own -= 1,
            _ => drop(taken.remove(&self.of)),
        });
    }
}

/// Who wants events needs a place for as long as they come.
pub async fn bounded(State(pod): State<Arc<Pod>>, request: Request, next: Next) -> Response {
    let wants = is_wanted(request.headers());
    let Some(Owner::Good(jid)) = wants.then(|| auth::owner(request.headers(), &pod)).flatten()
    else {
        return next.run(request).await;
    };
    match pod.places.take(jid.to_string()) {
        Ok(place) => held(next.run(request).await, place, LONGEST),
        Err(problem) => problem.into_response(),
    }
}

/// Only what is a stream holds on to its place.
fn held(response: Response, place: Place, longest: Duration) -> Response {
    let (parts, body) = response.into_parts();
    if parts.headers.get(CONTENT_TYPE).is_none_or(|kind| kind != "text/event-stream") {
        return Response::from_parts(parts, body);
    }
    let end = Box::pin(sleep(longest));
    Response::from_parts(parts, Body::new(Held { body, _place: place, end }))
}

impl hyper::body::Body for Held {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.end.as_mut().poll(context).is_ready() {
            return Poll::Ready(None);
        }
        Pin::new(&mut self.body).poll_frame(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt as _;

    #[test]
    fn places_are_taken_and_given_back() {
        let places = Places::default();
        let take = |of: &str| places.take(of.to_owned()).ok();
        let mut all: Vec<Place> = (0..MOST_OF_ONE).filter_map(|_| take("alice")).collect();
        assert_eq!(all.len(), MOST_OF_ONE);
        assert!(take("alice").is_none());
        for of in ["bob", "carol", "dave", "erin"] {
            all.extend((0..MOST_OF_ONE).filter_map(|_| take(of)));
        }
        assert_eq!(all.len(), MOST);
        assert!(take("frank").is_none());
        all.remove(0);
        let again = take("frank");
        assert!(again.is_some() && take("alice").is_none());
        drop((all, again));
        assert!(places.with(|taken| taken.is_empty()));
    }

    #[tokio::test]
    async fn a_stream_ends_some_time_and_gives_its_place_back() {
        let places = Places::default();
        let stream = || super::super::answer(|_| std::future::pending());
        let place = || places.take("alice".into()).unwrap();
        let response = held(stream(), place(), Duration::from_millis(20));
        assert_eq!(places.with(|taken| taken.len()), 1);
        response.into_body().collect().await.unwrap();
        assert_eq!(places.with(|taken| taken.len()), 0);
        let response = held("no stream".into_response(), place(), LONGEST);
        assert_eq!(places.with(|taken| taken.len()), 0);
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "no stream");
    }
}
