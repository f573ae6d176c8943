//! Bodies of requests.

use std::fmt::Display;
use std::pin::Pin;

use actix_web::dev::Payload;
use actix_web::error::PayloadError;
use actix_web::http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use actix_web::web::Bytes;
use actix_web::{FromRequest, HttpRequest};
use serde::de::{DeserializeOwned, Error};
use serde::{Deserialize, Deserializer};
use serde_json::Number;
use serde_json::value::RawValue;
use utoipa::{PartialSchema, ToSchema};

use super::MAX_BODY_BYTES;
use super::problem::ApiProblem;

/// A body that should be JSON. It is parsed on the thread of the API.
pub(super) struct ApiBody(Bytes);

impl ApiBody {
    /// Parses the body. The problem names the member at fault.
    pub(super) fn parse<T: DeserializeOwned>(&self) -> Result<T, ApiProblem> {
        parse_object(&self.0).map_err(|problem| ApiProblem::bad_request(format!("body: {problem}")))
    }
}

/// Parses an object. serde would also take an array, as the members in their order.
fn parse_object<T: DeserializeOwned>(json: &[u8]) -> Result<T, String> {
    if json.trim_ascii_start().first().is_some_and(|first| *first != b'{') {
        return Err("an object is expected".to_owned());
    }
    let mut parser = serde_json::Deserializer::from_slice(json);
    let parsed = serde_path_to_error::deserialize(&mut parser).map_err(|error| located(&error))?;
    parser.end().map_err(|error| error.to_string())?;
    Ok(parsed)
}

/// The text of an error, with the member or parameter at fault.
pub(super) fn located<E: Display>(error: &serde_path_to_error::Error<E>) -> String {
    match error.path().to_string().as_str() {
        "." => error.inner().to_string(),
        path => format!("{path}: {}", error.inner()),
    }
}

impl FromRequest for ApiBody {
    type Error = ApiProblem;
    type Future = Pin<Box<dyn Future<Output = Result<Self, ApiProblem>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let content_type = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let essence = content_type.unwrap_or_default().split(';').next().unwrap_or_default();
        let is_json = essence.trim().eq_ignore_ascii_case("application/json");
        let is_encoded = request.headers().contains_key(CONTENT_ENCODING);
        let bytes = Bytes::from_request(request, payload);
        Box::pin(async move {
            if !is_json {
                return Err(ApiProblem::not_json());
            }
            if is_encoded {
                return Err(ApiProblem::encoded());
            }
            bytes.await.map(Self).map_err(|error| match error.as_error::<PayloadError>() {
                Some(PayloadError::Overflow) => ApiProblem::too_large(MAX_BODY_BYTES),
                _ if error.as_response_error().status_code() == 413 => ApiProblem::too_large(MAX_BODY_BYTES),
                _ => ApiProblem::bad_request(format!("body: {error}")),
            })
        })
    }
}

/// A text for a column or a search: without U+0000, which no database holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ApiText(pub(super) String);

impl<'de> Deserialize<'de> for ApiText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.contains('\0') {
            Err(D::Error::custom("a text without U+0000 is expected"))
        } else {
            Ok(Self(text))
        }
    }
}

impl PartialSchema for ApiText {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        use utoipa::openapi::schema::{ObjectBuilder, Type};
        ObjectBuilder::new().schema_type(Type::String).pattern(Some(r"^[^\u0000]*$")).into()
    }
}

impl ToSchema for ApiText {}

/// A JSON object, as it is written.
#[derive(Debug)]
pub(super) struct JsonObject(pub(super) String);

impl<'de> Deserialize<'de> for JsonObject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Box::<RawValue>::deserialize(deserializer)?.get().to_owned();
        if text.starts_with('{') { Ok(Self(text)) } else { Err(D::Error::custom("an object is expected")) }
    }
}

impl PartialSchema for JsonObject {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        use utoipa::openapi::schema::{ObjectBuilder, Type};
        ObjectBuilder::new().schema_type(Type::Object).into()
    }
}

impl ToSchema for JsonObject {}

/// An object within a body.
#[derive(Debug)]
pub(super) struct MemberObject<T>(pub(super) T);

impl<'de, T: DeserializeOwned> Deserialize<'de> for MemberObject<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Box::<RawValue>::deserialize(deserializer)?;
        parse_object(text.get().as_bytes()).map(Self).map_err(D::Error::custom)
    }
}

/// A whole number. JSON Schema calls `1.0` one, too.
#[derive(Debug, Clone, Copy)]
pub(super) struct Whole(pub(super) i64);

impl<'de> Deserialize<'de> for Whole {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = Number::deserialize(deserializer)?;
        let text = number.to_string();
        let digits = text.strip_suffix(".0").unwrap_or(&text);
        digits
            .parse()
            .map(Self)
            .map_err(|_| D::Error::custom(format!("{text} is no whole number of 64 bits")))
    }
}

impl PartialSchema for Whole {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        i64::schema()
    }
}

impl ToSchema for Whole {}

/// A member that may be missing, and not null: its column cannot be cleared.
pub(super) fn not_null<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    T::deserialize(deserializer).map(Some)
}

/// A member that may be missing, or null to clear a column.
#[derive(Debug, Default)]
pub(super) enum Given<T> {
    #[default]
    Missing,
    Null,
    Value(T),
}

impl<T> Given<T> {
    /// The value; `cleared` for null, and none if the member is missing.
    pub(super) fn or_cleared<U>(self, cleared: U, value: impl FnOnce(T) -> U) -> Option<U> {
        match self {
            Self::Missing => None,
            Self::Null => Some(cleared),
            Self::Value(given) => Some(value(given)),
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Given<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Option::deserialize(deserializer)?.map_or(Self::Null, Self::Value))
    }
}
