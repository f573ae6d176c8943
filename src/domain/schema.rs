//! The payload schema of a flow (`flows.payload_schema`).
//!
//! A schema lists fields with types, in one of the forms `{"field": "type"}`, `{"field": {"type": "type"}}` and
//! `{"properties": {"field": …}}`. All listed fields are required, and further fields are allowed. A schema with the
//! key `$schema` is a JSON Schema.
//!
//! | type | accepts |
//! | --- | --- |
//! | `string`, `str` | a string |
//! | `number`, `float` | any number |
//! | `int`, `integer` | a number without fraction and exponent, as in Python |
//! | `bool`, `boolean` | `true`, `false` |
//! | `object`, `array` | an object, an array |

mod field_type;
mod fields;
mod json_schema;
mod work;

use serde_json::Value;
use thiserror::Error;

pub use self::field_type::FieldType;
pub use self::fields::{SchemaField, SchemaFields};
use self::json_schema::JsonSchema;
use super::payload::{Attribute, JsonKind, Payload, PayloadError, PayloadLimits};

/// A compiled `payload_schema`.
#[derive(Debug)]
pub struct PayloadSchema(Rules);

#[derive(Debug)]
enum Rules {
    Fields(Vec<Field>),
    JsonSchema(JsonSchema),
}

#[derive(Debug)]
struct Field {
    name: String,
    expected: FieldType,
}

impl PayloadSchema {
    /// Compiles the text of `flows.payload_schema`. `{}` and `null` accept any object.
    ///
    /// If `properties` is an object, all other keys are ignored. In the description of a field, all keys except `type`
    /// are ignored. Both rules come from the former Python service.
    pub fn compile(schema_json_text: &str) -> Result<PayloadSchema, SchemaError> {
        let schema = match Payload::parse(schema_json_text.as_bytes(), &PayloadLimits::default()) {
            Ok(schema) => schema,
            Err(PayloadError::NotAnObject(JsonKind::Null)) => {
                return Ok(PayloadSchema(Rules::Fields(Vec::new())));
            }
            Err(PayloadError::NotAnObject(kind)) => return Err(SchemaError::NotAnObject(kind)),
            Err(error) => return Err(SchemaError::Unreadable(error)),
        };
        if schema.get("$schema").is_some() {
            return JsonSchema::compile(&schema).map(Rules::JsonSchema).map(PayloadSchema);
        }
        let fields = match schema.get("properties") {
            Some(properties) if properties.kind() == JsonKind::Object => fields(&inner_object(properties)?)?,
            _ => fields(&schema)?,
        };
        Ok(PayloadSchema(Rules::Fields(fields)))
    }

    /// Validates a payload. The error describes the first invalid field.
    pub fn validate(&self, payload: &Payload<'_>) -> Result<(), ValidationError> {
        match &self.0 {
            Rules::Fields(fields) => fields.iter().try_for_each(|field| field.check(payload)),
            Rules::JsonSchema(schema) => schema.validate(payload),
        }
    }

    /// A payload that is valid, as JSON. `None` for a JSON Schema.
    #[must_use]
    pub fn example(&self) -> Option<String> {
        let Rules::Fields(fields) = &self.0 else { return None };
        let mut payload = serde_json::Map::new();
        for field in fields {
            payload.insert(field.name.clone(), field.expected.example());
        }
        if payload.is_empty() {
            payload.insert("value".to_owned(), FieldType::Number.example());
        }
        Some(Value::Object(payload).to_string())
    }
}

impl Field {
    fn check(&self, payload: &Payload<'_>) -> Result<(), ValidationError> {
        match payload.get(&self.name) {
            Some(attribute) if self.expected.accepts(attribute.kind()) => Ok(()),
            Some(attribute) => Err(ValidationError::WrongType {
                field: self.name.clone(),
                expected: self.expected,
                found: attribute.kind(),
            }),
            None => Err(ValidationError::Missing { field: self.name.clone(), expected: self.expected }),
        }
    }
}

fn fields(described: &Payload<'_>) -> Result<Vec<Field>, SchemaError> {
    described
        .attributes()
        .iter()
        .map(|field| Ok(Field { name: field.name().to_owned(), expected: field_type(field)? }))
        .collect()
}

/// Parses the type of a field, written as `"type"` or `{"type": "type"}`.
fn field_type(field: &Attribute<'_>) -> Result<FieldType, SchemaError> {
    let unclear = |found| SchemaError::FieldWithoutType { field: field.name().to_owned(), found };
    match field.kind() {
        JsonKind::String => parse_type(field, field),
        JsonKind::Object => match inner_object(field)?.get("type") {
            Some(named) if named.kind() == JsonKind::String => parse_type(field, named),
            Some(other) => Err(unclear(other.kind())),
            None => Err(unclear(JsonKind::Object)),
        },
        kind => Err(unclear(kind)),
    }
}

