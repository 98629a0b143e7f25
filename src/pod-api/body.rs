//! What a request brings: JSON, of bounded length and time, each way of being wrong with its own
//! status.

use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequest, Request};
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::Deserializer;
use serde::de::{DeserializeOwned, Error as _, Unexpected, Visitor};
use serde_json::Value;
use tokio::time::timeout;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, Schema, SchemaType, Type};
use utoipa::{PartialSchema, ToSchema};

use crate::problem::Problem;

/// The most bytes.
const LONGEST: usize = 64 * 1024;
/// All of it must have come by then.
const WITHIN: Duration = Duration::from_secs(10);

/// A body of JSON that is a text. The Dashboard sends one that looks like a number, or like `true`,
/// without quotes.
#[derive(Debug)]
pub struct Text(pub String);

impl PartialSchema for Text {
    fn schema() -> RefOr<Schema> {
        let types = [Type::String, Type::Number, Type::Boolean];
        let text = ObjectBuilder::new().schema_type(SchemaType::from_iter(types));
        text.description(Some("A number or a boolean is taken as it is written.")).into()
    }
}

impl ToSchema for Text {}

/// A body of Lua, or of JSON that is a text.
#[derive(Debug)]
pub struct Lua(pub String);

/// A body of JSON. Keys that aren't known are ignored.
#[derive(Debug)]
pub struct Json<T>(pub T);

impl<S: Sync, T: DeserializeOwned> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Json<T>, Problem> {
        parse(&json(request).await?).map(Json)
    }
}

impl<S: Sync> FromRequest<S> for Text {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Text, Problem> {
        text(&json(request).await?).map(Text)
    }
}

impl<S: Sync> FromRequest<S> for Lua {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Lua, Problem> {
        match kind(request.headers()).as_str() {
            "text/x-lua" => {
                let body = read(request.into_body(), LONGEST).await?;
                let text = String::from_utf8(body);
                text.map(Lua).map_err(|_| Problem::malformed("The body is no text in UTF-8."))
            }
            _ if is_json(request.headers()) => parse(&json(request).await?).map(Lua),
            _ => Err(Problem::not_lua()),
        }
    }
}

async fn json(request: Request) -> Result<Vec<u8>, Problem> {
    if !is_json(request.headers()) {
        return Err(Problem::not_json());
    }
    read(request.into_body(), LONGEST).await
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = kind(headers);
    kind.strip_prefix("application/").is_some_and(|it| it == "json" || it.ends_with("+json"))
}

/// What a body is declared to be, without its parameters; maybe nothing.
fn kind(headers: &HeaderMap) -> String {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    content_type.unwrap_or("").split(';').next().unwrap_or("").trim().to_ascii_lowercase()
}

/// All of a body, if it has no more than `longest` bytes.
pub async fn read(body: Body, longest: usize) -> Result<Vec<u8>, Problem> {
    let body = timeout(WITHIN, Limited::new(body, longest).collect()).await;
    match body.map_err(|_| Problem::too_slow())? {
        Ok(body) => Ok(body.to_bytes().into()),
        Err(error) if error.is::<LengthLimitError>() => Err(Problem::too_large()),
        Err(error) => Err(Problem::malformed(format!("The body broke off: {error}."))),
    }
}

/// Each way of being wrong has its status.
pub fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    let value: Value = serde_json::from_slice(body)
        .map_err(|error| Problem::malformed(format!("The body is no JSON: {error}.")))?;
    T::deserialize(Strict(value))
        .map_err(|error| Problem::invalid(format!("The body is not right: {error}.")))
}

/// A value of which a struct is only made if it is an object: serde takes an array for one, too.
struct Strict(Value);

impl<'de> Deserializer<'de> for Strict {
    type Error = serde_json::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        self.0.deserialize_any(visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        if self.0.is_array() {
            return Err(Self::Error::invalid_type(Unexpected::Seq, &"an object"));
        }
        self.0.deserialize_struct(name, fields, visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        self.0.deserialize_option(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        self.0.deserialize_enum(name, variants, visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        visitor.visit_newtype_struct(self)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct seq tuple tuple_struct map identifier ignored_any
    }
}

fn text(body: &[u8]) -> Result<String, Problem> {
    match parse(body)? {
        Value::String(text) => Ok(text),
        // As it was written: a number has many forms.
        Value::Bool(_) | Value::Number(_) => {
            Ok(String::from_utf8_lossy(body.trim_ascii()).into_owned())
        }
        _ => Err(Problem::invalid("The body is not right: it must be a text.")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::StatusCode;

    #[test]
    fn each_way_of_being_wrong_has_its_status() {
        #[derive(serde::Deserialize)]
        struct Wish {
            #[serde(rename = "name")]
            _name: String,
        }
        let deep = "[".repeat(10_000);
        for (body, status) in [
            (r#"{"name":"a"}"#, None),
            (r#"{"name":"a","more":1}"#, None),
            ("", Some(400)),
            ("{", Some(400)),
            (r#"{"name":"a"} x"#, Some(400)),
            (&deep, Some(400)),
            ("{\"name\":\"\u{0}\"}", Some(400)),
            ("{}", Some(422)),
            (r#"{"name":1}"#, Some(422)),
            ("null", Some(422)),
            ("[\"a\"]", Some(422)),
        ] {
            let problem = parse::<Wish>(body.as_bytes()).err().map(|problem| problem.status);
            let status = status.map(|status| StatusCode::from_u16(status).unwrap());
            assert_eq!(problem, status, "{}", &body[..body.len().min(40)]);
        }
        assert_eq!(parse::<Wish>(b"{\"name\":\"\xff\"}").err().unwrap().status, 400);
    }

    #[test]
    fn a_text_may_look_like_something_else() {
        for (body, expected) in [
            ("\"Acme\"", Ok("Acme")),
            (" 2024\n", Ok("2024")),
            ("1.50", Ok("1.50")),
            ("true", Ok("true")),
            ("null", Err(422)),
            ("[\"a\"]", Err(422)),
            ("Acme", Err(400)),
        ] {
            let read = text(body.as_bytes()).map_err(|problem| problem.status.as_u16());
            assert_eq!(read.as_deref(), expected.as_ref().copied(), "{body}");
        }
    }

    #[test]
    fn only_json_is_json() {
        for (kind, expected) in [
            ("application/json", true),
            ("Application/JSON; charset=utf-8", true),
            ("application/merge-patch+json", true),
            ("text/plain", false),
            ("text/json", false),
            ("", false),
        ] {
            let headers = HeaderMap::from_iter([(CONTENT_TYPE, kind.parse().unwrap())]);
            assert_eq!(is_json(&headers), expected, "{kind}");
        }
        assert!(!is_json(&HeaderMap::new()));
    }
}
