//! What a flow asks of its payloads (`flows.payload_schema`).
//!
//! Either fields with types, `{"field": "type"}`, `{"field": {"type": "type"}}` or `{"properties":
//! {"field": …}}`: every field named is required, others are allowed. Or, with a `$schema` key, JSON
//! Schema.
//!
//! | type | takes |
//! | --- | --- |
//! | `string`, `str` | a string |
//! | `number`, `float` | any number |
//! | `int`, `integer` | a number without fraction and exponent: to Python, `1.0` and `1e2` are floats |
//! | `bool`, `boolean` | `true`, `false`, which are no numbers |
//! | `object`, `array` | an object, an array |

mod field_type;
mod json_schema;

use serde_json::Value;
use thiserror::Error;

pub use self::field_type::FieldType;
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
    /// Compiles the text of `flows.payload_schema`. `{}` and `null` ask for nothing.
    ///
    /// Beside `properties` that hold an object, all other keys are ignored, as the Python service did;
    /// so are all keys but `type` in the description of a field.
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

    /// Checks a payload; the first field that does not fit is the error.
    pub fn validate(&self, payload: &Payload<'_>) -> Result<(), ValidationError> {
        match &self.0 {
            Rules::Fields(fields) => fields.iter().try_for_each(|field| field.check(payload)),
            Rules::JsonSchema(schema) => schema.validate(payload),
        }
    }
}

impl Field {
    fn check(&self, payload: &Payload<'_>) -> Result<(), ValidationError> {
        match payload.get(&self.name) {
            Some(attribute) if self.expected.takes(attribute.kind()) => Ok(()),
            Some(attribute) => Err(ValidationError::WrongType {
                field: self.name.clone(),
                expected: self.expected,
                came: attribute.kind(),
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

/// The type of a field that is described as `"type"` or `{"type": "type"}`.
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
    // A string's stored text is its content in either style.
    let name = named.text(super::value_style::ValueStyle::Json);
    FieldType::parse(&name)
        .ok_or_else(|| SchemaError::UnknownType { field: field.name().to_owned(), found: name.into_owned() })
}

fn inner_object<'a>(attribute: &Attribute<'a>) -> Result<Payload<'a>, SchemaError> {
    Payload::parse(attribute.raw().as_bytes(), &PayloadLimits::default()).map_err(SchemaError::Unreadable)
}

/// Why a `payload_schema` cannot be used. The flow stays subscribed; its messages become dead letters.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SchemaError {
    /// Not JSON, or beyond the limits of a payload.
    #[error("payload_schema: {0}")]
    Unreadable(PayloadError),
    /// JSON, but no object.
    #[error("payload_schema: not a JSON object but: {0}")]
    NotAnObject(JsonKind),
    /// A type that is none of those known.
    #[error("payload_schema: field {field:?} has unknown type {found:?}, known are {}", FieldType::KNOWN)]
    UnknownType {
        /// The field.
        field: String,
        /// The type as written.
        found: String,
    },
    /// A description that is neither the name of a type nor an object with one.
    #[error(
        "payload_schema: field {field:?} must name its type as a string or as {{\"type\": string}}, found: {found}"
    )]
    FieldWithoutType {
        /// The field.
        field: String,
        /// What is there in place of the type's name.
        found: JsonKind,
    },
    /// With a `$schema` key, but no JSON Schema that can be used here. Schemas are never fetched from
    /// elsewhere.
    #[error("payload_schema is no usable JSON Schema: {0}")]
    JsonSchema(String),
}

/// Why a payload does not fit its schema.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ValidationError {
    /// A field is not there.
    #[error("field {field:?}: expected {expected}, but it is missing")]
    Missing {
        /// The field.
        field: String,
        /// Its type by the schema.
        expected: FieldType,
    },
    /// A field holds something else.
    #[error("field {field:?}: expected {expected}, got {came}")]
    WrongType {
        /// The field.
        field: String,
        /// Its type by the schema.
        expected: FieldType,
        /// What came.
        came: JsonKind,
    },
    /// JSON Schema says no.
    #[error("at {path:?}: {problem}")]
    JsonSchema {
        /// JSON pointer to the value in the payload; empty for the payload itself.
        path: String,
        /// What was expected and what came, cut to a readable length.
        problem: String,
    },
    /// Nested too deep for JSON Schema; the payload's own limit is another.
    #[error("the payload is nested {depth} levels deep, JSON Schema is checked down to {limit}")]
    TooDeepForJsonSchema {
        /// Levels of the payload.
        depth: usize,
        /// Levels allowed.
        limit: usize,
    },
    /// More values and names than JSON Schema is checked for; the payload's own limits are others.
    #[error("the payload has {nodes} values and names, JSON Schema is checked up to {limit}")]
    TooManyNodesForJsonSchema {
        /// Values and names of the payload, at all levels.
        nodes: usize,
        /// Values and names allowed.
        limit: usize,
    },
    /// JSON Schema cannot compare a number that no double can hold, such as `1e400`.
    #[error("the payload cannot be checked by JSON Schema: {0}")]
    UnfitForJsonSchema(String),
}

/// Checks `payload` against `schema` as a flow does.
///
/// A [`Value`] has lost what tells large integers from floats, so an integer beyond 64 bits is no `int`
/// here; in a message it is.
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

/// Why [`validate_payload`] says no.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ValidatePayloadError {
    /// The schema is of no use.
    #[error(transparent)]
    Schema(#[from] SchemaError),
    /// The payload is no object, or beyond the default limits.
    #[error(transparent)]
    Payload(#[from] PayloadError),
    /// The payload does not fit.
    #[error(transparent)]
    Invalid(#[from] ValidationError),
}

#[cfg(test)]
mod tests;
