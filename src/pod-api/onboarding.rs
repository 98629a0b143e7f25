//! What an admin of a new Pod does once, so that the Dashboard needn't remind them any more.

use std::time::Duration;

use serde::Serialize;
use tokio::time::sleep;
use utoipa::ToSchema;

use crate::network::Setup;
use crate::network::checks::{Check, Group};
use crate::pod::Pod;

/// Between two looks whether the Server is there.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Something to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// In one run of the checks none of DNS failed.
    DnsChecksPassed,
    /// An invitation went out.
    InvitationSent,
}

/// What was done, in the order in which the Dashboard reminds of it.
#[derive(Debug, Serialize, ToSchema)]
pub struct Onboarding {
    /// In one run of the network checks none of DNS failed.
    pub all_dns_checks_passed_once: bool,
    /// An invitation went out.
    pub at_least_one_invitation_sent: bool,
}

impl Step {
    const ALL: [Step; 2] = [Step::DnsChecksPassed, Step::InvitationSent];

    /// As the database has it.
    pub fn key(self) -> &'static str {
        match self {
            Step::DnsChecksPassed => "all_dns_checks_passed_once",
            Step::InvitationSent => "at_least_one_invitation_sent",
        }
    }

    /// Of those, what is known here.
    pub fn known(keys: &[String]) -> impl Iterator<Item = Step> {
        Step::ALL.into_iter().filter(|step| keys.iter().any(|key| key == step.key()))
    }
}

/// Looks once whether DNS is right, as soon as the Server is there: who set it up before the Pod
/// need not be told to.
pub async fn probe(pod: &Pod) {
    if pod.onboarding().all_dns_checks_passed_once {
        return;
    }
    while !pod.is_linked() {
        sleep(LOOK_EVERY).await;
    }
    let checks = Setup::of(&pod.config, &pod.server_config()).checks(Group::Dns);
    if Check::has_dns_passed(&Check::all_once(checks, &pod.outside).await) {
        pod.complete(Step::DnsChecksPassed).await;
    }
}
