//! What chat clients see of the Pod, they see at the Server: here it is put there.
//!
//! ```text
//! SQLite ── Workspace, icon ──► prose-workspace@domain: vCard, picture
//! ```
//!
//! The API answers from SQLite, which is there while the Server isn't; the Server has a copy, put
//! right at each login, and whenever the workspace changes.

use crate::jid::Localpart;
use crate::log;
use crate::member::Role;
use crate::pod::Pod;
use crate::projection::Projection;
use crate::secret;
use crate::server::profile::Card;
use crate::server::{Connection, Error};
use crate::workspace::Workspace;

/// The account of the workspace: nobody logs in to it.
const ACCOUNT: &str = "prose-workspace";

/// The workspace is another. Should the Server not be told, the next login does it.
pub async fn changed(pod: &Pod) {
    let Ok(connection) = pod.connection() else { return };
    let Ok(account) = pod.look(account) else { return };
    workspace(pod, &connection, account).await;
}

/// What there is of the account's name: a member's, or a service's.
pub fn account(accounts: &Projection) -> Option<Option<Role>> {
    let known = Localpart::parse(ACCOUNT).ok().and_then(|it| accounts.account(&it));
    known.map(|known| known.role)
}

/// Has the Server show the workspace as it is here. `account`: see [`account`]; a member's is left
/// alone.
pub async fn workspace(pod: &Pod, connection: &Connection, account: Option<Option<Role>>) {
    let _publishing = pod.publishing.lock().await;
    let shown = match account {
        Some(Some(_)) => Err(format!("{ACCOUNT} is a member's account")),
        account => show(pod, connection, account.is_some()).await,
    };
    if let Err(error) = shown {
        log::warn(format_args!("cannot show the workspace to chat clients: {error}"));
    }
}

async fn show(pod: &Pod, connection: &Connection, exists: bool) -> Result<(), String> {
    let host = pod.domain().as_ref();
    let account = Localpart::parse(ACCOUNT).map_err(|error| error.to_string())?;
    if !exists {
        // Forgotten at once.
        let password = secret::random("")?;
        match connection.create_service(host, &account, &password).await {
            Ok(()) | Err(Error::Refused { status: 409, .. }) => (),
            Err(error) => return Err(error.to_string()),
        }
    }
    let card = card(pod.workspace().unwrap_or_else(|| Workspace::default(host)), pod);
    let told = connection.set_card(host, &account, &card).await;
    told.map_err(|error| error.to_string())?;
    if let Some(icon) = pod.icon() {
        let told = connection.set_avatar(host, &account, &icon.bytes).await;
        told.map_err(|error| error.to_string())?;
    }
    Ok(())
}

fn card(workspace: Workspace, pod: &Pod) -> Card {
    let dashboard = pod.config.dashboard_url();
    Card {
        name: workspace.name,
        kind: "application",
        accent_color: workspace.accent_color.unwrap_or_default(),
        dashboard_url: dashboard.as_str().to_owned(),
        api_url: format!("{}/api", dashboard.as_str()),
    }
}
