//! The kinds of values that a field was seen with.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::super::payload::JsonKind;

named_enum! {
    /// The kind of a value, or that there was none.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
    #[serde(rename_all = "lowercase")]
    pub enum FieldKind {
        /// `null`
        Null = "null",
        /// `true` or `false`
        Bool = "bool",
        /// A number without fraction and exponent.
        Int = "int",
        /// Another number.
        Number = "number",
        /// A string.
        String = "string",
        /// An array.
        Array = "array",
        /// An object.
        Object = "object",
        /// The message does not have the field.
        Missing = "missing",
    }
}

impl FieldKind {
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
