//! The members: everybody sees who they are, an admin also what they may do.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::member::Whom;
use crate::auth::Caller;
use crate::enrich;
use crate::jid::{Jid, Localpart};
use crate::member::{EnrichedMember, Member, Role, Search};
use crate::page::{Page, Query};
use crate::pod::Pod;
use crate::problem::Problem;
use crate::projection::Known;
use crate::sse;

/// The most characters of a search.
const LONGEST_SEARCH: usize = 128;

/// The rows of a page.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[allow(dead_code)] // it only describes
enum Members {
    /// Without a search.
    All(Vec<Member>),
    /// With one.
    Found(Vec<EnrichedMember>),
}

/// All members, page by page; or those that are found by a search.
#[utoipa::path(
    get, path = "/v1/members", tag = "Members",
    params(
        ("page_number" = Option<u64>, Query, description = "From 1 on.", minimum = 1),
        ("page_size" = Option<u64>, Query, description = "Rows of a page: 20 unless told.", minimum = 1),
        ("q" = Option<String>, Query, description = "Words, one of which is in the nickname or the name. With it, rows are of EnrichedMember.", max_length = 128),
    ),
    responses(
        (status = 200, description = "The last page.", body = Members, headers(
            ("Pagination-Current-Page" = u64, description = "As asked for."),
            ("Pagination-Page-Size" = u64, description = "As asked for."),
            ("Pagination-Page-Count" = u64, description = "Of all of them."),
            ("Pagination-Item-Count" = u64, description = "Of all of them."),
        )),
        (status = 206, description = "There are more pages.", body = Members, headers(
            ("Pagination-Current-Page" = u64, description = "As asked for."),
            ("Pagination-Page-Size" = u64, description = "As asked for."),
            ("Pagination-Page-Count" = u64, description = "Of all of them."),
            ("Pagination-Item-Count" = u64, description = "Of all of them."),
        )),
        (status = 422, description = "The search is too long."),
    ),
    security(("member" = []))
)]
pub(super) async fn list(
    State(pod): State<Arc<Pod>>,
    caller: Caller,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let query = Query::new(query.as_deref());
    let page = query.page()?;
    let Some(search) = query.get(&["q", "search"]) else {
        return Ok(page.of(all(&pod, |local, role, _| member(&pod, &caller, local, role))?));
    };
    if search.chars().count() > LONGEST_SEARCH {
        return Err(Problem::invalid("The search must not have more than 128 characters."));
    }
    let search = Search::new(search);
    let mut found = all(&pod, |local, role, known| (local.clone(), role, known.clone()))?;
    found.retain(|(local, _, known)| {
        search.finds(&[local.as_str(), known.profile.nickname.as_deref().unwrap_or("")])
    });
    let mut rows = vec![];
    let (page, known) = page.cut(found);
    let deadline = enrich::deadline();
    for (local, role, known) in &known {
        rows.push(enriched(&pod, &caller, local, *role, known, deadline).await);
    }
    Ok(page.answer(rows))
}

/// How many members there are.
///
/// Only the headers, as of pages with one row.
#[utoipa::path(
    head, path = "/v1/members", tag = "Members",
    responses(
        (status = 200, description = "In the headers.", headers(
            ("Pagination-Current-Page" = u64, description = "As asked for."),
            ("Pagination-Page-Size" = u64, description = "As asked for."),
            ("Pagination-Page-Count" = u64, description = "Of all of them."),
            ("Pagination-Item-Count" = u64, description = "Of all of them."),
        )),
        (status = 206, description = "As well.", headers(
            ("Pagination-Current-Page" = u64, description = "As asked for."),
            ("Pagination-Page-Size" = u64, description = "As asked for."),
            ("Pagination-Page-Count" = u64, description = "Of all of them."),
            ("Pagination-Item-Count" = u64, description = "Of all of them."),
        )),
    ),
    security(("member" = []))
)]
pub(super) async fn count(
    State(pod): State<Arc<Pod>>,
    caller: Caller,
) -> Result<Response, Problem> {
    let members = all(&pod, |local, role, _| member(&pod, &caller, local, role))?;
    Ok(Page { number: 1, size: 1 }.of(members))
}

