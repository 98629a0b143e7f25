//! The domain, where the operator said none: whoever sets the Pod up says it, before there are
//! accounts, whose addresses have it.

use std::sync::Arc;

use appliance::settings::Domain;
use axum::Json;
use axum::extract::State;
use axum::http::header::{IF_MATCH, LOCATION};
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::body;
use crate::pod::Pod;
use crate::problem::Problem;

/// What the Server serves.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub(super) struct Choice {
    #[schema(value_type = String)]
    domain: Domain,
}

/// Was the domain settled?
#[utoipa::path(
    head, path = "/v1/server/config", tag = "Setting up",
    params(("If-Match" = String, Header, description = "`*`")),
    responses(
        (status = 204, description = "It was: by the operator, or by whoever set the Pod up."),
        (status = 412, description = "Not yet."),
        (status = 428, description = "`precondition_required`: If-Match isn't `*`."),
    )
)]
pub(super) async fn is_settled(
    State(pod): State<Arc<Pod>>,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    match headers.get(IF_MATCH).map(|value| value.as_bytes()) {
        None => Err(Problem::malformed("The header If-Match is missing: it must be *.")),
        Some(b"*") if pod.is_domain_settled() => Ok(StatusCode::NO_CONTENT),
        Some(b"*") => Ok(StatusCode::PRECONDITION_FAILED),
        Some(_) => Err(Problem::precondition_required()),
    }
}

/// Choose the domain, before the first account is made. It is answered once the Server serves it.
///
/// As often as one likes, until there is a member; unless the operator set one.
#[utoipa::path(
    put, path = "/v1/server/config", tag = "Setting up",
    request_body = Choice,
    responses(
        (status = 201, description = "Chosen.", body = Choice, headers(("Location" = String, description = "Where it is."))),
        (status = 409, description = "`server_config_already_initialized`: there are members, or the operator set a domain."),
    )
)]
pub(super) async fn choose(
    State(pod): State<Arc<Pod>>,
    body::Json(choice): body::Json<Choice>,
) -> Result<impl IntoResponse, Problem> {
    let domain = choice.domain.clone();
    // By itself: it is finished even if whoever asked goes away.
    let chosen = tokio::spawn(async move { pod.choose_domain(domain).await }).await;
    chosen.map_err(|_| Problem::internal())??;
    Ok((StatusCode::CREATED, [(LOCATION, "/v1/server/config")], Json(choice)))
}
