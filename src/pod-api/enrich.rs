//! What of a member isn't known here beforehand: their picture, fetched from the Server.

use std::time::{Duration, Instant};

use tokio::time::timeout_at;

use crate::jid::Localpart;
use crate::picture::Picture;
use crate::pod::Pod;
use crate::server::profile::AvatarId;

/// Until all members of a request must be enriched; the pictures of the rest are left out.
const WITHIN: Duration = Duration::from_secs(9);

/// The end of a request's time, from now on.
pub fn deadline() -> Instant {
    Instant::now() + WITHIN
}

/// Somebody's picture, if they have one and it can be had in time.
pub async fn avatar(
    pod: &Pod,
    local: &Localpart,
    id: Option<&AvatarId>,
    deadline: Instant,
) -> Option<Picture> {
    let id = id?;
    let ttl = pod.config.avatar_ttl;
    if let Some(kept) = pod.avatars(|avatars| avatars.get(id, ttl, Instant::now())) {
        return kept;
    }
    let connection = pod.connection().ok()?;
    let fetched = connection.avatar(pod.domain().as_ref(), local);
    let bytes = timeout_at(deadline.into(), fetched).await.ok()?.ok()?;
    let picture = bytes.and_then(Picture::new);
    pod.avatars(|avatars| avatars.keep(id.clone(), picture.clone(), Instant::now()));
    picture
}
