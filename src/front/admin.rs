//! Who may operate the appliance: an admin of the Pod. Only pod-api knows who that is, and it is asked
//! each time: a role may be taken away at any moment.

use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Request, Response, StatusCode, Uri};
use tokio::time::timeout;

use crate::body::{Body, Link, Upload};
use crate::headers;
use crate::limits::Limits;
use crate::pod_api::PodApi;
use crate::problem::Problem;

/// What pod-api tells an admin and nobody else, out of its memory.
const FOR_ADMINS: &str = "/v1/server/config/message-archive-enabled";

/// Nothing, if whoever sent these fields is an admin; else what pod-api says to them, in its words.
pub async fn admit(
    pod_api: &PodApi,
    fields: &HeaderMap,
    limits: &Limits,
) -> Result<Option<Response<Body>>, Problem> {
    // Where the appliance has no pod-api, it has no admins either.
    if !pod_api.is_there() {
        return Err(Problem::NoApi);
    }
    let mut request = Request::new(Upload::none());
    *request.uri_mut() = Uri::from_static(FOR_ADMINS);
    request.headers_mut().insert(header::HOST, HeaderValue::from_static("localhost"));
    if let Some(shown) = fields.get(header::AUTHORIZATION) {
        request.headers_mut().insert(header::AUTHORIZATION, shown.clone());
    }
    let asked = timeout(limits.admin_within, pod_api.exchange(request, limits));
    let (reply, link) = asked.await.map_err(|_| Problem::Silent)??;
    match reply.status() {
        StatusCode::OK => Ok(None),
        // It knows no such question, or what it says is no answer to it: neither says who asks.
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => Err(Problem::Broken),
        status if status.is_client_error() || status.is_server_error() => {
            Ok(Some(passed_on(reply, link, limits)))
        }
        _ => Err(Problem::Broken),
    }
}

fn passed_on(reply: Response<Incoming>, link: Link, limits: &Limits) -> Response<Body> {
    let (head, incoming) = reply.into_parts();
    let mut reply = Response::new(Body::stream(incoming, limits.silence, link));
    *reply.status_mut() = head.status;
    *reply.headers_mut() = headers::to_client(head.headers, false);
    reply
}
