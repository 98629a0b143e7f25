//! Pictures, as clients upload them: bytes, base64, or base64 in JSON. What they are is told by how
//! they begin, not by what they are declared to be.

use std::borrow::Cow;

use axum::extract::{FromRequest, Request};
use axum::http::header::CONTENT_TYPE;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::ser::SerializeStruct as _;
use serde::{Serialize, Serializer};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use crate::body;
use crate::problem::Problem;

/// The most bytes of a picture. The Dashboard makes pictures small before.
const LONGEST: usize = 1024 * 1024;
/// The most bytes of an upload: base64, in lines, of the longest.
const LONGEST_UPLOAD: usize = LONGEST / 2 * 3;
/// How each kind begins.
const KINDS: [(&[u8], &str); 4] = [
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
];

/// A PNG, JPEG or GIF.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// All of it.
    pub bytes: Bytes,
    /// Its media type.
    pub kind: &'static str,
}

impl Picture {
    /// Of bytes that begin like one.
    pub fn new(bytes: impl Into<Bytes>) -> Option<Picture> {
        let bytes = bytes.into();
        let (_, kind) = KINDS.into_iter().find(|(beginning, _)| bytes.starts_with(beginning))?;
        Some(Picture { bytes, kind })
    }

    fn uploaded(declared: &str, body: Vec<u8>) -> Result<Picture, Problem> {
        let bytes = match declared {
            "" | "application/octet-stream" => body,
            "text/plain" => decode(&body)?,
            "application/json" => decode(body::parse::<String>(&body)?.as_bytes())?,
            image if image.starts_with("image/") => body,
            _ => return Err(Problem::no_picture()),
        };
        if bytes.len() > LONGEST {
            return Err(Problem::bad_request("The picture has more than 1 MiB."));
        }
        Picture::new(bytes).ok_or_else(Problem::no_picture)
    }
}

impl<S: Sync> FromRequest<S> for Picture {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Picture, Problem> {
        let declared = request.headers().get(CONTENT_TYPE).map_or(Ok(""), |value| value.to_str());
        let declared = declared.map_err(|_| Problem::no_picture())?;
        let declared = declared.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
        Picture::uploaded(&declared, body::read(request.into_body(), LONGEST_UPLOAD).await?)
    }
}

/// How a [`Picture`] is shown.
#[derive(ToSchema)]
#[schema(as = Picture)]
#[allow(dead_code)] // it only describes
struct Shown {
    base64: String,
    /// Its media type.
    #[schema(example = "image/png")]
    r#type: String,
}

impl PartialSchema for Picture {
    fn schema() -> RefOr<Schema> {
        Shown::schema()
    }
}

impl ToSchema for Picture {
    fn name() -> Cow<'static, str> {
        "Picture".into()
    }
}

/// `{"base64":…,"type":…}`
impl Serialize for Picture {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut picture = serializer.serialize_struct("Picture", 2)?;
        picture.serialize_field("base64", &STANDARD.encode(&self.bytes))?;
        picture.serialize_field("type", self.kind)?;
        picture.end()
    }
}

/// Base64 as people write it: in lines, perhaps.
fn decode(text: &[u8]) -> Result<Vec<u8>, Problem> {
    let text: Vec<u8> = text.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let decoded = STANDARD.decode(text);
    decoded.map_err(|error| Problem::bad_request(format!("The picture is no base64: {error}.")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_is_known_by_its_beginning() {
        let png = b"\x89PNG\r\n\x1a\n rest".as_slice();
        let webp = b"RIFF\x04\0\0\0WEBP".as_slice();
        let of = |length| [png, &vec![0; length - png.len()]].concat();
        let encoded = |bytes: &[u8]| STANDARD.encode(bytes).into_bytes();
        let quoted = |bytes| format!("\"{}\"", STANDARD.encode(bytes)).into_bytes();
        let lines = [&encoded(png)[..7], b"\r\n", &encoded(png)[7..], b"\n"].concat();
        for (declared, body, expected) in [
            ("", png.to_vec(), Ok("image/png")),
            ("image/webp", b"\xff\xd8\xff\xe0".to_vec(), Ok("image/jpeg")),
            ("application/octet-stream", b"GIF87a".to_vec(), Ok("image/gif")),
            ("image/gif", b"GIF89a".to_vec(), Ok("image/gif")),
            ("text/plain", encoded(png), Ok("image/png")),
            ("text/plain", lines, Ok("image/png")),
            ("application/json", quoted(png), Ok("image/png")),
            ("application/json", encoded(png), Err(400)),
            ("application/json", b"7".to_vec(), Err(422)),
            ("text/plain", b"%%%".to_vec(), Err(400)),
            ("text/plain", png.to_vec(), Err(400)),
            ("text/plain", encoded(webp), Err(415)),
            ("image/png", webp.to_vec(), Err(415)),
            ("image/svg+xml", b"<svg/>".to_vec(), Err(415)),
            ("text/html", png.to_vec(), Err(415)),
            ("", vec![], Err(415)),
            ("image/png", of(LONGEST), Ok("image/png")),
            ("text/plain", encoded(&of(LONGEST)), Ok("image/png")),
            ("image/png", of(LONGEST + 1), Err(400)),
            ("text/plain", encoded(&of(LONGEST + 1)), Err(400)),
        ] {
            let read = Picture::uploaded(declared, body.clone());
            let read = read.map(|it| it.kind).map_err(|problem| problem.status.as_u16());
            assert_eq!(read, expected, "{declared} {} bytes", body.len());
        }
    }
}
