//! A request on its way to pod-api, and the reply on its way back.

use std::net::IpAddr;
use std::time::Duration;

use hyper::body::{Body as _, Incoming};
use hyper::{Method, Request, Response, Uri, Version, header};
use tokio::time::timeout;

use crate::body::{Body, Upload};
use crate::headers;
use crate::limits::Limits;
use crate::pod_api::PodApi;
use crate::problem::Problem;

/// How long a body that is refused is still taken, and how much of it: a client that is cut off while
/// it sends doesn't get to read why.
const DISCARD_WITHIN: Duration = Duration::from_secs(2);
const DISCARD: u64 = 8 * 1024 * 1024;

/// Pod-api's reply to `request`, which it gets with this path and query.
pub async fn forward(
    pod_api: &PodApi,
    request: Request<Incoming>,
    target: &str,
    peer: IpAddr,
    limits: &Limits,
) -> Result<Response<Body>, Problem> {
    let (head, body) = request.into_parts();
    let limits = &limits.of(&head.method, target);
    if body.size_hint().lower() > limits.body {
        let is_asked_first = head.headers.contains_key(header::EXPECT);
        if !is_asked_first {
            let _ = timeout(DISCARD_WITHIN, discard(body)).await;
        }
        return Err(Problem::LongBody);
    }
    let to_head = head.method == Method::HEAD;
    let mut passed = Request::new(Upload::new(body, limits.body));
    *passed.uri_mut() = target.parse::<Uri>().map_err(|_| Problem::Path("it is no path"))?;
    *passed.method_mut() = head.method;
    *passed.version_mut() = Version::HTTP_11;
    *passed.headers_mut() = headers::to_pod_api(&head.uri, head.headers, peer);
    let (reply, link) = pod_api.exchange(passed, limits).await?;
    let (head, incoming) = reply.into_parts();
    let mut reply = Response::new(Body::stream(incoming, limits.silence, link));
    *reply.status_mut() = head.status;
    *reply.headers_mut() = headers::to_client(head.headers, to_head);
    Ok(reply)
}

async fn discard(mut body: Incoming) {
    let mut taken = 0;
    while taken <= DISCARD {
        let next =
            std::future::poll_fn(|context| std::pin::Pin::new(&mut body).poll_frame(context));
        match next.await {
            Some(Ok(frame)) => taken += frame.data_ref().map_or(0, |data| data.len() as u64),
            _ => return,
        }
    }
}
