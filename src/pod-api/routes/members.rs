//! The members: everybody sees who they are, an admin also what they may do.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};

use super::member::Whom;
use crate::auth::Caller;
use crate::jid::{Jid, Localpart};
use crate::member::{EnrichedMember, Member, Role, Search};
use crate::page::{Page, Query};
use crate::pod::Pod;
use crate::problem::Problem;
use crate::projection::Known;
use crate::sse;

/// The most characters of a search.
const LONGEST_SEARCH: usize = 128;

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
    let known = all(&pod, |local, role, known| (local.clone(), role, known.clone()))?;
    let members = known.into_iter().map(|(local, role, known)| {
        let member = enriched(&pod, &caller, &local, role, &known);
        (local, member)
    });
    let found = members.filter(|(local, member)| {
        search.finds(&[local.as_str(), member.nickname.as_deref().unwrap_or("")])
    });
    Ok(page.of(found.map(|(_, member)| member).collect()))
}

/// Only the headers, as of pages with one row.
pub(super) async fn count(
    State(pod): State<Arc<Pod>>,
    caller: Caller,
) -> Result<Response, Problem> {
    let members = all(&pod, |local, role, _| member(&pod, &caller, local, role))?;
    Ok(Page { number: 1, size: 1 }.of(members))
}

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
    Ok(Json(enriched(&pod, &caller, &jid.local, role, &known)))
}

/// Those who are asked for, as far as they are members: by JID, or one after the other.
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
    let members = known.iter().map(|(it, role, known)| enriched(&pod, &caller, it, *role, known));
    if !sse::is_wanted(&headers) {
        let by_jid: BTreeMap<_, _> = members.map(|it| (it.member.jid.clone(), it)).collect();
        return Ok(Json(by_jid).into_response());
    }
    let members: Vec<EnrichedMember> = members.collect();
    Ok(sse::answer(|events| async move {
        for it in &members {
            events.send("enriched-member", &it.member.jid, it).await;
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

fn enriched(
    pod: &Pod,
    to: &Caller,
    local: &Localpart,
    role: Role,
    known: &Known,
) -> EnrichedMember {
    let may_know = to.role == Role::Admin || to.local == *local;
    EnrichedMember {
        member: member(pod, to, local, role),
        online: known.is_online,
        nickname: pod.nickname(local),
        email: pod.address(local).filter(|_| may_know),
        avatar: None,
    }
}
