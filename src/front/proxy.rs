//! A request on its way to pod-api, and the reply on its way back.

use std::net::IpAddr;

use hyper::body::{Body as _, Incoming};
use hyper::{Method, Request, Response, Uri, Version, header};

use crate::body::{Body, Upload, discard};
use crate::headers;
use crate::limits::{DISCARD, DISCARD_WITHIN, Limits};
use crate::pod_api::PodApi;
use crate::problem::Problem;

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
            discard(body, DISCARD, DISCARD_WITHIN).await;
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