fn parse_type(field: &Attribute<'_>, named: &Attribute<'_>) -> Result<FieldType, SchemaError> {
    // The stored text of a string does not depend on the style.
    let name = named.text(super::value_style::ValueStyle::Json);
    FieldType::parse(&name)
        .ok_or_else(|| SchemaError::UnknownType { field: field.name().to_owned(), found: name.into_owned() })
}

fn inner_object<'a>(attribute: &Attribute<'a>) -> Result<Payload<'a>, SchemaError> {
    Payload::parse(attribute.raw().as_bytes(), &PayloadLimits::default()).map_err(SchemaError::Unreadable)
}

/// An invalid `payload_schema`. The flow stays subscribed, and its messages become dead letters.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SchemaError {
    /// Not JSON, or beyond the limits of a payload.
    #[error("payload_schema: {0}")]
    Unreadable(PayloadError),
    /// JSON, but not an object.
    #[error("payload_schema: not a JSON object but: {0}")]
    NotAnObject(JsonKind),
    /// The type of a field is unknown.
    #[error("payload_schema: field {field:?} has unknown type {found:?}, known are {}", FieldType::KNOWN)]
    UnknownType {
        /// The field.
        field: String,
        /// The unknown type.
        found: String,
    },
    /// The description of a field is neither a type name nor an object with a type name.
    #[error(
        "payload_schema: field {field:?} must name its type as a string or as {{\"type\": string}}, found: {found}"
    )]
    FieldWithoutType {
        /// The field.
        field: String,
        /// JSON type of the description.
        found: JsonKind,
    },
    /// The schema has the key `$schema` and is not a usable JSON Schema. Remote schemas are never fetched.
    #[error("payload_schema is no usable JSON Schema: {0}")]
    JsonSchema(String),
}

/// A payload that does not match the schema.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ValidationError {
    /// A field is missing.
    #[error("field {field:?}: expected {expected}, but it is missing")]
    Missing {
        /// The field.
        field: String,
        /// The type required by the schema.
        expected: FieldType,
    },
    /// A field has another type.
    #[error("field {field:?}: expected {expected}, got {found}")]
    WrongType {
        /// The field.
        field: String,
        /// The type required by the schema.
        expected: FieldType,
        /// Its actual type.
        found: JsonKind,
    },
    /// The payload does not match the JSON Schema.
    #[error("at {path:?}: {problem}")]
    JsonSchema {
        /// JSON pointer to the value in the payload; empty for the payload itself.
        path: String,
        /// The expected and the actual value, truncated to a readable length.
        problem: String,
    },
    /// The nesting exceeds the limit of JSON Schema validation, which is lower than the limit of payloads.
    #[error("the payload is nested {depth} levels deep, JSON Schema is checked down to {limit}")]
    TooDeepForJsonSchema {
        /// Nesting depth of the payload.
        depth: usize,
        /// Maximum depth.
        limit: usize,
    },
    /// The number of values and names exceeds the limit of JSON Schema validation.
    #[error("the payload has {nodes} values and names, JSON Schema is checked up to {limit}")]
    TooManyNodesForJsonSchema {
        /// Number of values and names at all levels of the payload.
        nodes: usize,
        /// Maximum number.
        limit: usize,
    },
    /// A number is outside the range of a double, such as `1e400`, and cannot be validated.
    #[error("the payload cannot be checked by JSON Schema: {0}")]
    UnfitForJsonSchema(String),
}

/// Validates `payload` with `schema`, as the gateway validates messages.
///
/// A [`Value`] does not preserve integers beyond 64 bits. Such a number is an `int` in a message, but not here.
///
/// ```
/// use mqtt_gateway::domain::schema::validate_payload;
/// use serde_json::json;
///
/// let schema = json!({"temperature": "number", "room": {"type": "string"}});
/// assert!(validate_payload(&schema, &json!({"temperature": 21.5, "room": "attic", "extra":
/// null})).is_ok());
///
/// let error = validate_payload(&schema, &json!({"temperature": true, "room": "attic"})).unwrap_err();
/// assert_eq!(error.to_string(), r#"field "temperature": expected number, got bool"#);
/// ```
pub fn validate_payload(schema: &Value, payload: &Value) -> Result<(), ValidatePayloadError> {
    let schema = PayloadSchema::compile(&schema.to_string())?;
    let text = payload.to_string();
    let payload = Payload::parse(text.as_bytes(), &PayloadLimits::default())?;
    Ok(schema.validate(&payload)?)
}

/// An error of [`validate_payload`].
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ValidatePayloadError {
    /// The schema is invalid.
    #[error(transparent)]
    Schema(#[from] SchemaError),
    /// The payload is not an object, or exceeds the default limits.
    #[error(transparent)]
    Payload(#[from] PayloadError),
    /// The payload does not match the schema.
    #[error(transparent)]
    Invalid(#[from] ValidationError),
}

#[cfg(test)]
mod tests;
