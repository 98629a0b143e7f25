//! What an admin does with the appliance itself.

use std::path::Path;

use appliance::control::Verb;
use appliance::upgrade::Wish;
use hyper::body::{Body as _, Incoming};
use hyper::{Request, Response, header};
use serde::Serialize;
use tokio::sync::Mutex;
use tokio::time::timeout;

use crate::body::{Body, discard};
use crate::install::{busy, granted, install};
use crate::limits::{DISCARD, DISCARD_WITHIN, Limits};
use crate::pod_api::PodApi;
use crate::problem::Problem;
use crate::route::Operation;
use crate::upgrades::{Upgrades, last_failure};
use crate::{admin, control, reply};

/// Whom it takes.
#[derive(Debug)]
pub struct Desk<'a> {
    /// Knows admins.
    pub pod_api: &'a PodApi,
    /// The control socket.
    pub control: &'a Path,
    /// Knows what failed.
    pub upgrades: &'a Upgrades,
    /// Held by whoever sends a bundle.
    pub uploading: &'a Mutex<()>,
    /// See there.
    pub limits: &'a Limits,
}

impl Desk<'_> {
    /// Does it, if an admin asks; nobody else learns more than that they aren't one.
    pub async fn operate(
        &self,
        operation: Operation,
        request: Request<Incoming>,
    ) -> Result<Response<Body>, Problem> {
        let (head, body) = request.into_parts();
        let is_asked_first = head.headers.contains_key(header::EXPECT);
        let admitted = admin::admit(self.pod_api, &head.headers, self.limits).await;
        if let Some(refused) = admitted.transpose() {
            if !is_asked_first {
                tokio::spawn(discard(body, DISCARD, DISCARD_WITHIN));
            }
            return refused;
        }
        match operation {
            Operation::Upgrade => self.upgrade(body).await,
            Operation::LastFailure => self.last_failure().await,
            Operation::Rollback => self.order(Verb::Upgrade(Wish::Rollback)).await,
            Operation::Reboot => self.order(Verb::Reboot).await,
            Operation::PowerOff => self.order(Verb::PowerOff).await,
        }
    }

    async fn upgrade(&self, mut body: Incoming) -> Result<Response<Body>, Problem> {
        if body.is_end_stream() {
            return Err(Problem::Request("it brings no bundle"));
        }
        let installed = match self.uploading.try_lock() {
            _ if body.size_hint().lower() > self.limits.bundle => Err(Problem::LongBody),
            Ok(_alone) => install(self.control, &mut body, self.limits).await,
            Err(_) => Err(busy("another bundle is being sent here")),
        };
        if installed.is_err() {
            // Many clients send all of it before they look up.
            let limits = self.limits;
            tokio::spawn(discard(body, limits.bundle, limits.body_within));
        }
        told(&installed?)
    }

    async fn last_failure(&self) -> Result<Response<Body>, Problem> {
        let state = self.upgrades.state(self.control, self.limits).await;
        let state = state.ok_or(Problem::NoState)?;
        told(last_failure(&state).ok_or(Problem::NoVerdict)?)
    }

    async fn order(&self, verb: Verb) -> Result<Response<Body>, Problem> {
        let asked = timeout(self.limits.state_within, control::ask(self.control, verb)).await;
        let packet = asked.ok().and_then(Result::ok).ok_or(Problem::NoState)?;
        granted(&packet).map(|()| reply::accepted())
    }
}

fn told(what: &impl Serialize) -> Result<Response<Body>, Problem> {
    let text = serde_json::to_string(what).map_err(|_| Problem::NoState)?;
    Ok(reply::json(text))
}
