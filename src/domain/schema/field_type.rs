//! The types of fields in a schema.

use serde_json::{Value, json};

use super::super::payload::JsonKind;

named_enum! {
    /// The type of a field in a `payload_schema`.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum FieldType {
        /// `string`, `str`
        String = "string",
        /// `number`, `float`: any number
        Number = "number",
        /// `int`, `integer`: a number without fraction and exponent
        Int = "int",
        /// `bool`, `boolean`
        Bool = "bool",
        /// `object`
        Object = "object",
        /// `array`
        Array = "array",
    }
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
