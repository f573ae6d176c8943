//! The types of fields in a schema.

use std::fmt;

use serde_json::{Value, json};

use super::super::payload::JsonKind;

/// The type of a field in a `payload_schema`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldType {
    /// `string`, `str`
    String,
    /// `number`, `float`: any number
    Number,
    /// `int`, `integer`: a number without fraction and exponent
    Int,
    /// `bool`, `boolean`
    Bool,
    /// `object`
    Object,
    /// `array`
    Array,
}

impl FieldType {
    pub(super) const KNOWN: &str = "string, str, number, float, int, integer, bool, boolean, object, array";

    pub(in super::super) fn parse(name: &str) -> Option<FieldType> {
        Some(match name {
            "string" | "str" => FieldType::String,
            "number" | "float" => FieldType::Number,
            "int" | "integer" => FieldType::Int,
            "bool" | "boolean" => FieldType::Bool,
            "object" => FieldType::Object,
            "array" => FieldType::Array,
            _ => return None,
        })
    }

    pub(in super::super) fn accepts(self, kind: JsonKind) -> bool {
        match self {
            FieldType::String => kind == JsonKind::String,
            FieldType::Number => matches!(kind, JsonKind::Int | JsonKind::Number),
            FieldType::Int => kind == JsonKind::Int,
            FieldType::Bool => kind == JsonKind::Bool,
            FieldType::Object => kind == JsonKind::Object,
            FieldType::Array => kind == JsonKind::Array,
        }
    }

    /// A value of this type.
    pub(super) fn example(self) -> Value {
        match self {
            FieldType::String => json!("text"),
            FieldType::Number => json!(1.5),
            FieldType::Int => json!(1),
            FieldType::Bool => json!(true),
            FieldType::Object => json!({}),
            FieldType::Array => json!([]),
        }
    }
}

impl fmt::Display for FieldType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            FieldType::String => "string",
            FieldType::Number => "number",
            FieldType::Int => "int",
            FieldType::Bool => "bool",
            FieldType::Object => "object",
            FieldType::Array => "array",
        })
    }
}
