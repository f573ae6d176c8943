//! The kinds of values that a field was seen with.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::super::payload::JsonKind;

/// The kind of a value, or that there was none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum FieldKind {
    /// `null`
    Null,
    /// `true` or `false`
    Bool,
    /// A number without fraction and exponent.
    Int,
    /// Another number.
    Number,
    /// A string.
    String,
    /// An array.
    Array,
    /// An object.
    Object,
    /// The message does not have the field.
    Missing,
}

impl FieldKind {
    /// The kinds of values.
    pub(super) const VALUES: [FieldKind; 7] = [
        FieldKind::Null,
        FieldKind::Bool,
        FieldKind::Int,
        FieldKind::Number,
        FieldKind::String,
        FieldKind::Array,
        FieldKind::Object,
    ];

    /// One bit for each kind.
    pub(super) fn bit(self) -> u8 {
        1 << self as u8
    }

    /// Whether it is a value.
    #[must_use]
    pub fn is_value(self) -> bool {
        self != FieldKind::Missing
    }
}

impl From<JsonKind> for FieldKind {
    fn from(kind: JsonKind) -> Self {
        match kind {
            JsonKind::Null => FieldKind::Null,
            JsonKind::Bool => FieldKind::Bool,
            JsonKind::Int => FieldKind::Int,
            JsonKind::Number => FieldKind::Number,
            JsonKind::String => FieldKind::String,
            JsonKind::Array => FieldKind::Array,
            JsonKind::Object => FieldKind::Object,
        }
    }
}

impl fmt::Display for FieldKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            FieldKind::Null => "null",
            FieldKind::Bool => "bool",
            FieldKind::Int => "int",
            FieldKind::Number => "number",
            FieldKind::String => "string",
            FieldKind::Array => "array",
            FieldKind::Object => "object",
            FieldKind::Missing => "missing",
        })
    }
}
