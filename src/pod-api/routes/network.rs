//! What DNS must say of the Pod, and whether the world can reach it.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::auth::Admin;
use crate::duration::Span;
use crate::network::Setup;
use crate::network::checks::{Check, Finding, Group};
use crate::network::records::Step;
use crate::onboarding;
use crate::page::Query;
use crate::pod::Pod;
use crate::problem::Problem;
use crate::sse;

/// How long a client may want a failed check to rest, in seconds.
const INTERVALS: std::ops::RangeInclusive<u64> = 1..=60;

#[derive(Serialize, ToSchema)]
pub(super) struct Records {
    steps: Vec<Step>,
}

/// What the domain's owner must put into DNS.
#[utoipa::path(
    get, path = "/v1/network/dns/records", tag = "Network",
    responses((status = 200, description = "Step by step.", body = Records)),
    security(("admin" = []))
)]
pub(super) async fn records(State(pod): State<Arc<Pod>>, _: Admin) -> Json<Records> {
    Json(Records { steps: Setup::of(&pod.config, &pod.server_config()).steps() })
}

/// Check all that can be seen of the Pod from outside.
#[utoipa::path(
    get, path = "/v1/network/checks", tag = "Network",
    params(("interval" = Option<String>, Query, description = "With events: how long a failed check rests, from PT1S to PT1M.")),
    responses((status = 200, description = "Each once. Where events are accepted: each until it passes, but not longer than 5 minutes, then `end`.", content(
        (Vec<Finding> = "application/json"),
        (String = "text/event-stream"),
    ))),
    security(("admin" = []))
)]
pub(super) async fn all(
    State(pod): State<Arc<Pod>>,
    _: Admin,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    answer(&pod, &[Group::Dns, Group::Ports, Group::Ip], query, &headers).await
}

/// Check DNS.
#[utoipa::path(
    get, path = "/v1/network/checks/dns", tag = "Network",
    params(("interval" = Option<String>, Query, description = "With events: how long a failed check rests, from PT1S to PT1M.")),
    responses((status = 200, description = "Each once. Where events are accepted: each until it passes, but not longer than 5 minutes, then `end`.", content(
        (Vec<Finding> = "application/json"),
        (String = "text/event-stream"),
    ))),
    security(("admin" = []))
)]
pub(super) async fn dns(
    State(pod): State<Arc<Pod>>,
    _: Admin,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    answer(&pod, &[Group::Dns], query, &headers).await
}

/// Check whether there are addresses to connect to.
#[utoipa::path(
    get, path = "/v1/network/checks/ip", tag = "Network",
    params(("interval" = Option<String>, Query, description = "With events: how long a failed check rests, from PT1S to PT1M.")),
    responses((status = 200, description = "Each once. Where events are accepted: each until it passes, but not longer than 5 minutes, then `end`.", content(
        (Vec<Finding> = "application/json"),
        (String = "text/event-stream"),
    ))),
    security(("admin" = []))
)]
pub(super) async fn ip(
    State(pod): State<Arc<Pod>>,
    _: Admin,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    answer(&pod, &[Group::Ip], query, &headers).await
}

/// Check whether ports can be connected to.
#[utoipa::path(
    get, path = "/v1/network/checks/ports", tag = "Network",
    params(("interval" = Option<String>, Query, description = "With events: how long a failed check rests, from PT1S to PT1M.")),
    responses((status = 200, description = "Each once. Where events are accepted: each until it passes, but not longer than 5 minutes, then `end`.", content(
        (Vec<Finding> = "application/json"),
        (String = "text/event-stream"),
    ))),
    security(("admin" = []))
)]
pub(super) async fn ports(
    State(pod): State<Arc<Pod>>,
    _: Admin,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    answer(&pod, &[Group::Ports], query, &headers).await
}

/// Once, as a list; or, where events are wanted, until all is well.
async fn answer(
    pod: &Arc<Pod>,
    groups: &[Group],
    query: Option<String>,
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    let interval = interval(&Query::new(query.as_deref()))?;
    let setup = Setup::of(&pod.config, &pod.server_config());
    let checks = groups.iter().flat_map(|group| setup.checks(*group)).collect();
    let outside = pod.outside.clone();
    if !sse::is_wanted(headers) {
        let findings = Check::all_once(checks, &outside).await;
        if Check::has_dns_passed(&findings) {
            pod.complete(onboarding::Step::DnsChecksPassed).await;
        }
        return Ok(Json(findings).into_response());
    }
    let times = &pod.config.network_checks;
    let (interval, limit) = (interval.unwrap_or(times.retry_interval), times.timeout);
    let pod = pod.clone();
    Ok(sse::answer(|events| async move {
        let passed = pod.complete(onboarding::Step::DnsChecksPassed);
        Check::all_until_good(checks, &outside, interval, limit, events, passed).await;
    }))
}

fn interval(query: &Query) -> Result<Option<Duration>, Problem> {
    let Some(text) = query.get(&["interval"]) else { return Ok(None) };
    let span = Span::try_from(text.to_owned()).ok();
    let span = span.filter(|span| INTERVALS.contains(&span.0.as_secs()));
    let bad = || Problem::bad_request("The interval must be a duration from PT1S to PT1M.");
    span.map(|span| Some(span.0)).ok_or_else(bad)
}
