//! What the page shows, gathered: the machine from `stele-init`, versions from pod-api. Each is asked
//! at most once in a while, however many look.

use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::{Request, StatusCode, Uri};
use serde::Deserialize;
use tokio::time::timeout;

use crate::body::{self, Upload};
use crate::fresh::Fresh;
use crate::limits::Limits;
use crate::page::Pod;
use crate::pod_api::PodApi;

/// How long versions are shown again, and how long a page waits for them.
const GOOD_FOR: Duration = Duration::from_secs(5);
const WITHIN: Duration = Duration::from_secs(2);
/// The longest list of versions, in bytes.
const LONGEST: usize = 16 * 1024;
const VERSIONS: &str = "/v1/pod/version";

/// What pod-api says of versions; the rest of it is passed over.
#[derive(Deserialize)]
struct Versions {
    api: Version,
    server: Option<Version>,
}

#[derive(Deserialize)]
struct Version {
    version: String,
}

/// Asks pod-api for versions, and not too often.
#[derive(Debug)]
pub struct Look(Fresh<Pod>);

impl Look {
    /// Not asked yet.
    pub fn new() -> Look {
        Look(Fresh::new(GOOD_FOR))
    }

    /// How pod-api is.
    pub async fn pod(&self, pod_api: Arc<PodApi>, limits: Limits) -> Pod {
        let ask = async move {
            match pod_api.is_there() {
                true => timeout(WITHIN, ask(&pod_api, &limits))
                    .await
                    .ok()
                    .flatten()
                    .unwrap_or(Pod::Down),
                false => Pod::Absent,
            }
        };
        self.0.get(ask).await.unwrap_or(Pod::Down)
    }
}

async fn ask(pod_api: &PodApi, limits: &Limits) -> Option<Pod> {
    let mut request = Request::new(Upload::none());
    *request.uri_mut() = Uri::from_static(VERSIONS);
    request.headers_mut().insert(header::HOST, HeaderValue::from_static("localhost"));
    let (reply, _link) = pod_api.exchange(request, limits).await.ok()?;
    if reply.status() != StatusCode::OK {
        return None;
    }
    read(&all(reply.into_body()).await?)
}

/// All of a body that isn't too long.
async fn all(mut body: Incoming) -> Option<Vec<u8>> {
    let mut text = vec![];
    while let Some(piece) = body::next(&mut body).await {
        text.extend_from_slice(&piece.ok()?);
        if text.len() > LONGEST {
            return None;
        }
    }
    Some(text)
}

fn read(text: &[u8]) -> Option<Pod> {
    let versions: Versions = serde_json::from_slice(text).ok()?;
    let server = versions.server.map(|server| server.version);
    Some(Pod::Up { api: versions.api.version, server })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read() {
        let up = |api: &str, server: Option<&str>| {
            Some(Pod::Up { api: api.to_owned(), server: server.map(str::to_owned) })
        };
        for (text, expected) in [
            (
                r#"{"api":{"version":"1.0 (2026-02-16)","tag":"1.0","build_date":null},"server":{"version":"13.0.2"}}"#,
                up("1.0 (2026-02-16)", Some("13.0.2")),
            ),
            (r#"{"api":{"version":"1"}}"#, up("1", None)),
            (r#"{"server":{"version":"1"}}"#, None),
            (r#"{"api":{"version":1}}"#, None),
            ("", None),
            ("<html>", None),
        ] {
            assert_eq!(read(text.as_bytes()), expected, "{text}");
        }
    }
}