/// A member.
#[utoipa::path(
    get, path = "/v1/members/{jid}", tag = "Members",
    params(("jid" = String, Path, description = "The member's address, such as alice@example.org.")),
    responses(
        (status = 200, description = "All that is known.", body = EnrichedMember),
        (status = 404, description = "`member_not_found`"),
    ),
    security(("member" = []))
)]
pub(super) async fn one(
    State(pod): State<Arc<Pod>>,
    caller: Caller,
    Whom(jid): Whom,
) -> Result<Json<EnrichedMember>, Problem> {
    let found = pod.look(|accounts| {
        let (role, known) = accounts.member(&jid.local)?;
        Some((role, known.clone()))
    })?;
    let found = found.filter(|_| jid.domain == *pod.domain());
    let (role, known) = found.ok_or_else(Problem::member_not_found)?;
    let deadline = enrich::deadline();
    Ok(Json(enriched(&pod, &caller, &jid.local, role, &known, deadline).await))
}

/// All that is known of some members.
///
/// Those who are asked for, as far as they are members: by JID, or one after the other.
#[utoipa::path(
    get, path = "/v1/enrich-members", tag = "Members",
    params(("jids" = Vec<String>, Query, description = "Their addresses: `jids=…&jids=…`, or `jids[]=…`. Who is no member is left out.")),
    responses((status = 200, description = "By address. Where events are accepted: `enriched-member`, one a member, then `end`.", content(
        (BTreeMap<String, EnrichedMember> = "application/json"),
        (String = "text/event-stream"),
    ))),
    security(("member" = []))
)]
pub(super) async fn enrich(
    State(pod): State<Arc<Pod>>,
    caller: Caller,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let query = Query::new(query.as_deref());
    let jids = query.all(&["jids", "jids[]"]).filter_map(|jid| Jid::parse(jid).ok());
    let here = jids.filter(|jid| jid.domain == *pod.domain()).map(|jid| jid.local);
    let here: BTreeSet<Localpart> = here.collect();
    let known: Vec<(Localpart, Role, Known)> = pod.look(|accounts| {
        let members = here.into_iter().filter_map(|local| {
            let (role, known) = accounts.member(&local)?;
            Some((local, role, known.clone()))
        });
        members.collect()
    })?;
    let deadline = enrich::deadline();
    if !sse::is_wanted(&headers) {
        let mut by_jid = BTreeMap::new();
        for (local, role, known) in &known {
            let it = enriched(&pod, &caller, local, *role, known, deadline).await;
            by_jid.insert(it.member.jid.clone(), it);
        }
        return Ok(Json(by_jid).into_response());
    }
    Ok(sse::answer(|events| async move {
        for (local, role, known) in &known {
            let it = enriched(&pod, &caller, local, *role, known, deadline).await;
            events.send("enriched-member", &it.member.jid, &it).await;
        }
    }))
}

/// All members, sorted by JID.
fn all<T>(pod: &Pod, show: impl Fn(&Localpart, Role, &Known) -> T) -> Result<Vec<T>, Problem> {
    pod.look(|accounts| {
        accounts.members().map(|(local, role, known)| show(local, role, known)).collect()
    })
}

fn member(pod: &Pod, to: &Caller, local: &Localpart, role: Role) -> Member {
    let may_know = to.role == Role::Admin || to.local == *local;
    Member { jid: pod.jid(local).to_string(), role: may_know.then_some(role) }
}

async fn enriched(
    pod: &Pod,
    to: &Caller,
    local: &Localpart,
    role: Role,
    known: &Known,
    deadline: Instant,
) -> EnrichedMember {
    let may_know = to.role == Role::Admin || to.local == *local;
    let avatar = known.profile.avatar.as_ref();
    EnrichedMember {
        member: member(pod, to, local, role),
        online: known.is_online,
        nickname: known.profile.nickname.clone(),
        email: pod.address(local).filter(|_| may_know),
        avatar: enrich::avatar(pod, local, avatar, deadline).await,
    }
}
