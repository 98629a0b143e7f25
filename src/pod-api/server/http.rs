//! The way to the Server: HTTP on loopback, a connection a request, each bounded in time and bytes.
//!
//! Connections aren't kept: loopback is fast, and one that Prosody closes just as we write would
//! leave it unknown whether a verb was obeyed.

use std::time::Duration;

use appliance::secret::Secret;
use appliance::settings::INTERNAL_HOST;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::header::{AUTHORIZATION, CONNECTION, CONTENT_TYPE, HOST};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{Answer, Error, POLL, Server};

/// The account that the module knows us by. Prosody finds the module by its host.
const ACCOUNT: &str = "prose-pod-api";
/// Until it must have taken the connection: it is on the same machine.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// Until the answer must be there, in whole; of a long poll, after its end.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// The most bytes of an answer: accounts of 100,000 members fit.
const LONGEST: usize = 16 * 1024 * 1024;

/// Our Prosody module, over HTTP.
#[derive(Debug)]
pub struct Module {
    address: String,
}

impl Module {
    /// At `http://ADDRESS:PORT`; fails for any other kind of URL.
    pub fn at(url: &str) -> Result<Module, String> {
        let address = url.strip_prefix("http://").map(|rest| rest.trim_end_matches('/'));
        let address = address.filter(|address| address.parse::<std::net::SocketAddr>().is_ok());
        let address = address.ok_or_else(|| {
            format!("cannot use {url}: it is not like http://127.0.0.1:5280, an address and a port")
        })?;
        Ok(Module { address: address.to_owned() })
    }

    async fn exchange(
        &self,
        secret: &Secret,
        verb: &str,
        with: &Value,
    ) -> Result<(StatusCode, Bytes), Error> {
        let unreachable = |error: &dyn std::fmt::Display| Error::Unreachable(error.to_string());
        let request = request(secret, verb, with).map_err(|error| Error::Odd(error.to_string()))?;
        let connect = timeout(CONNECT_WITHIN, TcpStream::connect(&self.address)).await;
        let stream = connect.map_err(|error| unreachable(&error))?;
        let stream = TokioIo::new(stream.map_err(|error| unreachable(&error))?);
        let handshake = hyper::client::conn::http1::handshake(stream).await;
        let (mut sender, connection) = handshake.map_err(|error| unreachable(&error))?;
        let exchange = async {
            let response =
                sender.send_request(request).await.map_err(|error| unreachable(&error))?;
            let status = response.status();
            let body = Limited::new(response.into_body(), LONGEST).collect().await;
            Ok((status, body.map_err(|error| unreachable(&error))?.to_bytes()))
        };
        tokio::pin!(connection, exchange);
        tokio::select! {
            answer = &mut exchange => answer,
            // It may end just when the answer is complete.
            _ = &mut connection => exchange.await,
        }
    }
}

impl Server for Module {
    fn ask<'a>(&'a self, secret: &'a Secret, verb: &'static str, with: Value) -> Answer<'a, Value> {
        let polls = if verb == "changes" { POLL } else { Duration::ZERO };
        Box::pin(async move {
            let exchange = self.exchange(secret, verb, &with);
            let answer = timeout(CONNECT_WITHIN + polls + ANSWER_WITHIN, exchange).await;
            let late = |_| Error::Unreachable(format!("no answer to {verb} in time"));
            let (status, body) = answer.map_err(late)??;
            read(status, &body)
        })
    }
}

fn request(secret: &Secret, verb: &str, with: &Value) -> hyper::http::Result<Request<Full<Bytes>>> {
    let basic = STANDARD.encode(format!("{ACCOUNT}@{INTERNAL_HOST}:{}", secret.reveal()));
    Request::post(format!("/stele/v1/{verb}"))
        .header(HOST, INTERNAL_HOST)
        .header(AUTHORIZATION, format!("Basic {basic}"))
        .header(CONTENT_TYPE, "application/json")
        .header(CONNECTION, "close")
        .body(Full::from(with.to_string()))
}

/// What an answer means.
fn read(status: StatusCode, body: &[u8]) -> Result<Value, Error> {
    #[derive(Deserialize)]
    struct Refusal {
        error: String,
        #[serde(default)]
        message: String,
    }
    let odd = |what: &dyn std::fmt::Display| Error::Odd(format!("{status}: {what}"));
    match status.as_u16() {
        200 => serde_json::from_slice(body).map_err(|error| odd(&error)),
        401 => Err(Error::Unauthorized),
        410 => Err(Error::Gone),
        429 => Err(Error::Busy),
        status @ (400 | 404 | 409 | 413) => {
            // A 404 of Prosody's own says that our module isn't there: it is no JSON.
            let Refusal { error, message } =
                serde_json::from_slice(body).map_err(|error| odd(&error))?;
            Err(Error::Refused { status, error, message })
        }
        _ => Err(odd(&"it failed")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_by_its_status() {
        let refused = |status, error: &str, message: &str| {
            Err(Error::Refused { status, error: error.into(), message: message.into() })
        };
        let exists = r#"{"error":"exists","message":"taken"}"#;
        for (status, body, expected) in [
            (200, r#"{"ok":true}"#, Ok(serde_json::json!({ "ok": true }))),
            (401, "", Err(Error::Unauthorized)),
            (410, r#"{"error":"gone"}"#, Err(Error::Gone)),
            (429, "", Err(Error::Busy)),
            (409, exists, refused(409, "exists", "taken")),
            (400, r#"{"error":"malformed"}"#, refused(400, "malformed", "")),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(read(status, body.as_bytes()), expected, "{status} {body}");
        }
        for (status, body) in [(200, "<html>"), (404, "<html>"), (500, "{}"), (302, ""), (204, "")]
        {
            let status = StatusCode::from_u16(status).unwrap();
            assert!(matches!(read(status, body.as_bytes()), Err(Error::Odd(_))), "{status} {body}");
        }
    }

    #[test]
    fn only_a_loopback_like_url_is_one() {
        for (url, is_one) in [
            ("http://127.0.0.1:5280", true),
            ("http://127.0.0.1:5280/", true),
            ("http://[::1]:5280", true),
            ("https://127.0.0.1:5280", false),
            ("http://127.0.0.1", false),
            ("http://prosody:5280", false),
        ] {
            assert_eq!(Module::at(url).is_ok(), is_one, "{url}");
        }
    }
}
