//! Replies of our own.

use hyper::header::{self, HeaderValue};
use hyper::{Response, StatusCode};

use crate::body::Body;
use crate::headers::{self, Policy};
use crate::page;
use crate::problem::Problem;
use crate::route::Audience;

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const JSON: &str = "application/json";

/// A page.
pub fn html(text: String) -> Response<Body> {
    reply(StatusCode::OK, HTML, text, Policy::Page)
}

/// The style sheet.
pub fn style() -> Response<Body> {
    reply(StatusCode::OK, CSS, page::STYLE.to_owned(), Policy::Data)
}

/// A value for programs.
pub fn json(text: String) -> Response<Body> {
    reply(StatusCode::OK, JSON, text, Policy::Data)
}

/// It will be done, later than this is said.
pub fn accepted() -> Response<Body> {
    let mut reply = Response::new(Body::text(""));
    *reply.status_mut() = StatusCode::ACCEPTED;
    headers::secure(reply.headers_mut(), Policy::Data);
    reply
}

/// Why there is no other reply.
pub fn problem(problem: &Problem, audience: Audience) -> Response<Body> {
    let status = problem.status();
    let mut reply = match audience {
        Audience::Programs => reply(status, JSON, problem.json(), Policy::Data),
        Audience::People => reply(status, HTML, page::problem(problem), Policy::Page),
    };
    if let Problem::Method(allowed) = problem {
        reply.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allowed));
    }
    if problem.is_passing() {
        reply.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    // What is left of a body would have to be read to get to the next request.
    if problem.leaves_a_body() {
        reply.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    reply
}

fn reply(status: StatusCode, kind: &'static str, text: String, policy: Policy) -> Response<Body> {
    let mut reply = Response::new(Body::text(text));
    *reply.status_mut() = status;
    reply.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers::secure(reply.headers_mut(), policy);
    reply
}
