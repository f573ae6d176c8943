//! The rules of a schema for the fields at the top level of a payload.

use std::collections::BTreeMap;

use serde_json::Value;

use super::super::payload::JsonKind;
use super::super::schema::FieldType;
use super::FieldKind;
use super::members::Members;

/// The rules of a schema for each field.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SchemaExpectation {
    form: SchemaLanguage,
    fields: BTreeMap<String, ExpectedField>,
    /// Whether a field that the schema does not list is refused.
    refuses_others: bool,
}

/// The languages of schemas.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum SchemaLanguage {
    /// `{"field": "type"}`
    #[default]
    Fields,
    /// `{"properties": {"field": "type"}}`
    Properties,
    /// With the key `$schema`.
    JsonSchema,
}

/// The rule of a schema for a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ExpectedField {
    /// The kinds of values that it accepts, a bit for each.
    kinds: u8,
    pub(super) is_required: bool,
    /// Whether it lists the field, and does not only require it.
    pub(super) is_listed: bool,
}

const ANY_VALUE: u8 = 0b0111_1111;

impl SchemaExpectation {
    /// Reads the text of `flows.payload_schema`. Parts that cannot be read expect nothing.
    #[must_use]
    pub fn new(schema_json_text: &str) -> Self {
        let Ok(schema) = Members::parse(schema_json_text) else { return Self::default() };
        if schema.get("$schema").is_some() {
            return Self::of_json_schema(&schema);
        }
        let (form, fields) = match schema.object("properties") {
            Some(properties) => (SchemaLanguage::Properties, properties),
            None => (SchemaLanguage::Fields, schema),
        };
        let fields = fields.iter().map(|(name, described)| {
            let kinds = listed_type(described).map_or(ANY_VALUE, kinds_of_type);
            (name.to_owned(), ExpectedField { kinds, is_required: true, is_listed: true })
        });
        Self { form, fields: fields.collect(), refuses_others: false }
    }

    fn of_json_schema(schema: &Members) -> Self {
        let properties = schema.object("properties").unwrap_or_default();
        let mut fields: BTreeMap<String, ExpectedField> = properties
            .iter()
            .map(|(name, described)| {
                let kinds = json_schema_kinds(described);
                (name.to_owned(), ExpectedField { kinds, is_required: false, is_listed: true })
            })
            .collect();
        let refuses_others =
            schema.get("additionalProperties") == Some("false") && schema.get("patternProperties").is_none();
        for name in required_names(schema) {
            let unlisted = ExpectedField { kinds: ANY_VALUE, is_required: true, is_listed: false };
            fields.entry(name).or_insert(unlisted).is_required = true;
        }
        Self { form: SchemaLanguage::JsonSchema, fields, refuses_others }
    }

    pub(super) fn form(&self) -> SchemaLanguage {
        self.form
    }

    pub(super) fn field(&self, name: &str) -> Option<&ExpectedField> {
        self.fields.get(name)
    }

    /// The required fields.
    pub(super) fn required(&self) -> impl Iterator<Item = &str> {
        self.fields.iter().filter(|(_, field)| field.is_required).map(|(name, _)| name.as_str())
    }

    /// Whether a message with such a field is refused.
    #[must_use]
    pub fn refuses(&self, name: &str, kind: FieldKind) -> bool {
        match (self.fields.get(name), kind) {
            (Some(field), FieldKind::Missing) => field.is_required,
            (Some(field), kind) => field.kinds & kind.bit() == 0 || (self.refuses_others && !field.is_listed),
            (None, kind) => self.refuses_others && kind.is_value(),
        }
    }

    /// Whether the schema lists the field, and such a value is valid.
    #[must_use]
    pub fn expects(&self, name: &str, kind: FieldKind) -> bool {
        self.fields.contains_key(name) && !self.refuses(name, kind)
    }

    /// The kinds of values that the schema lists for a field; none if it accepts any.
    pub(super) fn listed_kinds(&self, name: &str) -> Vec<FieldKind> {
        let kinds = self.fields.get(name).map_or(ANY_VALUE, |field| field.kinds);
        let listed = FieldKind::ALL.into_iter().filter(|kind| kinds & kind.bit() != 0);
        if kinds == ANY_VALUE { Vec::new() } else { listed.collect() }
    }
}

/// The type in a list of fields, written as `"type"` or `{"type": "type"}`.
fn listed_type(described: &str) -> Option<FieldType> {
    let described: Value = serde_json::from_str(described).ok()?;
    FieldType::parse(described.as_str().or_else(|| described.get("type")?.as_str())?)
}

fn kinds_of_type(expected: FieldType) -> u8 {
    let accepted = JsonKind::ALL.into_iter().filter(|kind| expected.accepts(*kind));
    accepted.fold(0, |all, kind| all | FieldKind::from(kind).bit())
}

/// The kinds that the keyword `type` of a JSON Schema permits.
fn json_schema_kinds(described: &str) -> u8 {
    let Ok(described) = serde_json::from_str::<Value>(described) else { return ANY_VALUE };
    let one = |name: &Value| match name.as_str() {
        Some("null") => FieldKind::Null.bit(),
        Some("boolean") => FieldKind::Bool.bit(),
        Some("integer") => FieldKind::Int.bit(),
        Some("number") => FieldKind::Int.bit() | FieldKind::Number.bit(),
        Some("string") => FieldKind::String.bit(),
        Some("array") => FieldKind::Array.bit(),
        Some("object") => FieldKind::Object.bit(),
        _ => 0,
    };
    match described.get("type") {
        Some(Value::Array(names)) => names.iter().fold(0, |all, name| all | one(name)),
        Some(name) => one(name),
        None if described == Value::Bool(false) => 0,
        None => ANY_VALUE,
    }
}

/// The names under `required` of a JSON Schema.
pub(super) fn required_names(schema: &Members) -> Vec<String> {
    let required = schema.get("required").and_then(|text| serde_json::from_str(text).ok());
    required.unwrap_or_default()
}
