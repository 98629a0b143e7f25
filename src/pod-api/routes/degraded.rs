//! What is answered while the configuration is wrong: versions, that it isn't well, and why. Anybody
//! may have it read anew: nobody can log in.

use axum::Json;
use axum::Router;
use axum::extract::Request;
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};

use super::version::{Version, Versions};
use crate::app::Desk;
use crate::problem::Problem;

/// `why` is told to anybody.
pub(super) fn router(desk: Desk, why: &str) -> Router {
    let problem = Problem::degraded(why);
    Router::new().fallback(async move |request: Request| answer(&desk, &problem, &request))
}

fn answer(desk: &Desk, problem: &Problem, request: &Request) -> Response {
    let path = request.uri().path();
    let path = path.strip_prefix("/v1").unwrap_or(path);
    let method = request.method();
    let is_reading = method == Method::GET || method == Method::HEAD;
    match path {
        "/version" if is_reading => Json(Version::of_api()).into_response(),
        "/pod/version" if is_reading => Json(Versions::without_server()).into_response(),
        "/health" | "/healthz" if is_reading => {
            (StatusCode::SERVICE_UNAVAILABLE, "The configuration is wrong.\n").into_response()
        }
        "/reload" if method == Method::POST => {
            desk.reload();
            StatusCode::ACCEPTED.into_response()
        }
        "/version" | "/pod/version" | "/health" | "/healthz" | "/reload" => {
            StatusCode::METHOD_NOT_ALLOWED.into_response()
        }
        _ => problem.clone().into_response(),
    }
}
