//! Who asks: the owner of a token, with the role that their account has at this moment.

use std::convert::Infallible;
use std::sync::Arc;

use appliance::secret::Secret;
use axum::extract::{FromRequestParts, OptionalFromRequestParts};
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;

use crate::jid::Localpart;
use crate::member::Role;
use crate::pod::{Owner, Pod};
use crate::problem::Problem;
use crate::token;

/// A member who is logged in.
#[derive(Debug)]
pub struct Caller {
    /// Who.
    pub local: Localpart,
    /// What they may do.
    pub role: Role,
}

/// A member who is logged in and may do everything. It is looked at before the body is, so that
/// nobody else learns what would be right.
#[derive(Debug)]
pub struct Admin {
    /// Who.
    pub local: Localpart,
}

impl Caller {
    fn of(parts: &Parts, pod: &Pod) -> Result<Caller, Problem> {
        match owner(&parts.headers, pod) {
            Some(Owner::Good(jid)) => {
                let role =
                    pod.look(|accounts| accounts.member(&jid.local).map(|(role, _)| role))?;
                Ok(Caller { role: role.ok_or_else(Problem::unauthorized)?, local: jid.local })
            }
            Some(Owner::Demoted) | None => Err(Problem::unauthorized()),
        }
    }
}

/// The token that is shown, good or not.
pub fn shown(headers: &HeaderMap) -> Option<Secret> {
    token::bearer(headers.get(AUTHORIZATION)?.to_str().ok()?)
}

/// Whose token is shown.
pub fn owner(headers: &HeaderMap, pod: &Pod) -> Option<Owner> {
    pod.owner(&shown(headers)?)
}

impl FromRequestParts<Arc<Pod>> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, pod: &Arc<Pod>) -> Result<Caller, Problem> {
        Caller::of(parts, pod)
    }
}

impl FromRequestParts<Arc<Pod>> for Admin {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, pod: &Arc<Pod>) -> Result<Admin, Problem> {
        match Caller::of(parts, pod) {
            Ok(Caller { role: Role::Admin, local }) => Ok(Admin { local }),
            Ok(_) => Err(Problem::forbidden()),
            // They may log in again, as what they are now; but that helps nothing here.
            Err(_) if owner(&parts.headers, pod) == Some(Owner::Demoted) => {
                Err(Problem::forbidden())
            }
            Err(problem) => Err(problem),
        }
    }
}

/// Where anybody may ask, whoever isn't logged in is just anybody.
impl OptionalFromRequestParts<Arc<Pod>> for Caller {
    type Rejection = Infallible;

    async fn from_request_parts(
        parts: &mut Parts,
        pod: &Arc<Pod>,
    ) -> Result<Option<Caller>, Infallible> {
        Ok(Caller::of(parts, pod).ok())
    }
}
